package diff

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// LinkIndex gives the names that inodes had in the base, where the filesystem itself cannot tell them. The store keeps them as
// its link index. It is for several goroutines at once.
type LinkIndex interface {
	// Names are all names, in the base, of the inode that had this number there, directories included; none for a number
	// that is not known, and none for the root.
	Names(ino uint64) ([]Ref, error)
}

// ErrElsewhere says that a directory is not where the names known so far lead.
var ErrElsewhere = fmt.Errorf("the directory is not where its names say: %w", ErrNotNative)

// nameUser is a Tree that reaches inodes by their paths, and so has to be told their names.
type nameUser interface {
	// some: an inode may have other names, which are excluded.
	UseNames(names func(num uint64) ([]Ref, error), some bool)
}

// nameComparer is a Tree of a new snapshot that may tell what went from and came into a directory without reading all of it.
type nameComparer interface {
	// Unlike gives names of a directory that the base has too: all that differ are on the lists; others may be on both. Not ok: it
	// has to be read whole. ErrElsewhere is as of Entries.
	Unlike(dir uint64) (went, came []Entry, ok bool, err error)
}

// Linked gives two trees their Names where the filesystem cannot tell them: those of base are in the link index, those of
// next are these without what went from changed directories, and with what came to them. dirs must hold the numbers of all
// directories of next that are new or whose entries may differ from base; others do no harm. Directories that are gone
// altogether need not be named: they are followed from the names that went. Each directory in dirs is read in both trees, or compared by
// next's Unlike if it has one.
//
// Of what exclude leaves out the index has no names, and neither have the trees: it is as if it were not there. A directory that came
// out of such a place is read, with all below it.
//
// The trees' own Names are not called. The Names that they get may be asked for by several goroutines at once. A Tree that works by paths (Mounted) is told the names by its UseNames, and says
// ErrElsewhere when it is asked for the Entries of a directory that is not where its names lead.
func Linked(ctx context.Context, base, next Tree, links LinkIndex, dirs []uint64, exclude *Exclude) (linkedBase, linkedNext Tree, err error) {
	l := &linker{
		ctx: ctx, links: links, base: base, next: next, side: newSide(exclude, next.Root()),
		went: map[Ref]bool{}, came: map[uint64][]Ref{}, cameDirs: map[uint64]Ref{}, read: map[uint64]bool{},
	}
	if t, ok := base.(nameUser); ok {
		t.UseNames(links.Names, !exclude.None())
	}
	if t, ok := next.(nameUser); ok {
		t.UseNames(l.names, !exclude.None())
	}
	if err := l.learn(dirs); err != nil {
		return nil, nil, err
	}
	return linkedTree{base, links.Names}, linkedTree{next, l.names}, nil
}

// linkedTree is a Tree with names from elsewhere.
type linkedTree struct {
	Tree
	names func(num uint64) ([]Ref, error)
}

// Names implements Tree.
func (t linkedTree) Names(num uint64) ([]Ref, error) { return t.names(num) }

// Expect implements Expecter for a Tree that is one.
func (t linkedTree) Expect(list []Candidate) {
	if t, ok := t.Tree.(Expecter); ok {
		t.Expect(list)
	}
}

// linker finds the names of next. Everything goes by numbers: a number that was given away again has in next the names that
// its new inode has, and none of the old one's.
type linker struct {
	ctx        context.Context
	links      LinkIndex
	base, next Tree
	side       *side // of next

	went     map[Ref]bool     // names of the base
	wentDirs []uint64         // directories that lost their name in the base
	came     map[uint64][]Ref // names of next, of all but directories
	cameDirs map[uint64]Ref
	read     map[uint64]bool // directories whose entries were compared
	hidden   []uint64        // directories that came, of which the base knows no name
}

// names are the names in next as far as they are known.
func (l *linker) names(num uint64) ([]Ref, error) {
	if r, ok := l.cameDirs[num]; ok {
		return []Ref{r}, nil // a directory has no other
	}
	refs, err := l.links.Names(num)
	if err != nil {
		return nil, err
	}
	out := make([]Ref, 0, len(refs)+len(l.came[num]))
	for _, r := range refs {
		if !l.went[r] {
			out = append(out, r)
		}
	}
	return append(out, l.came[num]...), nil
}

// learn compares the directories. One that moved, or is new, or is below such a one can only be read in next when its place
// has been learned from the directory that it came to. That one is nearer to the root and changed too, so going on
// with those that could not be read yet gets at all of them.
func (l *linker) learn(dirs []uint64) error {
	waiting := dirs
	for again := true; again; {
		again = false
		var left []uint64
		for _, d := range waiting {
			err := l.compare(d)
			if errors.Is(err, ErrElsewhere) {
				left = append(left, d)
			} else if err != nil {
				return err
			} else {
				again = true
			}
		}
		waiting = append(left, l.hidden...)
		l.hidden = nil
	}
	if err := l.followGone(); err != nil {
		return err
	}
	return l.checkLeft(waiting)
}

// compare finds what went from and came to one directory.
func (l *linker) compare(dir uint64) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if l.read[dir] {
		return nil
	}
	came, err := l.unlike(dir)
	if err != nil {
		return err
	}
	l.read[dir] = true
	for _, e := range came {
		switch {
		case e.Sub: // its number is none of this filesystem
		case e.Type == unix.S_IFDIR:
			l.cameDirs[e.Ino] = Ref{dir, e.Name}
			if err := l.uncover(dir, e); err != nil {
				return err
			}
		default:
			l.came[e.Ino] = append(l.came[e.Ino], Ref{dir, e.Name})
		}
	}
	return nil
}

// unlike notes the names that went from a directory and gives those that came, by name.
func (l *linker) unlike(dir uint64) (came map[string]Entry, err error) {
	known, err := l.known(dir)
	if err != nil {
		return nil, err
	}
	came = map[string]Entry{}
	take := func(n Entry) error { came[n.Name] = n; return nil }
	lose := func(b Entry) error {
		if n, ok := came[b.Name]; ok && n.Ino == b.Ino && n.Type == b.Type && n.Sub == b.Sub {
			delete(came, b.Name)
			return nil
		}
		l.goes(dir, b)
		return nil
	}
	if c, ok := l.next.(nameComparer); ok && known {
		b, n, ok, err := c.Unlike(dir)
		if err != nil {
			return nil, err
		}
		if ok {
			for _, e := range n {
				take(e)
			}
			for _, e := range b {
				lose(e)
			}
			return came, nil
		}
	}
	if err := l.next.Entries(dir, take); err != nil || !known {
		return came, err
	}
	if info, ok, err := l.base.Inode(dir); err != nil || !ok || !info.IsDir() {
		return came, err
	}
	return came, l.base.Entries(dir, lose)
}

// known tells whether the base shows a name of a directory.
func (l *linker) known(dir uint64) (bool, error) {
	if dir == l.base.Root() {
		return true, nil
	}
	refs, err := l.links.Names(dir)
	return len(refs) > 0, err
}

// uncover has a directory read that came and may have come out of an excluded place.
func (l *linker) uncover(dir uint64, e Entry) error {
	if l.side.exclude.None() || l.read[e.Ino] {
		return nil
	}
	if known, err := l.known(e.Ino); err != nil || known {
		return err
	}
	_, visible, err := l.side.child(linkedTree{l.next, l.names}, dir, e.Name)
	if err == nil && visible {
		l.hidden = append(l.hidden, e.Ino)
	}
	return err
}

func (l *linker) goes(dir uint64, e Entry) {
	if e.Sub {
		return
	}
	l.went[Ref{dir, e.Name}] = true
	if e.Type == unix.S_IFDIR {
		l.wentDirs = append(l.wentDirs, e.Ino)
	}
}

// followGone takes away all names in directories of the base that are nowhere in next.
func (l *linker) followGone() error {
	for len(l.wentDirs) > 0 {
		dir := l.wentDirs[len(l.wentDirs)-1]
		l.wentDirs = l.wentDirs[:len(l.wentDirs)-1]
		if _, moved := l.cameDirs[dir]; moved || l.read[dir] {
			continue
		}
		if known, err := l.known(dir); err != nil {
			return err
		} else if !known {
			continue // excluded in the base
		}
		if err := l.ctx.Err(); err != nil {
			return err
		}
		l.read[dir] = true
		if err := l.base.Entries(dir, func(e Entry) error { l.goes(dir, e); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// checkLeft makes sure that the directories which could not be read in next are not there: gone, or never known (an
// inode of the filesystem's own). Anything else means that dirs or the link index lacked something.
func (l *linker) checkLeft(left []uint64) error {
	for _, dir := range left {
		if l.read[dir] {
			continue // followed as gone
		}
		if r, ok := l.cameDirs[dir]; ok {
			return fmt.Errorf("directory %d, %q, cannot be reached: %w", dir, r.Name, ErrNotNative)
		}
		refs, err := l.links.Names(dir)
		if err != nil {
			return err
		}
		if len(refs) == 0 || l.went[refs[0]] {
			continue
		}
		if info, ok, err := l.base.Inode(dir); err != nil || ok && info.IsDir() {
			return errors.Join(err, fmt.Errorf("directory %d, %q, is not where the link index says: %w", dir, refs[0].Name, ErrNotNative))
		}
	}
	return nil
}

package diff

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// linkSets are the inodes that may have several names, and those that share a name with such a one on the other side.
// They can only be told apart when all names are known.
type linkSets struct {
	base, next map[uint64]*linkSet // by inode number of the side
	byName     map[string]*linkSet // sets of next by their first name
	same       map[uint64]bool     // mirror inodes among them: whether the snapshot has the same one
}

type linkSet struct {
	st      unix.Stat_t
	paths   []string
	parents map[string]Key // keys of the directories that hold the names, by name
}

func newLinkSets() linkSets {
	return linkSets{base: map[uint64]*linkSet{}, next: map[uint64]*linkSet{}, same: map[uint64]bool{}}
}

// add takes in one name.
func (l *linkSets) add(path string, at sides, st *[2]unix.Stat_t, d *fullDir) {
	for i, sets := range []map[uint64]*linkSet{l.base, l.next} {
		if at&(1<<i) == 0 {
			continue
		}
		s := sets[st[i].Ino]
		if s == nil {
			s = &linkSet{st: st[i], parents: map[string]Key{}}
			sets[st[i].Ino] = s
		}
		s.paths = append(s.paths, path)
		s.parents[path] = d.key[i]
	}
}

// partner finds the set of the snapshot that has exactly the names of a mirror's set.
func (l *linkSets) partner(s *linkSet) *linkSet {
	p := l.byName[s.paths[0]]
	if p == nil || !slices.Equal(p.paths, s.paths) {
		return nil
	}
	return p
}

// sorted puts the names of all sets in order.
func (l *linkSets) sorted() {
	l.byName = make(map[string]*linkSet, len(l.next))
	for _, s := range l.base {
		slices.Sort(s.paths)
	}
	for _, s := range l.next {
		slices.Sort(s.paths)
		l.byName[s.paths[0]] = s
	}
}

// finishLinks compares the sets when all names are known.
func (f *full) finishLinks(ctx context.Context) error {
	f.links.sorted()
	for ino, s := range f.links.base {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p := f.links.partner(s)
		same := p != nil
		if same {
			var err error
			if same, err = f.sameOne(s.paths[0], &s.st, &p.st); err != nil {
				return err
			}
		}
		f.links.same[ino] = same
		if !same {
			f.setWent(s)
			continue
		}
		delete(f.links.next, p.st.Ino)
		st := [2]unix.Stat_t{s.st, p.st}
		attr := [2]Attr{attrOf(&st[0], len(s.paths)), attrOf(&st[1], len(s.paths))}
		if err := f.noteSame(s.paths, &st[1], attr, f.differs(s.paths[0], &st, attr)); err != nil {
			return err
		}
	}
	for _, s := range f.links.next {
		if err := f.setCame(s); err != nil {
			return err
		}
	}
	f.links = linkSets{same: f.links.same}
	return nil
}

func (f *full) setWent(s *linkSet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.went(Key{}, Key{s.st.Ino, MirrorGen}, attrOf(&s.st, len(s.paths)), s.paths)
	for _, path := range s.paths {
		n, _ := f.changes.Unlinked.Get(Name{Path: path})
		n.Parent = s.parents[path]
		f.changes.Unlinked.ReplaceOrInsert(n)
	}
}

func (f *full) setCame(s *linkSet) error {
	key, err := f.keyOf(s.paths[0], s.st.Ino)
	if err != nil {
		return fmt.Errorf("compare in full: identify %q: %w", s.paths[0], err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.came(Key{}, key, attrOf(&s.st, len(s.paths)), s.paths)
	for _, path := range s.paths {
		n, _ := f.changes.Linked.Get(Name{Path: path})
		n.Parent = s.parents[path]
		f.changes.Linked.ReplaceOrInsert(n)
	}
	return nil
}

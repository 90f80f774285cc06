package apply

import (
	"slices"

	"github.com/google/btree"
	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// ChangeKind says what became of a path between two restore points.
type ChangeKind byte

const (
	Added    ChangeKind = '+'
	Removed  ChangeKind = '-'
	Modified ChangeKind = 'M'
	Renamed  ChangeKind = 'R'
)

// Reason says in which ways something differs; several may hold.
type Reason uint8

const (
	ReasonData     Reason = 1 << iota // contents, size or holes
	ReasonMetadata                    // owner or mode; mtime too, where nothing else explains it
	ReasonXattrs                      // extended attributes, ACLs among them
	ReasonLink                        // a hard link came or went; the file has, or had, other names
	ReasonReplaced                    // another inode of the same type has the name now; its contents were not compared
	ReasonNames                       // a directory: names in it came or went, and that is why its mtime differs
)

// Change is one path that differs between two restore points.
type Change struct {
	Kind    ChangeKind
	Path    string // in the newer one, in the older one where Removed; relative to the source, "" is its top directory
	OldPath string // in the older one, where it is another: of what was Renamed, and of what is below a renamed directory
	Type    uint32 // S_IFMT part of the mode
	Why     Reason
	Size    int64 // bytes in the newer one; of regular files and symlinks, else 0
	OldSize int64 // bytes in the older one
}

// facts is what is known of one inode at two moments: all its names and its attributes.
type facts struct {
	kind     uint32 // S_IFMT part of the mode
	old, new []string
	kept     [][2]string // names that stayed in their directory: path before, path after; these are in neither of the other lists
	was, is  diff.Attr   // valid where it had a name then
	why      Reason      // data, xattrs and names; the others are found here
}

// changeList collects the changes between two moments. Of one path both may be said: what was there went, and what is there came.
type changeList struct{ at *btree.BTreeG[changedPath] }

type changedPath struct {
	path      string
	gone, now *Change
}

func newChangeList() *changeList {
	const degree = 32
	return &changeList{btree.NewG(degree, func(a, b changedPath) bool { return comparePaths(a.path, b.path) < 0 })}
}

// comparePaths orders paths as a walk meets them: a directory, all that is in it, and only then its next sibling.
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return int(a[i]) - int(b[i])
	}
	return len(a) - len(b)
}

func (l *changeList) add(c Change) {
	p, _ := l.at.Get(changedPath{path: c.Path})
	p.path = c.Path
	if c.Kind == Removed {
		p.gone = &c
	} else {
		p.now = &c
	}
	l.at.ReplaceOrInsert(p)
}

// inode adds what became of one inode.
func (l *changeList) inode(f facts) {
	slices.Sort(f.old)
	slices.Sort(f.new)
	base := Change{Type: f.kind, Size: f.is.Size, OldSize: f.was.Size, Why: f.reasons()}
	switch {
	case len(f.new)+len(f.kept) == 0:
		for _, path := range f.old {
			l.add(Change{Kind: Removed, Path: path, Type: f.kind, OldSize: f.was.Size})
		}
		return
	case len(f.old)+len(f.kept) == 0:
		for _, path := range f.new {
			l.add(Change{Kind: Added, Path: path, Type: f.kind, Size: f.is.Size})
		}
		return
	}
	moved := min(len(f.old), len(f.new))
	for i := range moved {
		l.renamed(base, f.old[i], f.new[i])
	}
	for _, path := range f.old[moved:] {
		l.add(Change{Kind: Removed, Path: path, Type: f.kind, OldSize: f.was.Size, Why: ReasonLink})
	}
	for _, path := range f.new[moved:] {
		l.add(Change{Kind: Added, Path: path, Type: f.kind, Size: f.is.Size, Why: ReasonLink})
	}
	for _, k := range f.kept {
		if c := base; c.Why != 0 {
			c.Kind, c.Path = Modified, k[1]
			if k[0] != k[1] {
				c.OldPath = k[0]
			}
			l.add(c)
		}
	}
}

// renamed adds a name that moved. With its directory replaced by another it may have moved and still be at the same path.
func (l *changeList) renamed(c Change, from, to string) {
	c.Kind, c.Path, c.OldPath = Renamed, to, from
	if from == to {
		c.Kind, c.OldPath = Modified, ""
	}
	if c.Kind == Renamed || c.Why != 0 {
		l.add(c)
	}
}

// reasons completes why an inode that was there at both moments differs.
func (f *facts) reasons() Reason {
	why := f.why
	if len(f.old)+len(f.kept) == 0 || len(f.new)+len(f.kept) == 0 {
		return why
	}
	a, b := f.was, f.is
	otherTime := a.MtimeSec != b.MtimeSec || a.MtimeNsec != b.MtimeNsec
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || otherTime && why&(ReasonData|ReasonNames) == 0 {
		why |= ReasonMetadata
	}
	several := len(f.old)+len(f.kept) > 1 || len(f.new)+len(f.kept) > 1
	if f.kind != unix.S_IFDIR && several && len(f.old)+len(f.new) > 0 {
		why |= ReasonLink
	}
	return why
}

// each hands over all changes in the order of a walk. What went and what came under one name is one change where both are of
// the same type.
func (l *changeList) each(yield func(Change) error) (err error) {
	l.at.Ascend(func(p changedPath) bool {
		if p.gone != nil && p.now != nil && p.now.Kind == Added && p.gone.Type == p.now.Type {
			err = yield(replacement(p))
			return err == nil
		}
		if p.gone != nil {
			err = yield(*p.gone)
		}
		if p.now != nil && err == nil {
			err = yield(*p.now)
		}
		return err == nil
	})
	return err
}

func replacement(p changedPath) Change {
	c := *p.now
	c.Kind, c.OldSize = Modified, p.gone.OldSize
	c.Why |= ReasonReplaced | p.gone.Why&ReasonLink
	if c.Type != unix.S_IFDIR {
		c.Why |= ReasonData
	}
	return c
}

// ChangesOf gives the changes of a change set, in the order of a walk: what a run that applies it does, as a later comparison of
// its restore points shows it.
func ChangesOf(set *diff.ChangeSet, yield func(Change) error) error {
	s := setChanges{list: newChangeList(), moved: movedDirs(newPlan(set)), by: map[diff.Key]*facts{}, touched: map[diff.Key]bool{}}
	set.Unlinked.Ascend(func(n diff.Name) bool {
		f := s.facts(n.Key, n.Type)
		f.old, s.touched[n.Parent] = append(f.old, n.Path), true
		return true
	})
	set.Linked.Ascend(func(n diff.Name) bool {
		f := s.facts(n.Key, n.Type)
		f.new, s.touched[n.Parent] = append(f.new, n.Path), true
		return true
	})
	set.Gone.Ascend(func(g diff.Gone) bool {
		s.facts(g.Key, g.BaseAttr.Type()).was = g.BaseAttr
		return true
	})
	set.Inodes.Ascend(func(in diff.Inode) bool {
		s.inode(in)
		return true
	})
	for _, f := range s.by {
		s.list.inode(*f)
	}
	return s.list.each(yield)
}

// setChanges turns a change set into changes.
type setChanges struct {
	list    *changeList
	moved   map[string]string // directories that move, path now by base path
	by      map[diff.Key]*facts
	touched map[diff.Key]bool // directories that names came to or went from
}

func (s *setChanges) facts(k diff.Key, kind uint32) *facts {
	if s.by[k] == nil {
		s.by[k] = &facts{kind: kind}
	}
	return s.by[k]
}

func (s *setChanges) inode(in diff.Inode) {
	f := s.facts(in.Key, in.Attr.Type())
	f.was, f.is = in.BaseAttr, in.Attr
	if in.What&diff.New != 0 {
		return
	}
	if in.What&diff.Data != 0 && !in.Attr.IsDir() {
		f.why |= ReasonData
	}
	if in.What&diff.Xattrs != 0 {
		f.why |= ReasonXattrs
	}
	if s.touched[in.Key] {
		f.why |= ReasonNames
	}
	for _, path := range in.BasePaths {
		if _, went := slices.BinarySearch(f.old, path); went {
			continue
		}
		dir, name := split(path)
		now := path
		if path != "" {
			now = join(pathNow(dir, s.moved), name)
		}
		f.kept = append(f.kept, [2]string{path, now})
	}
}

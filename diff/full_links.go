package diff

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// linkSets are the inodes that may have several names, and those that share a name with such a one on the other side.
// They can only be told apart when all names are known.
type linkSets struct {
	base, next map[linkIno]*linkSet
	byName     map[string]*linkSet // sets of next by their first name
	same       map[uint64]bool     // mirror inodes among them: whether the snapshot has the same one
}

// linkIno tells the inodes of one side apart: a snapshot may be of several filesystems.
type linkIno struct{ dev, ino uint64 }

// linkSet is one inode. There may be millions: only what counts is kept.
type linkSet struct {
	linkIno
	attr   Attr
	blocks int64
	names  []linkName
}

type linkName struct {
	path   string
	parent Key // of the directory that holds the name
}

// stat is as much of the inode's stat as is needed.
func (s *linkSet) stat() unix.Stat_t {
	a := s.attr
	return unix.Stat_t{Ino: s.ino, Mode: a.Mode, Uid: a.UID, Gid: a.GID, Rdev: a.Rdev, Size: a.Size, Blocks: s.blocks,
		Mtim: unix.Timespec{Sec: a.MtimeSec, Nsec: int64(a.MtimeNsec)}}
}

func (s *linkSet) paths() []string {
	paths := make([]string, len(s.names))
	for i, n := range s.names {
		paths[i] = n.path
	}
	return paths
}

// sort puts the names in order.
func (s *linkSet) sort() {
	slices.SortFunc(s.names, func(a, b linkName) int { return cmp.Compare(a.path, b.path) })
	s.attr.Nlink = uint32(len(s.names))
}

func newLinkSets() linkSets {
	return linkSets{base: map[linkIno]*linkSet{}, next: map[linkIno]*linkSet{}, same: map[uint64]bool{}}
}

// add takes in one name.
func (l *linkSets) add(path string, at sides, st *[2]unix.Stat_t, d *fullDir) {
	for i, sets := range []map[linkIno]*linkSet{l.base, l.next} {
		if at&(1<<i) == 0 {
			continue
		}
		id := linkIno{st[i].Dev, st[i].Ino}
		s := sets[id]
		if s == nil {
			s = &linkSet{linkIno: id, attr: attrOf(&st[i], 0), blocks: st[i].Blocks}
			sets[id] = s
		}
		s.names = append(s.names, linkName{path, d.key[i]})
	}
}

// partner finds the set of the snapshot that has exactly the names of a mirror's set.
func (l *linkSets) partner(s *linkSet) *linkSet {
	p := l.byName[s.names[0].path]
	if p == nil || !slices.EqualFunc(p.names, s.names, func(a, b linkName) bool { return a.path == b.path }) {
		return nil
	}
	return p
}

// sorted puts the names of all sets in order.
func (l *linkSets) sorted() {
	l.byName = make(map[string]*linkSet, len(l.next))
	for _, s := range l.base {
		s.sort()
	}
	for _, s := range l.next {
		s.sort()
		l.byName[s.names[0].path] = s
	}
}

// finishLinks compares the sets when all names are known.
func (f *full) finishLinks(ctx context.Context) error {
	f.links.sorted()
	for id, s := range f.links.base {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p := f.links.partner(s)
		same := p != nil
		var st [2]unix.Stat_t
		if same {
			st = [2]unix.Stat_t{s.stat(), p.stat()}
			var err error
			if same, err = f.sameOne(s.names[0].path, &st[0], &st[1]); err != nil {
				return err
			}
		}
		f.links.same[id.ino] = same
		if !same {
			f.setWent(s)
			continue
		}
		delete(f.links.next, p.linkIno)
		paths, attr := s.paths(), [2]Attr{s.attr, p.attr}
		if err := f.noteSame(paths, &st[1], attr, f.differs(paths[0], &st, attr)); err != nil {
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
	f.went(Key{}, Key{s.ino, MirrorGen}, s.attr, s.paths())
	for _, name := range s.names {
		n, _ := f.changes.Unlinked.Get(Name{Path: name.path})
		n.Parent = name.parent
		f.changes.Unlinked.ReplaceOrInsert(n)
	}
}

func (f *full) setCame(s *linkSet) error {
	key, err := f.keyOf(s.names[0].path, s.ino)
	if err != nil {
		return fmt.Errorf("compare in full: identify %q: %w", s.names[0].path, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.came(Key{}, key, s.attr, s.paths())
	for _, name := range s.names {
		n, _ := f.changes.Linked.Get(Name{Path: name.path})
		n.Parent = name.parent
		f.changes.Linked.ReplaceOrInsert(n)
	}
	return nil
}

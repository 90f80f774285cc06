package diff

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// RangeIndex is a LinkIndex that can be read through.
type RangeIndex interface {
	LinkIndex
	// Each gives all names of all inodes, directories included, whose numbers are from first to last.
	Each(first, last uint64, yield func(k Key, dir bool, name Ref) error) error
}

// Remains is a Tree of a child whose snapshot in the base is gone. Its names are those that the link index has, all else is what the mirror
// has, which equals the base. ErrNotNative says that they do not fit together: somebody has altered the mirror, or not all could be copied.
// It may be used by several goroutines at once.
type Remains struct {
	root *beneath.Root
	top  uint64
	all  map[uint64]*remnant
}

// remnant is one inode. Numbers are the child's own.
type remnant struct {
	gen   uint64
	dir   bool
	names []Ref
	holds []Ref // a directory's names; Parent is the number that each means
}

// NewRemains makes a Tree of the child that has this number. root is its place in the mirror. Memory grows with what it had, all of
// which is going to be on the list of what is gone.
func NewRemains(root *beneath.Root, child uint64, links RangeIndex) (*Remains, error) {
	r := &Remains{root: root, all: map[uint64]*remnant{}}
	tops := 0
	err := links.Each(child<<inoBits, (child+1)<<inoBits-1, func(k Key, dir bool, name Ref) error {
		_, ino := SplitIno(k.Ino)
		in := r.inode(ino)
		in.gen, in.dir = k.Gen, dir
		within, parent := SplitIno(name.Parent)
		if within != child {
			r.top = ino
			tops++
			return nil
		}
		in.names = append(in.names, Ref{parent, name.Name})
		holder := r.inode(parent)
		holder.holds = append(holder.holds, Ref{ino, name.Name})
		return nil
	})
	if err == nil && tops != 1 {
		err = fmt.Errorf("%d names lead to the top directory of a child that is gone: %w", tops, ErrNotNative)
	}
	return r, err
}

func (r *Remains) inode(ino uint64) *remnant {
	in := r.all[ino]
	if in == nil {
		in = &remnant{}
		r.all[ino] = in
	}
	return in
}

// Find gives the number of what is at a path.
func (r *Remains) Find(path string) (ino uint64, err error) {
	ino = r.top
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		found := false
		for _, e := range r.all[ino].holds {
			if found = e.Name == name; found {
				ino = e.Parent
				break
			}
		}
		if !found {
			return 0, fmt.Errorf("the link index has no %q: %w", path, ErrNotNative)
		}
	}
	return ino, nil
}

// Root implements Tree.
func (r *Remains) Root() uint64 { return r.top }

// Names implements Tree.
func (r *Remains) Names(ino uint64) ([]Ref, error) {
	if in := r.all[ino]; in != nil {
		return in.names, nil
	}
	return nil, nil
}

// Inode implements Tree.
func (r *Remains) Inode(ino uint64) (Info, bool, error) {
	in := r.all[ino]
	if in == nil {
		return Info{}, false, nil
	}
	st, err := r.stat(ino)
	return Info{attrOf(&st, max(len(in.names), 1)), in.gen}, err == nil, err
}

// Entries implements Tree.
func (r *Remains) Entries(dir uint64, yield func(Entry) error) error {
	in := r.all[dir]
	if in == nil {
		return nil
	}
	for _, e := range in.holds {
		st, err := r.stat(e.Parent)
		if err == nil {
			err = yield(Entry{Name: e.Name, Ino: e.Parent, Type: st.Mode & unix.S_IFMT})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Xattrs implements Tree.
func (r *Remains) Xattrs(ino uint64) (string, error) {
	path, err := r.path(ino)
	if err != nil {
		return "", err
	}
	return xattrsAt(r.root, path)
}

// stat looks an inode up in the mirror.
func (r *Remains) stat(ino uint64) (st unix.Stat_t, err error) {
	path, err := r.path(ino)
	if err != nil {
		return st, err
	}
	in := r.all[ino]
	st, err = r.root.Lstat(path)
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case err != nil && !gone(err):
		return st, err
	case err != nil || isDir != in.dir || !isDir && uint64(st.Nlink) < uint64(len(in.names)):
		return st, fmt.Errorf("%q in %s is not what it was: %w", path, r.root.Path(), ErrNotNative)
	case in.gen == 0:
		return st, fmt.Errorf("%q in %s could not be looked at when it was copied: %w", path, r.root.Path(), ErrNotNative)
	}
	return st, nil
}

// path gives one path of an inode below the child's top.
func (r *Remains) path(ino uint64) (path string, err error) {
	for ino != r.top {
		in := r.all[ino]
		if in == nil || len(in.names) == 0 || TooDeep(path) {
			return "", fmt.Errorf("the link index does not say where inode %d is: %w", ino, ErrNotNative)
		}
		path = strings.TrimSuffix(join(in.names[0].Name, path), "/")
		ino = in.names[0].Parent
	}
	return path, nil
}

package btrfs

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Forest tells how all subvolumes of a filesystem lie in each other, also where they are not mounted. It is as they were when it was read.
type Forest struct {
	f   *os.File
	all map[uint64]Nested // by ID
}

// ReadForest reads that of the filesystem of the directory at path. It is to be closed.
func ReadForest(path string) (*Forest, error) {
	f, err := openDir(path)
	if err != nil {
		return nil, err
	}
	all, err := nested(int(f.Fd()), All(RootRefKey, 0))
	if err != nil {
		f.Close()
		return nil, err
	}
	forest := &Forest{f, make(map[uint64]Nested, len(all))}
	for _, n := range all {
		forest.all[n.ID] = n
	}
	return forest, nil
}

// Close closes it.
func (f *Forest) Close() error { return f.f.Close() }

// Inside tells whether the subvolume with the number id lies in the one with the number outer, at any depth.
func (f *Forest) Inside(id, outer uint64) bool {
	for range f.all { // no more than there are: what moves while it is read may go round
		n, ok := f.all[id]
		if !ok {
			return false
		}
		if id = n.Outer; id == outer {
			return true
		}
	}
	return false
}

// Named gives those whose names begin so.
func (f *Forest) Named(prefix string) (list []Nested) {
	for _, n := range f.all {
		if strings.HasPrefix(n.Name, prefix) {
			list = append(list, n)
		}
	}
	return list
}

// Place gives the path of a subvolume from the top of the filesystem, without a slash before it.
func (f *Forest) Place(n Nested) (string, error) {
	path := ""
	for range f.all {
		outer, err := OpenByID(int(f.f.Fd()), n.Outer)
		if err != nil {
			return "", err
		}
		dir, ok, err := newFinder(int(outer.Fd()), unix.PathMax).dir(n.Dir)
		outer.Close()
		if err == nil && !ok {
			err = fmt.Errorf("find subvolume %d: %w", n.ID, os.ErrNotExist)
		}
		if err != nil {
			return "", err
		}
		path = joinPaths(dir, n.Name, path)
		if n, ok = f.all[n.Outer]; !ok {
			break
		}
	}
	return path, nil
}

// Info describes a subvolume wherever it lies; os.ErrNotExist when it is gone.
func (f *Forest) Info(n Nested) (SubvolInfo, error) {
	return infoByID(int(f.f.Fd()), n.ID, n.Name)
}

// infoByID is Forest.Info of a number. One that is deleted can be opened for a moment, and is gone all the same. fd is as for OpenByID; name is
// for messages.
func infoByID(fd int, id uint64, name string) (SubvolInfo, error) {
	top, err := OpenByID(fd, id)
	if err != nil {
		return SubvolInfo{}, err
	}
	defer top.Close()
	return infoOf(int(top.Fd()), name)
}

// IDOf gives the number of the subvolume in which the directory at path lies.
func IDOf(path string) (uint64, error) {
	d, err := openDir(path)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var a subvolInfoArgs
	if err := ioctl(int(d.Fd()), iocSubvolInfo, unsafe.Pointer(&a)); err != nil {
		return 0, explain("look at the subvolume of", path, err)
	}
	return a.TreeID, nil
}

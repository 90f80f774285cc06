package btrfs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// RootRefKey is the type of the items that tell which subvolumes are nested in one (BTRFS_ROOT_REF_KEY of linux/btrfs_tree.h).
const RootRefKey = 156

const (
	rootTree    = 1  // BTRFS_ROOT_TREE_OBJECTID
	rootRefSize = 18 // struct btrfs_root_ref {le64 dirid, sequence; le16 name_len}, packed, and the name behind it
)

// Nested is a subvolume that lies in another one.
type Nested struct {
	ID    uint64 // number of its tree
	Outer uint64 // number of the tree of the one that it lies in
	Dir   uint64 // inode number of the directory that holds it
	Index uint64 // offset of its name's DirIndexKey item there
	Name  string
}

// NestedIn gives the subvolumes that lie in the one whose tree has the number id, not those in these, by their IDs. fd is open on any file
// of the filesystem.
func NestedIn(fd int, id uint64) (all []Nested, err error) {
	if all, err = nested(fd, Of(id, RootRefKey, RootRefKey)); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Nested) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

func nested(fd int, key SearchKey) (all []Nested, err error) {
	key.Tree = rootTree
	err = Search(fd, key, nil, func(it Item) error {
		n, err := decodeRootRef(it)
		all = append(all, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find nested subvolumes: %w", err)
	}
	return all, nil
}

// decodeRootRef decodes a RootRefKey item. Key: (outer subvolume, RootRefKey, nested subvolume).
func decodeRootRef(it Item) (Nested, error) {
	b := it.Data
	if len(b) < rootRefSize {
		return Nested{}, short("reference to a subvolume", b, rootRefSize)
	}
	end := rootRefSize + int(le.Uint16(b[16:]))
	if len(b) < end {
		return Nested{}, short("name of a nested subvolume", b, end)
	}
	return Nested{it.Offset, it.ObjectID, le.Uint64(b), le.Uint64(b[8:]), string(b[rootRefSize:end])}, nil
}

// errFound ends a search.
var errFound = errors.New("found")

// finder finds the places of nested subvolumes in a snapshot of the outer one.
type finder struct {
	fd      int // the snapshot
	longest int // of a path of more bytes only the end is given, which is longer
	buf     []byte
	dirs    map[uint64]string // paths by inode number
}

func newFinder(fd, longest int) *finder {
	return &finder{fd, longest, make([]byte, leastBuffer+8), map[uint64]string{FirstInode: ""}}
}

// has tells whether the snapshot has a nested subvolume where it is said to be.
func (f *finder) has(n Nested) (bool, error) {
	key := Of(n.Dir, DirIndexKey, DirIndexKey)
	key.MinOffset, key.MaxOffset = n.Index, n.Index
	err := Search(f.fd, key, f.buf, func(it Item) error {
		d, _, err := CutDirItem(it.Data)
		if err == nil && d.Location.Type == RootItemKey && d.Location.ObjectID == n.ID && string(d.Name) == n.Name {
			return errFound
		}
		return err
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// dir gives the path of a directory; false when the snapshot has it not.
func (f *finder) dir(num uint64) (path string, ok bool, err error) {
	if path, ok := f.dirs[num]; ok {
		return path, true, nil
	}
	for at := num; at != FirstInode && len(path) <= f.longest; {
		var up Ref
		err := Search(f.fd, Of(at, InodeRefKey, InodeExtrefKey), f.buf, func(it Item) (err error) {
			if up, _, err = CutRef(it.Type, it.Offset, it.Data); err == nil {
				path = strings.TrimSuffix(string(up.Name)+"/"+path, "/")
				err = errFound
			}
			return err
		})
		if !errors.Is(err, errFound) {
			return "", false, err
		}
		at = up.Parent
	}
	f.dirs[num] = path
	return path, true, nil
}

// OpenByID opens the top directory of the subvolume whose tree has the number id, wherever it is and whatever is mounted over it. fd is open
// on any file of the filesystem. os.ErrNotExist says that it is gone.
func OpenByID(fd int, id uint64) (*os.File, error) {
	// struct btrfs_fid of linux/fs/btrfs/export.h without a parent: u64 objectid, root_objectid; u32 gen, 0: any. Its type is
	// FILEID_BTRFS_WITHOUT_PARENT of linux/exportfs.h.
	const size, withoutParent = 20, 0x4d
	fid := make([]byte, size)
	binary.NativeEndian.PutUint64(fid, FirstInode)
	binary.NativeEndian.PutUint64(fid[8:], id)
	got, err := unix.OpenByHandleAt(fd, unix.NewFileHandle(withoutParent, fid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err == unix.ESTALE {
		err = unix.ENOENT
	}
	name := fmt.Sprintf("subvolume %d", id)
	if err != nil {
		return nil, explain("open", name, err)
	}
	return os.NewFile(uintptr(got), name), nil
}

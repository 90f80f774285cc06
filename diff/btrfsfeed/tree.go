package btrfsfeed

import (
	"fmt"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

// Item types, linux/btrfs_tree.h.
const (
	inodeItem   = 1
	inodeRef    = 12
	inodeExtref = 13
	xattrItem   = 24
	dirIndex    = 96
	extentData  = 108
	rootItem    = 132

	emptySubvolume = 2 // BTRFS_EMPTY_SUBVOL_DIR_OBJECTID: st_ino of every placeholder of a nested subvolume

	firstFree = 256 // BTRFS_FIRST_FREE_OBJECTID, also the number of a subvolume's top directory
	maxU64    = ^uint64(0)
)

// tree is one snapshot, read by tree search.
type tree struct {
	fd  int
	buf []byte
}

func newTree(fd int) *tree { return &tree{fd: fd, buf: make([]byte, 256<<10)} }

// Root implements diff.Tree.
func (t *tree) Root() uint64 { return firstFree }

// items gives all items of one inode with types from lo to hi.
func (t *tree) items(num uint64, lo, hi uint32, f func(btrfs.Item) error) error {
	k := btrfs.SearchKey{MinObjectID: num, MaxObjectID: num, MinType: lo, MaxType: hi, MaxOffset: maxU64, MaxTransid: maxU64}
	if err := btrfs.Search(t.fd, k, t.buf, f); err != nil {
		return fmt.Errorf("reading inode %d by tree search: %w", num, err)
	}
	return nil
}

// Inode implements diff.Tree.
func (t *tree) Inode(num uint64) (info diff.Info, ok bool, err error) {
	err = t.items(num, inodeItem, inodeItem, func(it btrfs.Item) error {
		raw, err := decodeInode(it.Data)
		info, ok = raw.info(), true
		return err
	})
	return info, ok, err
}

// Entries implements diff.Tree. It goes by the location key of the directory item: d_ino of a nested subvolume is a root
// number.
func (t *tree) Entries(dir uint64, yield func(diff.Entry) error) error {
	var all []diff.Entry // yield searches too, in the same buffer
	err := t.items(dir, dirIndex, dirIndex, func(it btrfs.Item) error {
		d, _, err := decodeDirItem(it.Data)
		if err != nil {
			return err
		}
		all = append(all, diff.Entry{Name: d.name, Ino: d.objectid, Type: dirType(d.kind), Sub: d.keyType == rootItem})
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

// dirType turns BTRFS_FT_* (linux/btrfs_tree.h) into S_IFMT bits.
func dirType(kind uint8) uint32 {
	switch kind {
	case 1:
		return unix.S_IFREG
	case 2:
		return unix.S_IFDIR
	case 3:
		return unix.S_IFCHR
	case 4:
		return unix.S_IFBLK
	case 5:
		return unix.S_IFIFO
	case 6:
		return unix.S_IFSOCK
	case 7:
		return unix.S_IFLNK
	}
	return 0
}

// Names implements diff.Tree.
func (t *tree) Names(num uint64) ([]diff.Ref, error) {
	if num == firstFree {
		return nil, nil
	}
	var refs []diff.Ref
	err := t.items(num, inodeRef, inodeExtref, func(it btrfs.Item) error {
		var err error
		refs, err = decodeRefs(refs, it.Type, it.Offset, it.Data)
		return err
	})
	return refs, err
}

// Xattrs implements diff.Tree. Properties (btrfs.*) belong to the filesystem, not to the file.
func (t *tree) Xattrs(num uint64) (string, error) {
	var all []string
	err := t.items(num, xattrItem, xattrItem, func(it btrfs.Item) error {
		for data := it.Data; len(data) > 0; {
			d, rest, err := decodeDirItem(data)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(d.name, "btrfs.") {
				all = append(all, fmt.Sprintf("%d:%s=%d:%s", len(d.name), d.name, len(d.value), d.value))
			}
			data = rest
		}
		return nil
	})
	sort.Strings(all)
	return strings.Join(all, ""), err
}

// extents are a file's extent items, ascending.
func (t *tree) extents(num uint64) (out []extent, err error) {
	err = t.items(num, extentData, extentData, func(it btrfs.Item) error {
		e, err := decodeExtent(it.Offset, it.Data)
		out = append(out, e)
		return err
	})
	return out, err
}

// candidates are the numbers of all inodes whose item was written after the bound. The kernel skips every node that is
// not newer.
//
// One thing carries the bound itself and is still not in the base: to take a snapshot puts its name into a directory after
// the tree was copied, in the same transaction. So leaves of the bound's own transaction are searched too, for the
// directories with such a name.
func (t *tree) candidates(bound uint64) (nums []uint64, err error) {
	k := btrfs.SearchKey{MinObjectID: firstFree, MaxObjectID: maxU64 - 256, MaxType: 255, MaxOffset: maxU64, MinTransid: bound, MaxTransid: maxU64}
	err = btrfs.Search(t.fd, k, t.buf, func(it btrfs.Item) error {
		if it.Type == dirIndex {
			d, _, err := decodeDirItem(it.Data)
			if err == nil && d.keyType == rootItem && d.transid == bound {
				nums = append(nums, it.ObjectID)
			}
			return err
		}
		if it.Type != inodeItem {
			return nil
		}
		raw, err := decodeInode(it.Data)
		if err == nil && raw.transid > bound {
			nums = append(nums, it.ObjectID)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("searching for inodes newer than transaction %d: %w", bound, err)
	}
	return nums, err
}

package job

import (
	"errors"
	"fmt"
	"path"
	"sync"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// emptySubvolume is the inode number of the empty directory that a snapshot shows in place of a nested subvolume
// (BTRFS_EMPTY_SUBVOL_DIR_OBJECTID of linux/btrfs_tree.h).
const emptySubvolume = 2

// errNoInode says that a snapshot has no such inode.
var errNoInode = errors.New("is not in the snapshot")

// keys gives the inodes of a btrfs snapshot their keys. It is safe for concurrent use.
type keys struct {
	root    *beneath.Root
	buffers sync.Pool
}

func newKeys(root *beneath.Root) *keys {
	return &keys{root: root, buffers: sync.Pool{New: func() any { return new([64 << 10]byte) }}}
}

// of is the key of the inode ino, which name means.
func (k *keys) of(name string, ino uint64) (diff.Key, error) {
	if ino == emptySubvolume {
		return k.placeholder(name)
	}
	buf := k.buffers.Get().(*[64 << 10]byte)
	defer k.buffers.Put(buf)
	key := diff.Key{Ino: ino}
	err := btrfs.Search(k.root.FD(), btrfs.Of(ino, btrfs.InodeItemKey, btrfs.InodeItemKey), buf[:], func(it btrfs.Item) error {
		inode, err := btrfs.DecodeInodeItem(it.Data)
		key.Gen = inode.Generation
		return err
	})
	if err == nil && key.Gen == 0 {
		err = fmt.Errorf("inode %d: %w", ino, errNoInode)
	}
	return key, err
}

// placeholder is the key of a nested subvolume: the number of its tree, which only its directory entry tells.
func (k *keys) placeholder(name string) (diff.Key, error) {
	dir := path.Dir(name)
	if dir == "." {
		dir = ""
	}
	var key diff.Key
	err := k.root.ReadDir(dir, func(entry string, _ uint8, ino uint64) error {
		if entry == path.Base(name) {
			key = diff.PlaceholderKey(ino)
		}
		return nil
	})
	if err == nil && key.Ino == 0 {
		err = fmt.Errorf("the nested subvolume %q has no directory entry", name)
	}
	return key, err
}

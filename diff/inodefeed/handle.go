package inodefeed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

var ne = binary.NativeEndian

// Types of file handles: enum fid_type in include/linux/exportfs.h, and XFS_FILEID_TYPE_64FLAG in fs/xfs/xfs_export.h, whose
// handles have 64 bits of inode number, then 32 of generation.
const (
	fileidIno32Gen = 1
	fileidIno64Gen = 0x81
)

// Keys gives the identity of any inode of a snapshot by its path and number. It opens nothing: symlinks, fifos and devices are
// no exception. Where the path means another inode, or none, the device tells; diff.ErrNoInode when there is none
// of this number. It may be used by several goroutines at once.
func Keys(s Side) func(path string, ino uint64) (diff.Key, error) {
	var lock sync.Mutex
	var fs filesystem
	return func(path string, ino uint64) (diff.Key, error) {
		key, err := keyAt(s.Root, path)
		if err == nil && key.Ino == ino || err != nil && !leadsNowhere(err) {
			return key, err
		}
		lock.Lock()
		defer lock.Unlock()
		if fs == nil {
			if fs, err = open(s); err != nil {
				return diff.Key{}, err
			}
		}
		i, ok, err := lookUp(fs, ino)
		if err == nil && !ok {
			err = fmt.Errorf("inode %d of %q: %w", ino, path, diff.ErrNoInode)
		}
		return diff.Key{Ino: ino, Gen: i.Gen}, err
	}
}

// keyAt asks the kernel for the identity of what a path means.
func keyAt(snap *beneath.Root, path string) (diff.Key, error) {
	dir, name, err := snap.OpenParent(path)
	if err != nil {
		return diff.Key{}, err
	}
	defer dir.Release()
	handle, _, err := unix.NameToHandleAt(dir.FD(), name, 0)
	if err != nil {
		return diff.Key{}, fmt.Errorf("asking for the file handle of %q: %w", path, err)
	}
	key, err := decodeHandle(handle.Type(), handle.Bytes())
	if err != nil {
		return diff.Key{}, fmt.Errorf("file handle of %q: %w", path, err)
	}
	return key, nil
}

func leadsNowhere(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// decodeHandle reads the number and generation from a file handle.
func decodeHandle(kind int32, b []byte) (diff.Key, error) {
	switch {
	case kind == fileidIno32Gen && len(b) == 8:
		return diff.Key{Ino: uint64(ne.Uint32(b)), Gen: uint64(ne.Uint32(b[4:]))}, nil
	case kind == fileidIno64Gen && len(b) == 12:
		return diff.Key{Ino: ne.Uint64(b), Gen: uint64(ne.Uint32(b[8:]))}, nil
	}
	return diff.Key{}, fmt.Errorf("of type %#x with %d bytes, which neither ext4 nor XFS gives out", kind, len(b))
}

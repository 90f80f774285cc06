package zfsfeed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// newTree makes a Tree of a mounted snapshot. Generations come from known, where that is not 0, else from file handles.
func newTree(root *beneath.Root, known func(*unix.Stat_t) (uint64, error)) (*diff.Mounted, error) {
	top, err := topNumber(root)
	if err != nil {
		return nil, err
	}
	t, err := diff.NewMounted(root, func(path string, st *unix.Stat_t) (uint64, error) {
		if path != "" {
			if gen, err := known(st); gen != 0 || err != nil {
				return gen, err
			}
		}
		k, err := keyOf(root, path, st.Ino)
		return k.Gen, err
	})
	if err == nil {
		t.SetTop(top)
	}
	return t, err
}

// Keys gives the identity of any inode of one mounted snapshot by its path. It may be used by several goroutines at once.
func Keys(snap *beneath.Root) func(path string, ino uint64) (diff.Key, error) {
	top := sync.OnceValues(func() (uint64, error) { return topNumber(snap) })
	return func(path string, ino uint64) (diff.Key, error) {
		if path == "" {
			num, err := top()
			return diff.Key{Ino: num, Gen: topGeneration}, err
		}
		return keyOf(snap, path, ino)
	}
}

// topGeneration stands for that of the top directory, which is never made anew.
const topGeneration = 1

// topNumber gives the object number of the top directory. Stat and file handle of a snapshot's top show its place in .zfs, another
// one for each snapshot (zfs_getattr_fast in module/os/linux/zfs/zfs_vnops_os.c), but d_ino of "." is the real one.
func topNumber(root *beneath.Root) (uint64, error) {
	fd, err := root.Open("", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := unix.Getdents(fd, buf[:])
	if err != nil {
		return 0, fmt.Errorf("reading the top directory of %s: %w", root.Path(), err)
	}
	// struct linux_dirent64: d_ino 8, d_off 8, d_reclen 2, d_type 1, d_name.
	if n < 24 || string(buf[19:21]) != ".\x00" {
		return 0, fmt.Errorf("the top directory of %s does not begin with itself: %w", root.Path(), diff.ErrNotNative)
	}
	return binary.NativeEndian.Uint64(buf[:]), nil
}

// keyOf reads the file handle of ZFS, zfid_short_t of include/os/linux/zfs/sys/zfs_vfsops_os.h: its length without these two bytes
// (2), the object's number (6, little endian), its generation (4, little endian: the lower half of the transaction that made it).
func keyOf(root *beneath.Root, path string, ino uint64) (diff.Key, error) {
	if path == "" {
		return diff.Key{Ino: ino, Gen: topGeneration}, nil
	}
	h, err := root.Handle(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = diff.ErrNoInode
	}
	var k diff.Key
	if err == nil {
		k, err = parseHandle(h)
	}
	if err == nil && k.Ino != ino {
		err = diff.ErrNoInode
	}
	if err != nil {
		return diff.Key{}, fmt.Errorf("inode %d of %q: %w", ino, path, err)
	}
	return k, nil
}

func parseHandle(h []byte) (diff.Key, error) {
	const short = 12
	if len(h) < short {
		return diff.Key{}, fmt.Errorf("a file handle of ZFS has %d bytes, wanted are at least %d", len(h), short)
	}
	var k diff.Key
	for i := range 6 {
		k.Ino |= uint64(h[2+i]) << (8 * i)
	}
	for i := range 4 {
		k.Gen |= uint64(h[8+i]) << (8 * i)
	}
	return k, nil
}

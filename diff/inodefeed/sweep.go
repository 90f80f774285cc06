package inodefeed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/lvm"
)

// A machine that dies may have written data in place and not yet the inode with its new times: those wait for a journal commit,
// with lazytime for a day. After a mount, therefore, no inode speaks for its data any more, and every file is asked
// whether any of it lies in a changed block: its inode, and the kernel where that does not tell. Nothing in memory can tell a clean mount from another one.

// mountedAnew tells that the source may have been mounted again between the snapshots. ext4 says so by itself, but only when it was mounted for writing: a mount
// that is read-only, and e2fsck, replay the journal and leave no other trace.
func mountedAnew(base, next Side, b, n filesystem) bool {
	if b.mounted() != 0 && n.mounted() != 0 && base.Boot == "" && next.Boot == "" {
		return b.mounted() != n.mounted()
	}
	return b.mounted() != n.mounted() || base.Boot != next.Boot || base.Boot == ""
}

// setBack tells that the clock was set back between the snapshots: what was written then may have the very times that it had.
func setBack(base, next Side) bool { return next.Taken.Before(base.Taken) }

// sweep calls yield for every regular file of the new snapshot of which any data lies in a changed block.
func (f *feed) sweep(ctx context.Context, size int64, yield func(num uint64) error) error {
	all := lvm.Blocks{{Len: size}}
	fs := f.next.fs.over(all)
	return fs.scan(ctx, all, func(num uint64) error {
		raw, err := fs.raw(num)
		if err != nil || raw == nil {
			return err
		}
		i, err := fs.decode(raw)
		if err != nil || !i.IsRegular() || i.Size == 0 {
			return err
		}
		touched, err := f.touched(num, i, raw)
		if err == nil && touched {
			err = yield(num)
		}
		return err
	})
}

// touched tells whether any data of a file lies in a changed block. What lies in the inode itself is compared with it.
func (f *feed) touched(num uint64, i inode, raw []byte) (bool, error) {
	if all, ok := f.next.fs.places(raw); ok {
		return slices.ContainsFunc(all, func(b lvm.Block) bool { return f.changed.Any(b.Off, b.Len) }), nil
	}
	fd, err := openHandle(f.next.root, f.next.fs.handle(num, i.Gen))
	if errors.Is(err, unix.ESTALE) {
		return false, nil // one of the filesystem's own
	}
	if errors.Is(err, unix.EIO) {
		return true, nil // to copy it meets the error, and says so
	}
	if err != nil {
		return false, fmt.Errorf("opening inode %d by its number: %w: %w", num, err, diff.ErrNotNative)
	}
	defer unix.Close(fd)
	es, _, err := extents(fd, i.Size)
	if err != nil {
		return true, nil
	}
	for _, e := range es {
		if e.kind == written && f.changed.Any(e.disk, e.len) {
			return true, nil
		}
	}
	return false, nil
}

// openHandle opens a regular file without its name.
func openHandle(root *beneath.Root, handle unix.FileHandle) (int, error) {
	for {
		fd, err := unix.OpenByHandleAt(root.FD(), handle, unix.O_RDONLY|unix.O_CLOEXEC)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

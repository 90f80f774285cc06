package inodefeed

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/lvm"
)

// filesystem reads the inodes of one snapshot from its device. It must not be used by several goroutines at once.
type filesystem interface {
	// root is the number of the top directory.
	root() uint64
	// raw gives the bytes of an inode, nil when none is in use under this number. They are valid until the next call.
	raw(num uint64) ([]byte, error)
	// decode reads what raw gave.
	decode(raw []byte) (inode, error)
	// mask wipes, in a copy of what raw gave, the fields that differ between equal inodes: time of last access, checksums.
	mask(raw []byte)
	// scan calls yield with the number of every inode in use that lies in the blocks, and stops at its first error.
	scan(ctx context.Context, blocks lvm.Blocks, yield func(num uint64) error) error
	// places are where the written data of a file lies on the device, by what raw gave of it; false where the inode does not tell all of it.
	places(raw []byte) (all []lvm.Block, ok bool)
	// directory tells how the names of a directory lie on the device, by what raw gave of it. An error says why only the kernel should tell its
	// names: anything that is not known here, or damaged.
	directory(num uint64, raw []byte) (*directory, error)
	// over is the same filesystem for reading the inodes in the blocks one after another.
	over(blocks lvm.Blocks) filesystem
	// incomparable tells why the inodes of a base cannot be compared with these one by one; "" when they can.
	incomparable(base filesystem) string
	// mounted is another number after every mount for writing; 0 where the filesystem does not tell.
	mounted() uint64
	// own tells a file that the filesystem keeps for itself: its inode has links and, as a rule, no name. raw need not show it.
	own(num uint64) bool
	// handle is the file handle by which the kernel opens an inode.
	handle(num, gen uint64) unix.FileHandle
}

// inode is what the device tells of an inode.
type inode struct {
	diff.Info
	ctimeSec  int64
	ctimeNsec int32
	// coarse: the times have no fractions of a second.
	coarse bool
	// plain: the inode has no extended attributes.
	plain bool
}

// notNative is an error that leads to a full comparison, with the reason.
func notNative(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, diff.ErrNotNative)...)
}

// open tells what filesystem is on a device.
func open(s Side) (filesystem, error) {
	dev := newDevice(s.Device, s.Size, window)
	head, err := dev.bytes(0, ext4SuperOffset+ext4SuperSize)
	if err != nil {
		return nil, err
	}
	switch {
	case isExt4(head[ext4SuperOffset:]):
		return openExt4(dev)
	case isXFS(head):
		return openXFS(dev)
	default:
		return nil, notNative("there is no filesystem on the device whose inodes can be read")
	}
}

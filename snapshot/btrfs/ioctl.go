package btrfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of linux/btrfs.h, numbered as asm-generic/ioctl.h does (amd64, arm64, riscv64).
const (
	magic = 0x94
	write = 1 << 30
	read  = 2 << 30

	iocResize        = write | unsafe.Sizeof(volArgs{})<<16 | magic<<8 | 3
	iocSync          = magic<<8 | 8
	iocTreeSearchV2  = read | write | unsafe.Sizeof(searchHead{})<<16 | magic<<8 | 17
	iocSnapCreateV2  = write | unsafe.Sizeof(volArgsV2{})<<16 | magic<<8 | 23
	iocSubvolCreate2 = write | unsafe.Sizeof(volArgsV2{})<<16 | magic<<8 | 24
	iocGetFlags      = read | 8<<16 | magic<<8 | 25
	iocSetFlags      = write | 8<<16 | magic<<8 | 26
	iocFSInfo        = read | unsafe.Sizeof(fsInfoArgs{})<<16 | magic<<8 | 31
	iocSubvolInfo    = read | unsafe.Sizeof(subvolInfoArgs{})<<16 | magic<<8 | 60
	iocSnapDestroyV2 = write | unsafe.Sizeof(volArgsV2{})<<16 | magic<<8 | 63
)

// flagReadOnly is BTRFS_SUBVOL_RDONLY, in volArgsV2.Flags and in iocGetFlags. On disk it is another bit:
// rootReadOnly, BTRFS_ROOT_SUBVOL_RDONLY of linux/btrfs_tree.h, and that one is in subvolInfoArgs.Flags.
const (
	flagReadOnly = 1 << 1
	rootReadOnly = 1 << 0
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	FD   int64
	Name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2.
type volArgsV2 struct {
	FD      int64
	Transid uint64
	Flags   uint64
	Unused  [4]uint64
	Name    [4040]byte
}

// timespec is struct btrfs_ioctl_timespec.
type timespec struct {
	Sec  uint64
	Nsec uint32
	_    uint32
}

// subvolInfoArgs is struct btrfs_ioctl_get_subvol_info_args.
type subvolInfoArgs struct {
	TreeID                                 uint64
	Name                                   [256]byte
	ParentID, DirID                        uint64
	Generation, Flags                      uint64
	UUID, ParentUUID, ReceivedUUID         [16]byte
	CTransid, OTransid, STransid, RTransid uint64
	CTime, OTime, STime, RTime             timespec
	Reserved                               [8]uint64
}

// ioctl calls again when a signal came between.
func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// namedIoctl is for the ioctls on a name in the directory dir.
func namedIoctl(op, dir, name string, request uintptr, args volArgsV2) error {
	if name == "" || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%s %q in %s: %w", op, name, dir, unix.EINVAL)
	}
	d, err := openDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	copy(args.Name[:], name)
	if err := ioctl(int(d.Fd()), request, unsafe.Pointer(&args)); err != nil {
		return explain(op+" "+name+" in", dir, err)
	}
	return nil
}

// openDir opens a directory; a fifo or device in its place does not block.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
}

// ErrNotBtrfs says that a path is on another filesystem.
var ErrNotBtrfs = errors.New("this is no btrfs filesystem")

// ErrNotRoot says that the kernel wants CAP_SYS_ADMIN.
var ErrNotRoot = errors.New("the kernel lets only root do this: run snapdiff as root")

// explain puts the usual reasons into words.
func explain(op, path string, err error) error {
	switch err {
	case unix.ENOTTY:
		err = errors.Join(ErrNotBtrfs, err)
	case unix.EPERM, unix.EACCES:
		err = errors.Join(ErrNotRoot, err)
	case unix.ETXTBSY:
		err = fmt.Errorf("%w: a swap file in it is in use, and btrfs takes no snapshot of that; give it a subvolume of its own, and exclude that where "+
			"nested ones are followed", err)
	case unix.EROFS:
		err = fmt.Errorf("%w: mount it writable, snapshots are made in it", err)
	}
	return &fs.PathError{Op: op, Path: path, Err: oneLine{err}}
}

// oneLine shows joined errors on one line.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", ": ") }
func (e oneLine) Unwrap() error { return e.error }

// cString is the text before the first NUL.
func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

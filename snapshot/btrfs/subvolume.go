// Package btrfs takes, finds and destroys btrfs snapshots and searches their trees, by the kernel's ioctls alone: no
// btrfs-progs are needed at run time.
package btrfs

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FirstInode is the inode number of the top directory of every subvolume (BTRFS_FIRST_FREE_OBJECTID).
const FirstInode = 256

// emptySubvol is the inode number of the empty directory that a snapshot has where what it was taken of has a nested subvolume
// (BTRFS_EMPTY_SUBVOL_DIR_OBJECTID). It takes no ioctl.
const emptySubvol = 2

// onBtrfs tells whether an open file is on btrfs.
func onBtrfs(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}

// ErrNotSubvolume says that a directory is not the top of a btrfs subvolume.
var ErrNotSubvolume = errors.New("not the top directory of a btrfs subvolume")

// UUID is a subvolume's identity.
type UUID [16]byte

// String is the UUID in its usual form; "" for none.
func (u UUID) String() string {
	if u == (UUID{}) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// SubvolInfo describes a subvolume (BTRFS_IOC_GET_SUBVOL_INFO).
type SubvolInfo struct {
	ID           uint64 // number of its tree
	Name         string // its name in the directory that holds it
	UUID         UUID
	ParentUUID   UUID   // of the subvolume it is a snapshot of; zero if it is none
	ReceivedUUID UUID   // zero if it was not received
	Generation   uint64 // transaction of the last write to its tree; a balance raises it, so it is no bound for anything
	OTransid     uint64 // transaction in which it was made: what is newer was changed since
	CTransid     uint64 // transaction of the last change of a file in it
	OTime        time.Time
	ReadOnly     bool
}

// IsSubvolume tells whether path is the top directory of a btrfs subvolume. It follows symlinks.
func IsSubvolume(path string) (bool, error) {
	_, err := Info(path)
	if errors.Is(err, ErrNotSubvolume) || errors.Is(err, ErrNotBtrfs) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// Info describes the subvolume whose top directory is path. ErrNotBtrfs and ErrNotSubvolume say what else it is.
func Info(path string) (SubvolInfo, error) {
	d, err := openDir(path)
	if err != nil {
		return SubvolInfo{}, err
	}
	defer d.Close()
	return infoOf(int(d.Fd()), path)
}

func infoOf(fd int, path string) (SubvolInfo, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return SubvolInfo{}, explain("stat", path, err)
	}
	var a subvolInfoArgs
	if err := ioctl(fd, iocSubvolInfo, unsafe.Pointer(&a)); err != nil {
		if st.Ino == emptySubvol && onBtrfs(fd) {
			err = ErrNotSubvolume
		}
		return SubvolInfo{}, explain("look at subvolume", path, err)
	}
	if st.Ino != FirstInode {
		return SubvolInfo{}, explain("look at subvolume", path, ErrNotSubvolume)
	}
	return SubvolInfo{
		ID: a.TreeID, Name: cString(a.Name[:]),
		UUID: a.UUID, ParentUUID: a.ParentUUID, ReceivedUUID: a.ReceivedUUID,
		Generation: a.Generation, OTransid: a.OTransid, CTransid: a.CTransid,
		OTime:    time.Unix(int64(a.OTime.Sec), int64(a.OTime.Nsec)).UTC(),
		ReadOnly: a.Flags&rootReadOnly != 0,
	}, nil
}

// CreateSubvolume makes an empty subvolume.
func CreateSubvolume(dir, name string) error {
	return namedIoctl("make subvolume", dir, name, iocSubvolCreate2, volArgsV2{})
}

// Grow makes the filesystem at path as large as its device now is.
func Grow(path string) error {
	d, err := openDir(path)
	if err != nil {
		return err
	}
	defer d.Close()
	var a volArgs
	copy(a.Name[:], "max")
	if err := ioctl(int(d.Fd()), iocResize, unsafe.Pointer(&a)); err != nil {
		return explain("grow filesystem at", path, err)
	}
	return nil
}

// SyncFS commits everything that was written to the filesystem at path.
func SyncFS(path string) error {
	d, err := openDir(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := ioctl(int(d.Fd()), iocSync, nil); err != nil {
		return explain("sync filesystem at", path, err)
	}
	return nil
}

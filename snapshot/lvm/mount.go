package lvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// ErrFilesystem says that the filesystem on a volume is none that can be compared.
var ErrFilesystem = errors.New("neither ext4 nor XFS is on the volume")

// ErrRecovery says that a snapshot shows a state that its filesystem's journal would still have to mend.
var ErrRecovery = errors.New("the filesystem was not brought in order before the snapshot was taken")

// errTorn says that no journal can mend what a snapshot shows.
var errTorn = errors.New("the filesystem is not in order")

// checkReplay refuses to replay a journal that lies on a device of its own: it is the source's, which would be without it afterwards.
func checkReplay(kind string, start []byte) error {
	le := binary.LittleEndian
	if kind == "ext4" && le.Uint32(start[extJournalInodeAt:]) == 0 && le.Uint32(start[extJournalDeviceAt:]) != 0 {
		return advise("mount the volume, or e2fsck it", "%w: its journal lies on another device and was not written back", errTorn)
	}
	return nil
}

// startSize is so much of the start of a volume as tells what is on it, and whether anybody has mounted it for writing: both
// ext4 and XFS then write their superblock.
const startSize = 64 << 10

// Superblocks: of ext4 in fs/ext4/ext4.h, struct ext4_super_block, at byte 1024, little-endian; of XFS in
// fs/xfs/libxfs/xfs_format.h, struct xfs_dsb, at byte 0, big-endian.
const (
	extSuper           = 1024
	extMagicAt         = extSuper + 0x38
	extStateAt         = extSuper + 0x3A
	extCompatAt        = extSuper + 0x5C
	extIncompatAt      = extSuper + 0x60
	extJournalInodeAt  = extSuper + 0xE0
	extJournalDeviceAt = extSuper + 0xE4
	extValid           = 0x1 // EXT4_VALID_FS: unmounted cleanly; cleared while a filesystem without a journal is mounted
	extCompatJournal   = 0x4 // EXT4_FEATURE_COMPAT_HAS_JOURNAL
	extMagic           = 0xef53
	extIncompatRecover = 0x4        // EXT4_FEATURE_INCOMPAT_RECOVER: the journal holds what is not yet in its place
	xfsMagic           = 0x58465342 // "XFSB"
)

// filesystem tells what is on a volume, "ext4" (ext2 and ext3 too) or "xfs", by the start of it.
func filesystem(start []byte) (string, error) {
	switch {
	case binary.BigEndian.Uint32(start) == xfsMagic:
		return "xfs", nil
	case binary.LittleEndian.Uint16(start[extMagicAt:]) == extMagic:
		return "ext4", nil
	}
	return "", ErrFilesystem
}

// fingerprint is a number that is another one when the start of the volume is.
func fingerprint(start []byte) uint64 {
	h := fnv.New64a()
	h.Write(start)
	return h.Sum64() | 1 // never the 0 of a mark without one
}

// checkClean refuses a snapshot that its journal would have to mend. The kernel freezes a mounted filesystem while LVM takes
// the snapshot: then everything is in its place. frozen says that it was mounted.
//
// XFS leaves its log dirty even then, with nothing in it but the superblock, so that a later recovery frees the inodes that
// were deleted while open. Not mounted, its log must be clean; that is asked of the kernel: it refuses to mount a device that
// cannot be written to when the log is dirty.
func checkClean(device string, start []byte, frozen bool) error {
	kind, err := filesystem(start)
	if err != nil {
		return err
	}
	if kind == "ext4" {
		if binary.LittleEndian.Uint32(start[extIncompatAt:])&extIncompatRecover != 0 {
			return ErrRecovery
		}
		le := binary.LittleEndian
		if !frozen && le.Uint32(start[extCompatAt:])&extCompatJournal == 0 && le.Uint16(start[extStateAt:])&extValid == 0 {
			return advise("unmount the volume wherever it is mounted, or e2fsck -f it", "%w: it has no journal and was not unmounted", errTorn)
		}
		return nil
	}
	if frozen {
		return nil
	}
	m, err := mountPrivately(device, kind, false, "nouuid")
	if errors.Is(err, unix.EROFS) {
		return ErrRecovery
	}
	if err != nil {
		return err
	}
	return m.Close()
}

// checkForeign is checkClean of a read-only snapshot that somebody else took: nobody knows whether the filesystem was mounted then, or frozen.
func checkForeign(v Volume, start []byte) error {
	if err := checkClean(v.Device, start, true); err != nil {
		return err
	}
	if kind, err := filesystem(start); err != nil || kind != "xfs" {
		return err
	}
	f, err := openDevice(v.Device, v.UUID, "", unix.O_DIRECT)
	if err != nil {
		return err
	}
	defer f.Close()
	quiet, err := xfsLogQuiet(f, start)
	if err == nil && !quiet {
		err = advise("mount the volume and take another one, or let snapdiff take its own", "snapshot %s: %w (its log is not empty)", v.Path(), ErrRecovery)
	}
	return err
}

// mountFlags are the options with which snapshots are mounted: as they are, and to replay their journal. (Two XFS with one
// UUID are not mounted otherwise.)
var mountFlags = map[string]struct{ asIs, replay []string }{
	"ext4": {asIs: []string{"noload"}},
	"xfs":  {asIs: []string{"norecovery", "nouuid"}, replay: []string{"nouuid"}},
}

// mountRoot mounts the snapshot on a device where nobody else sees it, as it is: its journal is not looked at.
func mountRoot(device string, start []byte) (*beneath.Root, io.Closer, error) {
	kind, err := filesystem(start)
	if err != nil {
		return nil, nil, err
	}
	m, err := mountPrivately(device, kind, false, mountFlags[kind].asIs...)
	if err != nil {
		return nil, nil, err
	}
	root, err := beneath.Open(fmt.Sprintf("/proc/self/fd/%d", m.Fd()))
	if err != nil {
		return nil, nil, errors.Join(err, m.Close())
	}
	return root, m, nil
}

// mountPrivately mounts a filesystem, read-only or for writing, at no place at all: the mount hangs on the descriptor and goes
// with it, even when the process is killed.
func mountPrivately(device, kind string, writable bool, flags ...string) (*os.File, error) {
	attrs := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOATIME
	if !writable {
		flags = append([]string{"ro"}, flags...)
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "mount " + kind + " on", Path: device, Err: err}
	}
	defer unix.Close(fs)
	err = unix.FsconfigSetString(fs, "source", device)
	for _, flag := range flags {
		if err == nil {
			err = unix.FsconfigSetFlag(fs, flag)
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	mount := -1
	if err == nil {
		mount, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	}
	if err != nil {
		err = &os.PathError{Op: "mount " + kind + " on", Path: device, Err: err}
		if said := kernelSays(fs); said != "" {
			err = fmt.Errorf("%w (%s)", err, said)
		}
		return nil, err
	}
	return os.NewFile(uintptr(mount), device), nil
}

// kernelSays gives the messages that the kernel leaves at a filesystem that it could not mount.
func kernelSays(fs int) string {
	var all []string
	buf := make([]byte, 1024)
	for {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			return strings.Join(all, "; ")
		}
		all = append(all, strings.TrimSpace(string(buf[:n])))
	}
}

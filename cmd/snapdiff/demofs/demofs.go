// Package demofs makes a throw-away btrfs in a sparse file, without btrfs-progs: an empty one is part of the program
// (testdata/make.sh made it), and is given an identity of its own and grown to the size wanted.
package demofs

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/btrfs"
)

// empty is the gzipped list of the blocks of an empty btrfs that are not all zeros: each its offset in bytes (u64,
// little-endian) and blockSize bytes.
//
//go:embed empty.btrfs.gz
var empty []byte

const (
	blockSize = 4096
	// MinSize is the least size in bytes: the embedded filesystem has 128 MiB, and the kernel grows none to below 256 MiB.
	MinSize = 256 << 20
)

// FS is a mounted throw-away filesystem.
type FS struct {
	image, dir string
	mounted    bool
}

// Mount makes a sparse file image that holds an empty btrfs of size bytes (at least MinSize) and mounts it at dir, an
// existing directory. It needs root. Close takes everything but dir away; the loop device frees itself with the
// unmount, whoever does that.
func Mount(image, dir string, size int64) (*FS, error) {
	if size < MinSize {
		return nil, fmt.Errorf("make demo filesystem %s: %d bytes are too few, it needs %d", image, size, MinSize)
	}
	file, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make demo filesystem: %w", err)
	}
	defer file.Close()
	f := &FS{image: image, dir: dir}
	if err := f.mount(file, size); err != nil {
		return nil, errors.Join(fmt.Errorf("make demo filesystem %s: %w", image, err), f.Close())
	}
	return f, nil
}

func (f *FS) mount(file *os.File, size int64) error {
	if err := unpack(file, size); err != nil {
		return err
	}
	loop, err := attach(file)
	if err != nil {
		return err
	}
	defer loop.Close() // frees the device unless it is mounted by then
	err = unix.Mount(loop.Name(), f.dir, "btrfs", 0, "")
	if err == unix.ENODEV {
		return errors.New("this kernel has no btrfs: modprobe btrfs, or use a kernel that has it")
	}
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", loop.Name(), f.dir, err)
	}
	f.mounted = true
	return btrfs.Grow(f.dir)
}

// Close unmounts the filesystem and deletes its file. Closing it again does nothing.
func (f *FS) Close() error {
	if f.mounted {
		if err := unix.Unmount(f.dir, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", f.dir, err)
		}
		f.mounted = false
	}
	if err := os.Remove(f.image); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete demo filesystem: %w", err)
	}
	return nil
}

// unpack writes the embedded filesystem into a file of size bytes and leaves holes where it is empty.
func unpack(file *os.File, size int64) error {
	if err := file.Truncate(size); err != nil {
		return err
	}
	blocks, err := gzip.NewReader(bytes.NewReader(empty))
	if err != nil {
		return err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	var block [8 + blockSize]byte
	for {
		_, err := io.ReadFull(blocks, block[:])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		setIdentity(block[8:], id)
		if _, err := file.WriteAt(block[8:], int64(binary.LittleEndian.Uint64(block[:]))); err != nil {
			return err
		}
	}
}

// The start of struct btrfs_super_block (linux/btrfs_tree.h), offsets in bytes. The checksum is CRC-32C of all that
// follows its field.
const (
	superChecksum     = 0
	superChecked      = 32
	superFSID         = 32
	superMagic        = 64
	superIncompat     = 188
	superMetadataUUID = 571
	metadataUUIDFlag  = 1 << 10 // BTRFS_FEATURE_INCOMPAT_METADATA_UUID
)

// setIdentity gives a superblock a filesystem id of its own, so that two demos can run side by side. All other blocks
// carry the old id, which the superblock then names as metadata_uuid.
func setIdentity(block []byte, id [16]byte) {
	if !bytes.Equal(block[superMagic:superMagic+8], []byte("_BHRfS_M")) {
		return
	}
	le := binary.LittleEndian
	copy(block[superMetadataUUID:], block[superFSID:superFSID+16])
	copy(block[superFSID:], id[:])
	le.PutUint64(block[superIncompat:], le.Uint64(block[superIncompat:])|metadataUUIDFlag)
	le.PutUint32(block[superChecksum:], crc32.Checksum(block[superChecked:], crc32.MakeTable(crc32.Castagnoli)))
}

// attach gives a file a loop device, which frees itself when it is neither open nor mounted any more.
func attach(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: loop devices are needed (modprobe loop)", err)
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if err != unix.EBUSY { // somebody else took it first: ask for another
			return nil, fmt.Errorf("attach %s to %s: %w", file.Name(), loop.Name(), err)
		}
	}
}

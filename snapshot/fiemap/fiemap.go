// Package fiemap asks filesystems where on the disk files lie (FS_IOC_FIEMAP, Documentation/filesystems/fiemap.rst).
package fiemap

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Extent is struct fiemap_extent, linux/fiemap.h: 56 bytes. All are bytes: Logical in the file, Physical on the device.
type Extent struct {
	Logical, Physical, Length uint64
	_                         [2]uint64
	Flags                     uint32
	_                         [3]uint32
}

// End is where the extent ends in the file.
func (e Extent) End() uint64 { return e.Logical + e.Length }

// Flags of an extent.
const (
	// Last is the last one of a file.
	Last = 0x1
	// Unwritten is allocated and never written: it reads as zeros and counts as a hole.
	Unwritten = 0x800
	// Shared: other files have it too, by a clone or in a snapshot.
	Shared = 0x2000
	// Elsewhere: UNKNOWN, DELALLOC, ENCODED, DATA_ENCRYPTED, NOT_ALIGNED, DATA_INLINE, DATA_TAIL. The place that the map tells is
	// none, or not all that the bytes depend on.
	Elsewhere = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400
)

// request is struct fiemap, linux/fiemap.h, 32 bytes, with room for extents behind it.
type request struct {
	start, length        uint64
	flags, mapped, count uint32
	_                    uint32
	extents              [room]Extent
}

const (
	room        = 256
	fsIocFiemap = 0xC020660B // FS_IOC_FIEMAP, linux/fs.h: _IOWR('f', 11, struct fiemap)
	flagSync    = 0x1        // FIEMAP_FLAG_SYNC: what waits to be written is written first
)

var requests = sync.Pool{New: func() any { return new(request) }}

// Each calls yield for the extents of an open file that lie in or reach into [from, to), ascending, until it returns false. written: what
// waits to be written is written first, so that no extent is still without its place.
func Each(fd int, from, to uint64, written bool, yield func(Extent) bool) error {
	r := requests.Get().(*request)
	defer requests.Put(r)
	for at := from; at < to; {
		r.start, r.length, r.flags, r.mapped, r.count = at, to-at, 0, 0, room
		if written {
			r.flags = flagSync
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocFiemap, uintptr(unsafe.Pointer(r))); errno != 0 {
			return fmt.Errorf("asking for the extents of a file: %w", errno)
		}
		if r.mapped == 0 {
			return nil
		}
		for _, e := range r.extents[:min(r.mapped, room)] {
			if e.End() <= at && e.Length > 0 {
				return fmt.Errorf("the extents of a file do not ascend at byte %d", e.Logical)
			}
			at = e.End()
			if !yield(e) || e.Flags&Last != 0 {
				return nil
			}
		}
	}
	return nil
}

// Seek is lseek(2) with SEEK_DATA or SEEK_HOLE, by what is allocated and written: on ext4 and XFS lseek takes what is allocated and not
// written for data as soon as pages of it are in memory, because somebody has read it.
func Seek(fd int, off int64, whence int) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if off < 0 || off >= st.Size {
		return 0, unix.ENXIO
	}
	at, found := uint64(off), false // found: the data that begins at or before off, or is looked for
	err := Each(fd, at, uint64(st.Size), true, func(e Extent) bool {
		switch {
		case e.Flags&Unwritten != 0:
			return whence == unix.SEEK_DATA // else at is in a hole, or at the end of data
		case whence == unix.SEEK_DATA:
			at, found = max(at, e.Logical), true
			return false
		case e.Logical > at:
			return false
		}
		at = e.End()
		return true
	})
	if err != nil {
		return 0, err
	}
	if whence == unix.SEEK_DATA && (!found || int64(at) >= st.Size) {
		return 0, unix.ENXIO
	}
	return min(int64(at), st.Size), nil
}

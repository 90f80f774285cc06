package inodefeed

import (
	"fmt"
	"sort"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fiemapExtent is struct fiemap_extent, linux/fiemap.h: 56 bytes.
type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

// fiemap is struct fiemap, linux/fiemap.h, 32 bytes, with room for extents behind it.
type fiemap struct {
	start, length        uint64
	flags, mapped, count uint32
	_                    uint32
	extents              [fiemapExtents]fiemapExtent
}

const (
	fiemapExtents = 256
	fsIocFiemap   = 0xC020660B // FS_IOC_FIEMAP, linux/fs.h: _IOWR('f', 11, struct fiemap)

	fiemapLast      = 0x1   // FIEMAP_EXTENT_LAST
	fiemapUnwritten = 0x800 // FIEMAP_EXTENT_UNWRITTEN
	// fiemapElsewhere: UNKNOWN, DELALLOC, ENCODED, DATA_ENCRYPTED, NOT_ALIGNED, DATA_INLINE, DATA_TAIL. The place that the map
	// tells is none, or not all that the bytes depend on.
	fiemapElsewhere = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400
)

// extent is a part of a file. The zero extent is a hole.
type extent struct {
	off, len int64
	kind     extentKind
	disk     int64 // byte on the device, where kind is written
}

type extentKind uint8

const (
	hole      extentKind = iota // or allocated and not written: reads as zeros and counts as a hole
	written                     // at its own place on the device
	elsewhere                   // inline: only reading tells what it is
)

var fiemaps = sync.Pool{New: func() any { return new(fiemap) }}

// extents are what an open file maps up to size, ascending, without its holes. unwritten says that some of these have blocks.
func extents(fd int, size int64) (out []extent, unwritten bool, err error) {
	m := fiemaps.Get().(*fiemap)
	defer fiemaps.Put(m)
	for at := uint64(0); at < uint64(size); {
		m.start, m.length, m.flags, m.mapped, m.count = at, uint64(size)-at, 0, 0, fiemapExtents
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocFiemap, uintptr(unsafe.Pointer(m))); errno != 0 {
			return nil, false, fmt.Errorf("asking for the extents of a file: %w", errno)
		}
		last := m.mapped == 0
		for _, e := range m.extents[:min(m.mapped, fiemapExtents)] {
			if e.logical+e.length <= at && e.length > 0 {
				return nil, false, fmt.Errorf("the extents of a file do not ascend at byte %d", e.logical)
			}
			at, last = e.logical+e.length, e.flags&fiemapLast != 0
			if e.flags&fiemapUnwritten != 0 {
				unwritten = true
				continue
			}
			out = append(out, e.extent())
		}
		if last {
			break
		}
	}
	return out, unwritten, nil
}

func (e fiemapExtent) extent() extent {
	out := extent{off: int64(e.logical), len: int64(e.length), kind: written, disk: int64(e.physical)}
	if e.flags&fiemapElsewhere != 0 {
		out.kind, out.disk = elsewhere, 0
	}
	return out
}

// partAt is what a file maps from an offset on.
func partAt(es []extent, off int64) extent {
	i := sort.Search(len(es), func(i int) bool { return es[i].off+es[i].len > off })
	if i == len(es) || es[i].off > off {
		return extent{}
	}
	e := es[i]
	if e.kind == elsewhere {
		return extent{kind: elsewhere}
	}
	return extent{kind: written, disk: e.disk + off - e.off}
}

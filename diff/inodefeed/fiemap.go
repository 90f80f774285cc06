package inodefeed

import (
	"sort"

	"snapdiff/snapshot/fiemap"
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

// extents are what an open file maps up to size, ascending, without its holes. unwritten says that some of these have blocks.
func extents(fd int, size int64) (out []extent, unwritten bool, err error) {
	err = fiemap.Each(fd, 0, uint64(size), false, func(e fiemap.Extent) bool {
		if e.Flags&fiemap.Unwritten != 0 {
			unwritten = true
		} else {
			out = append(out, extentOf(e))
		}
		return true
	})
	return out, unwritten, err
}

func extentOf(e fiemap.Extent) extent {
	out := extent{off: int64(e.Logical), len: int64(e.Length), kind: written, disk: int64(e.Physical)}
	if e.Flags&fiemap.Elsewhere != 0 {
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

package btrfsfeed

import (
	"bytes"
	"fmt"
	"math"

	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

// part is what a file maps from an offset on: equal in two files exactly when the bytes from there on are the same ones on
// the disk.
type part struct {
	hole        bool // no bytes of its own: a hole, or preallocated and not written
	compression uint8
	disk        uint64 // address of the whole extent; from says where in it the part begins
	diskLen     uint64
	from        uint64
	inline      []byte // the whole of it, as stored
}

func (p *part) equal(o *part) bool {
	return p.hole == o.hole && p.compression == o.compression && p.disk == o.disk && p.diskLen == o.diskLen && p.from == o.from &&
		(p.inline == nil) == (o.inline == nil) && bytes.Equal(p.inline, o.inline)
}

// extents goes through the extents of a file in ascending order. Memory does not grow with the file.
type extents struct {
	num      uint64
	cursor   *btrfs.Cursor
	off, end int64 // where item lies in the file
	item     btrfs.ExtentData
}

// extents begins to go through a file's extents.
func (t *tree) extents(num uint64) *extents {
	e := &extents{num: num, cursor: t.ahead}
	if t.last.num == num && t.last.unread {
		t.last.unread = false
		return e
	}
	e.cursor = t.apart
	e.cursor.Seek(btrfs.Of(num, btrfs.ExtentDataKey, btrfs.ExtentDataKey), 0)
	return e
}

// at gives what lies at an offset, and where that ends: what no item covers is a hole. Offsets must ascend.
func (e *extents) at(off int64) (p part, end int64, err error) {
	for e.end <= off {
		it, ok, err := e.cursor.Peek()
		if err != nil {
			return p, 0, err
		}
		if !ok || it.ObjectID != e.num || it.Type != btrfs.ExtentDataKey {
			return part{hole: true}, math.MaxInt64, nil
		}
		if int64(it.Offset) > off {
			return part{hole: true}, int64(it.Offset), nil
		}
		if e.item, err = btrfs.DecodeExtentData(it.Data); err != nil {
			return p, 0, fmt.Errorf("%w: %w", err, diff.ErrNotNative)
		}
		e.off, e.end = int64(it.Offset), int64(it.Offset+e.item.NumBytes)
		if _, _, err := e.cursor.Next(); err != nil {
			return p, 0, err
		}
	}
	return partAt(&e.item, uint64(off-e.off)), e.end, nil
}

// partAt is what an extent holds from a distance into it on.
func partAt(e *btrfs.ExtentData, in uint64) part {
	switch {
	case e.Type == btrfs.ExtentInline:
		return part{compression: e.Compression, from: in, inline: e.Inline}
	case e.DiskBytenr == 0 || e.Type == btrfs.ExtentPrealloc:
		return part{hole: true}
	}
	return part{compression: e.Compression, disk: e.DiskBytenr, diskLen: e.DiskNumBytes, from: e.Offset + in}
}

// mapped tells what a file maps at an offset; see extents.at.
type mapped func(off int64) (p part, end int64, err error)

// differing are the parts of the new file that are not the same extent in both, ascending, clamped to the new size.
// Never nil: nil would mean that they are not known. holes tells that whole blocks are a hole in one and data in the
// other, which zeros may hide from a reader; the rest of a block behind inline data is no such hole.
func differing(b, n mapped, bsize, nsize int64) (ranges []diff.Range, holes bool, err error) {
	const block = 4096 // the smallest that btrfs maps
	ranges = []diff.Range{}
	common := min(bsize, nsize)
	for off := int64(0); off < common; {
		x, xend, err := b(off)
		if err != nil {
			return nil, false, err
		}
		y, yend, err := n(off)
		if err != nil {
			return nil, false, err
		}
		end := min(xend, yend, common)
		if !x.equal(&y) {
			holes = holes || off%block == 0 && x.hole != y.hole
			ranges = add(ranges, off, end)
		}
		off = end
	}
	return add(ranges, common, nsize), holes, nil
}

// mostRanges is how many ranges of one file are told; see add.
const mostRanges = 100_000

// add adds a range behind the others. When there are too many, those that lie close together become one: what lies between is
// then copied without need.
func add(ranges []diff.Range, off, end int64) []diff.Range {
	if off >= end {
		return ranges
	}
	if n := len(ranges); n > 0 && ranges[n-1].Off+ranges[n-1].Len == off {
		ranges[n-1].Len += end - off
		return ranges
	}
	ranges = append(ranges, diff.Range{Off: off, Len: end - off})
	for gap := int64(64 << 10); len(ranges) > mostRanges; gap *= 2 {
		ranges = joined(ranges, gap)
	}
	return ranges
}

// joined makes one range of those that are at most gap apart.
func joined(ranges []diff.Range, gap int64) []diff.Range {
	to := ranges[:1]
	for _, r := range ranges[1:] {
		last := &to[len(to)-1]
		if r.Off-(last.Off+last.Len) <= gap {
			last.Len = r.Off + r.Len - last.Off
			continue
		}
		to = append(to, r)
	}
	return to
}

package btrfsfeed

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// contents compares files of both snapshots.
type contents struct {
	base, next         *tree
	baseRoot, nextRoot *beneath.Root
	baseBuf, nextBuf   []byte
}

// compare is a diff.Content. Extents that lie at the same place on the disk hold the same bytes. Others need not differ
// (defragmentation): they are read where nothing else speaks for a change.
func (c *contents) compare(num uint64, b, n diff.Info, basePath, nextPath string) ([]diff.Range, bool, error) {
	be, err := c.base.extents(num)
	if err != nil {
		return nil, false, err
	}
	ne, err := c.next.extents(num)
	if err != nil {
		return nil, false, err
	}
	ranges, holes := differing(be, ne, b.Size, n.Size)
	if b.Size != n.Size {
		return ranges, true, nil
	}
	if len(ranges) == 0 {
		return nil, false, nil
	}
	if holes || b.MtimeSec != n.MtimeSec || b.MtimeNsec != n.MtimeNsec {
		return ranges, true, nil
	}
	same, err := c.readEqual(basePath, nextPath, ranges)
	return ranges, !same, err
}

// differing are the parts of the new file that are not the same extent in both, ascending, clamped to the new size.
// Never nil: nil would mean that they are not known. holes tells that whole blocks are a hole in one and data in the
// other, which zeros may hide from a reader; the rest of a block behind inline data is no such hole.
func differing(b, n []extent, bsize, nsize int64) (ranges []diff.Range, holes bool) {
	const block = 4096 // the smallest that btrfs maps
	cuts := []int64{0, bsize, nsize}
	for _, es := range [][]extent{b, n} {
		for _, e := range es {
			cuts = append(cuts, e.off, e.off+e.len)
		}
	}
	sort.Slice(cuts, func(i, j int) bool { return cuts[i] < cuts[j] })
	ranges = []diff.Range{}
	for i := 0; i+1 < len(cuts); i++ {
		off, end := cuts[i], min(cuts[i+1], nsize)
		if off >= end {
			continue
		}
		if off < bsize {
			x, y := partAt(b, off), partAt(n, off)
			if x == y {
				continue
			}
			holes = holes || off%block == 0 && x.hole != y.hole
		}
		if k := len(ranges) - 1; k >= 0 && ranges[k].Off+ranges[k].Len == off {
			ranges[k].Len += end - off
			continue
		}
		ranges = append(ranges, diff.Range{Off: off, Len: end - off})
	}
	return ranges, holes
}

// partAt is what a file maps at an offset; what no item covers is a hole.
func partAt(es []extent, off int64) extent {
	i := sort.Search(len(es), func(i int) bool { return es[i].off+es[i].len > off })
	if i == len(es) || es[i].off > off {
		return extent{hole: true}
	}
	return es[i].at(off)
}

// readEqual compares the bytes of both files in the ranges.
func (c *contents) readEqual(basePath, nextPath string, ranges []diff.Range) (bool, error) {
	bf, err := openFile(c.baseRoot, basePath)
	if err != nil {
		return false, err
	}
	defer bf.Close()
	nf, err := openFile(c.nextRoot, nextPath)
	if err != nil {
		return false, err
	}
	defer nf.Close()
	const piece = 256 << 10
	if c.baseBuf == nil {
		c.baseBuf, c.nextBuf = make([]byte, piece), make([]byte, piece)
	}
	for _, r := range ranges {
		for off := r.Off; off < r.Off+r.Len; off += piece {
			n := min(piece, r.Off+r.Len-off)
			b, x := c.baseBuf[:n], c.nextBuf[:n]
			if _, err := io.ReadFull(io.NewSectionReader(bf, off, n), b); err != nil {
				return false, fmt.Errorf("reading the base snapshot at byte %d: %w", off, err)
			}
			if _, err := io.ReadFull(io.NewSectionReader(nf, off, n), x); err != nil {
				return false, fmt.Errorf("reading the new snapshot at byte %d: %w", off, err)
			}
			if !bytes.Equal(b, x) {
				return false, nil
			}
		}
	}
	return true, nil
}

func openFile(r *beneath.Root, path string) (*os.File, error) {
	fd, err := r.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

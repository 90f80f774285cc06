package inodefeed

import (
	"bytes"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/lvm"
)

// contents compares files of both snapshots.
type contents struct {
	base, next *beneath.Root
	changed    lvm.Blocks
	bufs       [2][]byte
}

func (f *feed) contents() *contents {
	return &contents{base: f.base.root, next: f.next.root, changed: f.changed}
}

// compare is a diff.Content. What lies at the same place on the device in both, in blocks that did not change, is equal. A
// block on the device that may have changed is read in both: the blocks that the device tells are much larger than
// those of the filesystem. What lies at different places is read only where nothing else speaks for a change.
//
// A file that cannot be read has changed, nobody knows where: to copy it meets the error, and says so.
func (c *contents) compare(_ uint64, b, n diff.Info, basePath, nextPath string) ([]diff.Range, bool, error) {
	if b.Size == 0 && n.Size == 0 {
		return nil, false, nil
	}
	bf, err := openFile(c.base, basePath)
	if err != nil {
		return nil, true, nil
	}
	defer bf.Close()
	nf, err := openFile(c.next, nextPath)
	if err != nil {
		return nil, true, nil
	}
	defer nf.Close()
	be, err := extents(int(bf.Fd()), b.Size)
	if err != nil {
		return nil, true, nil
	}
	ne, err := extents(int(nf.Fd()), n.Size)
	if err != nil {
		return nil, true, nil
	}
	differs := b.Size != n.Size
	p := &pairs{base: be, next: ne, baseSize: b.Size, nextSize: n.Size, changed: c.changed}
	p.surely = differs || b.MtimeSec != n.MtimeSec || b.MtimeNsec != n.MtimeNsec
	out := rangeList{list: []diff.Range{}}
	err = p.each(func(off, end int64, v verdict) error {
		if v == different {
			out.add(off, end)
			return nil
		}
		return c.read(bf, nf, off, end, &out)
	})
	switch {
	case err != nil:
		return nil, true, nil
	case len(out.list) > mostRanges:
		return nil, true, nil
	}
	return out.list, differs || len(out.list) > 0, nil
}

// verdict is what maps and changed blocks tell of a part of a file.
type verdict uint8

const (
	same verdict = iota
	different
	unclear // to be read
)

// pairs goes through the extents of a file in both snapshots side by side.
type pairs struct {
	base, next         []extent
	baseSize, nextSize int64
	changed            lvm.Blocks
	surely             bool // the file changed: what lies elsewhere now need not be read to know
}

// each calls yield, ascending, for the parts of the new file that are not the same as in the base.
func (p *pairs) each(yield func(off, end int64, v verdict) error) error {
	cuts := []int64{0, p.baseSize, p.nextSize}
	for _, es := range [][]extent{p.base, p.next} {
		for _, e := range es {
			cuts = append(cuts, e.off, e.off+e.len)
		}
	}
	sort.Slice(cuts, func(i, j int) bool { return cuts[i] < cuts[j] })
	for i := 0; i+1 < len(cuts); i++ {
		off, end := cuts[i], min(cuts[i+1], p.nextSize)
		if off >= end {
			continue
		}
		x, y := partAt(p.base, off), partAt(p.next, off)
		v := p.judge(off, x, y)
		var err error
		switch {
		case v == same && y.kind == written:
			err = p.changed.Within(y.disk, end-off, func(b lvm.Block) error {
				return yield(off+b.Off-y.disk, off+b.End()-y.disk, unclear)
			})
		case v != same:
			err = yield(off, end, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// judge compares what both files map at an offset.
func (p *pairs) judge(off int64, x, y extent) verdict {
	switch {
	case off >= p.baseSize:
		return different
	case x == y && x.kind != elsewhere:
		return same
	case x.kind != y.kind && (x.kind == hole || y.kind == hole):
		return different // reading would not tell zeros from a hole
	case x.kind == written && y.kind == written && p.surely:
		return different
	}
	return unclear
}

const (
	piece      = 256 << 10
	readBlock  = 4096   // ranges are told in blocks of this size
	mostRanges = 10_000 // of one file; beyond that it is copied whole
)

// read compares the bytes of both files from off to end.
func (c *contents) read(bf, nf *os.File, off, end int64, out *rangeList) error {
	for i := range c.bufs {
		if c.bufs[i] == nil {
			c.bufs[i] = make([]byte, piece)
		}
	}
	for off < end {
		n := min(end-off, piece)
		b, x := c.bufs[0][:n], c.bufs[1][:n]
		if _, err := io.ReadFull(io.NewSectionReader(bf, off, n), b); err != nil {
			return err
		}
		if _, err := io.ReadFull(io.NewSectionReader(nf, off, n), x); err != nil {
			return err
		}
		out.addBlocks(b, x, off)
		off += n
	}
	return nil
}

// rangeList collects ranges that come in ascending order.
type rangeList struct{ list []diff.Range }

// addBlocks adds the blocks that differ. off is where a and b begin in the file.
func (l *rangeList) addBlocks(a, b []byte, off int64) {
	for len(a) > 0 {
		n := min(readBlock-int(off%readBlock), len(a))
		if !bytes.Equal(a[:n], b[:n]) {
			l.add(off, off+int64(n))
		}
		a, b, off = a[n:], b[n:], off+int64(n)
	}
}

func (l *rangeList) add(off, end int64) {
	if len(l.list) > mostRanges {
		return
	}
	if k := len(l.list) - 1; k >= 0 && l.list[k].Off+l.list[k].Len == off {
		l.list[k].Len += end - off
		return
	}
	l.list = append(l.list, diff.Range{Off: off, Len: end - off})
}

func openFile(r *beneath.Root, path string) (*os.File, error) {
	fd, err := r.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	// What is allocated and not written looks like data, no more like a hole, for as long as pages of it are in memory: only
	// what is asked for is read. Advice only: no error matters.
	unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM)
	return os.NewFile(uintptr(fd), path), nil
}

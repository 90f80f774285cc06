package inodefeed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
	"snapdiff/snapshot/lvm"
)

// contents compares files of both snapshots.
type contents struct {
	ctx        context.Context
	base, next *beneath.Root
	changed    lvm.Blocks
	pace       *gentle.Pace
	bufs       [2][]byte
}

func (f *feed) contents(ctx context.Context, pace *gentle.Pace) *contents {
	return &contents{ctx: ctx, pace: pace, base: f.base.root, next: f.next.root, changed: f.changed}
}

// compare is a diff.Content. What lies at the same place on the device in both, in blocks that did not change, is equal. A
// block on the device that may have changed is read in both: the blocks that the device tells are much larger than
// those of the filesystem. What lies at different places is read only where nothing else speaks for a change.
//
// A file that cannot be read has changed, nobody knows where: to copy it meets the error, and says so.
func (c *contents) compare(num uint64, b, n diff.Info, basePath, nextPath string) ([]diff.Range, bool, error) {
	switch {
	case b.Size == 0 && n.Size == 0:
		return nil, false, nil
	case !isRead(b, n):
		return wholeOf(n), true, nil
	}
	ranges, err := c.ranges(num, b, n, basePath, nextPath)
	if errors.Is(err, diff.ErrNotNative) {
		return nil, false, err
	}
	if err != nil || len(ranges) > mostRanges {
		return nil, true, c.ctx.Err()
	}
	return ranges, b.Size != n.Size || len(ranges) > 0, nil
}

// isRead tells files that are opened to find out what changed.
func isRead(b, n diff.Info) bool {
	return (b.Size != 0 || n.Size != 0) && (b.Size == n.Size || n.Size >= small)
}

// small files are copied whole, whatever changed in them: where that one changed is known, nothing more is asked.
const small = 128 << 10

func wholeOf(n diff.Info) []diff.Range {
	if n.Size == 0 {
		return []diff.Range{}
	}
	return []diff.Range{{Len: n.Size}}
}

// ranges are the parts of the new file that differ; never nil.
func (c *contents) ranges(num uint64, b, n diff.Info, basePath, nextPath string) ([]diff.Range, error) {
	base, err := openFile(c.base, basePath, b.Size)
	if err != nil {
		return nil, err
	}
	defer unix.Close(base.fd)
	var st unix.Stat_t
	if err := unix.Fstat(base.fd, &st); err != nil {
		return nil, err
	}
	if st.Ino != num {
		return nil, fmt.Errorf("%q is not inode %d in the base, as the link index says: %w", basePath, num, diff.ErrNotNative)
	}
	next, err := openFile(c.next, nextPath, n.Size)
	if err != nil {
		return nil, err
	}
	defer unix.Close(next.fd)
	p := &pairs{base: base.extents, next: next.extents, baseSize: b.Size, nextSize: n.Size, changed: c.changed}
	p.surely = b.Size != n.Size || b.MtimeSec != n.MtimeSec || b.MtimeNsec != n.MtimeNsec
	out := rangeList{list: []diff.Range{}}
	err = p.each(func(off, end int64, v verdict) error {
		if v == different {
			out.add(off, end)
			return nil
		}
		return c.read(base.fd, next.fd, off, end, &out)
	})
	return out.list, err
}

// file is an open file with its map.
type file struct {
	fd      int
	extents []extent
}

func openFile(r *beneath.Root, path string, size int64) (f file, err error) {
	if f.fd, err = r.Open(path, unix.O_RDONLY, 0); err != nil {
		return f, err
	}
	var unwritten bool
	if f.extents, unwritten, err = extents(f.fd, size); err != nil {
		unix.Close(f.fd)
		return f, err
	}
	if unwritten {
		// What is allocated and not written looks like data, no more like a hole, for as long as pages of it are in memory:
		// only what is asked for is read. Advice only: no error matters.
		unix.Fadvise(f.fd, 0, 0, unix.FADV_RANDOM)
	}
	return f, nil
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
func (c *contents) read(base, next int, off, end int64, out *rangeList) error {
	for i := range c.bufs {
		if c.bufs[i] == nil {
			c.bufs[i] = make([]byte, piece)
		}
	}
	for off < end {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n := min(end-off, piece)
		b, x := c.bufs[0][:n], c.bufs[1][:n]
		if err := c.pace.Wait(2 * n); err != nil {
			return err
		}
		if err := readFull(base, b, off); err != nil {
			return err
		}
		if err := readFull(next, x, off); err != nil {
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

func readFull(fd int, buf []byte, off int64) error {
	for len(buf) > 0 {
		n, err := unix.Pread(fd, buf, off)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		buf, off = buf[n:], off+int64(n)
	}
	return nil
}

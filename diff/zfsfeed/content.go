package zfsfeed

import (
	"os"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// contents compares contents for one goroutine.
type contents struct {
	*feed
	buf *diff.Buffers
}

// compare is a diff.Content. What was written is believed when the time moved too. Otherwise, and for what was only freed,
// both snapshots are asked: what was rewritten with the same bytes is no change, and neither is a hole that was one before.
func (f *contents) compare(num uint64, b, n diff.Info, basePath, nextPath string) ([]diff.Range, bool, error) {
	ranges, written := f.ranges(num, b.Size, n.Size)
	if b.Size != n.Size {
		return ranges, true, nil
	}
	if len(ranges) == 0 {
		return nil, false, nil
	}
	if written && (b.MtimeSec != n.MtimeSec || b.MtimeNsec != n.MtimeNsec) {
		return ranges, true, nil
	}
	same, err := f.same(basePath, nextPath, ranges)
	return ranges, !same, err
}

// same tells whether both files have the same bytes and the same holes in the ranges.
func (f *contents) same(basePath, nextPath string, ranges []diff.Range) (bool, error) {
	file, err := diff.OpenTwins(f.baseRoot, f.nextRoot, basePath, nextPath)
	if err != nil {
		return false, err
	}
	defer file.Close()
	for _, r := range ranges {
		for off, end := r.Off, r.Off+r.Len; off < end; {
			inBase, baseEnd, err := layoutAt(file.Base, off)
			if err != nil {
				return false, err
			}
			inNext, nextEnd, err := layoutAt(file.Next, off)
			if err != nil || inBase != inNext {
				return false, err
			}
			part := min(end, baseEnd, nextEnd)
			if inBase {
				if same, err := file.Same(off, part, f.buf); err != nil || !same {
					return false, err
				}
			}
			off = part
		}
	}
	return true, nil
}

// layoutAt tells whether there is data at off or a hole, and where that ends.
func layoutAt(file *os.File, off int64) (data bool, end int64, err error) {
	start, err := unix.Seek(int(file.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return false, 1<<63 - 1, nil
	}
	if err != nil || start > off {
		return false, start, err
	}
	end, err = unix.Seek(int(file.Fd()), off, unix.SEEK_HOLE)
	return true, end, err
}

package zfsfeed

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// content is a diff.Content. What was written is believed when the time moved too. Otherwise, and for what was only freed,
// both snapshots are asked: what was rewritten with the same bytes is no change, and neither is a hole that was one before.
func (f *feed) content(num uint64, b, n diff.Info, basePath, nextPath string) ([]diff.Range, bool, error) {
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
func (f *feed) same(basePath, nextPath string, ranges []diff.Range) (bool, error) {
	base, err := openFile(f.baseRoot, basePath)
	if err != nil {
		return false, err
	}
	defer base.Close()
	next, err := openFile(f.nextRoot, nextPath)
	if err != nil {
		return false, err
	}
	defer next.Close()
	for _, r := range ranges {
		for off, end := r.Off, r.Off+r.Len; off < end; {
			inBase, baseEnd, err := layoutAt(base, off)
			if err != nil {
				return false, err
			}
			inNext, nextEnd, err := layoutAt(next, off)
			if err != nil || inBase != inNext {
				return false, err
			}
			part := min(end, baseEnd, nextEnd)
			if inBase {
				if same, err := f.sameBytes(base, next, off, part); err != nil || !same {
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

// sameBytes compares what lies between off and end.
func (f *feed) sameBytes(base, next *os.File, off, end int64) (bool, error) {
	const piece = 256 << 10
	if f.buf[0] == nil {
		f.buf[0], f.buf[1] = make([]byte, piece), make([]byte, piece)
	}
	for ; off < end; off += piece {
		n := min(piece, end-off)
		b, x := f.buf[0][:n], f.buf[1][:n]
		if _, err := io.ReadFull(io.NewSectionReader(base, off, n), b); err != nil {
			return false, fmt.Errorf("reading the base snapshot at byte %d: %w", off, err)
		}
		if _, err := io.ReadFull(io.NewSectionReader(next, off, n), x); err != nil {
			return false, fmt.Errorf("reading the new snapshot at byte %d: %w", off, err)
		}
		if !bytes.Equal(b, x) {
			return false, nil
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

package btrfsfeed

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// reader reads both snapshots for one goroutine.
type reader struct {
	base, next         *tree
	bound              uint64
	grown              map[uint64]uint64 // see found
	baseRoot, nextRoot *beneath.Root
	baseBuf, nextBuf   []byte
}

// content is a diff.Content. Extents that lie at the same place on the disk hold the same bytes. Others need not differ
// (defragmentation): they are read where nothing else speaks for a change.
func (r *reader) content(num uint64, b, n diff.Info, basePath, nextPath string) ([]diff.Range, bool, error) {
	ranges, holes, err := differing(r.base.extents(num).at, r.next.extents(num).at, b.Size, n.Size)
	switch {
	case err != nil:
		return nil, false, err
	case b.Size != n.Size:
		return ranges, true, nil
	case len(ranges) == 0:
		return nil, false, nil
	case holes || b.MtimeSec != n.MtimeSec || b.MtimeNsec != n.MtimeNsec:
		return ranges, true, nil
	}
	same, err := r.readEqual(basePath, nextPath, ranges)
	return ranges, !same, err
}

// readEqual compares the bytes of both files in the ranges.
func (r *reader) readEqual(basePath, nextPath string, ranges []diff.Range) (bool, error) {
	bf, err := openFile(r.baseRoot, basePath)
	if err != nil {
		return false, err
	}
	defer bf.Close()
	nf, err := openFile(r.nextRoot, nextPath)
	if err != nil {
		return false, err
	}
	defer nf.Close()
	const piece = 256 << 10
	if r.baseBuf == nil {
		r.baseBuf, r.nextBuf = make([]byte, piece), make([]byte, piece)
	}
	for _, g := range ranges {
		for off := g.Off; off < g.Off+g.Len; off += piece {
			n := min(piece, g.Off+g.Len-off)
			b, x := r.baseBuf[:n], r.nextBuf[:n]
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

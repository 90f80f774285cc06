package btrfsfeed

import (
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// reader reads both snapshots for one goroutine.
type reader struct {
	base, next         *tree
	bound              uint64
	remounted          bool // see diff.Options
	newer              newNames
	baseRoot, nextRoot *beneath.Root
	buf                diff.Buffers
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
	file, err := diff.OpenTwins(r.baseRoot, r.nextRoot, basePath, nextPath)
	if err != nil {
		return false, err
	}
	defer file.Close()
	for _, g := range ranges {
		if same, err := file.Same(g.Off, g.Off+g.Len, &r.buf); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

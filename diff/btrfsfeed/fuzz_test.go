package btrfsfeed

import (
	"errors"
	"testing"

	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

// FuzzDiffering gives any extents of two files to the comparison: the ranges must be in order, apart, within the new file, and
// hold every offset at which the two map different things.
func FuzzDiffering(f *testing.F) {
	f.Add([]byte{0, 4, 1, 4, 4, 2}, []byte{0, 4, 1, 4, 4, 3}, int64(30000), int64(40000))
	f.Add([]byte{0, 9, 0}, []byte{1, 2, 3, 9, 1, 1}, int64(5), int64(70000))
	f.Fuzz(func(t *testing.T, b, n []byte, bsize, nsize int64) {
		const most = 1 << 21
		if bsize < 0 || nsize < 0 || bsize > most || nsize > most {
			return
		}
		ranges, _, err := differing(listed(b), listed(n), bsize, nsize)
		if err != nil || ranges == nil {
			t.Fatalf("%v, %v", ranges, err)
		}
		at, in := int64(-1), func(off int64) bool {
			for _, r := range ranges {
				if r.Off <= off && off < r.Off+r.Len {
					return true
				}
			}
			return false
		}
		for _, r := range ranges {
			if r.Off <= at || r.Len <= 0 || r.Off+r.Len > nsize {
				t.Errorf("ranges %v, size %d", ranges, nsize)
			}
			at = r.Off + r.Len
		}
		for off := int64(0); off < nsize; off += 4096 {
			x, _, _ := listed(b)(off)
			y, _, _ := listed(n)(off)
			if differ := off >= bsize || !x.equal(&y); differ != in(off) {
				t.Errorf("offset %d: differs %v, ranges %v", off, differ, ranges)
			}
		}
	})
}

// listed maps a file as bytes tell: how many blocks further an extent begins, how many it has, and which one it is.
func listed(b []byte) mapped {
	type placed struct {
		off, end int64
		item     btrfs.ExtentData
	}
	var list []placed
	at := int64(0)
	for ; len(b) >= 3; b = b[3:] {
		off := at + int64(b[0]%16)*4096
		at = off + int64(1+b[1]%16)*4096
		list = append(list, placed{off, at, btrfs.ExtentData{Type: 1 + b[2]%2, DiskBytenr: uint64(b[2]/2%8) << 20, NumBytes: uint64(at - off)}})
	}
	return func(off int64) (part, int64, error) {
		for _, p := range list {
			if off < p.off {
				return part{hole: true}, p.off, nil
			}
			if off < p.end {
				return partAt(&p.item, uint64(off-p.off)), p.end, nil
			}
		}
		return part{hole: true}, 1 << 62, nil
	}
}

func TestManyRanges(t *testing.T) {
	var ranges []diff.Range
	const count, apart = 3 * mostRanges, 1 << 20
	for i := range int64(count) {
		ranges = add(ranges, i*apart, i*apart+4096)
	}
	if len(ranges) > mostRanges {
		t.Errorf("%d ranges", len(ranges))
	}
	at := 0
	for i := range int64(count) {
		for ranges[at].Off+ranges[at].Len < i*apart+4096 {
			at++
		}
		if ranges[at].Off > i*apart {
			t.Fatalf("offset %d is in no range", i*apart)
		}
	}
}

func TestUnknownExtent(t *testing.T) {
	_, _, err := differing(func(int64) (part, int64, error) { return part{}, 0, diff.ErrNotNative }, listed(nil), 1, 1)
	if !errors.Is(err, diff.ErrNotNative) {
		t.Errorf("%v", err)
	}
}

package zfsfeed

import (
	"slices"
	"testing"
)

// TestDroppedTooEarly: what was written to a directory is known of also where that comes after it was dropped as one that is as it was, and objects are dropped when
// all of their block has come.
func TestDroppedTooEarly(t *testing.T) {
	asked := 0
	o := &objects{data: map[uint64]*extents{}}
	o.known = func(list []candidate) ([]bool, error) {
		asked = len(list)
		known := make([]bool, len(list))
		for i := range known {
			known[i] = true
		}
		return known, nil
	}
	note := func(r record) {
		t.Helper()
		if err := o.note(&r); err != nil {
			t.Fatal(err)
		}
	}
	const first = 8 // the first block is not full, so mostAsked is reached within one
	for num := uint64(first); num < first+mostAsked+1; num++ {
		note(record{kind: object, object: num, objType: typeDirectory, bonus: typeSystemAttrs})
	}
	if asked != 0 {
		t.Errorf("asked about %d objects before their block was over", asked)
	}
	note(record{kind: write, object: first + mostAsked, off: 0, len: 512}) // of the block that is not over yet
	next := uint64(first+mostAsked)/blockObjects*blockObjects + blockObjects
	note(record{kind: object, object: next, objType: typeDirectory, bonus: typeSystemAttrs})
	if asked != mostAsked+1 || len(o.all) != 2 {
		t.Errorf("asked about %d objects, %d are left", asked, len(o.all))
	}
	note(record{kind: write, object: first, off: 0, len: 512})       // too late: it was dropped
	note(record{kind: write, object: next, off: 0, len: 512})        // in time
	note(record{kind: free, object: first + 1, off: 512, len: 1024}) // nothing was written
	if err := o.dropKnown(); err != nil {
		t.Fatal(err)
	}
	o.sort()
	if dirs, want := o.writtenDirs(), []uint64{first, first + mostAsked, next}; !slices.Equal(dirs, want) {
		t.Errorf("directories that were written to: %d, want %d", dirs, want)
	}
}

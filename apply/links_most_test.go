package apply_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
)

// TestAsManyLinksAsCanBe: a file that has as many names in the mirror as ext4 allows can be replaced like any other, also when the run is cut
// off just then, and the old one is kept.
func TestAsManyLinksAsCanBe(t *testing.T) {
	for _, kind := range []string{"done at once", "cut off"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, applytest.Subvolume(t, filepath.Join(applytest.Mount(t, applytest.Btrfs), "source")), applytest.Ext4)
			sh(t, r.source, "mkdir d; echo before > d/f; ln d/f g; echo still > still")
			if err := r.run(apply.Options{}); err != nil {
				t.Fatal(err)
			}
			sh(t, r.source, "echo after >> d/f; echo new > new")
			r.interrupted = kind == "cut off"
			var mu sync.Mutex
			full, kept := false, false
			err := r.run(apply.Options{Step: func(step string) error {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case step == "keep" && !full:
					full = r.fill("d/f")
				case full && r.interrupted && kept:
					return errCut
				}
				kept = kept || full
				return nil
			}})
			if !full {
				t.Fatal("the file can have more names")
			}
			if r.interrupted {
				if !errors.Is(err, errCut) {
					t.Fatalf("it was not cut off: %v", err)
				}
				err = r.resume(apply.Options{})
			}
			if err != nil {
				t.Fatal(err)
			}
			r.judge()
			r.judgePast()
		})
	}
}

// fill gives a file of the mirror more names outside of the store until it can have no more, and tells whether it came so far.
func (r *rig) fill(path string) bool {
	r.t.Helper()
	dir := filepath.Join(filepath.Dir(r.store), "names")
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	for i := range 70_000 {
		err := unix.Link(filepath.Join(r.store, "tree", path), filepath.Join(dir, fmt.Sprint(i)))
		if errors.Is(err, unix.EMLINK) {
			return true
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return false
}

package apply_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
)

// TestBuildAhead: small files are in stage before the first change of the mirror, also those that replace others, and what a run left
// there of which nothing was recorded goes with the next one.
func TestBuildAhead(t *testing.T) {
	applytest.NeedRoot(t)
	r := newRig(t, applytest.Subvolume(t, filepath.Join(applytest.Mount(t, applytest.Btrfs), "src")), applytest.Ext4)
	r.mustRun(`for i in $(seq 20); do echo $i > f$i; done; head -c 2000000 /dev/urandom > large; ln -s f1 link`)
	stage := filepath.Join(r.store, "stage")
	left := filepath.Join(stage, "n-1000-1000")
	if err := os.WriteFile(left, []byte("left"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh(t, r.source, `echo new > new; echo other > f7; ln f8 g8; echo both >> g8; rm f9; mv f10 f9; echo moved >> f9; head -c 2000000 /dev/urandom > large; chmod 600 f11; ln -sf f2 link`)
	var staged []string
	err := r.run(apply.Options{Step: func(string) error {
		if staged == nil {
			all, err := os.ReadDir(stage)
			for _, e := range all {
				staged = append(staged, e.Name())
			}
			return err
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new", "f7", "f8", "f9"} {
		st, err := os.Stat(filepath.Join(r.source, name))
		if err != nil {
			t.Fatal(err)
		}
		prefix := fmt.Sprintf("n-%d-", st.Sys().(*syscall.Stat_t).Ino)
		if !slices.ContainsFunc(staged, func(name string) bool { return strings.HasPrefix(name, prefix) }) {
			t.Errorf("before the first step %q was not in stage, but %q", name, staged)
		}
	}
	if len(staged) != 4 {
		t.Errorf("before the first step %q were in stage, want the four small files that changed", staged)
	}
	r.judge()
	r.checkCatalog() // nothing is left in stage
}

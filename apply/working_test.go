package apply_test

import (
	"os"
	"path/filepath"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

func TestWorkingKnowsWhoHasTheLock(t *testing.T) {
	for _, kind := range []Kind{Ext4, Btrfs} {
		path := filepath.Join(Mount(t, kind), "store")
		check := func(want int) {
			t.Helper()
			if pid, err := apply.Working(path); pid != want || err != nil {
				t.Errorf("%s: process %d works on the store (%v), want %d", kind, pid, err, want)
			}
		}
		check(0)
		if err := apply.Init(path); err != nil {
			t.Fatal(err)
		}
		check(0)
		store, err := apply.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		check(os.Getpid())
		store.Close()
		check(0)
	}
}

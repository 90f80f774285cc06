package lvm

import (
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
)

// TestSession: a filesystem that was unmounted in between is told from one that was mounted all the time, wherever else it is
// mounted meanwhile.
func TestSession(t *testing.T) {
	bothKinds(t, func(t *testing.T, v *LogicalVolume) {
		now := func() string { return session(Volume{Device: v.Dev}) }
		first := now()
		if first == "" {
			t.Fatal("a mounted volume is said not to be mounted")
		}
		other := t.TempDir()
		must(t, unix.Mount(v.Dir, other, "", unix.MS_BIND, ""))
		v.Unmount(t)
		v.Mount(t)
		must(t, unix.Unmount(other, 0))
		if again := now(); again != first {
			t.Errorf("mounted all the time: %q, then %q", first, again)
		}
		seen := map[string]bool{first: true}
		for range 3 {
			v.Unmount(t)
			if not := now(); not != "" {
				t.Errorf("not mounted: %q", not)
			}
			v.Mount(t)
			if again := now(); again == "" || seen[again] {
				t.Errorf("mounted again: %q, and before %v", again, seen)
			} else {
				seen[again] = true
			}
		}
	})
}

package btrfs

import (
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSession: a filesystem that was unmounted in between is told from one that was mounted all the time. Of a snapshot that somebody else took
// nobody knows.
func TestSession(t *testing.T) {
	src, snaps := source(t)
	first, second := take(t, src, snaps, "1"), take(t, src, snaps, "2")
	if first.Session == "" || first.Session != second.Session {
		t.Errorf("sessions %q and %q, want the same", first.Session, second.Session)
	}
	mount := filepath.Dir(src)
	must(t, unix.Unmount(mount, 0))
	out, err := exec.Command("mount", "-o", "loop", filepath.Join(filepath.Dir(mount), "image"), mount).CombinedOutput()
	if err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	if third := take(t, src, snaps, "3"); third.Session == "" || third.Session == first.Session {
		t.Errorf("session %q after a mount, %q before", third.Session, first.Session)
	}
	ours, err := CreateOf(first.Path, snaps, Prefix+"4")
	must(t, err)
	if ours.Session != "" {
		t.Errorf("session %q of another's snapshot", ours.Session)
	}
}

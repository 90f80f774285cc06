package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapdiff/apply/applytest"
)

// TestSnapshotsLeftToDestroy: a run leaves the old base to a process of its own; the next run passes over what that has not come to, and
// what it cannot destroy is told.
func TestSnapshotsLeftToDestroy(t *testing.T) {
	b := newJobBench(t, "")
	t.Setenv(asProgram, "1")
	run := func(destroy func(...string) error) string {
		t.Helper()
		var out bytes.Buffer
		if status := (&app{destroy: destroy}).execute([]string{"--config", b.config, "run"}, &out, &out); status != 0 {
			t.Fatalf("run: status %d\n%s", status, out.String())
		}
		return out.String()
	}
	snapshots := func() []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(b.source, ".snapdiff", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	b.write("1")
	b.snapdiff(0, "init")
	run(leaveToDestroy)
	first := snapshots()
	b.write("2")
	run(leaveToDestroy)
	for start := time.Now(); len(snapshots()) > 1; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("the old base stays: %q", snapshots())
		}
	}
	if second := snapshots(); len(first) != 1 || len(second) != 1 || first[0] == second[0] {
		t.Fatalf("the base is %q after %q", second, first)
	}

	killed := func(...string) error { return nil } // before it came to anything
	b.write("3")
	run(killed)
	if all := snapshots(); len(all) != 2 {
		t.Fatalf("there should be the base and what was not destroyed: %q", all)
	}
	b.write("4")
	run(nil)
	if all := snapshots(); len(all) != 1 {
		t.Errorf("only the base should be left: %q", all)
	}
	applytest.Judge(t, snapshots()[0], filepath.Join(b.store, "tree"))

	patience := destroyPatience
	destroyPatience = time.Minute // however busy the machine is
	t.Cleanup(func() { destroyPatience = patience })
	err := leaveToDestroy(filepath.Join(b.source, ".snapdiff", "snapdiff-gone"))
	if err == nil || !strings.Contains(err.Error(), "no such file") && !strings.Contains(err.Error(), os.ErrNotExist.Error()) {
		t.Errorf("destroying what is not there: %v", err)
	}
	if err := leaveToDestroy(b.source); err == nil || !strings.Contains(err.Error(), "not a snapshot of ours") {
		t.Errorf("destroying what is not ours: %v", err)
	}
}

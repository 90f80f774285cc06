package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// A run tells how many directories changed and how many of them had to be read whole: in its report, in the log and with --verbose.
func TestRunTellsOfDirectories(t *testing.T) {
	b := newJobBench(t, "")
	deliver := func(from, to int) {
		for i := range 4 {
			for j := from; j < to; j++ {
				b.write(fmt.Sprintf("box%d/new/17%08d.host", i, j))
			}
		}
	}
	deliver(0, 200)
	b.snapdiff(0, "init")
	log := filepath.Join(t.TempDir(), "log")
	b.configure("[log]\nto = \"" + log + "\"\nformat = \"json\"\n")
	if out := b.snapdiff(0, "run", "--json"); strings.Contains(out, "directories") {
		t.Errorf("a first copy tells of directories that changed:\n%s", out)
	}
	deliver(200, 201)
	var report struct{ Directories *diff.DirCount }
	out := b.snapdiff(0, "run", "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Directories == nil || *report.Directories != (diff.DirCount{Changed: 4}) {
		t.Errorf("error %v, the report is\n%s", err, out)
	}
	deliver(201, 203)
	b.refused(0, "4 directories changed, of which 0 had to be read whole", "run", "--verbose")
	for i, r := range records(t, log) {
		if r["how"] == "native" && (r["dirs_changed"] != 4.0 || r["dirs_read_whole"] != 0.0) {
			t.Errorf("record %d: %v", i, r)
		}
	}
	if err := os.RemoveAll(filepath.Join(b.source, "box3")); err != nil {
		t.Fatal(err)
	}
	if out := b.snapdiff(0, "run", "--full", "--json"); strings.Contains(out, "directories") {
		t.Errorf("a full comparison, which reads all, tells of directories that changed:\n%s", out)
	}
	b.equal()
}

// TestRunAfterAMount: when the source was mounted again, the sizes of its directories are not believed in the next run, and then they are.
func TestRunAfterAMount(t *testing.T) {
	b := newJobBench(t, "")
	b.write("box/a")
	b.snapdiff(0, "init")
	b.snapdiff(0, "run")
	if err := unix.Unmount(b.fs, 0); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(filepath.Dir(b.fs), "image")
	if out, err := exec.Command("mount", "-o", "loop", image, b.fs).CombinedOutput(); err != nil {
		t.Fatalf("mounting %s: %v: %s", image, err, out)
	}
	b.write("box/b")
	b.refused(0, "1 directories changed, of which 1 had to be read whole", "run", "--verbose")
	b.write("box/c")
	b.refused(0, "1 directories changed, of which 0 had to be read whole", "run", "--verbose")
	b.equal()
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mirrorHas compares the names of all files in the mirror.
func (b *jobBench) mirrorHas(want ...string) {
	b.t.Helper()
	top := filepath.Join(b.store, "tree")
	var have []string
	err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(top, path)
			have = append(have, rel)
		}
		return err
	})
	if err != nil || strings.Join(have, " ") != strings.Join(want, " ") {
		b.t.Fatalf("the mirror has %v (%v), want %v", have, err, want)
	}
}

// TestExclude: what is excluded stays out, also when it comes and goes by renames, and a change of the patterns does what it says
// in the next run.
func TestExclude(t *testing.T) {
	const two = `exclude = ["*.tmp", "/a/cache", ".trash"]`
	b := newJobBench(t, two)
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(b.source, from), filepath.Join(b.source, to)); err != nil {
			t.Fatal(err)
		}
	}
	b.write("a/cache/1", "a/keep", "b/cache/2", "b/x.tmp", "b/.trash/deep/3", "c/y")
	b.snapdiff(0, "init")
	b.silent("run")
	b.mirrorHas("a/keep", "b/cache/2", "c/y")

	b.write("a/cache/1", "b/.trash/4", "c/z.tmp")
	move("b/x.tmp", "b/x")    // comes out of its exclusion
	move("c/y", "c/y.tmp")    // goes into one
	move("b/cache", ".trash") // a whole directory goes into one
	b.silent("run")
	b.mirrorHas("a/keep", "b/x")
	if out := b.snapdiff(0, "list", "--json"); strings.Contains(out, `"full"`) {
		t.Errorf("a run compared in full:\n%s", out)
	}

	move(".trash", "d") // a directory comes out of one: its content is on no list of changes
	b.silent("run")
	b.mirrorHas("a/keep", "b/x", "d/2")

	move("a", "e") // the pattern /a/cache does not hold below it any more
	if out := b.snapdiff(0, "run"); !strings.Contains(out, "what is excluded below it depends on that") {
		t.Errorf("the full comparison is not said:\n%s", out)
	}
	b.mirrorHas("b/x", "d/2", "e/cache/1", "e/keep")

	b.configure(`exclude = ["/e"]`)
	if out := b.snapdiff(0, "run"); !strings.Contains(out, "exclude was changed in the configuration") {
		t.Errorf("the full comparison is not said:\n%s", out)
	}
	b.mirrorHas("b/.trash/4", "b/.trash/deep/3", "b/x", "c/y.tmp", "c/z.tmp", "d/2")
	b.silent("verify")
	b.configure("")
	b.snapdiff(0, "run")
	b.silent("run")
	b.equal()
	b.configure(`exclude = ["a/**/b"]`)
	b.refused(2, "snapdiff.toml:4: [jobs.mail] exclude pattern", "run")
}

// A run that is held because of what was changed in the configuration says so.
func TestHeldByExclude(t *testing.T) {
	b := newJobBench(t, "max_deleted = 1\nmax_changed = 2")
	b.write("a/1", "a/2", "a/3", "b")
	b.snapdiff(0, "init")
	b.silent("run")
	b.configure("max_deleted = 1\nmax_changed = 2\nexclude = [\"/a\"]")
	const deleted, changed = "more than max_deleted = 1 (exclude was changed in the configuration)", "more than max_changed = 2 (exclude was changed in the configuration)"
	for _, args := range [][]string{{"run", "--dry-run"}, {"run", "--dry-run", "--full"}, {"run"}, {"status"}} {
		if status, out := b.any(args...); !strings.Contains(out, deleted) || !strings.Contains(out, changed) {
			t.Errorf("%q: status %d\n%s", args, status, out)
		}
	}
	b.snapdiff(0, "run", "--approve", "r2")
	b.mirrorHas("b")
	b.configure("max_deleted = 1")
	b.snapdiff(0, "run")
	b.sh("rm $S/a/1 $S/a/2")
	if out := b.snapdiff(5, "run"); strings.Contains(out, "exclude") {
		t.Errorf("nothing was changed in the configuration:\n%s", out)
	}
}

// A first copy that was begun, went on and was finished with different patterns in between is compared in full: part of it may
// lack what the patterns now let in.
func TestExcludeChangesDuringTheFirstCopy(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a", "b.tmp")
	b.snapdiff(0, "init")
	b.stopped()
	b.configure(`exclude = ["*.tmp"]`)
	b.stopped()
	b.configure("")
	if out := b.snapdiff(0, "run"); !strings.Contains(out, "exclude was changed in the configuration") {
		t.Errorf("the full comparison is not said:\n%s", out)
	}
	b.equal()
	b.silent("run")
}

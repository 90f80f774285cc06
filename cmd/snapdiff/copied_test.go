package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestCopiedStore goes on with a copy of a store that lacks the hard links: it is told once, and verify mends the mirror.
func TestCopiedStore(t *testing.T) {
	b := newJobBench(t, "")
	b.write("one", "two")
	link := func(old, name string) {
		if out, err := exec.Command("ln", b.source+"/"+old, b.source+"/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	link("one", "first")
	b.snapdiff(0, "init")
	b.silent("run")
	link("two", "second")
	b.silent("run")

	old := b.store
	b.store += ".copy"
	if out, err := exec.Command("cp", "-r", "--preserve=mode,ownership,timestamps,xattr", old, b.store).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.configure("")
	b.write("three")
	if out := b.snapdiff(0, "run"); strings.Count(out, "the store was copied") != 1 || !strings.Contains(out, "snapdiff verify mail --repair") {
		t.Errorf("it does not say, once, that the store was copied:\n%s", out)
	}
	b.silent("run")
	if status, out := b.any("verify", "--repair"); !strings.Contains(out, "first") {
		t.Errorf("verify finds no lost hard link (status %d):\n%s", status, out)
	}
	b.equal()
	b.silent("run")
	b.equal()
}

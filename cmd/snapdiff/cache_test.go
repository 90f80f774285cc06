package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"snapdiff/apply/applytest"
)

// inMemory is how many bytes of a file are in the page cache.
func inMemory(t *testing.T, path string) int64 {
	t.Helper()
	out, err := exec.Command("fincore", "--bytes", "--noheadings", "--output", "RES", path).Output()
	if err != nil {
		t.Fatalf("fincore %s: %v", path, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A run leaves the page cache to others: of a large file that it copies it leaves neither what it read nor what it wrote there.
func TestRunLeavesTheCacheAlone(t *testing.T) {
	b := newJobBench(t, "")
	b.store = filepath.Join(applytest.Mount(t, applytest.Ext4), "store")
	b.configure("")
	const size = 96 << 20
	big, data := filepath.Join(b.source, "big"), make([]byte, size)
	b.snapdiff(0, "init")
	for round, name := range []string{"a first copy", "a run"} {
		for i := range data {
			data[i] = byte(round) + byte(i>>12)
		}
		if err := os.WriteFile(big, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b.silent("run")
		base, err := filepath.Glob(filepath.Join(b.source, ".snapdiff/*/big"))
		if err != nil || len(base) != 1 {
			t.Fatalf("the snapshots have %q, error %v", base, err)
		}
		if n := inMemory(t, base[0]); n > size/4 {
			t.Errorf("after %s %d MB of the file in the snapshot are in memory", name, n>>20)
		}
		if n := inMemory(t, filepath.Join(b.store, "tree/big")); n > size/2 {
			t.Errorf("after %s %d MB of the file in the mirror are in memory", name, n>>20)
		}
	}
}

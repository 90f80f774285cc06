package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
)

// rot changes a byte of a file in the store and leaves its size and time as they were.
func (b *jobBench) rot(path string) {
	b.t.Helper()
	path = filepath.Join(b.store, path)
	st, err := os.Stat(path)
	b.allRight(err)
	data, err := os.ReadFile(path)
	b.allRight(err)
	data[0] ^= 0x20
	file, err := os.OpenFile(path, os.O_WRONLY, 0) // in place: it stays the same inode
	b.allRight(err)
	_, err = file.WriteAt(data, 0)
	b.allRight(err, file.Close(), os.Chtimes(path, st.ModTime(), st.ModTime()))
}

// A rotten content is no version: after the repair every restore point that had the contents has the right ones, and so it is
// with what was missing, extra or of other attributes.
func TestRepairLeavesThePastRight(t *testing.T) {
	b := sickBench(t)
	want := map[string]string{}
	for _, run := range []string{"r1", "r2", "r3"} {
		want[run] = b.restored(run)
	}
	b.rot("tree/d/three")
	b.rot("tree/a/one")
	tree := func(name string) string { return filepath.Join(b.store, "tree", name) }
	b.allRight(os.Remove(tree("a/four")), os.WriteFile(tree("a/extra"), []byte("extra"), 0o644), os.RemoveAll(tree("b")), os.MkdirAll(tree("x/y"), 0o755),
		os.WriteFile(tree("x/y/z"), nil, 0o644), os.Chmod(tree("a"), 0o700))
	out := b.snapdiff(6, "verify", "--checksums")
	for _, line := range []string{"M d/three (rotten)\n", "M a/one (rotten)\n", "directory \"x\" has no node", "says that there is a directory \"b\""} {
		if !strings.Contains(out, line) {
			t.Errorf("verify --checksums does not say %q:\n%s", line, out)
		}
	}
	b.refused(6, "the mirror was altered", "doctor")
	if out := b.snapdiff(0, "verify", "--repair"); !strings.Contains(out, "brought back to r3") || !strings.Contains(out, "history/r3/foreign-") {
		t.Errorf("verify --repair says:\n%s", out)
	}
	b.equal()
	for run, was := range want {
		if got := b.restored(run); got != was {
			t.Errorf("%s was\n%s\nis\n%s", run, was, got)
		}
	}
	b.silent("verify")
	b.silent("verify", "--checksums")
	b.snapdiff(0, "doctor")
	b.write("new")
	b.silent("run")
	b.equal()
	if out := b.snapdiff(0, "list", "--json"); strings.Contains(out, "full") {
		t.Errorf("the next run was no native one:\n%s", out)
	}
}

// Rot in history is found by the checksums taken when the contents were copied, and the paths and restore points are named; after a
// rebuild of the catalog too.
func TestVerifyHistory(t *testing.T) {
	b := sickBench(t) // r2 replaced a/one, r3 removed a/two
	b.silent("verify", "--history")
	b.snapdiff(0, "verify", "--at", "r1")
	objects, err := filepath.Glob(filepath.Join(b.store, "history/r*/[0-9]*"))
	b.allRight(err)
	if len(objects) != 2 {
		t.Fatalf("objects: %q", objects)
	}
	for _, object := range objects {
		name, err := filepath.Rel(b.store, object)
		b.allRight(err)
		b.rot(name)
	}
	check := func() {
		t.Helper()
		out := b.snapdiff(6, "verify", "--history")
		for _, line := range []string{"r1: a/one (history/r2/", "r1, r2: a/two (history/r3/", "2 things"} {
			if !strings.Contains(out, line) {
				t.Errorf("verify --history does not say %q:\n%s", line, out)
			}
		}
		if out := b.snapdiff(6, "verify", "--at", "r2"); strings.Contains(out, "a/one") || !strings.Contains(out, "a/two") {
			t.Errorf("verify --at r2 says:\n%s", out)
		}
		b.snapdiff(0, "verify", "--at", "r3")
	}
	check()
	b.allRight(os.Remove(b.catalog()))
	b.snapdiff(0, "doctor", "--repair")
	check()
	b.allRight(os.Remove(objects[0]))
	b.refused(6, "r1: a/one (history/r2/", "doctor")
	b.refused(6, "r1: a/one (history/r2/", "verify", "--history")
	b.refused(2, "choose one", "verify", "--history", "--at", "r1")
	b.refused(2, "--repair", "verify", "--history", "--repair")
}

// --newest compares what the newest run wrote and nothing else.
func TestVerifyNewest(t *testing.T) {
	b := newJobBench(t, "")
	b.write("old/f", "old/g", "d/changed")
	b.snapdiff(0, "init")
	b.silent("run")
	b.write("new/a/b", "d/came")
	b.allRight(os.WriteFile(filepath.Join(b.source, "d/changed"), []byte("other"), 0o600))
	b.silent("run")
	b.silent("verify", "--newest")
	b.rot("tree/old/f")
	b.silent("verify", "--newest")
	for _, name := range []string{"new/a/b", "d/came", "d/changed"} {
		b.rot("tree/" + name)
	}
	b.allRight(os.WriteFile(filepath.Join(b.store, "tree/new/a/extra"), nil, 0o600))
	out := b.snapdiff(6, "verify", "--newest")
	for _, line := range []string{"M new/a/b (data)\n", "M d/came (data)\n", "M d/changed (data)\n", "- new/a/extra\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("verify --newest does not say %q:\n%s", line, out)
		}
	}
	b.snapdiff(0, "verify", "--newest", "--repair")
	b.equal()
	b.silent("verify")
}

func TestChecksumsCanBeLeftOut(t *testing.T) {
	b := newJobBench(t, "checksums = false\nverify_writes = true")
	b.write("a", "b/c")
	b.snapdiff(0, "init")
	b.silent("run")
	b.write("b/d")
	b.silent("run")
	b.equal()
	b.refused(1, "has no checksums", "verify", "--checksums")
	b.configure("")
	b.silent("verify") // takes them
	b.silent("verify", "--checksums")
}

// What is rotten is found where the store can only be read, with the catalog beside the mirror or elsewhere, unless somebody writes there by another mount.
func TestVerifySumsOnReadOnlyMedia(t *testing.T) {
	for _, catalog := range []string{"", filepath.Join(t.TempDir(), "mail.db")} {
		disk := applytest.MountSized(t, applytest.Ext4, 64<<20)
		settings := ""
		if catalog != "" {
			settings = "catalog = \"" + catalog + "\""
		}
		b := newJobBench(t, "")
		b.store = filepath.Join(disk, "store")
		b.configure(settings)
		b.write("a/one", "a/two")
		b.snapdiff(0, "init")
		b.silent("run")
		b.sh("echo other > $S/a/one")
		b.silent("run")
		mounted := filepath.Join(t.TempDir(), "disk")
		b.bind(disk, mounted)
		b.must(unix.Mount("", mounted, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
		b.store = filepath.Join(mounted, "store")
		b.configure(settings)
		writer, err := apply.Open(filepath.Join(disk, "store"))
		b.must(err)
		for _, what := range []string{"--checksums", "--history"} {
			b.refused(4, "another snapdiff", "verify", what)
		}
		b.must(writer.Close())
		b.must(unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		for _, what := range []string{"--checksums", "--history", "--at=r1"} {
			if status, out := b.any("verify", what, "-v"); status != 0 || !strings.Contains(out, "files of the ") {
				t.Errorf("verify %s: status %d\n%s", what, status, out)
			}
		}
		b.must(unix.Mount("", disk, "", unix.MS_REMOUNT, ""))
		b.store = filepath.Join(disk, "store")
		b.rot("tree/a/two")
		objects, err := filepath.Glob(filepath.Join(b.store, "history/r2/[0-9]*"))
		if err != nil || len(objects) != 1 {
			t.Fatalf("objects: %q %v", objects, err)
		}
		b.rot("history/r2/" + filepath.Base(objects[0]))
		b.must(unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		b.refused(6, "M a/two (rotten)\n", "verify", "--checksums")
		b.refused(6, "r1: a/one (history/r2/", "verify", "--history")
		b.must(unix.Mount("", disk, "", unix.MS_REMOUNT, ""))
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
)

// bind mounts a directory at another one.
func (b *jobBench) bind(from, to string) {
	b.t.Helper()
	err := os.MkdirAll(to, 0o755)
	if err == nil {
		err = unix.Mount(from, to, "", unix.MS_BIND, "")
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { unix.Unmount(to, unix.MNT_DETACH) })
}

// TestStoreInTheSourceElsewhere: a store that is in the source by another mount of it is refused, and so is one in what is taken with the source.
// What is mounted in the source from another disk is not in it.
func TestStoreInTheSourceElsewhere(t *testing.T) {
	b := newJobBench(t, "")
	dir := t.TempDir()
	applytest.Subvolume(t, filepath.Join(b.source, "nested"))
	applytest.Subvolume(t, filepath.Join(b.source, "nested/in"))
	b.bind(b.source, filepath.Join(dir, "source"))
	b.bind(filepath.Join(b.source, "nested/in"), filepath.Join(dir, "in"))
	disk := filepath.Join(b.source, "disk")
	b.bind(applytest.MountSized(t, applytest.Ext4, 64<<20), disk)
	at := func(store, settings string) {
		b.store = store
		b.configure(settings)
	}
	for store, settings := range map[string]string{
		filepath.Join(dir, "source/deep/store"): "", filepath.Join(dir, "in/store"): "recursive = true", filepath.Join(b.source, "nested/store"): "",
	} {
		at(store, settings)
		b.refused(1, "lies inside the source", "init")
		b.refused(1, "lies inside the source", "check")
	}
	at(filepath.Join(dir, "in/store"), "")
	b.refused(0, "same filesystem", "init")

	for _, settings := range []string{"recursive = true", ""} {
		at(filepath.Join(disk, "store"), settings)
		b.write("file")
		b.any("init")
		b.any("run")
		if out := b.snapdiff(0, "list", "--json"); !strings.Contains(out, `"run":"r1"`) {
			t.Errorf("a store on a disk that is mounted in the source has\n%s", out)
		}
		entries, err := os.ReadDir(filepath.Join(b.store, "tree/disk"))
		if err != nil || len(entries) != 0 {
			t.Errorf("in the mirror that has %v %v", entries, err)
		}
	}
	if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	b.refused(1, "or mount that", "run")
}

// TestSnapshotsElsewhere: where the place for snapshots is changed, those in the old one are known, counted, and destroyed like others. Copies that somebody
// made of them are his.
func TestSnapshotsElsewhere(t *testing.T) {
	b := newJobBench(t, "")
	place := func(name string) string { return filepath.Join(b.fs, name) }
	at := func(name, settings string) {
		b.configure("snapshots = \"" + place(name) + "\"\n" + settings)
	}
	ours := func(name string) int {
		t.Helper()
		found, err := filepath.Glob(place(name) + "/snapdiff-mail-*")
		inLanes, err2 := filepath.Glob(place(name) + "/snapdiff-nested-*/snapdiff-mail-*")
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		return len(found) + len(inLanes)
	}
	want := func(counts map[string]int) {
		t.Helper()
		for name, n := range counts {
			if got := ours(name); got != n {
				t.Errorf("%s has %d snapshots of ours, want %d", name, got, n)
			}
		}
	}
	applytest.Subvolume(t, filepath.Join(b.source, "nested"))
	at("one", "recursive = true")
	b.snapdiff(0, "init")
	b.silent("run")
	b.sh("mkdir copies copies/rw; for s in one/snapdiff-mail-*; do btrfs -q subvolume snapshot -r $s copies; btrfs -q subvolume snapshot $s copies/rw; done")
	at("two", "recursive = true")
	if out := b.snapdiff(0, "release", "--dry-run"); strings.Count(out, "would release "+place("one")+"/") != 2 {
		t.Errorf("of two snapshots in the old place it says\n%s", out)
	}
	b.silent("run")
	b.refused(0, `"how":"native"`, "list", "--json")
	want(map[string]int{"one": 0, "two": 2, "copies": 1, "copies/rw": 1})

	at("three", "")
	b.refused(0, `"base":"20`, "status", "--json")
	b.sh("mv $STORE $STORE.away")
	b.refused(0, "released "+place("two"), "release")
	want(map[string]int{"two": 0, "three": 0, "copies": 1})
}

// TestSnapshotsNotMounted: those in an old place that nothing shows are counted, and what can be done is said.
func TestSnapshotsNotMounted(t *testing.T) {
	b := newJobBench(t, "")
	b.snapdiff(0, "init")
	b.configure("snapshots = \"" + b.fs + "/old\"")
	b.silent("run")
	top := filepath.Join(t.TempDir(), "source")
	b.bind(b.source, top)
	b.bind(t.TempDir(), b.fs) // and hides it
	b.source = top
	b.configure("")
	b.refused(0, "would release old/snapdiff-mail-", "release", "--dry-run")
	out := b.snapdiff(1, "run")
	_, command, ok := strings.Cut(out, "next: ")
	if !ok || !strings.Contains(out, "the run is done") || !strings.Contains(out, "lies where nothing is mounted") {
		t.Fatalf("the run says\n%s", out)
	}
	b.sh(strings.TrimSpace(command))
	b.silent("run")
}

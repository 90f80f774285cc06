package apply_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// format1 unpacks a store that a program of format 1 made: three restore points, and a fourth run that was cut off after
// it had taken names out of the mirror. want/N is the snapshot of run N.
func format1(t *testing.T) (store, want string) {
	t.Helper()
	NeedRoot(t)
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "-xpzf", "testdata/format1.tar.gz").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "store"), filepath.Join(dir, "want")
}

func judgePoints(t *testing.T, store, want string, points int) {
	t.Helper()
	for run := 1; run <= points; run++ {
		v, err := apply.OpenView(store, "", int64(run))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "restored")
		_, err = v.Restore(context.Background(), "", to)
		v.Close()
		if err != nil {
			t.Fatal(err)
		}
		Judge(t, fmt.Sprintf("%s/%d", want, run), to)
	}
}

// A store of format 1 is upgraded by the first program that writes to it, its unfinished run is finished and all its
// restore points stay what they were.
func TestUpgradeFromFormat1(t *testing.T) {
	store, want := format1(t)
	s, err := apply.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, cut, err := s.Last()
	if err != nil || cut == nil || cut.State != apply.Detached {
		t.Fatalf("the unfinished run is %+v, %v", cut, err)
	}
	next := open(t, want+"/4")
	defer next.Close()
	if _, err := s.Resume(context.Background(), *cut, nil, next, apply.Options{}); err != nil {
		t.Fatal(err)
	}
	Judge(t, want+"/4", filepath.Join(store, "tree"))
	judgePoints(t, store, want, 4)
	wrong, err := s.CheckCatalog()
	if err != nil || len(wrong) > 0 {
		t.Errorf("catalog: %q, %v", wrong, err)
	}
}

// The catalog of format 1 on media that cannot be written can be read as it is.
func TestFormat1IsReadAsItIs(t *testing.T) {
	store, _ := format1(t)
	if err := unix.Mount(store, store, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(store, 0); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", store, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s, err := apply.OpenReadOnly(store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	runs, err := s.Runs()
	if err != nil || len(runs) != 4 || runs[2].Mark.ID == "" || runs[2].Base.ID != "" {
		t.Errorf("runs: %+v, %v", runs, err)
	}
}

// A store of a newer format is refused, for writing and for reading, and stays as it is.
func TestNewerFormatIsRefused(t *testing.T) {
	store, _ := format1(t)
	alterCatalog(t, store, "PRAGMA user_version = 99; CREATE TABLE future(a INTEGER)")
	if _, err := apply.Open(store); !errors.Is(err, apply.ErrFormat) {
		t.Errorf("for writing: %v", err)
	}
	if _, err := apply.OpenView(store, "", 1); !errors.Is(err, apply.ErrFormat) {
		t.Errorf("for reading: %v", err)
	}
}

// So is one whose manifests are newer: they say more than this program would write anew.
func TestNewerManifestsAreRefused(t *testing.T) {
	store, _ := format1(t)
	s, err := apply.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(s.CompleteManifests(context.Background()), s.SetMeta("manifests", "99")); err != nil {
		t.Fatal(err)
	}
	if err := s.CompleteManifests(context.Background()); !errors.Is(err, apply.ErrFormat) {
		t.Errorf("manifests of a newer format are written anew: %v", err)
	}
}

// formerLinks makes the link index one of formats 2 and 3, which had signatures among the names.
const formerLinks = `DROP TABLE signatures; DROP TABLE links;
	CREATE TABLE links(ino INTEGER, dir INTEGER, name BLOB, gen INTEGER NOT NULL, sig INTEGER, PRIMARY KEY(ino, dir, name)) WITHOUT ROWID;`

// A store of format 3 keeps its signatures when it is upgraded. An inode whose names have others has none.
func TestUpgradeFromFormat3(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	if err := apply.Init(store); err != nil {
		t.Fatal(err)
	}
	alterCatalog(t, store, formerLinks+`PRAGMA user_version = 3; INSERT INTO meta(key, value) VALUES ('links', '1');
		INSERT INTO nodes(id, ino, gen, parent, name, type, alive) VALUES (1, 2, 1, NULL, x'', 16384, 1);
		INSERT INTO links(ino, dir, name, gen, sig) VALUES (3, 1, 'a', 1, 30), (4, 1, 'one', 2, 40), (4, 1, 'two', 2, 40), (5, 1, 'same', 3, 50), (5, 1, 'not the same', 3, 51),
			(6, 1, 'b', 1, NULL), (7, 1, 'a', 1, -70), (31, 1, 'c', 1, 310), (32, 1, 'd', 1, 320), (1000000, 1, 'e', 1, 1), (1000001, 1, 'half', 1, 2), (1000001, 1, 'known', 1, NULL);`)
	s, err := apply.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	links := s.Links()
	defer links.Close()
	of70 := int64(-70)
	inos, want := []uint64{2, 3, 4, 5, 6, 7, 31, 32, 1000000, 1000001}, []uint64{0, 30, 40, 0, 0, uint64(of70), 310, 320, 1, 0}
	if sigs, err := links.Signatures(inos); err != nil || !slices.Equal(sigs, want) {
		t.Errorf("signatures of %d: %d, %v, want %d", inos, sigs, err, want)
	}
	for ino, names := range map[uint64]int{4: 2, 32: 1, 1000001: 2, 33: 0} {
		if refs, err := links.Names(ino); err != nil || len(refs) != names {
			t.Errorf("names of %d: %v, %v, want %d", ino, refs, err, names)
		}
	}
}

// A store of format 2 has no tables for saved ranges and checksums, and manifests of format 1. With real history in it, and a run that was cut
// off, it is shown as it is, upgraded by the first that writes, and its files are patched in place from then on.
func TestUpgradeFromFormat2(t *testing.T) {
	NeedRoot(t)
	p := newPruneRig(t, Ext4)
	p.interrupted = true
	p.day(beginning + `
		head -c 400000 /dev/urandom > large`)
	for _, round := range rounds[:4] {
		p.day(round.script + `
			printf x | dd of=large bs=1 seek=$((RANDOM * 10)) conv=notrunc status=none`)
	}
	sh(t, p.source, rounds[4].script+`
		printf y | dd of=large bs=1 seek=100000 conv=notrunc status=none`)
	steps := 0
	if err := p.run(cutAfter(20, &steps)); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	alterCatalog(t, p.store, formerLinks+`DROP TABLE saved; DROP TABLE patches; DROP TABLE trim; DROP TABLE sums; PRAGMA user_version = 2;
		DELETE FROM meta WHERE key IN ('manifests', 'stale_manifests', 'sums', 'mendable')`)
	sh(t, p.store, `for m in history/r*/manifest; do r=${m#history/r}; printf 'snapdiff manifest 1\nrun %s\n' ${r%/manifest} > $m; done`)
	compare := func(when string) {
		t.Helper()
		for run, want := range p.want {
			if got := p.portrait(run); got != want {
				t.Errorf("%s: r%d differs: %s", when, run, firstDifference(want, got))
			}
		}
	}
	compare("as it is")
	smallPatches(t)
	if err := p.resume(apply.Options{}); err != nil {
		t.Fatal(err)
	}
	p.judge()
	compare("upgraded")
	p.day(`printf z | dd of=large bs=1 seek=200000 conv=notrunc status=none`)
	compare("after another run")
	if n := sqlCount(t, p.store, "versions WHERE content = 2"); n == 0 {
		t.Error("no file was patched in place")
	}
	found, err := apply.Examine(context.Background(), p.store, apply.DoctorOptions{Repair: true})
	for _, trouble := range found {
		if !trouble.Note {
			t.Errorf("doctor: %+v", trouble)
		}
	}
	if err != nil {
		t.Error(err)
	}
	p.drop(2, 3)
	compare("pruned")
}

package apply_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
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

package apply_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/snapshot"
)

// diskTrouble is something that happens to the mirror's disk in the middle of a run.
type diskTrouble struct {
	name string
	// begin makes the trouble, end takes it away when nobody has the store open any more.
	begin func(t testing.TB, dir string) (end func())
	// says tells whether an error is what a run should say about it.
	says func(error) bool
}

func isAny(err error, errs ...error) bool {
	for _, e := range errs {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func saysFull(err error) bool {
	return isAny(err, unix.ENOSPC) || sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull
}

func saysFailed(err error) bool {
	code := sqlite.ErrCode(err).ToPrimary()
	return isAny(err, unix.EIO, unix.EROFS, unix.ESHUTDOWN, unix.EUCLEAN, apply.ErrFault) || code == sqlite.ResultIOErr || code == sqlite.ResultReadOnly ||
		code == sqlite.ResultCantOpen || code == sqlite.ResultFull
}

var (
	fullDisk = diskTrouble{"full", func(t testing.TB, dir string) func() { return Fill(t, dir, 0) }, saysFull}
	noInodes = diskTrouble{"no inodes", FillInodes, saysFull}
	gone     = diskTrouble{"gone", func(t testing.TB, dir string) func() {
		Shutdown(t, dir)
		return func() { Remount(t, dir) }
	}, saysFailed}
)

// TestDiskTrouble lets the mirror's disk get into trouble at random steps of first copies and runs. They stop, or end if they need the disk
// no more, and say why; when it is well, what was cut off is finished, and the mirror and every restore point are exact.
func TestDiskTrouble(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 6))
	for _, c := range []struct {
		kind    Kind
		options []string
		trouble diskTrouble
	}{
		{Ext4, []string{"-m", "0"}, fullDisk}, {XFS, nil, fullDisk}, {Btrfs, nil, fullDisk}, {Ext4, []string{"-N", "3000"}, noInodes}, {Ext4, nil, gone}, {XFS, nil, gone},
	} {
		t.Run(string(c.kind)+" "+c.trouble.name, func(t *testing.T) {
			dir := MountSized(t, c.kind, 512<<20, c.options...)
			troubleAtSteps(t, r, dir, c.trouble)
		})
	}
}

// troubleAtSteps makes a first copy and a run, each of them with troubles until it gets through.
func troubleAtSteps(t *testing.T, r *rand.Rand, dir string, trouble diskTrouble) {
	apply.SetSmallPlan(t, r.IntN(2)*1000)
	top := Mount(t, Btrfs)
	k := &keeper{TB: t, source: Subvolume(t, filepath.Join(top, "source")), snaps: top, store: filepath.Join(dir, "store")}
	k.must(apply.Init(k.store))
	Apply(t, dir, Sync())
	scenarios := smallScenarios()
	Begin(t, k.source, scenarios)
	k.troubled(r, dir, trouble)
	Go(t, k.source, scenarios)
	k.troubled(r, dir, trouble)
	k.judgePast()
}

// troubled makes a run during which there is trouble, two times or, with SNAPDIFF_SOAK, fifty times, at steps all over it.
func (k *keeper) troubled(r *rand.Rand, dir string, trouble diskTrouble) {
	k.Helper()
	next := k.take()
	times, stride := 2, 150
	if Soak() {
		times, stride = 50, 30
	}
	for i := range times {
		at, n := 1+i*stride+r.IntN(stride), 0
		var mu sync.Mutex // a first copy has several workers
		var end func()
		_, err := k.attempt(next, func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if n++; n == at {
				end = trouble.begin(k, dir)
			}
			return nil
		})
		if end != nil {
			end()
		}
		k.Logf("%s at step %d: %v", trouble.name, at, err)
		if err == nil {
			break
		}
		if end == nil || !trouble.says(err) {
			k.Fatalf("trouble at step %d: the run says %v", at, err)
		}
	}
	k.finish(next)
}

// finish brings the mirror to a snapshot, whatever became of the attempts before, and judges it.
func (k *keeper) finish(next snapshot.Mark) {
	k.Helper()
	store, err := apply.Open(k.store)
	k.must(err)
	last, _, err := store.Last()
	k.must(err)
	k.must(store.Close())
	if last == nil || last.Mark.ID != next.ID {
		result, err := k.attempt(next, nil)
		k.must(err)
		for _, p := range result.Incomplete {
			k.Errorf("incomplete: %q: %v", p.Path, p.Err)
		}
	}
	Judge(k, next.Path, filepath.Join(k.store, "tree"))
	k.judgeLinks(next)
	k.base = next
}

// TestLostHistory: what somebody deleted in history is said when it is asked for, and is in the way of nothing else.
func TestLostHistory(t *testing.T) {
	k := newKeeper(t, XFS)
	Apply(t, k.source, Create("a", 5000, 1), Create("b", 5000, 2), Mkdir("d"), Create("d/c", 5000, 3))
	k.run(never)
	Apply(t, k.source, Create("new", 10, 4), Write("a", 0, 5000, 5), Remove("b"), RemoveAll("d"))
	k.run(never)
	Apply(t, k.source, Write("a", 0, 5000, 6), Create("more", 10, 7))
	k.run(never)
	lost, err := filepath.Glob(filepath.Join(k.store, "history/r2/*"))
	k.must(err)
	if len(lost) < 3 {
		t.Fatalf("r2 has only %q", lost)
	}
	k.must(os.RemoveAll(filepath.Join(k.store, "history/r2")))
	restore := func(run int64, path string) error {
		view, err := apply.OpenView(k.store, "", run)
		k.must(err)
		defer view.Close()
		_, err = view.Restore(t.Context(), path, filepath.Join(t.TempDir(), "to"))
		return err
	}
	for _, path := range []string{"a", "b", "d/c"} {
		if err := restore(1, path); err == nil {
			t.Errorf("%s of r1 is restored from nothing", path)
		} else {
			t.Log(err)
		}
	}
	for run := int64(2); run <= 3; run++ {
		k.must(restore(run, ""))
	}
	Apply(t, k.source, Append("a", 10, 8), Rename("more", "moved"))
	k.run(never)
	store, err := apply.Open(k.store)
	k.must(err)
	_, err = store.Prune(t.Context(), []int64{1, 3}, apply.Options{})
	k.must(errors.Join(err, store.Close()))
	for _, run := range []int64{2, 4} {
		if err := restore(run, ""); err != nil {
			t.Errorf("after the prune: r%d: %v", run, err)
		}
	}
	Apply(t, k.source, Append("a", 10, 9))
	k.run(never)
}

// TestRestoreToAFullDisk: it says that there is no room where it restores, not in the store, and leaves no half file.
func TestRestoreToAFullDisk(t *testing.T) {
	k := newKeeper(t, Ext4)
	Apply(t, k.source, Create("large", 5<<20, 1), Create("small", 10, 2))
	k.run(never)
	disk := MountSized(t, Ext4, 64<<20, "-m", "0")
	defer Fill(t, disk, 2<<20)()
	view, err := apply.OpenView(k.store, "", 1)
	k.must(err)
	defer view.Close()
	to := filepath.Join(disk, "to")
	_, err = view.Restore(t.Context(), "", to)
	if !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), "store:") {
		t.Errorf("the restore says %v", err)
	}
	left, err := os.ReadDir(to)
	k.must(err)
	if len(left) != 1 || left[0].Name() != "small" {
		t.Errorf("left are %v", left)
	}
}

// smallScenarios are those that make few files.
func smallScenarios() (list []Scenario) {
	for _, s := range Scenarios {
		if s.Name != "wide" && s.Name != "beyond PATH_MAX" {
			list = append(list, s)
		}
	}
	return list
}

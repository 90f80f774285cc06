package apply_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/snapshot"
)

// TestPowerCutOfAFirstCopy takes the power away (see TestPowerCut) during a first copy, which goes on behind what it had marked.
func TestPowerCutOfAFirstCopy(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 8))
	kinds, sample := MirrorKinds[r.IntN(len(MirrorKinds)):][:1], 2
	if Soak() {
		kinds, sample = MirrorKinds, 1000
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			k, disk := newPowerCut(t, kind)
			Begin(t, k.source, powerCutScenarios())
			next := k.take()
			apply.SetSmallBatch(t, 20)
			disk.Mark("copy")
			_, err := k.attempt(next, nil)
			k.must(err)
			eachCut(disk, "copy", r, sample, func() {
				k.base = snapshot.Mark{}
				k.finish(next)
				k.judgeRestored(1, next)
			})
		})
	}
}

// TestPowerCutOfAPrune takes the power away during a prune: what is kept is exact, and the next prune drops the rest.
func TestPowerCutOfAPrune(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 9))
	kinds, sample := MirrorKinds[r.IntN(len(MirrorKinds)):][:1], 2
	if Soak() {
		kinds, sample = MirrorKinds, 1000
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			k, disk := newPowerCut(t, kind)
			scenarios := powerCutScenarios()
			Begin(t, k.source, scenarios)
			k.run(never)
			Go(t, k.source, scenarios)
			k.run(never)
			End(t, k.source, scenarios)
			k.run(never)
			for range 100 {
				_ = RandomChange(r).Apply(k.source) // not all can be done
			}
			k.run(never)
			disk.Mark("prune")
			k.dropAll(1, 3)
			eachCut(disk, "prune", r, sample, func() {
				k.judgePoints()
				k.dropAll(1, 3)
				k.judgePoints()
				k.judgeCatalog()
				if runs := k.points(); !slices.Equal(runs, []int64{2, 4}) {
					t.Errorf("the restore points %v are left", runs)
				}
			})
		})
	}
}

// dropAll drops what is left of restore points, and ends what a cut has left of that.
func (k *keeper) dropAll(runs ...int64) {
	k.Helper()
	left := k.points()
	runs = slices.DeleteFunc(runs, func(run int64) bool { return !slices.Contains(left, run) })
	store, err := apply.Open(k.store)
	k.must(err)
	defer store.Close()
	_, err = store.Prune(k.Context(), runs, apply.Options{})
	k.must(err)
}

// points are the runs that are restore points.
func (k *keeper) points() (runs []int64) {
	k.Helper()
	list, err := apply.RestorePoints(k.store, "")
	k.must(err)
	for _, p := range list {
		runs = append(runs, p.Run)
	}
	slices.Sort(runs)
	return runs
}

// judgePoints judges the mirror and every restore point that is there. Run number i has the snapshot number i.
func (k *keeper) judgePoints() {
	k.Helper()
	Judge(k, k.base.Path, filepath.Join(k.store, "tree"))
	for _, run := range k.points() {
		k.judgeRestored(run, snapshot.Mark{Path: filepath.Join(k.snaps, fmt.Sprintf("snapdiff-%d", run))})
	}
}

// judgeCatalog looks for what is wrong where no prune is under way.
func (k *keeper) judgeCatalog() {
	k.Helper()
	store, err := apply.Open(k.store)
	k.must(err)
	wrong, err := store.CheckCatalog()
	k.must(errors.Join(err, store.Close()))
	for _, w := range wrong {
		k.Error(w)
	}
}

// newPowerCut makes a source, and a store on a disk that remembers what it was told.
func newPowerCut(t *testing.T, kind Kind) (*keeper, *Disk) {
	t.Helper()
	gc := debug.SetGCPercent(20) // the test machine has one mapping for each page of a process, and not many of them
	t.Cleanup(func() { debug.SetGCPercent(gc) })
	disk := NewDisk(t, kind, 384<<20)
	top := MountSized(t, Btrfs, 512<<20)
	k := &keeper{TB: t, source: Subvolume(t, filepath.Join(top, "source")), snaps: top, store: filepath.Join(disk.Dir(), "store")}
	k.must(apply.Init(k.store))
	Apply(t, disk.Dir(), Sync())
	return k, disk
}

func powerCutScenarios() []Scenario {
	return slices.DeleteFunc(slices.Clone(Scenarios), func(s Scenario) bool { return s.Name == "wide" || s.Name == "beyond PATH_MAX" })
}

// eachCut ends the recording and judges what is on the disk at some moments after the mark.
func eachCut(disk *Disk, mark string, r *rand.Rand, sample int, judge func()) {
	moments := disk.Stop(mark)
	disk.Logf("%d moments", moments)
	var points []int
	if Soak() {
		points = []int{0} // just before
	}
	for range sample {
		points = append(points, 1+r.IntN(moments))
	}
	slices.Sort(points)
	points = slices.Compact(points)
	at := 0
	for _, point := range points {
		unmount := disk.PlayOn(point - at)
		at = point
		disk.Logf("cut at moment %d", point)
		judge()
		unmount()
	}
}

// judgeRestored restores a restore point and judges it by its snapshot.
func (k *keeper) judgeRestored(run int64, want snapshot.Mark) {
	k.Helper()
	view, err := apply.OpenView(k.store, "", run)
	k.must(err)
	defer view.Close()
	to, err := os.MkdirTemp(k.snaps, "restored-")
	k.must(err)
	_, err = view.Restore(k.Context(), "", filepath.Join(to, "tree"))
	k.must(err)
	Judge(k, want.Path, filepath.Join(to, "tree"))
	k.must(os.RemoveAll(to))
}

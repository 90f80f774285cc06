package apply_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/snapshot"
)

// TestPowerCut takes the power away from the mirror's disk while a run changes it, at moments at which the disk had been told to
// keep what it was given, and loses all that came after. Each time the next run makes the mirror exact, and every
// restore point is.
func TestPowerCut(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 5))
	kinds, sample := MirrorKinds[r.IntN(len(MirrorKinds)):][:1], 5
	if Soak() {
		kinds, sample = MirrorKinds, 1000
	}
	scenarios := slices.DeleteFunc(slices.Clone(Scenarios), func(s Scenario) bool { return s.Name == "wide" || s.Name == "beyond PATH_MAX" })
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			powerCuts(t, kind, r, sample, 0, func(source string) { Begin(t, source, scenarios) }, func(source string) { Go(t, source, scenarios) })
		})
	}
}

// TestPowerCutOfPatches is TestPowerCut with large files that are patched in place: what was overwritten is on the disk before it is.
func TestPowerCutOfPatches(t *testing.T) {
	smallPatches(t)
	apply.SetSmallPlan(t, 0) // each phase has a mark
	r := rand.New(rand.NewPCG(Seed(t), 9))
	sample := 4
	if Soak() {
		sample = 50
	}
	powerCuts(t, Ext4, r, sample, 4, func(source string) {
		Apply(t, source, Mkdir("a"), Mkdir("b"))
		for i, path := range largeFiles {
			Apply(t, source, Create(path, 300_000, i))
		}
	}, func(source string) {
		for i, path := range largeFiles {
			Apply(t, source, Write(path, r.Int64N(200_000), 5000, 10+i), Write(path, r.Int64N(200_000), 5000, 20+i))
		}
		Apply(t, source, Truncate("a/g", 200_000), Append("b/f", 20_000, 3), Punch("b/g", 8192, 8192), Rename("b/h", "a/h"), Link("a/f", "b/l"))
	})
}

func powerCuts(t *testing.T, kind Kind, r *rand.Rand, sample, patched int, begin, change func(source string)) {
	disk := NewDisk(t, kind, 384<<20)
	top := MountSized(t, Btrfs, 512<<20)
	k := &keeper{TB: t, source: Subvolume(t, filepath.Join(top, "source")), snaps: top, store: filepath.Join(disk.Dir(), "store")}
	k.must(apply.Init(k.store))
	begin(k.source)
	k.run(never)
	change(k.source)
	base, next := k.base, k.take()
	disk.Mark("run")
	_, err := k.attempt(next, nil)
	k.must(err)
	if n := sqlCount(t, k.store, "versions WHERE content = 2"); n < int64(patched) {
		t.Errorf("%d files were patched in place, not %d", n, patched)
	}
	moments := disk.Stop("run")
	t.Logf("%d moments", moments)

	points := []int{0} // just before the run
	for range sample {
		points = append(points, 1+r.IntN(moments))
	}
	slices.Sort(points)
	points = slices.Compact(points)
	at := 0
	for _, point := range points {
		unmount := disk.PlayOn(point - at)
		at = point
		k.base = base
		k.afterCut(point, next)
		unmount()
	}
}

// afterCut finishes the run that the cut left, or makes it, and judges all.
func (k *keeper) afterCut(moment int, next snapshot.Mark) {
	k.Helper()
	store, err := apply.Open(k.store)
	k.must(err)
	last, _, err := store.Last()
	k.must(err)
	k.must(store.Close())
	if last.ID == 1 { // else the cut came after the commit
		_, err := k.attempt(next, nil)
		k.must(err)
	}
	k.Logf("cut at moment %d", moment)
	Judge(k, next.Path, filepath.Join(k.store, "tree"))
	store, err = apply.Open(k.store)
	k.must(err)
	defer store.Close()
	wrong, err := store.CheckCatalog()
	k.must(err)
	for _, w := range wrong {
		k.Error(w)
	}
	view, err := apply.OpenView(k.store, "", 1)
	k.must(err)
	defer view.Close()
	to, err := os.MkdirTemp(k.snaps, "restored-")
	k.must(err)
	_, err = view.Restore(k.Context(), "", filepath.Join(to, "tree"))
	k.must(err)
	Judge(k, k.base.Path, filepath.Join(to, "tree"))
	k.must(os.RemoveAll(to))
}

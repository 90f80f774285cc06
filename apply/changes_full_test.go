package apply_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
)

// runFull brings the mirror up to date by a full comparison with it.
func (k *keeper) runFull() {
	k.Helper()
	next := k.take()
	store, err := apply.Open(k.store)
	k.must(err)
	defer store.Close()
	to := k.open(next)
	defer to.Close()
	ctx := context.Background()
	set, rekey, err := diff.Full(ctx, store.Mirror(), to, btrfsfeed.Keys(to), diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
	k.must(err)
	_, err = store.Apply(ctx, apply.Run{Changes: set, Rekey: rekey, Base: store.Mirror(), Next: to, Mark: next, How: "full", Reason: "the test wants it", Links: true}, apply.Options{})
	k.must(err)
	Judge(k, next.Path, filepath.Join(k.store, "tree"))
	k.base = next
}

// TestCompareAcrossFullComparisons: a full comparison knows other moves than the filesystem does, so what is said may differ; what
// is listed, deleted, found and archived has to be right all the same.
func TestCompareAcrossFullComparisons(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 3))
	k := newKeeper(t, Ext4)
	known := slices.DeleteFunc(slices.Clone(Scenarios), func(s Scenario) bool { return s.Name == "beyond PATH_MAX" || s.Name == "wide" })
	Begin(t, k.source, known)
	marks := []snapshot.Mark{{}}
	k.run(never)
	marks = append(marks, k.base)
	Go(t, k.source, known)
	k.runFull()
	marks = append(marks, k.base)
	k.randomRound(r, 400)
	marks = append(marks, k.base)
	for range 300 {
		RandomChange(r).Apply(k.source)
	}
	k.runFull()
	marks = append(marks, k.base)
	for _, p := range [][2]int{{1, 2}, {2, 3}, {1, 4}} {
		c, err := apply.Compare(context.Background(), k.store, "", int64(p[0]), int64(p[1]))
		k.must(err)
		k.judgeDeleted(c, marks[p[0]].Path, marks[p[1]].Path)
		k.judgeCopy(c, marks[p[0]].Path, marks[p[1]].Path)
		k.must(c.Close())
	}
	var all []census
	for run := 1; run <= 4; run++ {
		all = append(all, k.census(run, marks[run]))
	}
	k.judgeFind(all)
	k.judgeTar(1, marks[1].Path)
}

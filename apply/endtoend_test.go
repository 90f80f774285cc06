package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// errKilled stands for a kill: a step hook gives it.
var errKilled = errors.New("killed by the test")

// keeper keeps a mirror of a btrfs source, as a job does.
type keeper struct {
	testing.TB
	source, snaps, store string
	taken                int
	base                 snapshot.Mark
}

// newKeeper makes a source and an empty store on a filesystem of the given kind.
func newKeeper(t testing.TB, kind Kind) *keeper {
	t.Helper()
	top := Mount(t, Btrfs)
	k := &keeper{TB: t, source: Subvolume(t, filepath.Join(top, "source")), snaps: top, store: filepath.Join(Mount(t, kind), "store")}
	k.must(apply.Init(k.store))
	return k
}

func (k *keeper) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// take makes the next snapshot.
func (k *keeper) take() snapshot.Mark {
	k.Helper()
	k.taken++
	mark, err := btrfs.Create(k.source, k.snaps, fmt.Sprintf("snapdiff-%d", k.taken))
	k.must(err)
	return mark
}

// open opens a snapshot.
func (k *keeper) open(mark snapshot.Mark) *beneath.Root {
	k.Helper()
	root, err := beneath.Open(mark.Path)
	k.must(err)
	return root
}

// killAfter gives a step hook that kills after n steps; 0: never.
func killAfter(n int) func(string) error {
	var steps atomic.Int64
	return func(name string) error {
		if n > 0 && steps.Add(1) > int64(n) {
			return fmt.Errorf("before %s: %w", name, errKilled)
		}
		return nil
	}
}

// attempt opens the store and does what is to be done for the snapshot next: goes on with the run that was cut off, or
// begins one.
func (k *keeper) attempt(next snapshot.Mark, step func(string) error) (*apply.Result, error) {
	k.Helper()
	store, err := apply.Open(k.store)
	k.must(err)
	defer store.Close()
	to := k.open(next)
	defer to.Close()
	opts, ctx := apply.Options{Step: step}, context.Background()
	_, cut, err := store.Last()
	k.must(err)
	if k.base.ID == "" {
		return store.FirstCopy(ctx, apply.Copy{Next: to, Keys: btrfsfeed.Keys(to), Mark: next, Exclude: diff.MustExclude("/.snapdiff"), Links: true, Signatures: true}, opts)
	}
	if cut != nil {
		return store.Resume(ctx, *cut, nil, to, opts)
	}
	base := k.open(k.base)
	defer base.Close()
	set, err := btrfsfeed.Diff(ctx, base, to, k.base.Trans, diff.Options{Exclude: diff.MustExclude("/.snapdiff")})
	k.must(err)
	return store.Apply(ctx, apply.Run{Changes: set, Base: base, Next: to, Mark: next, How: "native", Links: true}, opts)
}

// run takes a snapshot, brings the mirror to it and judges. limits gives the number of steps after which attempt number i
// is killed; 0 lets it end.
func (k *keeper) run(limits func(i int) int) *apply.Result {
	k.Helper()
	next := k.take()
	var kills []int
	for i := 0; ; i++ {
		limit := limits(i)
		result, err := k.attempt(next, killAfter(limit))
		if errors.Is(err, errKilled) {
			kills = append(kills, limit)
			continue
		}
		if err != nil {
			k.Fatalf("after kills at steps %v: %v", kills, err)
		}
		if result.Altered != "" || len(result.Warnings) > 0 {
			k.Errorf("nobody touched the mirror, and the run says: %q %q", result.Altered, result.Warnings)
		}
		for _, p := range result.Incomplete {
			k.Errorf("incomplete: %q: %v", p.Path, p.Err)
		}
		k.Logf("run r%d, %d kills, %+v", result.Run, len(kills), result.Counts)
		Judge(k, next.Path, filepath.Join(k.store, "tree"))
		k.judgeLinks(next)
		k.judgeSignatures(next)
		k.base = next
		return result
	}
}

// never kills nothing.
func never(int) int { return 0 }

// begin makes what all scenarios start from.
func begin(t testing.TB, source string) { Begin(t, source, Scenarios) }

// changeAll does what happens in all scenarios.
func changeAll(t testing.TB, source string) { Go(t, source, Scenarios) }

// TestScenarios brings every operation into a mirror on each kind of filesystem; what did not change is not touched.
func TestScenarios(t *testing.T) {
	for _, kind := range MirrorKinds {
		t.Run(string(kind), func(t *testing.T) {
			k := newKeeper(t, kind)
			begin(t, k.source)
			k.run(never)
			still := filepath.Join(k.store, "tree/nothing/a")
			before := stat(t, still)
			changeAll(t, k.source)
			k.run(never)
			if after := stat(t, still); after.Ino != before.Ino || after.Ctim != before.Ctim {
				t.Errorf("a file that did not change has another inode or ctime")
			}
			if c := k.run(never).Counts; c != (apply.Counts{}) {
				t.Errorf("a run with nothing changed counts %+v", c)
			}
			Apply(t, k.source, Balance())
			if c := k.run(never).Counts; c != (apply.Counts{}) {
				t.Errorf("a balance changes nothing, the run counts %+v", c)
			}
			End(t, k.source, Scenarios)
			k.run(never)
		})
	}
}

func stat(t testing.TB, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestKilledRuns kills the first copy and the run with all scenarios again and again, each time a few steps later, so that
// every phase is cut in many places and its beginning done over many times.
func TestKilledRuns(t *testing.T) {
	apply.SetSmallPlan(t, 0) // every phase is marked
	stride := 23
	if Soak() {
		stride = 7
	}
	later := func(i int) int { return 1 + i*stride }
	k := newKeeper(t, Ext4)
	begin(t, k.source)
	k.run(later)
	changeAll(t, k.source)
	k.run(later)
}

// TestRandomRounds does random changes between snapshots and kills some of the runs at random steps.
func TestRandomRounds(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 0))
	rounds, each := 12, 150
	if Soak() {
		rounds, each = 1000, 1000
	}
	k := newKeeper(t, MirrorKinds[r.IntN(len(MirrorKinds))])
	k.run(never)
	for range rounds {
		k.randomRound(r, each)
	}
	k.judgePast()
}

// judgePast restores every restore point and judges it by its snapshot.
func (k *keeper) judgePast() {
	k.Helper()
	for run := 1; run <= k.taken; run++ {
		view, err := apply.OpenView(k.store, "", int64(run))
		k.must(err)
		to := filepath.Join(filepath.Dir(k.store), fmt.Sprintf("restored%d", run))
		_, err = view.Restore(context.Background(), "", to)
		view.Close()
		k.must(err)
		lines, err := Differences(filepath.Join(k.snaps, fmt.Sprintf("snapdiff-%d", run)), to)
		k.must(err)
		for _, line := range lines {
			k.Errorf("r%d restored: %s", run, line)
		}
	}
}

// randomRound does one round; if it fails, the changes are printed.
func (k *keeper) randomRound(r *rand.Rand, count int) {
	var done []Change
	defer func() {
		if k.Failed() {
			k.Logf("the last changes:\n%s", Script(done))
		}
	}()
	for range count {
		if c := RandomChange(r); c.Apply(k.source) == nil {
			done = append(done, c)
		}
	}
	k.run(func(int) int { return r.IntN(2) * r.IntN(300) })
}

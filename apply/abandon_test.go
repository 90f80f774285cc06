package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
)

// abandon gives up the run that was cut off.
func (r *rig) abandon(opts apply.Options) error {
	r.t.Helper()
	s, err := apply.Open(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	_, cut, err := s.Last()
	if err != nil || cut == nil {
		return err
	}
	return s.Abandon(context.Background(), *cut, opts)
}

// cutAfter stops before a step; count counts them.
func cutAfter(steps int, count *int) apply.Options {
	return apply.Options{Step: func(string) error {
		if *count++; *count > steps {
			return errCut
		}
		return nil
	}}
}

// TestAbandonAtEveryStep stops a run before each of its steps in turn and gives it up, which is stopped too and done again. All
// names are those of the base then; a full comparison follows, and all restore points are what they were.
func TestAbandonAtEveryStep(t *testing.T) {
	applytest.NeedRoot(t)
	volume := applytest.Mount(t, applytest.Btrfs)
	for i, k := 1, 1; ; i, k = i+7, k+3 {
		apply.SetSmallPlan(t, i%2*1000)
		r := newRig(t, applytest.Subvolume(t, filepath.Join(volume, fmt.Sprintf("src%d", i))), applytest.Ext4)
		sh(t, r.source, strings.Replace(beginning, "seq 300", "seq 8", 1))
		r.mustRun(`true`)
		r.mustRun(rounds[1].script + `echo older >> b; ln keep/k keep/k4; chmod 640 d/e/two; touch -d 2001-01-01 d swap1`)
		want := tree(t, filepath.Join(r.store, "tree"))
		sh(t, r.source, rounds[0].script)
		cut := r.snapshot()
		steps := 0
		err := r.bring(cut, cutAfter(i, &steps))
		r.taken = append(r.taken, cut)
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		for n := range 3 { // each attempt gets further
			steps = 0
			if err := r.abandon(cutAfter(k%17+n*11, &steps)); err != nil && !errors.Is(err, errCut) {
				t.Fatalf("cut after %d steps: %v", i, err)
			}
		}
		if err := r.abandon(apply.Options{}); err != nil {
			t.Fatalf("cut after %d steps: %v", i, err)
		}
		if s := r.needsFull(); s == "" {
			t.Logf("cut after %d steps: committed", i)
		} else if got := tree(t, filepath.Join(r.store, "tree")); got != want {
			t.Errorf("cut after %d steps: the mirror has not the names and contents of its base:\nwant\n%s\ngot\n%s", i, want, got)
		}
		r.judgeRuns(map[int64]string{1: r.taken[0].Path, 2: r.taken[1].Path})
		r.checkCatalog()
		r.day(`echo next > next`, true, 0)
		r.judge()
		r.judgeRuns(map[int64]string{1: r.taken[0].Path, 2: r.taken[1].Path, 4: r.last.Path})
		if t.Failed() {
			t.Fatalf("cut after %d steps", i)
		}
	}
}

func (r *rig) mustRun(script string) {
	r.t.Helper()
	sh(r.t, r.source, script)
	if err := r.run(apply.Options{}); err != nil {
		r.t.Fatal(err)
	}
}

// judgeRuns restores restore points and compares them with snapshots, by the number of the run.
func (r *rig) judgeRuns(points map[int64]string) {
	r.t.Helper()
	for run, want := range points {
		v, err := apply.OpenView(r.store, "", run)
		if err != nil {
			r.t.Fatal(err)
		}
		to := filepath.Join(r.t.TempDir(), "restored")
		_, err = v.Restore(context.Background(), "", to)
		v.Close()
		if err != nil {
			r.t.Fatalf("restoring r%d: %v", run, err)
		}
		same(r.t, want, to)
	}
}

// tree tells the names, types, link groups and contents of a tree.
func tree(t *testing.T, top string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euc", `find . -not -type d -printf '%P %y %n %l\n' | LC_ALL=C sort; find . -type d -printf '%P\n' | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum`)
	cmd.Dir = top
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestAbandonRandomRounds cuts runs of random changes at random steps and gives them up, which is cut too.
func TestAbandonRandomRounds(t *testing.T) {
	applytest.NeedRoot(t)
	rnd := rand.New(rand.NewPCG(applytest.Seed(t), 2))
	rounds := 6
	if applytest.Soak() {
		rounds = 500
	}
	kind := applytest.MirrorKinds[rnd.IntN(len(applytest.MirrorKinds))]
	r := newRig(t, applytest.Subvolume(t, filepath.Join(applytest.Mount(t, applytest.Btrfs), "src")), kind)
	change := func() {
		for range 120 {
			_ = applytest.RandomChange(rnd).Apply(r.source) // many cannot be done
		}
	}
	change()
	r.mustRun(``)
	points, run := map[int64]string{1: r.last.Path}, int64(1)
	for range rounds {
		change()
		m, steps := r.snapshot(), 0
		before := r.last
		err := r.bring(m, cutAfter(rnd.IntN(250), &steps))
		run++
		r.taken = append(r.taken, m)
		if err == nil {
			r.last, points[run] = m, m.Path
			continue
		}
		for errors.Is(err, errCut) {
			steps = 0
			err = r.abandon(cutAfter(10+rnd.IntN(150), &steps))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("r%d was cut off and given up", run)
		r.checkCatalog()
		if r.needsFull() == "" { // only its commit was missing
			r.last, points[run] = m, m.Path
			continue
		}
		r.last = before
		r.judgeRuns(points)
		r.day(``, true, 0)
		run++
		points[run] = r.last.Path
		r.judge()
	}
	r.judgeRuns(points)
}

// A run of which only the commit is missing is committed, also when its snapshot is gone and the store has a link index.
func TestCommitWithoutTheSnapshot(t *testing.T) {
	apply.SetSmallPlan(t, 0)
	smallPatches(t)
	k := newKeeper(t, applytest.Ext4)
	applytest.Apply(t, k.source, applytest.Create("a", 10, 1), applytest.Create("large", 300_000, 1))
	k.run(never)
	applytest.Apply(t, k.source, applytest.Create("b", 10, 1), applytest.Append("a", 10, 2), applytest.Write("large", 5000, 10, 3))
	next := k.take()
	_, err := k.attempt(next, func(step string) error {
		if step == "commit" {
			return errKilled
		}
		return nil
	})
	if !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	s, err := apply.Open(k.store)
	k.must(err)
	defer s.Close()
	_, cut, err := s.Last()
	k.must(err)
	k.must(s.Abandon(context.Background(), *cut, apply.Options{ReadBack: true}))
	last, cut, err := s.Last()
	if err != nil || cut != nil || last.Mark.ID != next.ID {
		t.Errorf("the last run is %+v, unfinished %+v, %v", last, cut, err)
	}
	applytest.Judge(t, next.Path, filepath.Join(k.store, "tree"))
}

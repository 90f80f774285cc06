package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestExclude brings files, links and directories over the border of what is excluded, in both directions. One kind stands for those
// that go by the device's inodes.
func TestExclude(t *testing.T) {
	eachOf(t, []string{"btrfs", "zfs", "lvm-thin-ext4"}, func(t *testing.T, d driver, mirror Kind, _ *rand.Rand) {
		b := newBench(t, d, mirror)
		b.job.Exclude = []string{"*.tmp", ".trash", "/top/cache"}
		Apply(t, b.origin.dir, Mkdir("d"), Create("d/a", 5000, 1), Link("d/a", "d/l.tmp"), Create("d/x.tmp", 9, 2), Create("d/y", 9, 3),
			Mkdir(".trash"), Mkdir(".trash/out"), Mkdir(".trash/out/s"), Create(".trash/out/s/1", 5000, 4), Link(".trash/out/s/1", ".trash/out/2"),
			Link("d/y", ".trash/out/y"), Create(".trash/out/z.tmp", 1, 5), Mkdir(".trash/out/.trash"), Create(".trash/out/.trash/q", 1, 6), SetXattr(".trash/out/s", "user.x", "1"),
			Mkdir("in"), Mkdir("in/s"), Create("in/s/1", 5000, 7), Link("in/s/1", "stays"), Create("in/2", 1, 8), Mkdir("in/moves"), Create("in/moves/m", 3, 9),
			Mkdir("top"), Mkdir("top/cache"), Create("top/cache/c", 1, 10), Mkdir("other"), Mkdir("other/cache"), Create("other/cache/c", 1, 11),
			Mkdir("swap"), Create("swap/1", 1, 12), Mkdir("swap.tmp"), Create("swap.tmp/2", 1, 13), Link("d/y", "swap.tmp/y"))
		b.run()
		Apply(t, b.origin.dir, Create("d/l.tmp2", 1, 1), Append("d/l.tmp", 100, 2), Link("d/a", ".trash/a"), Append(".trash/out/s/1", 5, 2), Create("top/cache/d", 1, 1))
		b.nativeOnHost() // what is excluded changes, and what has names on both sides

		Apply(t, b.origin.dir, Rename("d/x.tmp", "d/x"), Rename("d/y", "d/y.tmp"), Rename("in/moves", "kept"), Rename("in", ".trash/in"),
			Rename(".trash/out", "out"), Exchange("swap", "swap.tmp"))
		b.native()
		Apply(t, b.origin.dir, Remove("d/l.tmp"), Append("out/2", 5, 2), Append("stays", 5, 3), Rename("out/y", "y"), RemoveAll(".trash/in"), RemoveAll("swap.tmp"))
		b.native()
		b.nativeOnHost()

		Apply(t, b.origin.dir, Rename("top", "away"), Rename("other", "top")) // the path of what is excluded moves
		b.full("what is excluded below it depends on that")
		Apply(t, b.origin.dir, Append("away/cache/c", 5, 1), Append("top/cache/c", 5, 1))
		b.nativeOnHost()

		b.job.Exclude = []string{"/out/s", ".trash"}
		b.full("exclude was changed")
		Apply(t, b.origin.dir, Rename("out/s", "out/r"), Append("d/y.tmp", 1, 1), Rename("d", "out/s"))
		b.native()
		if slow() {
			return
		}
		b.job.Exclude = nil
		b.full("exclude was changed")
		Apply(t, b.origin.dir, Append("out/s/a", 1, 1), RemoveAll("out/r"))
		b.native()
		b.judgePast()
	})
}

// slow tells the test machine, where system calls are slow: less is done there.
func slow() bool { return InTestMachine() && !Soak() }

// nativeOnHost makes a run only where that takes no time.
func (b *bench) nativeOnHost() {
	b.Helper()
	if !slow() {
		b.native()
	}
}

// TestRandomExclude does random changes between runs that exclude something, at times something else. Where names come from the
// link index, diff.TestLinkedExcludeModel does it; a soak tries all kinds.
func TestRandomExclude(t *testing.T) {
	rounds, count := 3, 200
	if Soak() {
		rounds, count = 100, 1000
	}
	eachOf(t, []string{"btrfs"}, func(t *testing.T, d driver, mirror Kind, r *rand.Rand) {
		b := newBench(t, d, mirror)
		for range rounds {
			b.job.Exclude = randomPatterns(r)
			b.randomRun(r, count, b.run)
			b.randomRun(r, count, b.nativeUnlessMoved)
			b.randomRun(r, count, b.nativeUnlessMoved)
		}
		b.judgePast()
	})
}

// randomPatterns fit the paths that random changes use.
func randomPatterns(r *rand.Rand) []string {
	n := func() int { return r.IntN(6) }
	return []string{fmt.Sprint("n", n()), fmt.Sprintf("/n%d/n%d", n(), n()), fmt.Sprintf("/n?/n%d/n[%d-5]", n(), n())}[r.IntN(3):]
}

// nativeUnlessMoved makes a run that compares in full only where a directory moved whose path excludes something below it.
func (b *bench) nativeUnlessMoved() *job.Report {
	b.Helper()
	report := b.run()
	if report.How != "native" && !strings.Contains(report.Reason, "what is excluded below it depends on that") {
		b.Errorf("the run compared %s: %s", report.How, report.Reason)
	}
	return report
}

// cutOff makes runs that end early, each later than the one before, until one has begun to change the mirror.
func (b *bench) cutOff() {
	b.Helper()
	for wait := time.Millisecond; ; wait += wait / 4 {
		ctx, cancel := context.WithCancel(b.Context())
		_, err := job.Run(ctx, b.job, job.Options{Say: func(format string, args ...any) {
			b.Logf(format, args...)
			if format == "applying" {
				time.AfterFunc(wait, cancel)
			}
		}})
		cancel()
		if err == nil {
			b.Fatalf("a run is done after %v and was never cut off", wait)
		}
		store, err := apply.Open(b.job.Store)
		b.must(err)
		_, cut, err := store.Last()
		b.must(errors.Join(err, store.Close()))
		if cut != nil {
			return
		}
	}
}

// TestExcludeBack: a run with other patterns is cut off, and the configuration is again what it was before when the next one finishes it. That
// mirror was made with neither list. Where the configuration stays, finishing it is enough.
func TestExcludeBack(t *testing.T) {
	some := []string{"*.tmp"}
	for _, c := range []struct{ made, cut, then []string }{{nil, some, nil}, {some, nil, some}, {nil, some, some}} {
		b := newBench(t, drivers[0], Ext4)
		Apply(t, b.origin.dir, Create("a", 10, 1), Mkdir("d"), Many("create", 0, 3000, 1, func(i int) Change { return Create(fmt.Sprintf("d/%d.tmp", i), 10, i) }))
		b.job.Exclude = c.made
		b.run()
		b.job.Exclude = c.cut
		b.cutOff()
		b.job.Exclude = c.then
		Apply(t, b.origin.dir, Append("a", 10, 1))
		reports, err := job.Run(t.Context(), b.job, job.Options{Say: b.Logf})
		b.must(err)
		if how := reports[len(reports)-1].How; len(reports) != 2 || (how == "full") != !slices.Equal(c.cut, c.then) {
			t.Errorf("%d runs, the last is %s", len(reports), how)
		}
		v, err := job.Verify(t.Context(), b.job, job.VerifyOptions{}, b.Logf)
		if err != nil || v.Differences > 0 {
			t.Errorf("made with %q, cut off with %q, finished with %q: the mirror differs in %d places: %v", c.made, c.cut, c.then, v.Differences, err)
		}
	}
}

// TestVerifyOtherPatterns: what is excluded since the last run is in the mirror by right. Nothing mends it away, or restore points would lose it.
func TestVerifyOtherPatterns(t *testing.T) {
	b := newBench(t, drivers[0], Ext4)
	Apply(t, b.origin.dir, Create("a", 10, 1), Mkdir("d"), Create("d/x.tmp", 10, 2))
	b.run()
	Apply(t, b.origin.dir, Append("a", 10, 1))
	b.run()
	b.job.Exclude = []string{"*.tmp"}
	if v, err := job.Verify(t.Context(), b.job, job.VerifyOptions{Repair: true}, b.Logf); err != nil || v.Differences > 0 {
		t.Errorf("verify finds %d differences: %v", v.Differences, err)
	}
	_, err := job.Run(t.Context(), b.job, job.Options{Say: b.Logf})
	b.must(err)
	b.judgePast()
}

package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

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

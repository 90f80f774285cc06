package conformance

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// TestZFSClockSetBack: the clock of the test machine is set back between two runs. The run says so, is right, and the newest restore point is
// the one that was made last.
func TestZFSClockSetBack(t *testing.T) {
	NeedZFS(t)
	b := zfsBench(t)
	Apply(t, b.origin.dir, Create("a", 10, 1))
	b.run()
	setClock(t, -2*time.Hour)
	t.Cleanup(func() { setClock(t, 2*time.Hour) })
	Apply(t, b.origin.dir, Append("a", 10, 1), Create("b", 10, 2))
	if r := b.native(); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "the clock was set back") {
		t.Errorf("the run warns of %q", r.Warnings)
	}
	Apply(t, b.origin.dir, Remove("a"))
	if r := b.native(); len(r.Warnings) != 0 {
		t.Errorf("the next run warns of %q", r.Warnings)
	}
	b.judgePast()
	points, err := apply.RestorePoints(b.job.Store, "")
	b.must(err)
	choices := apply.Keep{Last: 1}.Choose(points, time.UTC)
	for i, c := range choices {
		if c.Keep != (i == len(choices)-1) {
			t.Errorf("r%d of %s: kept %v", c.Run, c.Date, c.Keep)
		}
	}
}

// setClock moves the clock of the test machine.
func setClock(t testing.TB, by time.Duration) {
	t.Helper()
	now := unix.NsecToTimeval(time.Now().Add(by).UnixNano())
	if err := unix.Settimeofday(&now); err != nil {
		t.Fatal(err)
	}
}

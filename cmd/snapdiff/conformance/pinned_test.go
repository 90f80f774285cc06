package conformance

import (
	"math/rand/v2"
	"strings"
	"testing"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestRelease: what the base pins is told as far as its filesystem does, and after it was let go the next run compares in full and the one
// after that does not.
func TestRelease(t *testing.T) {
	each(t, func(t *testing.T, d driver, mirror Kind, _ *rand.Rand) {
		b := newBench(t, d, mirror)
		const size = 3 << 20
		Apply(t, b.origin.dir, Create("large", size, 1), Create("small", 100, 2), Sync())
		b.run()
		Apply(t, b.origin.dir, Write("large", 0, size, 3), Sync())
		if d.name == "zfs" {
			b.command("zpool", "sync") // the size is that of the last transaction group
		}
		p, err := job.PinnedBy(t.Context(), b.job, nil)
		b.must(err)
		knows, hasRoom := d.name == "zfs" || strings.HasPrefix(d.name, "lvm-classic"), strings.HasPrefix(d.name, "lvm")
		if p.Since.IsZero() || knows != (p.Bytes >= size && p.Bytes < 3*size) || !knows && p.Bytes != -1 || hasRoom != (p.Full > 0 && p.Full < 100) {
			t.Errorf("the base pins %+v", p)
		}
		released, err := job.Release(t.Context(), b.job, job.ReleaseOptions{})
		b.must(err)
		if len(released) != 1 {
			t.Errorf("released: %+v", released)
		}
		if p, err = job.PinnedBy(t.Context(), b.job, nil); err != nil || !p.Since.IsZero() {
			t.Errorf("after the release: %+v, %v", p, err)
		}
		if r := b.run(); r.How != "full" || !strings.Contains(r.Reason, "gone") {
			t.Errorf("the run after the release compared %s: %q", r.How, r.Reason)
		}
		Apply(t, b.origin.dir, Append("small", 10, 4))
		b.native()
	})
}

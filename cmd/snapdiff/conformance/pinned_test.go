package conformance

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/job"
)

// TestRelease: what the base pins is told as far as its filesystem does, and after it was let go verify says that there is nothing to
// compare with, the next run compares in full and the one after that does not. So it is where max_pinned, a size, lets it go.
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
		b.nothingToVerify()
		b.rottenIsFound("small")
		if r := b.run(); r.How != "full" || !strings.Contains(r.Reason, "gone") {
			t.Errorf("the run after the release compared %s: %q", r.How, r.Reason)
		}
		Apply(t, b.origin.dir, Append("small", 10, 4))
		b.native()
		Apply(t, b.origin.dir, Write("large", 0, size, 5), Sync())
		if d.name == "zfs" {
			b.command("zpool", "sync")
		}
		b.maxPinned(100*size, knows, false)
		b.maxPinned(size/2, knows, knows)
		if knows {
			b.full("gone")
		} else {
			b.native()
		}
	})
}

// maxPinned makes a run that fails, as its store is away, with such a limit in bytes. Where the source tells how much is pinned the base is let go if that is
// more, where it does not that is said.
func (b *bench) maxPinned(limit int64, knows, letsGo bool) {
	b.Helper()
	b.job.MaxPinned = config.Pinned{Bytes: limit}
	defer func() { b.job.MaxPinned = config.Pinned{} }()
	before := len(b.kept())
	b.must(os.Rename(b.job.Store, b.job.Store+".away"))
	_, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	b.must(os.Rename(b.job.Store+".away", b.job.Store))
	var gone *job.LetGo
	if errors.As(err, &gone) != letsGo || err == nil || strings.Contains(err.Error(), "does not tell how much") == knows {
		b.Errorf("with a limit of %d bytes the run says %v", limit, err)
	}
	if after := len(b.kept()); before != 1 || (after == 0) != letsGo {
		b.Errorf("%d snapshots were kept, then %d", before, after)
	}
	if !knows {
		b.checks(job.Warning, "does not tell how much", `max_pinned = "14d"`)
	}
}

// nothingToVerify wants verify to say that the snapshot which the mirror equals is not there, and to count nothing as verified. The checksums need none.
func (b *bench) nothingToVerify() {
	b.Helper()
	verified := func() time.Time {
		b.Helper()
		store, err := apply.OpenReadOnly(b.job.Store)
		b.must(err)
		defer store.Close()
		at, err := job.LastVerified(store)
		b.must(err)
		return at
	}
	before := verified()
	for _, o := range []job.VerifyOptions{{}, {Part: 1, Of: 2}, {Newest: true}, {Repair: true}} {
		_, err := job.Verify(b.Context(), b.job, o, b.Logf)
		if err == nil || !strings.Contains(err.Error(), "nothing to compare the mirror with") || !strings.Contains(hint.Of(err), "verify test --checksums") {
			b.Errorf("verify %+v says %v, and next %q", o, err, hint.Of(err))
		}
	}
	if after := verified(); !after.Equal(before) {
		b.Errorf("what was compared with nothing counts as verified at %v", after)
	}
	_, err := job.VerifySums(b.Context(), b.job, -1, job.VerifyOptions{})
	b.must(err)
}

// rottenIsFound has a byte of a file in the mirror rot, and the checksums find it.
func (b *bench) rottenIsFound(name string) {
	b.Helper()
	path := filepath.Join(b.job.Store, "tree", name)
	st, err := os.Stat(path)
	b.must(err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	b.must(err)
	var was [1]byte
	_, err = f.ReadAt(was[:], 7)
	b.must(err)
	_, err = f.WriteAt([]byte{was[0] ^ 1}, 7)
	b.must(errors.Join(err, f.Close(), os.Chtimes(path, st.ModTime(), st.ModTime())))
	found, err := job.VerifySums(b.Context(), b.job, -1, job.VerifyOptions{})
	var rotten *job.Rotten
	if !errors.As(err, &rotten) || len(found.Names) != 1 || found.Names[0] != name {
		b.Errorf("the checksums say %v: %+v", err, found)
	}
}

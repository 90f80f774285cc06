package conformance

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestSourceFull: the source's filesystem has no room left. A run makes its snapshot all the same or says that there is no room on the source,
// and nothing else; with room again the next one is right.
func TestSourceFull(t *testing.T) {
	small := drivers[0]
	small.make = func(t testing.TB) origin {
		dir := Subvolume(t, filepath.Join(MountSized(t, Btrfs, 160<<20), "source"))
		return origin{source: dir, dir: dir}
	}
	b := newBench(t, small, Ext4)
	b.manyChanges(0)
	b.run()
	b.manyChanges(1)
	top := filepath.Dir(b.origin.dir)
	free := Fill(t, top, 0)
	freeMetadata := FillInodes(t, top)
	b.fullSource()
	freeMetadata()
	free()
	b.runAll()
	b.judgePast()
}

// TestZFSSourceFull: the same for a dataset whose quota, and with SNAPDIFF_SOAK then whose pool, is full.
func TestZFSSourceFull(t *testing.T) {
	b := zfsBench(t)
	b.manyChanges(0)
	b.run()
	b.manyChanges(1)
	b.zfs("set", "quota=20M", "SOURCE")
	free := fillByWriting(t, b.origin.dir)
	b.fullSource()
	free()
	b.zfs("set", "quota=none", "SOURCE")
	b.native()
	if Soak() { // 2 GB have to be written for it
		b.manyChanges(2)
		free = fillByWriting(t, b.origin.dir)
		b.fullSource()
		free()
		b.runAll()
	}
	b.judgePast()
}

// fullSource makes a run of a source without room.
func (b *bench) fullSource() {
	b.Helper()
	_, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	b.Logf("the run says %v", err)
	var full *job.SourceFull
	switch {
	case err == nil:
	case !errors.As(err, &full):
		b.Errorf("a full source: %v", err)
	case !strings.Contains(err.Error(), b.origin.source) || full.Hint() == "":
		b.Errorf("it is not said what is full: %v", err)
	}
}

// fillByWriting fills a filesystem that allocates nothing ahead.
func fillByWriting(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	_ = Create(path, 4<<30, 1).Apply("/") // until it fails
	Apply(t, dir, Sync())
	return func() { Apply(t, dir, Remove("filler"), Sync()) }
}

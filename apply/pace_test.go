package apply

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/gentle"
)

// A limit counts each byte of file data that is copied, and each that is compared, on both sides.
func TestPaceCountsFileData(t *testing.T) {
	source, mirror := applytest.Mount(t, applytest.Ext4), applytest.Mount(t, applytest.Ext4)
	var sum int64
	for i, size := range []int64{0, 1, 4096, 300_000, 3 << 20} {
		sum += size
		check(t, os.WriteFile(filepath.Join(source, string(rune('a'+i))), make([]byte, size), 0o600))
	}
	from, to := openRoot(t, source), openRoot(t, mirror)
	b := newBuilder(gentle.NewPace(context.Background(), 1<<40))
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		_, err := b.build(place{from, name}, place{to, name}, 0, nil, nil)
		check(t, err)
	}
	if got := b.pace.Moved(); got != sum {
		t.Errorf("copying %d bytes counted %d", sum, got)
	}
	pace := gentle.NewPace(context.Background(), 1<<40)
	keys := func(_ string, ino uint64) (diff.Key, error) { return diff.Key{Ino: ino, Gen: 1}, nil }
	_, _, err := diff.Full(context.Background(), to, from, keys, diff.FullOptions{Pace: pace})
	check(t, err)
	if got := pace.Moved(); got != 2*sum {
		t.Errorf("comparing %d bytes on both sides counted %d", sum, got)
	}
}

// A copy that waits for its limit ends with the run, and leaves nothing half made.
func TestPaceEndsWithTheRun(t *testing.T) {
	source, mirror := t.TempDir(), t.TempDir()
	check(t, os.WriteFile(filepath.Join(source, "file"), make([]byte, 1<<20), 0o600))
	ctx, stop := context.WithCancel(context.Background())
	stop()
	_, err := newBuilder(gentle.NewPace(ctx, 512)).build(place{openRoot(t, source), "file"}, place{openRoot(t, mirror), "file"}, 0, nil, nil)
	if err == nil || IsBadFile(err) {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Lstat(filepath.Join(mirror, "file")); err == nil {
		t.Error("half a file is left")
	}
}

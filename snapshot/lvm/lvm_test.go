package lvm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/snapshot"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sh(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.Command("bash", "-ec", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// open opens the source on a volume and has its snapshots go with the test.
func open(t testing.TB, name string) *Source {
	t.Helper()
	s, err := OpenSource(t.Context(), name)
	must(t, err)
	t.Cleanup(func() {
		ctx := context.Background()
		ours, err := s.Ours(ctx, Prefix)
		must(t, err)
		for _, v := range ours {
			must(t, s.Remove(ctx, v.UUID))
		}
	})
	return s
}

func take(t testing.TB, s *Source, name string) snapshot.Mark {
	t.Helper()
	mark, err := s.Take(t.Context(), New{Name: Prefix + name, Tag: "snapdiff_job=test", Percent: 20})
	must(t, err)
	return mark
}

func openSnapshot(t testing.TB, s *Source, mark snapshot.Mark) *Snapshot {
	t.Helper()
	snap, err := s.Open(t.Context(), mark)
	must(t, err)
	return snap
}

func closeSnapshot(t testing.TB, snap *Snapshot) {
	t.Helper()
	must(t, snap.Root.Close())
	must(t, snap.Close())
}

// everyKind runs a test on all kinds of volumes with all filesystems.
func everyKind(t *testing.T, test func(t *testing.T, v *LogicalVolume)) {
	for _, kind := range []VolumeKind{Thin, Classic} {
		for _, fs := range []Kind{Ext4, XFS} {
			t.Run(string(kind)+"/"+string(fs), func(t *testing.T) { test(t, MountVolume(t, kind, fs)) })
		}
	}
}

// bothKinds is a smaller everyKind, for what depends on the filesystem only a little.
func bothKinds(t *testing.T, test func(t *testing.T, v *LogicalVolume)) {
	t.Run("thin/xfs", func(t *testing.T) { test(t, MountVolume(t, Thin, XFS)) })
	t.Run("classic/ext4", func(t *testing.T) { test(t, MountVolume(t, Classic, Ext4)) })
}

// TestSnapshots takes two snapshots with changes between, and holds what Changed says against the devices themselves: every
// byte that differs is in it.
func TestSnapshots(t *testing.T) {
	everyKind(t, func(t *testing.T, v *LogicalVolume) {
		s := open(t, v.Dir)
		if s.Dir() != v.Dir {
			t.Errorf("the source is mounted at %q, want %q", s.Dir(), v.Dir)
		}
		must(t, os.WriteFile(filepath.Join(v.Dir, "a"), bytes.Repeat([]byte("a"), 3<<20), 0o644))
		write(t, v, "b", "before")
		first := take(t, s, "1")
		write(t, v, "b", "after")
		must(t, os.Truncate(filepath.Join(v.Dir, "a"), 1<<20))
		must(t, os.Chtimes(filepath.Join(v.Dir, "b"), time.Time{}, time.Unix(1, 0)))
		second := take(t, s, "2")
		write(t, v, "b", "too late")
		unix.Sync()

		base, next := openSnapshot(t, s, first), openSnapshot(t, s, second)
		for snap, want := range map[*Snapshot]string{base: "before", next: "after"} {
			got, err := os.ReadFile(snapPath(snap, "b"))
			if must(t, err); string(got) != want {
				t.Errorf("b holds %q in %s, want %q", got, snap.Mark.Path, want)
			}
		}
		// The source has gone on since in one file only: everything else is in the snapshot, though it is mounted as it is.
		write(t, v, "b", "after")
		must(t, os.Chtimes(filepath.Join(v.Dir, "b"), time.Time{}, time.Unix(1, 0)))
		Judge(t, snapPath(next, ""), v.Dir)
		changed, err := s.Changed(t.Context(), base, next)
		must(t, err)
		judgeBlocks(t, base, next, changed)
		if changed.Bytes() == 0 || changed.Bytes() > 64<<20 {
			t.Errorf("%d bytes changed: %v", changed.Bytes(), changed)
		}
		closeSnapshot(t, base)
		closeSnapshot(t, next)
		must(t, s.Close())
		if left := sh(t, "lsblk -rno NAME,MOUNTPOINTS | grep snapdiff_ || true"); v.Kind == Thin && left != "" {
			t.Errorf("active after closing: %s", left)
		}
		byName, err := OpenSource(t.Context(), v.Name)
		if must(t, err); byName.UUID() != s.UUID() || byName.Dir() != v.Dir {
			t.Errorf("by name it is %s at %s, by mount point %s at %s", byName.UUID(), byName.Dir(), s.UUID(), s.Dir())
		}
	})
}

// snapPath is a path that anybody can open.
func snapPath(snap *Snapshot, name string) string {
	return fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getpid(), snap.Root.FD(), name)
}

// judgeBlocks reads both devices whole.
func judgeBlocks(t testing.TB, base, next *Snapshot, changed Blocks) {
	t.Helper()
	size := min(base.Size, next.Size)
	const step = 64 << 10
	a, b := make([]byte, step), make([]byte, step)
	for off := int64(0); off < size; off += step {
		if _, err := base.Device.ReadAt(a, off); err != nil {
			t.Fatal(err)
		}
		if _, err := next.Device.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(a, b) {
			continue
		}
		for i := int64(0); i < step; i += sector {
			if !bytes.Equal(a[i:i+sector], b[i:i+sector]) && !changed.Any(off+i, sector) {
				t.Fatalf("the sector at byte %d differs and is not in %v", off+i, changed)
			}
		}
	}
}

func write(t testing.TB, v *LogicalVolume, name, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(v.Dir, name), []byte(text), 0o644))
}

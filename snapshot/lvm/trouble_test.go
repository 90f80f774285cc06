package lvm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/snapshot"
)

// TestUncleanSource: what is taken of a volume whose filesystem nobody has put in order is not stale: its journal is replayed.
func TestUncleanSource(t *testing.T) {
	for _, fs := range []Kind{Ext4, XFS} {
		t.Run(string(fs), func(t *testing.T) {
			v := MountVolume(t, Thin, fs)
			write(t, v, "file", "in the journal")
			sh(t, "sync "+filepath.Join(v.Dir, "file"))
			shutdown(t, v.Dir)
			v.Unmount(t)
			s := open(t, v.Name)
			if s.Dir() != "" {
				t.Errorf("the volume is said to be mounted at %q", s.Dir())
			}
			snap := openSnapshot(t, s, take(t, s, "1"))
			defer closeSnapshot(t, snap)
			got, err := os.ReadFile(snapPath(snap, "file"))
			if err != nil || string(got) != "in the journal" {
				t.Errorf("the snapshot shows %q: %v", got, err)
			}
			if !snap.volume.ReadOnly {
				t.Error("the snapshot stayed writable")
			}
		})
	}
}

// TestTornSource: what no journal mends is refused, and a journal on a device of its own is left to the source.
func TestTornSource(t *testing.T) {
	journal := NewVolume(t, Thin, 16<<20)
	sh(t, "mkfs.ext4 -q -b 4096 -O journal_dev "+journal.Dev)
	for name, options := range map[string][]string{"without a journal": {"-O", "^has_journal"}, "journal elsewhere": {"-J", "device=" + journal.Dev}} {
		t.Run(name, func(t *testing.T) {
			v := MountVolume(t, Thin, Ext4, options...)
			write(t, v, "file", "then")
			s := open(t, v.Name)
			closeSnapshot(t, openSnapshot(t, s, take(t, s, "1"))) // mounted, it is frozen and in order
			write(t, v, "file", "now")
			sh(t, "sync "+filepath.Join(v.Dir, "file"))
			shutdown(t, v.Dir)
			v.Unmount(t)
			if name == "without a journal" { // as it is while a machine has it mounted that we know nothing of
				sh(t, "debugfs -w -R 'set_super_value state 0' "+v.Dev)
			}
			s = open(t, v.Name)
			_, err := s.Take(t.Context(), New{Name: Prefix + "2"})
			var a advice
			if !errors.Is(err, errTorn) || !errors.As(err, &a) || !strings.Contains(a.next, "e2fsck") {
				t.Errorf("a snapshot of it: %v", err)
			}
			if ours, err := s.Ours(t.Context(), Prefix+"2"); err != nil || len(ours) > 0 {
				t.Errorf("it was left behind: %v, %v", ours, err)
			}
			if name == "without a journal" {
				sh(t, "e2fsck -f -y "+v.Dev+" || [ $? = 1 ]")
			}
			v.Mount(t)
			if got, err := os.ReadFile(filepath.Join(v.Dir, "file")); err != nil || string(got) != "now" {
				t.Errorf("the source has %q: %v", got, err)
			}
		})
	}
}

// shutdown ends a filesystem as if its disk had gone: nothing more is written. (A copy of the device of a live one would not do:
// what is written back meanwhile tears it.)
func shutdown(t testing.TB, dir string) {
	t.Helper()
	const goingDown, noLogFlush = 0x8004587d, 2 // XFS_IOC_GOINGDOWN of fs/xfs/libxfs/xfs_fs.h and EXT4_IOC_SHUTDOWN are one
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	must(t, unix.IoctlSetPointerInt(int(d.Fd()), goingDown, noLogFlush))
}

// TestOverflow: a classic snapshot that ran out of room is lost, and that is said.
func TestOverflow(t *testing.T) {
	v := MountVolume(t, Classic, Ext4)
	s := open(t, v.Dir)
	small := New{Name: Prefix + "small", Percent: 5}
	base, err := s.Take(t.Context(), small)
	must(t, err)
	small.Name += "2"
	next, err := s.Take(t.Context(), small)
	must(t, err)
	from, to := openSnapshot(t, s, base), openSnapshot(t, s, next)
	if s.Lost(t.Context(), from) {
		t.Error("the snapshot is lost before its time")
	}
	sh(t, "dd if=/dev/urandom of="+v.Dir+"/big bs=1M count=40 conv=fsync status=none")
	if _, err := s.Changed(t.Context(), from, to); !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrOverflowed) {
		t.Errorf("the changed blocks of an overflowed snapshot: %v", err)
	}
	if !s.Lost(t.Context(), from) {
		t.Error("the snapshot is not lost")
	}
	closeSnapshot(t, from)
	closeSnapshot(t, to)
	if _, err := s.Open(t.Context(), base); !errors.Is(err, snapshot.ErrGone) || !errors.Is(err, ErrOverflowed) {
		t.Errorf("opening an overflowed snapshot: %v", err)
	}
}

// TestNoRoom: nothing is taken where it would fill up.
func TestNoRoom(t *testing.T) {
	v := MountVolume(t, Classic, Ext4, "-E", "lazy_itable_init=0") // nothing may write beside us
	s := open(t, v.Dir)
	base, err := s.Take(t.Context(), New{Name: Prefix + "1", Percent: 10})
	must(t, err)
	for i, full := 0, 0.0; full < FullData; i++ {
		sh(t, fmt.Sprintf("dd if=/dev/urandom of=%s/%d bs=1M count=%d conv=fsync status=none", v.Dir, i, max(1, 30-30*i)))
		all, err := s.now(t.Context())
		must(t, err)
		base, _ := byUUID(all, base.ID)
		full = base.Data
	}
	if _, err := s.Take(t.Context(), New{Name: Prefix + "2", Percent: 10}); !errors.Is(err, ErrFull) {
		t.Errorf("beside a snapshot that is nearly full: %v", err)
	}
	origin := Volume{VG: "vg", Name: "lv", Segments: "thin", PoolUUID: "pool", Size: 100}
	for _, c := range []struct {
		pool Volume
		ok   bool
	}{
		{Volume{UUID: "pool", Data: 94, Metadata: 89}, true},
		{Volume{UUID: "pool", Data: 95, Metadata: 1}, false},
		{Volume{UUID: "pool", Data: 1, Metadata: 90}, false},
		{Volume{UUID: "pool", Data: 1, Metadata: 1, NeedsCheck: true}, false},
		{Volume{UUID: "pool", Data: 1, Metadata: 1, Health: "out_of_data"}, false},
		{Volume{UUID: "other"}, false},
	} {
		if err := room(origin, []Volume{origin, c.pool}, New{}); (err == nil) != c.ok {
			t.Errorf("with the pool %+v: %v", c.pool, err)
		}
	}
	origin.Segments, origin.Free = "linear", 19
	if err := room(origin, nil, New{Percent: 20}); !errors.Is(err, ErrFull) {
		t.Errorf("in a full volume group: %v", err)
	}
}

// TestMetadataSnapshot: the one metadata snapshot of a pool is given back; one of somebody else's stays his; one that a
// killed process of ours left is known again.
func TestMetadataSnapshot(t *testing.T) {
	v := MountVolume(t, Thin, Ext4)
	stateDir = t.TempDir()
	s := open(t, v.Name)
	base, next := openSnapshot(t, s, take(t, s, "1")), openSnapshot(t, s, take(t, s, "2"))
	defer func() { closeSnapshot(t, base); closeSnapshot(t, next) }()
	dm := strings.ReplaceAll(filepath.Base(filepath.Dir(v.Dev)), "-", "--") + "-pool-tpool"
	held := func() bool { return strings.Fields(sh(t, "dmsetup status "+dm))[6] != "-" }

	sh(t, "dmsetup message "+dm+" 0 reserve_metadata_snap")
	if _, err := s.Changed(t.Context(), base, next); !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrReserved) || !strings.Contains(fmt.Sprint(err), dm) {
		t.Errorf("with somebody else's metadata snapshot: %v", err)
	}
	if !held() {
		t.Fatal("somebody else's metadata snapshot was released")
	}
	root := strings.Fields(sh(t, "dmsetup status "+dm))[6]
	must(t, os.WriteFile(filepath.Join(stateDir, base.volume.PoolUUID), []byte(root), 0o600)) // now it is ours
	for range 2 {
		if _, err := s.Changed(t.Context(), base, next); err != nil {
			t.Errorf("after one of ours was left: %v", err)
		}
		if held() {
			t.Error("the metadata snapshot was not released")
		}
	}
	lost := *next
	lost.volume.ThinID = "4242"
	if _, err := s.Changed(t.Context(), base, &lost); err == nil {
		t.Error("thin_delta of a volume that is not there succeeds")
	}
	if held() {
		t.Error("the metadata snapshot was not released when thin_delta failed")
	}
}

// TestAltered: a snapshot that somebody made writable, or mounted meanwhile, is no base any more; one that is gone is said to
// be.
func TestAltered(t *testing.T) {
	bothKinds(t, func(t *testing.T, v *LogicalVolume) {
		s := open(t, v.Name)
		mark := take(t, s, "1")
		dir := t.TempDir()
		sh(t, "lvchange -q -p rw "+mark.Path)
		s.seen.asked = s.seen.asked.Add(-fresh)
		if _, err := s.Open(t.Context(), mark); !errors.Is(err, snapshot.ErrAltered) {
			t.Errorf("writable: %v", err)
		}
		options := map[Kind]string{Ext4: "", XFS: "nouuid"}[v.FS]
		must(t, unix.Mount("/dev/"+mark.Path, dir, string(v.FS), 0, options))
		must(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o600))
		must(t, unix.Unmount(dir, 0))
		sh(t, "lvchange -q -p r "+mark.Path)
		s.seen.asked = s.seen.asked.Add(-fresh)
		if _, err := s.Open(t.Context(), mark); !errors.Is(err, snapshot.ErrAltered) {
			t.Errorf("mounted meanwhile: %v", err)
		}
		must(t, s.Remove(t.Context(), mark.ID))
		must(t, s.Remove(t.Context(), mark.ID))
		if _, err := s.Open(t.Context(), mark); !errors.Is(err, snapshot.ErrGone) {
			t.Errorf("removed: %v", err)
		}
	})
}

// TestForeign: snapshots that others made; those of other volumes and the others' own are left alone.
func TestForeign(t *testing.T) {
	bothKinds(t, func(t *testing.T, v *LogicalVolume) {
		s := open(t, v.Dir)
		write(t, v, "file", "then")
		his := v.Name + "_his"
		size := map[VolumeKind]string{Classic: "-l 20%ORIGIN"}[v.Kind]
		sh(t, "lvcreate -q -y -s -p r "+size+" -n "+filepath.Base(his)+" "+v.Name)
		t.Cleanup(func() { sh(t, "lvremove -q -y "+his+" || true") })
		write(t, v, "file", "now")
		s.seen.asked = s.seen.asked.Add(-fresh)
		mark, err := s.TakeOf(t.Context(), his, New{Name: Prefix + "1", Percent: 20})
		must(t, err)
		if mark.Source != s.UUID() || mark.Foreign != (v.Kind == Classic) || mark.Taken.IsZero() {
			t.Errorf("the mark is %+v", mark)
		}
		if v.Kind == Thin {
			sh(t, "lvremove -q -y "+his)
		}
		snap := openSnapshot(t, s, mark)
		got, err := os.ReadFile(snapPath(snap, "file"))
		if err != nil || string(got) != "then" {
			t.Errorf("the snapshot holds %q: %v", got, err)
		}
		closeSnapshot(t, snap)
		if _, err := s.TakeOf(t.Context(), v.Name, New{Name: Prefix + "2", Percent: 20}); err == nil {
			t.Error("the source is taken for a snapshot of itself")
		}
		if v.Kind == Classic {
			if err := s.Remove(t.Context(), mark.ID); err == nil {
				t.Error("somebody else's snapshot was removed")
			}
		}
	})
}

// TestResized: the volume grows and shrinks between two snapshots.
func TestResized(t *testing.T) {
	v := NewVolume(t, Thin, 64<<20)
	sh(t, "mkfs.ext4 -q -F "+v.Dev+" 32M")
	s := open(t, v.Name)
	sizes := []string{"", "96M", "48M"}
	var snaps []*Snapshot
	for i, size := range sizes {
		if size != "" {
			sh(t, "lvresize -q -y -f -L "+size+" "+v.Name)
		}
		sh(t, fmt.Sprintf("dd if=/dev/urandom of=%s bs=64k seek=%d count=1 oflag=direct conv=notrunc status=none", v.Dev, 600+i))
		snap := openSnapshot(t, s, take(t, s, fmt.Sprint(i)))
		defer closeSnapshot(t, snap)
		snaps = append(snaps, snap)
	}
	for _, pair := range [][2]int{{0, 1}, {1, 2}, {0, 2}} {
		base, next := snaps[pair[0]], snaps[pair[1]]
		changed, err := s.Changed(t.Context(), base, next)
		must(t, err)
		judgeBlocks(t, base, next, changed)
		if changed.Bytes() == 0 || changed[len(changed)-1].End() > min(base.Size, next.Size) {
			t.Errorf("%v: %v", pair, changed)
		}
	}
}

// TestNotVolumes: what cannot be a source is refused with what it is.
func TestNotVolumes(t *testing.T) {
	v := MountVolume(t, Classic, Ext4)
	s := open(t, v.Dir)
	classic := take(t, s, "1")
	must(t, os.Mkdir(filepath.Join(v.Dir, "sub"), 0o755))
	bind := t.TempDir()
	must(t, unix.Mount(filepath.Join(v.Dir, "sub"), bind, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(bind, 0) })
	for name, want := range map[string]string{
		filepath.Join(v.Dir, "sub"): "no mount point",
		bind:                        "only a part (/sub)",
		"/proc":                     "none of LVM's",
		v.Pool:                      `type "thin-pool"`,
		classic.Path:                "itself a snapshot",
		"snapdiff-test/none":        "none of that name",
	} {
		if _, err := OpenSource(t.Context(), name); !errors.Is(err, ErrNotVolume) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, segments := range []string{"cache", "writecache"} {
		if err := s.inspect(Volume{VG: "vg", Name: "lv", Segments: segments}, nil); !errors.Is(err, ErrNotVolume) {
			t.Errorf("a volume of type %s: %v", segments, err)
		}
	}
	for name, want := range map[string]bool{v.Name: true, "snapdiff-test/none": false, "none/none": false, "none": false, "a/b/c": false, "/a/b": false} {
		if is, err := IsVolume(t.Context(), name); is != want || err != nil {
			t.Errorf("%s is a volume: %v, %v", name, is, err)
		}
	}
	empty := NewVolume(t, Thin, 8<<20)
	e := open(t, empty.Name)
	if _, err := e.Take(t.Context(), New{Name: Prefix + "empty"}); !errors.Is(err, ErrFilesystem) {
		t.Errorf("a snapshot of nothing: %v", err)
	}
	if ours, err := e.Ours(t.Context(), Prefix+"empty"); err != nil || len(ours) > 0 {
		t.Errorf("it was left behind: %v, %v", ours, err)
	}
}

// TestCheck: what a run would trip over is known beforehand.
func TestCheck(t *testing.T) {
	v := MountVolume(t, Thin, Ext4)
	s := open(t, v.Name)
	if missing, warnings := s.Check(t.Context(), 20); len(missing)+len(warnings) > 0 {
		t.Errorf("of a sound source: %v, %v", missing, warnings)
	}
	v.Unmount(t)
	s = open(t, v.Name)
	if missing, warnings := s.Check(t.Context(), 20); len(missing) > 0 || !strings.Contains(fmt.Sprint(warnings), "not mounted") {
		t.Errorf("of a source that is not mounted: %v, %v", missing, warnings)
	}
	empty := open(t, NewVolume(t, Classic, 8<<20).Name)
	if missing, _ := empty.Check(t.Context(), 100_000_000); len(missing) != 2 || !errors.Is(missing[0], ErrFull) || !errors.Is(missing[1], ErrFilesystem) {
		t.Errorf("of a volume with nothing on it: %v", missing)
	}
	t.Setenv("PATH", "/nonexistent")
	if _, err := tool("thin_delta"); err != nil {
		t.Errorf("tools are not looked for in /usr/sbin: %v", err)
	}
	if _, err := tool("thin_frobnicate"); !errors.Is(err, ErrNoTool) {
		t.Errorf("a tool that is not there: %v", err)
	}
}

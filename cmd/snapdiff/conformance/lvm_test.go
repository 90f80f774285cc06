package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/snapshot/lvm"
)

// lvmDriver makes logical volumes. One kind of mirror is enough: what it is on has nothing to do with the source.
func lvmDriver(kind VolumeKind, fs Kind) driver {
	lacks := []Feature{NeedsSubvolumes}
	if fs == Ext4 {
		lacks = append(lacks, NeedsReflink)
	}
	return driver{"lvm-" + string(kind) + "-" + string(fs), lacks, []Kind{Ext4}, func(t testing.TB) origin {
		v := MountVolume(t, kind, fs)
		return origin{source: v.Name, dir: v.Dir, settings: `snapshot_size = "30%"`}
	}}
}

// newVolumeBench makes a job whose source is a logical volume.
func newVolumeBench(t *testing.T, kind VolumeKind, fs Kind, settings string) (*bench, *LogicalVolume) {
	t.Helper()
	v := MountVolume(t, kind, fs)
	d := driver{name: string(kind) + "-" + string(fs), make: func(testing.TB) origin {
		return origin{source: v.Name, dir: v.Dir, settings: settings}
	}}
	return newBench(t, d, Ext4), v
}

// command runs a program that must succeed.
func (b *bench) command(name string, args ...string) {
	b.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// TestLVMGrown: volume and filesystem grow while they are mounted; files in what is new are found.
func TestLVMGrown(t *testing.T) {
	for fs, grow := range map[Kind]string{Ext4: "resize2fs", XFS: "xfs_growfs"} {
		t.Run(string(fs), func(t *testing.T) {
			b, v := newVolumeBench(t, Thin, fs, "")
			Apply(t, v.Dir, Create("a", 5000, 1), Mkdir("d"))
			b.run()
			b.command("lvextend", "-q", "-L", "640M", v.Name)
			b.command(grow, v.Dev)
			// New directories go to the emptiest part of the volume.
			for i := range 40 {
				dir := fmt.Sprint("d/", i)
				Apply(t, v.Dir, Mkdir(dir), Create(dir+"/x", 3000, i))
			}
			Apply(t, v.Dir, Append("a", 5000, 2))
			b.native()
			Apply(t, v.Dir, Append("d/39/x", 10, 3), RemoveAll("d/3"))
			b.native()
		})
	}
}

// TestLVMCrash: the source dies with its journal full and is mounted again. Of one file data was written in place of which the
// inode does not tell: its new times were still to be logged.
func TestLVMCrash(t *testing.T) {
	for kind, fs := range map[VolumeKind]Kind{Thin: Ext4, Classic: XFS} {
		t.Run(string(kind)+"/"+string(fs), func(t *testing.T) {
			b, v := newVolumeBench(t, kind, fs, `snapshot_size = "30%"`)
			Apply(t, v.Dir, Create("a", 50000, 1), Create("b", 50000, 2), Mkdir("d"), Create("in place", 50000, 3))
			b.run()
			Apply(t, v.Dir, Write("a", 0, 4096, 3), Rename("b", "d/b"), Create("c", 5, 4), Sync())
			b.inPlace(filepath.Join(v.Dir, "in place"))
			Apply(t, v.Dir, Create("perhaps", 9, 5))
			Shutdown(t, v.Dir)
			v.Unmount(t)
			v.Mount(t)
			b.origin.dir = v.Dir
			Apply(t, v.Dir, Create("later", 100, 6), Remove("c"))
			b.native()
			b.native()
		})
	}
}

// TestLVMCrashReadOnly: the source dies and is mounted read-only, for a look and a backup, before it is used again.
func TestLVMCrashReadOnly(t *testing.T) {
	b, v := newVolumeBench(t, Thin, Ext4, "")
	Apply(t, v.Dir, Create("a", 50000, 1), Mkdir("d"), Create("in place", 50000, 3))
	b.run()
	b.native()
	Apply(t, v.Dir, Create("c", 5, 4), Sync())
	b.inPlace(filepath.Join(v.Dir, "in place"))
	Shutdown(t, v.Dir)
	dir := v.Dir
	v.Unmount(t)
	b.command("mount", "-o", "ro", v.Dev, dir)
	v.Dir = dir
	b.native()
}

// TestLVMImportAfterCrash: the source dies, and before it is mounted again somebody takes a classic snapshot of it. What its log holds would be missing: it is
// refused.
func TestLVMImportAfterCrash(t *testing.T) {
	b, v := newVolumeBench(t, Classic, XFS, `snapshot_size = "20%"`)
	Apply(t, v.Dir, Create("a", 50000, 1), Create("b", 50000, 2), Mkdir("d"))
	b.run()
	Apply(t, v.Dir, Create("new", 5000, 3), Rename("a", "d/a"), SetXattr("b", "user.x", "y"), Sync())
	Shutdown(t, v.Dir)
	v.Unmount(t)
	name := v.Name + "crashed"
	b.command("bash", "-ec", "sleep 1.1; lvcreate -q -y -s -p r -l 20%ORIGIN -n "+filepath.Base(name)+" "+v.Name)
	t.Cleanup(func() { b.command("lvremove", "-q", "-y", name) })
	_, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf, Snapshot: name})
	if !errors.Is(err, lvm.ErrRecovery) {
		t.Fatalf("a snapshot with a log that was not written back is taken: %v", err)
	}
	t.Log(err)
	v.Mount(t)
	b.origin.dir = v.Dir
	b.native()
}

// inPlace writes data that reaches the disk, while the inode does not.
func (b *bench) inPlace(path string) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	b.must(err)
	defer f.Close()
	_, err = f.WriteAt([]byte("in place"), 9000)
	b.must(err)
	b.must(unix.Fdatasync(int(f.Fd())))
}

// TestLVMImport: snapshots that somebody else took become restore points, in the order in which they were taken.
func TestLVMImport(t *testing.T) {
	for _, of := range []struct {
		kind VolumeKind
		fs   Kind
	}{{Thin, XFS}, {Classic, Ext4}, {Classic, XFS}} {
		kind, fs := of.kind, of.fs
		t.Run(string(kind)+"/"+string(fs), func(t *testing.T) {
			b, v := newVolumeBench(t, kind, fs, `snapshot_size = "20%"`)
			size := map[VolumeKind]string{Classic: "-l 20%ORIGIN"}[kind]
			hers := func(name string) string {
				name = v.Name + name
				b.command("bash", "-ec", "sleep 1.1; lvcreate -q -y -s -p r "+size+" -n "+filepath.Base(name)+" "+v.Name) // LVM keeps whole seconds
				t.Cleanup(func() { b.command("lvremove", "-q", "-y", name) })
				return name
			}
			Apply(t, v.Dir, Create("a", 50000, 1), Create("b", 50000, 2))
			old := hers("old")
			b.run()
			Apply(t, v.Dir, Append("a", 10, 3), Remove("b"), Create("c", 9, 4))
			next := hers("next")
			Apply(t, v.Dir, Append("a", 10, 5), Create("b", 7, 6))
			b.imports(next)
			if _, err := os.Stat(filepath.Join(b.job.Store, "tree", "b")); err == nil {
				t.Error("the mirror has what came after the snapshot")
			}
			for _, name := range []string{old, next} {
				_, err := job.Run(b.Context(), b.job, job.Options{Snapshot: name})
				if err == nil || !strings.Contains(err.Error(), "the restore point r2") || !strings.Contains(hint.Of(err), "in the order") {
					t.Errorf("the run from %s: %v", name, err)
				}
			}
			b.native()
			b.judgePast()
		})
	}
}

// TestLVMLostBase: a classic base that overflowed, and a pool whose metadata snapshot somebody else holds, lead to a full
// comparison that says so; the run after it is a native one again.
func TestLVMLostBase(t *testing.T) {
	full := func(b *bench, why string) {
		b.Helper()
		if r := b.run(); r.How != "full" || !strings.Contains(r.Reason, why) {
			b.Errorf("the run compared %s: %q, want a full comparison because of %q", r.How, r.Reason, why)
		}
	}
	t.Run("overflowed", func(t *testing.T) {
		b, v := newVolumeBench(t, Classic, Ext4, `snapshot_size = "10%"`)
		Apply(t, v.Dir, Create("a", 50000, 1))
		b.run()
		Apply(t, v.Dir, Create("big", 40<<20, 2), Sync())
		b.nothingToVerify()
		full(b, "overflowed")
		Apply(t, v.Dir, Remove("big"))
		b.native()
	})
	t.Run("reserved", func(t *testing.T) {
		b, v := newVolumeBench(t, Thin, XFS, "")
		Apply(t, v.Dir, Create("a", 50000, 1))
		b.run()
		dm := strings.ReplaceAll(strings.ReplaceAll(v.Pool, "-", "--"), "/", "-") + "-tpool"
		b.command("dmsetup", "message", dm, "0", "reserve_metadata_snap")
		full(b, "dmsetup message "+dm+" 0 release_metadata_snap")
		b.command("dmsetup", "message", dm, "0", "release_metadata_snap")
		Apply(t, v.Dir, Append("a", 5, 2))
		b.native()
	})
}

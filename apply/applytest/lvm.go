package applytest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// VolumeKind is a kind of logical volume.
type VolumeKind string

// The kinds of logical volumes that MountVolume makes.
const (
	Thin    VolumeKind = "thin"
	Classic VolumeKind = "classic"
)

// LogicalVolume is a logical volume of a test.
type LogicalVolume struct {
	Kind VolumeKind
	Name string // "vg/lv"
	Pool string // "vg/pool", the thin pool
	Dev  string // its device
	Dir  string // where it is mounted
	FS   Kind
}

// volumeGroup is the one volume group of all tests of a process. It has a thin pool; a classic snapshot in it can be as
// large as its origin.
const volumeGroup = "snapdiff-test"

var makeGroup sync.Once

// MountVolume makes a logical volume of 320 MiB with an empty filesystem and mounts it for the duration of the test. It
// needs LVM.
func MountVolume(t testing.TB, kind VolumeKind, fs Kind, mkfsOptions ...string) *LogicalVolume {
	t.Helper()
	v := NewVolume(t, kind, 320<<20)
	v.FS = fs
	argv := append(append(mkfs[fs][:len(mkfs[fs]):len(mkfs[fs])], mkfsOptions...), v.Dev)
	command(t, argv[0], argv[1:]...)
	v.Mount(t)
	t.Cleanup(func() {
		if v.Dir != "" {
			v.Unmount(t)
		}
	})
	removeLostAndFound(t, v.Dir)
	return v
}

// NewVolume makes a logical volume with nothing on it for the duration of the test.
func NewVolume(t testing.TB, kind VolumeKind, size int64) *LogicalVolume {
	t.Helper()
	NeedLVM(t)
	newGroup(t)
	v := &LogicalVolume{Kind: kind, Pool: volumeGroup + "/pool"}
	name := fmt.Sprintf("volume%d", volumeNumber())
	v.Name = volumeGroup + "/" + name
	v.Dev = "/dev/" + v.Name
	if kind == Thin {
		command(t, "lvcreate", "-q", "-y", "-V", fmt.Sprintf("%db", size), "-T", v.Pool, "-n", name)
	} else {
		command(t, "lvcreate", "-q", "-y", "-L", fmt.Sprintf("%db", size), "-n", name, volumeGroup)
	}
	t.Cleanup(func() { command(t, "lvremove", "-q", "-f", "-y", v.Name) })
	return v
}

var volumeNumber = func() func() int {
	n := 0
	return func() int { n++; return n }
}()

// newGroup makes the volume group, once, on the test machine's first scratch disk.
func newGroup(t testing.TB) {
	t.Helper()
	makeGroup.Do(func() {
		command(t, "pvcreate", "-q", "-y", "/dev/ubda")
		command(t, "vgcreate", "-q", volumeGroup, "/dev/ubda")
		command(t, "lvcreate", "-q", "-y", "-L", "1G", "-c", "64k", "-T", volumeGroup+"/pool")
	})
}

// Mount mounts the volume at a place of its own.
func (v *LogicalVolume) Mount(t testing.TB) {
	t.Helper()
	v.Dir = filepath.Join(t.TempDir(), "mnt")
	if err := os.MkdirAll(v.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	options := ""
	if v.FS == Ext4 {
		options = "noinit_itable" // else the kernel goes on to write its inode tables, into snapshots too
	}
	if err := unix.Mount(v.Dev, v.Dir, string(v.FS), 0, options); err != nil {
		t.Fatalf("mounting %s at %s: %v", v.Dev, v.Dir, err)
	}
}

// Unmount unmounts the volume.
func (v *LogicalVolume) Unmount(t testing.TB) {
	t.Helper()
	unmount(t, v.Dir)
	v.Dir = ""
}

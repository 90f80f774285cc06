package inodefeed

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
)

// crash leaves a volume as a crash does just after a file was written in place and synced as databases do it: its inode is not on the disk yet.
func (v *volume) crash(name string) {
	v.Helper()
	fd, err := unix.Open(filepath.Join(v.dir, name), unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(v, err)
	defer unix.Close(fd)
	_, err = unix.Pwrite(fd, []byte("committed"), 9000)
	must(v, err)
	must(v, unix.Fdatasync(fd))
	v.image = v.copy()
}

// TestReplayed: what brings ext4 in order after a crash, and is no mount for writing, leaves no trace in the superblock. Data that was written in place is found
// all the same, and it is also after the mount for writing that follows.
func TestReplayed(t *testing.T) {
	t.Run("mounted read-only", func(t *testing.T) {
		v := newVolume(t, a.Ext4, ext4Size)
		a.Apply(t, v.dir, full("f"), full("g"), a.Sync())
		time.Sleep(2 * tick) // or f would be carried
		m := newMirror(v)
		m.run()
		v.crash("f")
		v.mountCrashed("ro")
		m.base.Boot = "before"
		m.run()
		must(t, unix.Mount("", v.dir, "", unix.MS_REMOUNT, ""))
		m.run()
	})
	t.Run("e2fsck", func(t *testing.T) {
		v := newVolume(t, a.Ext4, ext4Size)
		a.Apply(t, v.dir, full("f"), full("g"), a.Sync())
		time.Sleep(2 * tick)
		base := v.snapshot()
		v.crash("f")
		command(t, "sh", "-c", `e2fsck -p "$0"; [ $? -le 1 ]`, v.image)
		next := v.open(v.copy(), time.Now())
		next.Boot = "" // not mounted
		if found := changedFiles(t, base, next); !slices.Equal(found, []string{"f"}) {
			t.Errorf("changed are %q, should be f", found)
		}
	})
	t.Run("no journal", func(t *testing.T) {
		v := newVolume(t, a.Ext4, ext4Size, "-O", "^has_journal")
		a.Apply(t, v.dir, full("f"), a.Sync())
		base := v.snapshot()
		v.crash("f")
		v.mountCrashed("ro")
		next := v.snapshot()
		next.Boot = "after"
		_, _, err := Diff(t.Context(), base.Side, next.Side, changed(t, base, next), index(t, base), diff.Options{})
		if err == nil || !strings.Contains(err.Error(), "no journal") {
			t.Errorf("a filesystem without a journal was mounted again: %v", err)
		}
	})
}

// mountCrashed mounts what a crash left, in the place of the volume.
func (v *volume) mountCrashed(options string) {
	v.Helper()
	v.dir = filepath.Join(v.store, "after")
	must(v, os.Mkdir(v.dir, 0o700))
	out, err := exec.Command("losetup", "-f", "--show", v.image).Output() // by mount it would be read-only, and the journal could not be replayed
	must(v, err)
	loop := strings.TrimSpace(string(out))
	v.Cleanup(func() { command(v, "losetup", "-d", loop) })
	command(v, "mount", "-o", options, loop, v.dir)
	v.Cleanup(func() { must(v, unix.Unmount(v.dir, 0)) })
}

// TestMountedUnseen: where nobody saw how the source was mounted, as in a virtual machine, the superblock of ext4 has to do; of XFS all files are asked.
func TestMountedUnseen(t *testing.T) {
	for _, kind := range kinds {
		v := newVolume(t, kind, volumeSize[kind])
		a.Apply(t, v.dir, full("f"), a.Sync())
		time.Sleep(2 * tick)
		base := v.snapshot()
		next := v.alter(base, "f")
		base.Boot, next.Boot = "", ""
		want := map[a.Kind][]string{a.XFS: {"f"}}[kind]
		if found := changedFiles(t, base, next); !slices.Equal(found, want) {
			t.Errorf("%s: changed are %q, should be %q", kind, found, want)
		}
	}
}

// TestClockSetBack: where times are whole seconds, a file that is written again after the clock was set back may have the very times that it had.
func TestClockSetBack(t *testing.T) {
	v := newVolume(t, a.Ext4, ext4Size, "-I", "128")
	a.Apply(t, v.dir, full("f"))
	base := v.snapshot()
	base.Taken = base.Taken.Add(time.Hour)
	next := v.alter(base, "f")
	next.Taken = base.Taken.Add(-time.Minute)
	if found := changedFiles(t, base, next); !slices.Equal(found, []string{"f"}) {
		t.Errorf("changed are %q, should be f", found)
	}
}

// TestJournalFile: a journal that tune2fs made in a mounted filesystem has a name, and is written past its inode.
func TestJournalFile(t *testing.T) {
	v := newVolume(t, a.Ext4, ext4Size, "-O", "^has_journal")
	must(t, unix.Unmount(v.dir, 0))
	command(t, "sh", "-ec", `dev=$(losetup -f --show "$0"); mount $dev "$1"; tune2fs -j $dev; umount "$1"; losetup -d $dev; mount -o loop "$0" "$1"`, v.image, v.dir)
	if _, err := os.Lstat(filepath.Join(v.dir, ".journal")); err != nil {
		t.Fatal(err)
	}
	a.Apply(t, v.dir, full("f"), a.Sync())
	time.Sleep(2 * tick)
	m := newMirror(v)
	m.run()
	for range 5 {
		a.Apply(t, v.dir, a.Write("f", 100, 5, 2), a.Mkdir("d"), a.Remove("d"), a.Sync())
	}
	m.run()
}

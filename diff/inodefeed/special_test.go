package inodefeed

import (
	"errors"
	"fmt"
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
	"snapdiff/snapshot/lvm"
)

// alter makes the next snapshot: the base, with other bytes in the first block of a file and nothing else.
func (v *volume) alter(base *snap, path string) *snap {
	v.Helper()
	f, err := openFile(base.Root, path, 4096)
	must(v, err)
	defer unix.Close(f.fd)
	image := v.altered(base)
	command(v, "cp", "--sparse=always", base.file.Name(), image)
	device, err := os.OpenFile(image, os.O_RDWR, 0)
	must(v, err)
	defer device.Close()
	_, err = device.WriteAt([]byte("other"), f.extents[0].disk+100)
	must(v, err)
	return v.open(image, base.Taken)
}

func (v *volume) altered(base *snap) string { return base.file.Name() + ".altered" }

// TestCarried: content that changed while the inode's bytes stayed as they were is found if the inode was carried over.
func TestCarried(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, full("f"), full("g"))
			base := v.snapshot()
			next := v.alter(base, "f")
			if set := compare(t, base, next, diff.Options{}); !set.Empty() {
				t.Fatalf("the inode did not stay as it was")
			}
			var err error
			base.Carried, err = Carry(t.Context(), base.Side)
			must(t, err)
			var found []string
			compare(t, base, next, diff.Options{}).Inodes.Ascend(func(in diff.Inode) bool {
				found = append(found, in.Paths...)
				if in.What != diff.Data || !slices.Equal(in.Ranges, []diff.Range{{Len: 4096}}) {
					t.Errorf("what changed is %b, ranges %v", in.What, in.Ranges)
				}
				return true
			})
			if !slices.Equal(found, []string{"f"}) {
				t.Errorf("changed are %q, should be f", found)
			}
		})
	}
}

// TestMountedAnew: after a mount, content that changed without its inode is found.
func TestMountedAnew(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, a.Mkdir("d"), full("d/f"), a.Create("d/g", 9, 1), a.Symlink("f", "d/s"), a.Fifo("d/p"))
			base := v.snapshot()
			next := v.alter(base, "d/f")
			if kind == a.Ext4 { // its superblock says when it was mounted
				next.unmount()
				command(t, "debugfs", "-w", "-R", "set_super_value mtime 20200101", v.altered(base))
				next = v.open(v.altered(base), base.Taken)
			} else {
				next.Boot = "another"
			}
			var found []string
			compare(t, base, next, diff.Options{}).Inodes.Ascend(func(in diff.Inode) bool { found = append(found, in.Paths...); return true })
			if !slices.Equal(found, []string{"d/f"}) {
				t.Errorf("changed are %q, should be d/f", found)
			}
		})
	}
}

// changedFiles are the paths of what a comparison finds changed.
func changedFiles(t *testing.T, base, next *snap) (found []string) {
	t.Helper()
	compare(t, base, next, diff.Options{}).Inodes.Ascend(func(in diff.Inode) bool { found = append(found, in.Paths...); return true })
	return found
}

// TestSwapFile: what is swapped out to a file changes nothing but the blocks that it has on the device. The file is found by its first page, when
// all inodes are read and when it is new, and again from run to run.
func TestSwapFile(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			empty := v.snapshot()
			a.Apply(t, v.dir, a.Create("swap", 1<<20, 1), a.Create("swap2", 1_000_000, 1), a.Create("other", 1<<20, 1), a.Create("anna's", 1<<20, 1))
			for _, name := range []string{"swap", "swap2", "anna's"} {
				command(t, "mkswap", filepath.Join(v.dir, name))
			}
			a.Apply(t, v.dir, a.Chown("anna's", 1000, 1000), a.Sync())
			time.Sleep(2 * tick) // or all would be carried
			base := v.snapshot()
			swapped := v.alter(base, "swap")
			read, err := Carry(t.Context(), base.Side)
			must(t, err)
			_, told, err := Diff(t.Context(), empty.Side, base.Side, changed(t, empty, base), index(t, empty), diff.Options{})
			must(t, err)
			for _, base.Carried = range [][]diff.Key{read, told} {
				if found := changedFiles(t, base, swapped); len(base.Carried) != 2 || !slices.Equal(found, []string{"swap"}) {
					t.Errorf("carried are %v, and %q changed, should be swap", base.Carried, found)
				}
			}
			_, again, err := Diff(t.Context(), base.Side, swapped.Side, changed(t, base, swapped), index(t, base), diff.Options{})
			must(t, err)
			if !slices.Equal(again, told) {
				t.Errorf("carried on are %v, should be %v", again, told)
			}
		})
	}
}

// TestSwapNotRead: to look for swap files brings no page into memory that was never written, since it would be taken for data.
func TestSwapNotRead(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, a.Create("f", 1<<20, 1), a.Create("g", 1<<20, 1), a.Create("h", 0, 1))
			m := newMirror(v)
			m.run()
			a.Apply(t, v.dir, a.ZeroRange("f", 4096, 500_000), a.ZeroRange("g", 0, 500_000), a.Prealloc("h", 0, 1<<20))
			time.Sleep(2 * tick) // or they would be carried without a look
			m.run()
		})
	}
}

// TestQuotaFiles: ext4 writes the files of quotas in its top directory past their inodes.
func TestQuotaFiles(t *testing.T) {
	v := newVolume(t, a.Ext4, ext4Size)
	a.Apply(t, v.dir, full("aquota.group"), full("aquota.users"))
	base := v.snapshot()
	if found := changedFiles(t, base, v.alter(base, "aquota.group")); !slices.Equal(found, []string{"aquota.group"}) {
		t.Errorf("changed are %q, should be aquota.group", found)
	}
}

// TestGenerationSet: chattr can give an inode another generation, which no directory tells.
func TestGenerationSet(t *testing.T) {
	for _, name := range []string{"d", "d/f"} {
		v := newVolume(t, a.Ext4, ext4Size, "-O", "^metadata_csum") // with checksums ext4 refuses to
		a.Apply(t, v.dir, a.Mkdir("d"), full("d/f"), full("d/g"))
		time.Sleep(2 * tick) // or the directories would be compared
		base := v.snapshot()
		command(t, "chattr", "-v", "77", filepath.Join(v.dir, name))
		next := v.snapshot()
		_, _, err := Diff(t.Context(), base.Side, next.Side, changed(t, base, next), index(t, base), diff.Options{})
		if !errors.Is(err, diff.ErrNotNative) || !strings.Contains(err.Error(), "another inode") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestCrash: data that was written in place and synced as databases do it, and a crash before the inode's new times got into
// the journal.
func TestCrash(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, full("f"), full("g"), a.Sync())
			m := newMirror(v)
			m.run()
			before := m.base
			v.crash("f")
			options := "rw"
			if kind == a.XFS { // the one that crashed is mounted too
				options, before.Boot = "nouuid", "another"
			}
			v.mountCrashed(options)
			in, ok := m.run().Inodes.Get(diff.Inode{Paths: []string{"f"}})
			if !ok || !slices.Equal(in.Ranges, []diff.Range{{Off: 8192, Len: 4096}}) {
				t.Errorf("the change set says of f: %+v", in)
			}
			if ok && in.What != diff.Data {
				t.Logf("the new times were in the journal already: %b", in.What)
			}
		})
	}
}

// TestCarry: what changed 20 ms before the snapshot or later is carried over, with a second more where times are whole seconds.
func TestCarry(t *testing.T) {
	for _, c := range []struct {
		kind    a.Kind
		options []string
		window  time.Duration
	}{{a.Ext4, nil, tick}, {a.XFS, nil, tick}, {a.Ext4, []string{"-I", "128"}, tick + time.Second}} {
		t.Run(string(c.kind)+strings.Join(c.options, ""), func(t *testing.T) {
			v := newVolume(t, c.kind, volumeSize[c.kind], c.options...)
			a.Apply(t, v.dir, full("f"))
			s := v.snapshot()
			st, err := s.Root.Lstat("f")
			must(t, err)
			ctime := time.Unix(st.Ctim.Unix())
			for late, want := range map[time.Duration]bool{-time.Hour: true, c.window - time.Millisecond: true, c.window + time.Millisecond: false} {
				side := s.Side
				side.Taken = ctime.Add(late)
				keys, err := Carry(t.Context(), side)
				must(t, err)
				key, err := Keys(s.Side)("f", st.Ino)
				must(t, err)
				if got := slices.Contains(keys, key); got != want {
					t.Errorf("taken %v after the change: carried %v, should be %v", late, got, want)
				}
			}
		})
	}
}

// refused makes the next snapshot of a copy of the base's device that a program altered, and gives the error of Diff.
func (v *volume) refused(base *snap, name string, args ...string) error {
	v.Helper()
	image := fmt.Sprint(base.file.Name(), ".", name, args[len(args)-1])
	command(v, "cp", "--sparse=always", base.file.Name(), image)
	out, err := exec.Command(name, append(args, image)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (name != "e2fsck" || !errors.As(err, &exit) || exit.ExitCode() > 1) { // 1: something was mended
		v.Fatalf("%s: %v: %s", name, err, out)
	}
	next := v.open(image, base.Taken)
	defer next.drop()
	_, _, err = Diff(v.Context(), base.Side, next.Side, changed(v, base, next), index(v, base), diff.Options{})
	return err
}

// TestNotNative: what cannot be trusted is refused with a reason.
func TestNotNative(t *testing.T) {
	v := newVolume(t, a.Ext4, ext4Size)
	must(t, unix.Unmount(v.dir, 0))
	command(t, "tune2fs", "-T", "20990101", v.image) // it gives another UUID only to what was not mounted since its last check, in whole seconds
	command(t, "mount", "-o", "loop", v.image, v.dir)
	base := v.snapshot()
	fs, err := open(base.Side)
	must(t, err)
	id := fs.(*ext4).super.uuid
	uuid := fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	for _, c := range []struct {
		reason string
		argv   []string
	}{
		{"another UUID", []string{"tune2fs", "-U", "random"}},
		{"e2fsck", []string{"tune2fs", "-T", "20200101"}},
		{"not known here", []string{"tune2fs", "-O", "encrypt"}},
		{"another UUID", []string{"mkfs.ext4", "-q", "-F", "-b", "4096"}},
		{"another way", []string{"mkfs.ext4", "-q", "-F", "-U", uuid, "-b", "1024"}},
	} {
		err := v.refused(base, c.argv[0], c.argv[1:]...)
		if !errors.Is(err, diff.ErrNotNative) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%q: %v, should be refused because of %q", c.argv, err, c.reason)
		}
	}
}

// TestUnknown: nothing is guessed of features that are not known.
func TestUnknown(t *testing.T) {
	for _, c := range []struct {
		device []byte
		at     int
		bit    byte
	}{
		{fuzzExt4(), ext4SuperOffset + 0x60, 0x1}, // compression
		{fuzzExt4(), ext4SuperOffset + 0x63, 0x80},
		{fuzzExt4(), ext4SuperOffset + 0x67, 0x80},
		{fuzzXFS(), 219, 0x10}, // needs repair
		{fuzzXFS(), 216, 0x80},
		{fuzzXFS(), 212, 0x80},
		{fuzzXFS(), 16, 0x1}, // realtime blocks
	} {
		c.device[c.at] |= c.bit
		if _, err := scanAll(t, c.device); !errors.Is(err, diff.ErrNotNative) {
			t.Errorf("bit %#x of byte %d: %v", c.bit, c.at, err)
		}
	}
	old := fuzzXFS()
	old[101] = 4
	if _, err := scanAll(t, old); !errors.Is(err, diff.ErrNotNative) {
		t.Errorf("XFS without checksums: %v", err)
	}
	if _, err := scanAll(t, make([]byte, 1<<20)); !errors.Is(err, diff.ErrNotNative) {
		t.Errorf("no filesystem: %v", err)
	}
}

// TestRecovery: a snapshot that was not frozen has a journal that was not written back.
func TestRecovery(t *testing.T) {
	v := newVolume(t, a.Ext4, ext4Size)
	base := v.snapshot()
	a.Apply(t, v.dir, full("f"), a.Sync())
	next := v.open(v.copy(), time.Now())
	_, _, err := Diff(t.Context(), base.Side, next.Side, changed(t, base, next), index(t, base), diff.Options{})
	if !errors.Is(err, lvm.ErrRecovery) || errors.Is(err, diff.ErrNotNative) {
		t.Errorf("%v, should be %v", err, lvm.ErrRecovery)
	}
}

// grow makes the device five times as large, and then the filesystem. ext4 is not mounted meanwhile: not every root may
// resize it online.
func (v *volume) grow() {
	v.Helper()
	must(v, os.Truncate(v.image, 5*volumeSize[v.kind]))
	if v.kind == a.Ext4 {
		must(v, unix.Unmount(v.dir, 0))
		command(v, "resize2fs", "-f", v.image)
		command(v, "mount", "-o", "loop", v.image, v.dir)
		return
	}
	out, err := exec.Command("losetup", "-n", "-O", "NAME", "-j", v.image).Output()
	must(v, err)
	command(v, "losetup", "-c", strings.TrimSpace(string(out)))
	command(v, "xfs_growfs", v.dir)
}

// TestGrown: device and filesystem grow between two runs, and new inodes lie in what is new.
func TestGrown(t *testing.T) {
	few := map[a.Kind][]string{a.Ext4: {"-N", "64"}} // which are soon used up
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind], few[kind]...)
			a.Apply(t, v.dir, a.Mkdir("d"), full("d/f"))
			m := newMirror(v)
			m.run()
			before, err := open(m.base.Side)
			must(t, err)
			v.grow()
			behind := false
			for i := range 60 {
				name := fmt.Sprint("new", i)
				a.Apply(t, v.dir, a.Mkdir(name), a.Create(name+"/f", 5000, 1))
				var st unix.Stat_t
				must(t, unix.Lstat(filepath.Join(v.dir, name), &st))
				switch fs := before.(type) {
				case *ext4:
					behind = behind || st.Ino > uint64(fs.super.inodes)
				case *xfs:
					_, _, ok := fs.super.split(st.Ino)
					behind = behind || !ok
				}
			}
			if m.run(); !behind {
				t.Errorf("no inode lies in what is new")
			}
		})
	}
}

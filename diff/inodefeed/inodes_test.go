package inodefeed

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/lvm"
)

// checkInodes compares what the device tells of every inode with what the mount does. told counts the files whose inode tells, and does
// not tell, where the data lies.
func checkInodes(t testing.TB, s *snap) (told map[bool]int) {
	t.Helper()
	fs, err := open(s.Side)
	must(t, err)
	found := map[uint64]bool{}
	must(t, fs.scan(t.Context(), lvm.Blocks{{Len: s.Size}}, func(num uint64) error {
		if found[num] {
			t.Errorf("inode %d comes twice", num)
		}
		found[num] = true
		return nil
	}))
	keys := Keys(s.Side)
	seen := 0
	told = map[bool]int{}
	walk(t, s.Root, func(path string, _ uint64, st unix.Stat_t) {
		seen++
		if !found[st.Ino] {
			t.Errorf("%q, inode %d, is not found on the device", path, st.Ino)
		}
		raw, err := fs.raw(st.Ino)
		must(t, err)
		got, err := fs.decode(raw)
		must(t, err)
		key, err := keys(path, st.Ino)
		must(t, err)
		if want := (diff.Key{Ino: st.Ino, Gen: got.Gen}); key != want {
			t.Errorf("%q is %v, the device says %v", path, key, want)
		}
		if want := attrOf(st); got.Attr != want {
			t.Errorf("%q is %+v on the device, should be %+v", path, got.Attr, want)
		}
		if got.IsRegular() {
			told[checkPlaces(t, s, fs, path, raw)]++
		}
		if got.ctimeSec != st.Ctim.Sec || int64(got.ctimeNsec) != st.Ctim.Nsec {
			t.Errorf("%q has ctime %d.%d on the device, should have %v", path, got.ctimeSec, got.ctimeNsec, st.Ctim)
		}
	})
	if unnamed := len(found) - seen; unnamed > 5 { // quota, orphan file and the like
		t.Errorf("%d inodes on the device have no name", unnamed)
	}
	return told
}

// checkPlaces compares where the data of a file lies by its inode with what the kernel tells; false where the inode does not.
func checkPlaces(t testing.TB, s *snap, fs filesystem, path string, raw []byte) bool {
	t.Helper()
	got, ok := fs.places(raw)
	if !ok {
		return false
	}
	fd, err := s.Root.Open(path, unix.O_RDONLY, 0)
	must(t, err)
	defer unix.Close(fd)
	list, _, err := extents(fd, 1<<50) // behind the end of the file too
	must(t, err)
	var want []lvm.Block
	for _, e := range list {
		if e.kind == written {
			want = append(want, lvm.Block{Off: e.disk, Len: e.len})
		}
	}
	if got, want := lvm.NewBlocks(got, s.Size), lvm.NewBlocks(want, s.Size); !slices.Equal(got, want) {
		t.Errorf("the data of %q lies at %v by its inode, at %v by the kernel", path, got, want)
	}
	return true
}

func attrOf(st unix.Stat_t) diff.Attr {
	at := diff.Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MtimeSec: st.Mtim.Sec, MtimeNsec: int32(st.Mtim.Nsec), Nlink: uint32(st.Nlink)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		at.Size = st.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		at.Rdev = st.Rdev
	case unix.S_IFDIR:
		at.Nlink = 1
	}
	return at
}

// odd are inodes whose fields have unusual values.
var odd = []a.Change{
	a.Create("big", 0, 1), a.Truncate("big", 1<<33+5), a.Chown("big", 70000, 1<<31+7),
	a.Create("old", 9, 1), a.Utimes("old", -(1<<31)+1, 0), a.Create("future", 9, 1), a.Utimes("future", 1<<32+77, 999999999),
	a.Mknod("small", unix.S_IFCHR|0o600, 1, 3), a.Mknod("large", unix.S_IFBLK|0o604, 300, 70000), a.Fifo("fifo"), a.Socket("socket"),
	a.Symlink("short", "link"), a.Create("f", 0o7777, 1), a.Chmod("f", 0o7777), a.Link("f", "g"), a.Wide("w", 300),
	a.Create("two", 98304, 1), a.Punch("two", 16384, 65536), a.Create("many", 1<<20, 1), a.Many("punch", 0, 1<<20, 1<<15, func(i int) a.Change { return a.Punch("many", int64(i), 1<<14) }),
}

// TestInodes reads every inode of many forms of filesystems.
func TestInodes(t *testing.T) {
	for kind, count := range map[a.Kind]int{a.Ext4: 8, a.XFS: 4} {
		for _, f := range sample(t, kind, count) {
			t.Run(string(kind)+" "+f.name, func(t *testing.T) {
				v := newVolume(t, kind, volumeSize[kind], f.options...)
				a.Apply(t, v.dir, odd...)
				a.PreallocKeep("two", 16384, 16384).Apply(v.dir) // not every form can
				if kind == a.XFS && f.name == "blocks of 1024" { // a tree of more than one level
					a.Apply(t, v.dir, a.Wide("wide", 6000))
				}
				if told := checkInodes(t, v.snapshot()); told[true] == 0 || told[false] == 0 {
					t.Errorf("where their data lies %d inodes tell and %d do not", told[true], told[false])
				}
			})
		}
	}
}

// TestKeys: a path that means another inode by now, or none, does not lead astray.
func TestKeys(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, a.Mkdir("d"), a.Create("d/f", 9, 1), a.Symlink("d", "link"))
			s := v.snapshot()
			keys := Keys(s.Side)
			st, err := s.Root.Lstat("d/f")
			must(t, err)
			want, err := keys("d/f", st.Ino)
			must(t, err)
			for _, path := range []string{"f", "d", "d/f/x", "link/f"} {
				if got, err := keys(path, st.Ino); err != nil || got != want {
					t.Errorf("by %q: %v, %v; want %v", path, got, err, want)
				}
			}
			if key, err := keys("gone", st.Ino+7); !errors.Is(err, diff.ErrNoInode) {
				t.Errorf("an inode that is not there is %v, %v", key, err)
			}
		})
	}
}

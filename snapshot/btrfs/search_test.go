package btrfs

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

// search gives copies of all items that the key wants.
func search(t *testing.T, path string, key SearchKey, buf []byte) []Item {
	t.Helper()
	d, err := openDir(path)
	must(t, err)
	defer d.Close()
	var items []Item
	must(t, Search(int(d.Fd()), key, buf, func(it Item) error {
		it.Data = slices.Clone(it.Data)
		items = append(items, it)
		return nil
	}))
	return items
}

func TestSearchGoesOnByItself(t *testing.T) {
	src, snaps := source(t)
	const files = 3000
	want := map[uint64]bool{FirstInode: true}
	for i := range files {
		path := fmt.Sprintf("%s/%s%d", src, strings.Repeat("n", 100), i)
		put(t, path, "x")
		want[stat(t, path).Ino] = true
	}
	mark := take(t, src, snaps, "1")
	for _, buf := range [][]byte{nil, make([]byte, 70000)[3:], make([]byte, 1<<20)} {
		got := map[uint64]bool{}
		for _, it := range search(t, mark.Path, All(InodeItemKey, 0), buf) {
			if it.Type != InodeItemKey || got[it.ObjectID] {
				t.Fatalf("item %+v: of another type, or twice", it)
			}
			got[it.ObjectID] = true
		}
		if len(got) != len(want) {
			t.Errorf("%d inodes with a buffer of %d, want %d", len(got), len(buf), len(want))
		}
	}
}

func TestSearchFindsWhatIsNewer(t *testing.T) {
	src, snaps := source(t)
	for i := range 2000 {
		put(t, fmt.Sprintf("%s/%d", src, i), "x")
	}
	base := take(t, src, snaps, "1")
	must(t, os.Chmod(src+"/1234", 0o640))
	next := take(t, src, snaps, "2")
	var changed []uint64
	for _, it := range search(t, next.Path, All(InodeItemKey, base.Trans), nil) {
		inode, err := DecodeInodeItem(it.Data)
		must(t, err)
		if inode.Transid > base.Trans {
			changed = append(changed, it.ObjectID)
		}
	}
	if !slices.Equal(changed, []uint64{stat(t, src+"/1234").Ino}) {
		t.Errorf("changed: %v", changed)
	}
	if items := search(t, base.Path, All(InodeItemKey, base.Trans), nil); len(items) != 0 {
		t.Errorf("%d items of the base are newer than the base", len(items))
	}
}

func TestDecodersAgreeWithTheKernel(t *testing.T) {
	src, snaps := source(t)
	must(t, unix.Mknod(src+"/device", unix.S_IFBLK|0o640, int(unix.Mkdev(4095, 0xabcde))))
	must(t, os.Chown(src+"/device", 70000, 80000))
	must(t, os.Mkdir(src+"/dir", 0o711))
	must(t, os.Symlink("target", src+"/dir/symlink"))
	must(t, os.WriteFile(src+"/file", make([]byte, 300_000), 0o600))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, src+"/file", []unix.Timespec{{Sec: 1}, {Sec: -2, Nsec: 999_999_999}}, 0))
	must(t, unix.Lsetxattr(src+"/file", "user.x", []byte("value"), 0))
	must(t, os.Link(src+"/file", src+"/dir/other\xff"))
	snap := take(t, src, snaps, "1").Path
	for _, name := range []string{"", "/device", "/dir", "/dir/symlink", "/file"} {
		st := stat(t, snap+name)
		it, err := DecodeInodeItem(search(t, snap, Of(st.Ino, InodeItemKey, InodeItemKey), nil)[0].Data)
		must(t, err)
		if it.Mode != st.Mode || it.UID != st.Uid || it.GID != st.Gid || it.Rdev != st.Rdev || int64(it.Size) != st.Size ||
			it.MtimeSec != st.Mtim.Sec || int64(it.MtimeNsec) != st.Mtim.Nsec || it.CtimeSec != st.Ctim.Sec || uint64(it.Nlink) != uint64(st.Nlink) {
			t.Errorf("%q: decoded %+v, stat %+v", name, it, st)
		}
	}
	ino, top, dir := stat(t, snap+"/file").Ino, uint64(FirstInode), stat(t, snap+"/dir").Ino
	var names []string
	for _, it := range search(t, snap, Of(ino, InodeRefKey, InodeExtrefKey), nil) {
		for _, r := range refs(t, it) {
			names = append(names, fmt.Sprintf("%d/%s", r.Parent, r.Name))
		}
	}
	slices.Sort(names)
	wantNames := []string{fmt.Sprintf("%d/file", top), fmt.Sprintf("%d/other\xff", dir)}
	slices.Sort(wantNames)
	if !slices.Equal(names, wantNames) {
		t.Errorf("names %q, want %q", names, wantNames)
	}
	x, rest, err := CutDirItem(search(t, snap, Of(ino, XattrItemKey, XattrItemKey), nil)[0].Data)
	must(t, err)
	if string(x.Name) != "user.x" || string(x.Data) != "value" || len(rest) > 0 {
		t.Errorf("xattr %+v", x)
	}
	var size uint64
	for _, it := range search(t, snap, Of(ino, ExtentDataKey, ExtentDataKey), nil) {
		e, err := DecodeExtentData(it.Data)
		must(t, err)
		if e.Type != ExtentRegular || e.DiskBytenr == 0 {
			t.Errorf("extent %+v", e)
		}
		size += e.NumBytes
	}
	if size < 300_000 {
		t.Errorf("extents of %d bytes", size)
	}
}

func refs(t *testing.T, it Item) (list []Ref) {
	t.Helper()
	for b := it.Data; len(b) > 0; {
		r, rest, err := CutRef(it.Type, it.Offset, b)
		must(t, err)
		list, b = append(list, r), rest
	}
	return list
}

// TestItemSizes: the structures on disk are as long as the decoders think.
func TestItemSizes(t *testing.T) {
	src, snaps := source(t)
	must(t, os.WriteFile(src+"/large", make([]byte, 300_000), 0o600))
	put(t, src+"/small", "12345")
	must(t, unix.Lsetxattr(src+"/small", "user.x", []byte("value"), 0))
	snap := take(t, src, snaps, "1").Path
	for _, c := range []struct {
		name string
		kind uint32
		want int
	}{
		{"/large", InodeItemKey, inodeItemSize},
		{"/large", InodeRefKey, inodeRefSize + len("large")},
		{"/large", ExtentDataKey, extentOnDiskSize},
		{"/small", ExtentDataKey, extentHeadSize + 5},
		{"/small", XattrItemKey, dirItemSize + len("user.x") + len("value")},
		{"", DirIndexKey, dirItemSize + len("large")},
		{"", DirItemKey, dirItemSize + len("large")},
	} {
		for _, it := range search(t, snap, Of(stat(t, snap+c.name).Ino, c.kind, c.kind), nil) {
			if len(it.Data) != c.want {
				t.Errorf("%q, items of type %d: %d bytes, want %d", c.name, c.kind, len(it.Data), c.want)
			}
		}
	}
}

// TestCursor: a cursor gives the same items as a search, however few it asks for at first, and nothing twice.
func TestCursor(t *testing.T) {
	src, snaps := source(t)
	for i := range 500 {
		put(t, fmt.Sprintf("%s/%d", src, i), strings.Repeat("x", 1500))
	}
	snap := take(t, src, snaps, "1").Path
	d, err := openDir(snap)
	must(t, err)
	defer d.Close()
	key := SearchKey{MaxObjectID: math.MaxUint64, MaxType: math.MaxUint8, MaxOffset: math.MaxUint64, MaxTransid: math.MaxUint64}
	want := search(t, snap, key, nil)
	c := NewCursor(int(d.Fd()), nil)
	for _, few := range []int{0, 1, 7} {
		c.Seek(key, few)
		for i, w := range want {
			it, ok, err := c.Next()
			if err != nil || !ok || it.ObjectID != w.ObjectID || it.Type != w.Type || !slices.Equal(it.Data, w.Data) {
				t.Fatalf("few %d, item %d: %+v, %v, %v; want %+v", few, i, it, ok, err, w)
			}
		}
		if it, ok, err := c.Next(); ok || err != nil {
			t.Errorf("few %d: one more: %+v, %v", few, it, err)
		}
		c.Seek(key, few)
		for _, i := range []int{3, len(want) / 3, len(want) / 2, len(want) - 1} {
			must(t, c.SkipTo(want[i].ObjectID, 0, few))
			if it, ok, err := c.Peek(); err != nil || !ok || it.ObjectID != want[i].ObjectID || it.Type != InodeItemKey {
				t.Errorf("few %d: skipped to %+v, %v, %v; want %d", few, it, ok, err, want[i].ObjectID)
			}
		}
		c.Seek(key, few)
		must(t, c.SkipTo(FirstInode, DirIndexKey, few))
		for i := range 500 {
			if it, ok, err := c.Next(); err != nil || !ok || it.Type != DirIndexKey {
				t.Fatalf("few %d, name %d: %+v, %v, %v", few, i, it, ok, err)
			}
		}
		must(t, c.SkipTo(math.MaxUint64, 0, 0))
	}
}

func TestExtrefs(t *testing.T) {
	src, snaps := source(t)
	put(t, src+"/0", "")
	const links = 300
	for i := 1; i < links; i++ {
		must(t, os.Link(src+"/0", fmt.Sprintf("%s/%s%d", src, strings.Repeat("l", 100), i)))
	}
	snap := take(t, src, snaps, "1").Path
	seen, extrefs := 0, 0
	for _, it := range search(t, snap, Of(stat(t, snap+"/0").Ino, InodeRefKey, InodeExtrefKey), nil) {
		list := refs(t, it)
		for _, r := range list {
			if r.Parent != FirstInode {
				t.Errorf("ref %+v", r)
			}
		}
		if seen += len(list); it.Type == InodeExtrefKey {
			extrefs += len(list)
		}
	}
	if seen != links || extrefs == 0 {
		t.Errorf("%d names, %d of them in extrefs; want %d, some", seen, extrefs, links)
	}
}

func TestNestedSubvolumeIsARootItem(t *testing.T) {
	src, snaps := source(t)
	must(t, CreateSubvolume(src, "nested"))
	snap := take(t, src, snaps, "1").Path
	items := search(t, snap, Of(FirstInode, DirIndexKey, DirIndexKey), nil)
	it, rest, err := CutDirItem(items[0].Data)
	must(t, err)
	if len(rest) > 0 || string(it.Name) != "nested" || it.Location.Type != RootItemKey {
		t.Errorf("%+v", it)
	}
}

func TestSearchKeyAfter(t *testing.T) {
	for _, c := range []struct {
		last Item
		want SearchKey
		more bool
	}{
		{Item{ObjectID: 1, Type: 2, Offset: 3}, SearchKey{MinObjectID: 1, MinType: 2, MinOffset: 4}, true},
		{Item{ObjectID: 1, Type: 2, Offset: math.MaxUint64}, SearchKey{MinObjectID: 1, MinType: 3}, true},
		{Item{ObjectID: 1, Type: 255, Offset: math.MaxUint64}, SearchKey{MinObjectID: 2}, true},
		{Item{ObjectID: math.MaxUint64, Type: 255, Offset: math.MaxUint64}, SearchKey{}, false},
	} {
		var k SearchKey
		if more := k.after(c.last); k != c.want || more != c.more {
			t.Errorf("after %+v: %+v, %v", c.last, k, more)
		}
	}
}

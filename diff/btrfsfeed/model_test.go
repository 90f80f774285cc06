package btrfsfeed

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// object is one inode as a walk sees it.
type object struct {
	attr   diff.Attr
	xattrs string
	data   string // contents and holes of a regular file, target of a symlink
}

// model is a tree in memory: what each path means, and what each inode is. It is made by walking a snapshot, without any
// of the code under test, or by applying a change set to the model of the base.
type model struct {
	names   map[string]diff.Key
	objects map[diff.Key]object
}

// walk reads a snapshot. Generations come from the kernel (FS_IOC_GETVERSION is not the btrfs generation, so from the
// file handle).
func walk(t *testing.T, root string) model {
	t.Helper()
	return walkBy(t, root, func(path, rel string, st *unix.Stat_t) diff.Key {
		if st.Ino == 2 {
			info, err := btrfsID(root, path)
			must(t, err)
			return diff.PlaceholderKey(info)
		}
		return diff.Key{Ino: st.Ino, Gen: generation(t, path)}
	})
}

// walkBy reads a tree whose inodes are known by the keys that keyOf gives.
func walkBy(t *testing.T, root string, keyOf func(path, rel string, st *unix.Stat_t) diff.Key) model {
	t.Helper()
	m := model{map[string]diff.Key{}, map[diff.Key]object{}}
	var visit func(path, rel string)
	visit = func(path, rel string) {
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		key := keyOf(path, rel, &st)
		m.names[rel] = key
		if st.Ino == 2 {
			m.objects[key] = object{attr: diff.PlaceholderAttr}
			return
		}
		if _, ok := m.objects[key]; !ok {
			m.objects[key] = look(t, path, st)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return
		}
		entries, err := os.ReadDir(path)
		must(t, err)
		for _, e := range entries {
			if rel == "" && e.Name() == ".snapdiff" {
				continue
			}
			visit(path+"/"+e.Name(), strings.TrimPrefix(rel+"/"+e.Name(), "/"))
		}
	}
	visit(root, "")
	for key, paths := range m.paths() {
		o := m.objects[key]
		o.attr.Nlink = uint32(len(paths))
		m.objects[key] = o
	}
	return m
}

// btrfsID tells placeholders apart by a tree search of their parent, since the kernel shows nothing of them.
func btrfsID(root, path string) (id uint64, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Dir(path), &st); err != nil {
		return 0, err
	}
	top, err := beneath.Open(root)
	if err != nil {
		return 0, err
	}
	defer top.Close()
	err = newTree(top.FD()).Entries(st.Ino, func(e diff.Entry) error {
		if e.Name == filepath.Base(path) {
			id = e.Ino
		}
		return nil
	})
	return id, err
}

func generation(t *testing.T, path string) uint64 {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	must(t, err)
	// struct btrfs_fid: objectid, root_objectid, gen (32 bits).
	return uint64(binary.LittleEndian.Uint32(h.Bytes()[16:]))
}

func look(t *testing.T, path string, st unix.Stat_t) object {
	t.Helper()
	o := object{attr: diff.Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MtimeSec: st.Mtim.Sec, MtimeNsec: int32(st.Mtim.Nsec)}}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		o.attr.Size = st.Size
		o.data = fileContents(t, path, st.Size)
	case unix.S_IFLNK:
		o.attr.Size = st.Size
		var err error
		o.data, err = os.Readlink(path)
		must(t, err)
	case unix.S_IFCHR, unix.S_IFBLK:
		o.attr.Rdev = st.Rdev
	}
	buf := make([]byte, 65536)
	n, err := unix.Llistxattr(path, buf)
	must(t, err)
	names := strings.Split(string(buf[:n]), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if name == "" || strings.HasPrefix(name, "btrfs.") {
			continue
		}
		n, err := unix.Lgetxattr(path, name, buf)
		must(t, err)
		o.xattrs += fmt.Sprintf("%q=%q ", name, buf[:n])
	}
	return o
}

// fileContents are a file's bytes and the places of its holes.
func fileContents(t *testing.T, path string, size int64) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	var holes strings.Builder
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			fmt.Fprintf(&holes, "hole %d-", off)
			break
		}
		must(t, err)
		if start > off {
			fmt.Fprintf(&holes, "hole %d-%d ", off, start)
		}
		off, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		must(t, err)
	}
	return string(data) + "\x00" + holes.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m model) paths() map[diff.Key][]string {
	out := map[diff.Key][]string{}
	for _, path := range slices.Sorted(maps.Keys(m.names)) {
		out[m.names[path]] = append(out[m.names[path]], path)
	}
	return out
}

// apply changes the model of the base by a change set, taking contents from the new snapshot only where the set says so.
func apply(t *testing.T, base, next model, set *diff.ChangeSet) model {
	t.Helper()
	m := model{map[string]diff.Key{}, maps.Clone(base.objects)}
	children := map[diff.Key]map[string]diff.Key{} // by directory
	put := func(dir diff.Key, name string, key diff.Key) {
		if children[dir] == nil {
			children[dir] = map[string]diff.Key{}
		}
		if old, ok := children[dir][name]; ok {
			t.Errorf("name %q came where %v still is", name, old)
		}
		children[dir][name] = key
	}
	for path, key := range base.names {
		if path != "" {
			put(base.names[dirOf(path)], filepath.Base(path), key)
		}
	}
	set.Unlinked.Ascend(func(n diff.Name) bool {
		if base.names[n.Path] != n.Key || base.names[dirOf(n.Path)] != n.Parent || n.Type != m.objects[n.Key].attr.Type() {
			t.Errorf("unlinked %q: %+v is wrong", n.Path, n)
		}
		delete(children[n.Parent], n.Base())
		return true
	})
	set.Linked.Ascend(func(n diff.Name) bool {
		if next.names[n.Path] != n.Key || next.names[dirOf(n.Path)] != n.Parent || n.Type != next.objects[n.Key].attr.Type() {
			t.Errorf("linked %q: %+v is wrong", n.Path, n)
		}
		put(n.Parent, n.Base(), n.Key)
		return true
	})
	basePaths, nextPaths := base.paths(), next.paths()
	set.Gone.Ascend(func(g diff.Gone) bool {
		if !slices.Equal(g.BasePaths, basePaths[g.Key]) || len(nextPaths[g.Key]) > 0 || g.BaseAttr != base.objects[g.Key].attr {
			t.Errorf("gone %+v is wrong", g)
		}
		delete(m.objects, g.Key)
		return true
	})
	set.Inodes.Ascend(func(in diff.Inode) bool {
		applyInode(t, m, base, next, in, basePaths[in.Key], nextPaths[in.Key])
		return true
	})
	var fill func(path string, key diff.Key)
	fill = func(path string, key diff.Key) {
		m.names[path] = key
		for name, child := range children[key] {
			fill(strings.TrimPrefix(path+"/"+name, "/"), child)
		}
	}
	fill("", base.names[""])
	return m
}

func dirOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

func applyInode(t *testing.T, m, base, next model, in diff.Inode, basePaths, nextPaths []string) {
	t.Helper()
	old, now := m.objects[in.Key], next.objects[in.Key]
	if !slices.Equal(in.Paths, nextPaths) || !slices.Equal(in.BasePaths, basePaths) || in.What == 0 {
		t.Errorf("inode %+v: paths %q from %q", in, nextPaths, basePaths)
	}
	if in.Attr != now.attr || in.What&diff.New == 0 && in.BaseAttr != base.objects[in.Key].attr {
		t.Errorf("inode %+v: attributes are %+v", in, now.attr)
	}
	if in.What&diff.New != 0 {
		m.objects[in.Key] = now
		return
	}
	got := old
	if in.What&diff.Meta != 0 {
		got.attr.Mode, got.attr.UID, got.attr.GID = now.attr.Mode, now.attr.UID, now.attr.GID
		got.attr.MtimeSec, got.attr.MtimeNsec = now.attr.MtimeSec, now.attr.MtimeNsec
	}
	if in.What&diff.Xattrs != 0 {
		got.xattrs = now.xattrs
	}
	if in.What&diff.Links != 0 {
		got.attr.Nlink = now.attr.Nlink
	}
	if in.What&diff.Data != 0 {
		checkRanges(t, old, now, in)
		got.data, got.attr.Size = now.data, now.attr.Size
	}
	if in.What&(diff.Data|diff.Meta|diff.Xattrs|diff.Links) == diff.Data && old.data == now.data {
		t.Errorf("false change of %q", in.Paths)
	}
	m.objects[in.Key] = got
}

// checkRanges compares all bytes outside the ranges.
func checkRanges(t *testing.T, old, now object, in diff.Inode) {
	t.Helper()
	if in.Ranges == nil {
		return
	}
	at, end := int64(0), min(old.attr.Size, now.attr.Size)
	check := func(to int64) {
		if to = min(to, end); at < to && old.data[at:to] != now.data[at:to] {
			t.Errorf("%q differs outside its ranges %v", in.Paths, in.Ranges)
		}
	}
	for _, r := range in.Ranges {
		if r.Len <= 0 || r.Off < at || r.Off+r.Len > now.attr.Size {
			t.Errorf("ranges %v of %q, size %d", in.Ranges, in.Paths, now.attr.Size)
		}
		check(r.Off)
		at = r.Off + r.Len
	}
	check(end)
	if now.attr.Size > old.attr.Size && at != now.attr.Size {
		t.Errorf("%q grew beyond its ranges %v", in.Paths, in.Ranges)
	}
}

// equal compares two models.
func equal(t *testing.T, got, want model) {
	t.Helper()
	for path, key := range want.names {
		if got.names[path] != key {
			t.Errorf("%q is %v, should be %v", path, got.names[path], key)
		}
	}
	for path, key := range got.names {
		if _, ok := want.names[path]; !ok {
			t.Errorf("%q (%v) should not be there", path, key)
		}
	}
	for key, o := range want.objects {
		if g := got.objects[key]; g != o {
			t.Errorf("inode %v %q: is %.300q, should be %.300q", key, want.paths()[key], fmt.Sprint(g), fmt.Sprint(o))
		}
	}
	if len(got.objects) != len(want.objects) {
		t.Errorf("%d inodes, should be %d", len(got.objects), len(want.objects))
	}
}

// source is a btrfs subvolume of which snapshots are taken.
type source struct {
	t    *testing.T
	path string
	n    int
}

func (s *source) snapshot() string {
	s.t.Helper()
	s.n++
	name := fmt.Sprintf("%s%d", btrfs.Prefix, s.n)
	_, err := btrfs.Create(s.path, s.path+"/.snapdiff", name)
	must(s.t, err)
	return s.path + "/.snapdiff/" + name
}

// judge compares two snapshots and has the model say whether the change set is right.
func (s *source) judge(base, next string, opts diff.Options) *diff.ChangeSet {
	s.t.Helper()
	opts.Exclude = diff.MustExclude("/.snapdiff")
	info, err := btrfs.Info(base)
	must(s.t, err)
	set := compare(s.t, base, next, info.OTransid, opts)
	b, n := walk(s.t, base), walk(s.t, next)
	equal(s.t, apply(s.t, b, n, set), n)
	return set
}

func compare(t *testing.T, base, next string, bound uint64, opts diff.Options) *diff.ChangeSet {
	t.Helper()
	b, err := beneath.Open(base)
	must(t, err)
	defer b.Close()
	n, err := beneath.Open(next)
	must(t, err)
	defer n.Close()
	set, err := Diff(t.Context(), b, n, bound, opts)
	must(t, err)
	return set
}

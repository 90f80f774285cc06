package diff_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openRoot(t *testing.T, path string) *beneath.Root {
	t.Helper()
	r, err := beneath.Open(path)
	check(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// inode is what a model knows of an inode: its aspects, one for each bit of diff.What.
type inode struct{ meta, xattrs, data, kind string }

// model is a tree in memory.
type model struct {
	names  map[string]diff.Key
	inodes map[diff.Key]inode
}

// readModel reads a tree. The key of each name comes from keyOf.
func readModel(t *testing.T, top string, keyOf func(path string, ino uint64) (diff.Key, error)) model {
	t.Helper()
	m := model{map[string]diff.Key{}, map[diff.Key]inode{}}
	root := openRoot(t, top)
	check(t, filepath.WalkDir(top, func(full string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := strings.TrimPrefix(strings.TrimPrefix(full, top), "/")
		st, err := root.Lstat(path)
		if err != nil {
			return err
		}
		key, err := keyOf(path, st.Ino)
		if err != nil {
			return err
		}
		m.names[path], m.inodes[key] = key, readInode(t, root, path, &st)
		return nil
	}))
	return m
}

func readInode(t *testing.T, root *beneath.Root, path string, st *unix.Stat_t) inode {
	t.Helper()
	xattrs, err := root.Xattrs(path)
	check(t, err)
	in := inode{
		meta:   fmt.Sprint(st.Mode, st.Uid, st.Gid, st.Mtim),
		xattrs: fmt.Sprint(xattrs),
		kind:   fmt.Sprint(st.Mode&unix.S_IFMT, st.Rdev),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := root.Readlink(path)
		check(t, err)
		in.kind += target
	case unix.S_IFREG:
		data, err := os.ReadFile(filepath.Join(root.Path(), path))
		check(t, err)
		in.data = fmt.Sprintf("%x holes %v", sha256.Sum256(data), holes(t, filepath.Join(root.Path(), path), st))
	}
	return in
}

// holes lists the blocks that a file has no data in; the last may be cut by its end.
func holes(t *testing.T, path string, st *unix.Stat_t) []int64 {
	t.Helper()
	const block = 4096
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	var list []int64
	for off := int64(0); off < st.Size; off += block {
		if start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA); err == unix.ENXIO || start >= off+block {
			list = append(list, off/block)
		}
	}
	return list
}

// apply does a change set to a model of its base. What is new it takes from next.
func (m model) apply(t *testing.T, c *diff.ChangeSet, next model) {
	t.Helper()
	c.Unlinked.Ascend(func(n diff.Name) bool {
		if m.names[n.Path] != n.Key {
			t.Errorf("unlinked %+v, the base has %v", n, m.names[n.Path])
		}
		if parent := m.names[parentOf(n.Path)]; parent != n.Parent {
			t.Errorf("unlinked %+v, its parent is %v", n, parent)
		}
		return true
	})
	c.Unlinked.Ascend(func(n diff.Name) bool { delete(m.names, n.Path); return true })
	c.Gone.Ascend(func(g diff.Gone) bool { delete(m.inodes, g.Key); return true })
	c.Linked.Ascend(func(n diff.Name) bool {
		if _, there := m.names[n.Path]; there {
			t.Errorf("linked %+v over a name that is there", n)
		}
		m.names[n.Path] = n.Key
		return true
	})
	c.Linked.Ascend(func(n diff.Name) bool {
		if parent := m.names[parentOf(n.Path)]; parent != n.Parent {
			t.Errorf("linked %+v, its parent is %v", n, parent)
		}
		return true
	})
	c.Inodes.Ascend(func(in diff.Inode) bool { m.change(t, in, next); return true })
}

func (m model) change(t *testing.T, in diff.Inode, next model) {
	t.Helper()
	old, there := m.inodes[in.Key]
	now := next.inodes[in.Key]
	if there == (in.What&diff.New != 0) {
		t.Errorf("%+v, in the base: %v", in, there)
	}
	if in.What&diff.New != 0 {
		old = now
	}
	if in.What&diff.Meta != 0 {
		old.meta = now.meta
	}
	if in.What&diff.Xattrs != 0 {
		old.xattrs = now.xattrs
	}
	if in.What&diff.Data != 0 {
		if old.data == now.data {
			t.Errorf("%q was told to have other data", in.Paths)
		}
		old.data = now.data
	}
	m.inodes[in.Key] = old
	var paths []string
	for path, key := range next.names {
		if key == in.Key {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	if !slices.Equal(paths, in.Paths) {
		t.Errorf("%q has the names %q", in.Paths, paths)
	}
}

func parentOf(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }

// equal tells two models apart.
func (m model) equal(t *testing.T, next model) {
	t.Helper()
	for path, key := range next.names {
		if m.names[path] != key {
			t.Errorf("%q is %v, not %v", path, m.names[path], key)
		}
	}
	for path := range m.names {
		if _, ok := next.names[path]; !ok {
			t.Errorf("%q should be gone", path)
		}
	}
	for key, in := range next.inodes {
		if m.inodes[key] != in {
			t.Errorf("%v is %+v, not %+v", key, m.inodes[key], in)
		}
	}
	if len(m.inodes) != len(next.inodes) {
		t.Errorf("%d inodes, not %d", len(m.inodes), len(next.inodes))
	}
}

func inoKey(_ string, ino uint64) (diff.Key, error) { return diff.Key{Ino: ino, Gen: 7}, nil }

// judge compares two trees in full and applies the result to a model of the first.
func judge(t *testing.T, mirror, next string) *diff.ChangeSet {
	t.Helper()
	c, rekey, err := diff.Full(context.Background(), openRoot(t, mirror), openRoot(t, next), inoKey, diff.FullOptions{})
	check(t, err)
	base := readModel(t, mirror, func(path string, _ uint64) (diff.Key, error) { return rekey(path) })
	want := readModel(t, next, inoKey)
	base.apply(t, c, want)
	base.equal(t, want)
	return c
}

// randomChange alters something in a tree of few names, so that many changes meet.
func randomChange(rng *rand.Rand, n int) applytest.Change {
	name := func() string {
		path := string("abcd"[rng.IntN(4)])
		for range rng.IntN(3) {
			path += "/" + string("abcd"[rng.IntN(4)])
		}
		return path
	}
	a, b := name(), name()
	switch rng.IntN(14) {
	case 0, 1, 2:
		return applytest.Mkdir(a)
	case 3, 4:
		return applytest.Create(a, rng.Int64N(20_000), n)
	case 5:
		return applytest.Write(a, rng.Int64N(20_000), 1+rng.Int64N(3000), n)
	case 6:
		return applytest.Truncate(a, rng.Int64N(100_000))
	case 7:
		return applytest.Symlink(b, a)
	case 8, 9:
		return applytest.Link(a, b)
	case 10:
		return applytest.Rename(a, b)
	case 11:
		return applytest.Remove(a)
	case 12:
		return applytest.Chmod(a, uint32(rng.IntN(0o10000)))
	}
	return applytest.SetXattr(a, "user.x", fmt.Sprint(n))
}

func alter(t *testing.T, rng *rand.Rand, top string, changes int) {
	t.Helper()
	for n := range changes {
		if err := randomChange(rng, n).Apply(top); err != nil && !applytest.Ignorable(err) {
			t.Fatal(err)
		}
	}
}

func rsync(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("rsync", append([]string{"-aHAX", "--modify-window=-1", "--checksum"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("rsync: %v\n%s", err, out)
	}
	return string(out)
}

func TestFullOfRandomTrees(t *testing.T) {
	seed := applytest.Seed(t)
	mirrors, sources := applytest.Mount(t, applytest.XFS), applytest.Mount(t, applytest.Btrfs)
	for round := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, round))
		mirror, next := filepath.Join(mirrors, fmt.Sprint(round)), filepath.Join(sources, fmt.Sprint(round))
		check(t, os.Mkdir(mirror, 0o700))
		check(t, os.Mkdir(next, 0o700))
		alter(t, rng, next, 60)
		if round%3 > 0 { // else the trees have nothing in common
			rsync(t, "--sparse", next+"/", mirror+"/")
			if c := judge(t, mirror, next); !c.Empty() && round%3 == 1 {
				reportChanges(t, c)
			}
			alter(t, rng, next, rng.IntN(10))
		}
		alter(t, rng, mirror, rng.IntN(40)*int(round%2))
		judge(t, mirror, next)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// A directory of many names is compared by several goroutines.
func TestFullOfALargeDirectory(t *testing.T) {
	mirror, next := applytest.Mount(t, applytest.Ext4), applytest.Mount(t, applytest.Btrfs)
	for i := range 1800 {
		name := fmt.Sprintf("name%04d", i)
		for side, top := range []string{mirror, next} {
			switch {
			case i%100 == side:
				applytest.Apply(t, top, applytest.Mkdir(name))
			case i%150 == 3+side:
				applytest.Apply(t, top, applytest.Link("name0002", name))
			case i%300 != 7+side:
				applytest.Apply(t, top, applytest.Create(name, 1, i%200/(199-side)))
			}
		}
	}
	judge(t, mirror, next)
}

// reportChanges fails unless all that differs is where holes are (rsync makes them where it sees zeros).
func reportChanges(t *testing.T, c *diff.ChangeSet) {
	t.Helper()
	c.Inodes.Ascend(func(in diff.Inode) bool {
		if in.What != diff.Data {
			t.Errorf("equal trees, yet %+v", in)
		}
		return true
	})
	if c.Linked.Len()+c.Unlinked.Len() > 0 {
		t.Error("equal trees, yet names came or went")
	}
}

func TestFullData(t *testing.T) {
	mirror, next := applytest.Mount(t, applytest.Ext4), applytest.Mount(t, applytest.Btrfs)
	const size = 1 << 20
	for _, side := range []string{mirror, next} {
		for _, name := range []string{"same", "byte", "hole", "longer", "shorter", "time-back", "mirror-hole"} {
			check(t, applytest.Create(name, size, 1).Apply(side))
		}
		applytest.Apply(t, side, applytest.Punch("same", 65536, 65536), applytest.Punch("longer", 65536, 65536))
	}
	applytest.Apply(t, next,
		applytest.KeepMtime("byte", applytest.Write("byte", 300_001, 1, 2)),
		applytest.Punch("hole", 131072, 65536),
		applytest.Truncate("longer", 2*size), applytest.Truncate("shorter", 5000))
	applytest.Apply(t, mirror, applytest.Punch("mirror-hole", 0, 8192))
	for _, side := range []string{mirror, next} {
		applytest.Apply(t, side, applytest.Create("unwritten", 4096, 1), applytest.Prealloc("unwritten", 4096, size-4096))
	}
	for f, off := range map[string]int64{mirror + "/unwritten": 4096, next + "/unwritten": 65536} {
		writeZeros(t, f, off)
	}
	for _, side := range []string{mirror, next} {
		for _, e := range []string{"same", "byte", "hole", "longer", "shorter", "time-back", "mirror-hole", "unwritten", ""} {
			check(t, applytest.Utimes(e, 1_000_000_000, 123).Apply(side))
		}
	}
	c, _, err := diff.Full(context.Background(), openRoot(t, mirror), openRoot(t, next), inoKey, diff.FullOptions{})
	check(t, err)
	want := map[string][]diff.Range{
		"byte": {{Off: 299008, Len: 4096}}, "hole": {{Off: 131072, Len: 65536}}, "longer": {{Off: size, Len: size}},
		"shorter": {}, "mirror-hole": {{Off: 0, Len: 8192}}, "unwritten": {{Off: 4096, Len: 4096}, {Off: 65536, Len: 4096}},
	}
	c.Inodes.Ascend(func(in diff.Inode) bool {
		ranges, ok := want[in.Paths[0]]
		delete(want, in.Paths[0])
		if !ok || in.What != diff.Data || in.Ranges == nil || !slices.Equal(ranges, in.Ranges) {
			t.Errorf("%+v, want ranges %v", in, ranges)
		}
		return true
	})
	for name := range want {
		t.Errorf("%q was found equal", name)
	}
}

// writeZeros writes a block of them.
func writeZeros(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt(make([]byte, 4096), off)
	check(t, errors.Join(err, f.Sync(), f.Close()))
}

// Our snapshots stay out; the placeholder of a nested subvolume is an empty directory whatever lies in it.
func TestFullExcludesAndPlaceholders(t *testing.T) {
	mirror, next := applytest.Mount(t, applytest.Ext4), applytest.Mount(t, applytest.Btrfs)
	applytest.Apply(t, next, applytest.Mkdir(".snapdiff"), applytest.Create(".snapdiff/x", 1, 1), applytest.Mkdir("d"),
		applytest.Create("d/.snapdiff", 1, 1), applytest.Mkdir("nested"), applytest.Create("nested/x", 1, 1))
	keyOf := func(path string, ino uint64) (diff.Key, error) {
		if path == "nested" {
			return diff.PlaceholderKey(300), nil
		}
		return inoKey(path, ino)
	}
	c, _, err := diff.Full(context.Background(), openRoot(t, mirror), openRoot(t, next), keyOf, diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
	check(t, err)
	var came []string
	c.Linked.Ascend(func(n diff.Name) bool { came = append(came, n.Path); return true })
	if !slices.Equal(came, []string{"d", "d/.snapdiff", "nested"}) || !slices.Equal(c.Skipped, []string{"nested"}) {
		t.Errorf("came %q, skipped %q", came, c.Skipped)
	}
	in, _ := c.Inodes.Get(diff.Inode{Paths: []string{"nested"}})
	if in.Attr != diff.PlaceholderAttr {
		t.Errorf("placeholder: %+v", in)
	}
}

func TestFullCancelled(t *testing.T) {
	top := applytest.Mount(t, applytest.Ext4)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := diff.Full(ctx, openRoot(t, top), openRoot(t, top), inoKey, diff.FullOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

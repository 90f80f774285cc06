package zfsfeed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/zfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source is a dataset whose snapshots are compared.
type source struct {
	testing.TB
	dataset zfs.Dataset
	n       int
}

func newSource(t testing.TB, options ...string) *source {
	t.Helper()
	pool, _ := a.ZFSPool(t)
	a.Dataset(t, pool+"/source", options...)
	d, err := zfs.Lookup(t.Context(), pool+"/source")
	must(t, err)
	return &source{TB: t, dataset: d}
}

// snap is a mounted snapshot.
type snap struct {
	snapshot.Mark
	root *beneath.Root
}

// snapshot takes a snapshot and mounts it for the duration of the test.
func (s *source) snapshot() snap {
	s.Helper()
	s.n++
	const tag = "test"
	mark, _, err := zfs.Take(s.Context(), s.dataset, zfs.Prefix+strconv.Itoa(s.n), tag, snapshot.Mark{})
	must(s, err)
	root, release, err := zfs.Mount(mark.Path)
	must(s, err)
	s.Cleanup(func() {
		must(s, root.Close())
		must(s, release())
		must(s, zfs.Release(context.Background(), mark.Path, tag))
	})
	return snap{mark, root}
}

// names is a link index read from a snapshot.
type names map[uint64][]diff.Ref

func (x names) Names(ino uint64) ([]diff.Ref, error) { return x[ino], nil }

func walk(t testing.TB, root *beneath.Root) names {
	t.Helper()
	x := names{}
	var visit func(dir string, num uint64)
	visit = func(dir string, num uint64) {
		must(t, root.ReadDir(dir, func(name string, dtype uint8, ino uint64) error {
			x[ino] = append(x[ino], diff.Ref{Parent: num, Name: name})
			if dtype == unix.DT_DIR {
				visit(strings.TrimPrefix(dir+"/"+name, "/"), ino)
			}
			return nil
		}))
	}
	top, err := topNumber(root)
	must(t, err)
	visit("", top)
	return x
}

// signed is an index with the signatures of a snapshot.
type signed struct {
	names
	t    testing.TB
	root *beneath.Root
}

func (signed) Expect([]uint64) error { return nil }

func (x signed) Generation(ino uint64) (uint64, error) {
	path, ok := x.path(ino)
	if !ok {
		return 0, nil
	}
	key, err := Keys(x.root)(path, ino)
	return key.Gen, err
}

func (x signed) Signatures(inos []uint64) (sigs []uint64, err error) {
	for _, ino := range inos {
		sig, err := x.signature(ino)
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, sig)
	}
	return sigs, nil
}

func (x signed) signature(ino uint64) (uint64, error) {
	path, ok := x.path(ino)
	if !ok {
		return 0, nil
	}
	st, err := x.root.Lstat(path)
	must(x.t, err)
	key, err := Keys(x.root)(path, ino)
	return diff.Signature(&st, key.Gen), err
}

// path is one path of an inode that is not the top directory.
func (x signed) path(ino uint64) (string, bool) {
	refs := x.names[ino]
	if len(refs) == 0 {
		return "", false
	}
	if dir, ok := x.path(refs[0].Parent); ok {
		return dir + "/" + refs[0].Name, true
	}
	return refs[0].Name, true
}

// diff compares two snapshots, with signatures of the base and without.
func (s *source) diff(base, next snap) *diff.ChangeSet {
	s.Helper()
	x := walk(s, base.root)
	set := s.diffBy(base, next, x)
	if plain, quick := said(set), said(s.diffBy(base, next, signed{x, s, base.root})); plain != quick {
		s.Errorf("with signatures the change set is %q, without %q", quick, plain)
	}
	return set
}

func (s *source) diffBy(base, next snap, links diff.LinkIndex) *diff.ChangeSet {
	s.Helper()
	set, err := s.try(base, next, links, diff.Options{})
	must(s, err)
	return set
}

func (s *source) try(base, next snap, links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	s.Helper()
	from, err := strconv.ParseUint(base.ID, 10, 64)
	must(s, err)
	to, err := strconv.ParseUint(next.ID, 10, 64)
	must(s, err)
	sent, err := zfs.Send(s.Context(), base.Path, next.Path)
	must(s, err)
	defer sent.Close()
	snaps := Snapshots{Base: base.root, Next: next.root, BaseGUID: from, NextGUID: to, Settled: base.Taken.Add(-2 * time.Second), AttrFiles: s.dataset.AttrFiles}
	return Diff(s.Context(), snaps, sent, links, opts)
}

// said is what a change set says, a line for each name and inode.
func said(set *diff.ChangeSet) string {
	var lines []string
	set.Unlinked.Ascend(func(n diff.Name) bool { lines = append(lines, "-"+n.Path); return true })
	set.Linked.Ascend(func(n diff.Name) bool { lines = append(lines, "+"+n.Path); return true })
	set.Inodes.Ascend(func(in diff.Inode) bool {
		what := ""
		for i, letter := range "NDMXL" {
			if in.What&(1<<i) != 0 {
				what += string(letter)
			}
		}
		lines = append(lines, fmt.Sprintf("%s=%s", what, strings.Join(in.Paths, ",")))
		return true
	})
	set.Gone.Ascend(func(g diff.Gone) bool { lines = append(lines, "gone="+strings.Join(g.BasePaths, ",")); return true })
	return strings.Join(lines, " ")
}

// operations are small, so that each change set can be told whole: - a name that went, + one that came, then inodes with what
// changed (New, Data, Meta, Xattrs, Links) and those that are gone.
var operations = []struct {
	name          string
	before, after []a.Change
	want          string
}{
	{"nothing", []a.Change{a.Create("f", 9, 1)}, nil, ""},
	{"write", []a.Change{a.Create("f", 99999, 1)}, []a.Change{a.KeepMtime("f", a.Write("f", 5000, 9, 2))}, "D=f"},
	{"same bytes", []a.Change{a.Create("f", 99999, 1)}, []a.Change{a.KeepMtime("f", a.Write("f", 0, 99999, 1))}, ""},
	{"chmod", []a.Change{a.Create("f", 9, 1)}, []a.Change{a.Chmod("f", 0o4755)}, "M=f"},
	{"xattr", []a.Change{a.Create("f", 9, 1), a.SetXattr("f", "user.x", "1")}, []a.Change{a.SetXattr("f", "user.x", "2")}, "X=f"},
	{"large xattr", []a.Change{a.Create("f", 9, 1), a.SetXattr("f", "user.x", strings.Repeat("x", 9000))},
		[]a.Change{a.SetXattr("f", "user.x", strings.Repeat("y", 9000))}, "X=f"},
	{"grow by truncate", []a.Change{a.Create("f", 5000, 1)}, []a.Change{a.KeepMtime("f", a.Truncate("f", 300000))}, "D=f"},
	{"punch", []a.Change{a.Create("f", 99999, 1)}, []a.Change{a.KeepMtime("f", a.Punch("f", 16384, 16384))}, "D=f"},
	{"hole at the end", []a.Change{a.Create("f", 5000, 1), a.Truncate("f", 300000)}, []a.Change{a.Chmod("f", 0o600)}, "M=f"},
	{"rename", []a.Change{a.Mkdir("d"), a.Create("f", 9, 1)}, []a.Change{a.Rename("f", "d/g")}, "-f +d/g M= M=d L=d/g"},
	{"directory moves", []a.Change{a.Mkdir("d"), a.Create("d/f", 9, 1), a.Mkdir("e")}, []a.Change{a.Rename("d", "e/d")}, "-d +e/d M= M=e"},
	{"link came (openzfs#4367)", []a.Change{a.Create("f", 9, 1)}, []a.Change{a.Link("f", "g")}, "+g M= L=f,g"},
	{"link came and another went (#13283)", []a.Change{a.Create("f", 9, 1), a.Link("f", "g")}, []a.Change{a.Link("f", "h"), a.Remove("g")},
		"-g +h M= L=f,h"},
	{"link came and went (#16753)", []a.Change{a.Create("f", 9, 1), a.Mkdir("d")}, []a.Change{a.Link("f", "d/g"), a.Remove("d/g")}, "M=d"},
	{"all links went", []a.Change{a.Create("f", 9, 1), a.Link("f", "g")}, []a.Change{a.Remove("f"), a.Remove("g")}, "-f -g M= gone=f,g"},
	{"renamed and written", []a.Change{a.Create("f", 9, 1)}, []a.Change{a.Rename("f", "g"), a.Append("g", 5, 2)}, "-f +g M= DML=g"},
}

// zfsDiffWrong are the operations after which zfs diff does not say what happened, each with what it says: not always the same.
var zfsDiffWrong = map[string][]string{
	"link came (openzfs#4367)":            {"M . M f (+1)", "M . M g (+1)"},                            // which one is not said
	"link came and another went (#13283)": {"M . M f", "M . R g -> h", "M . R f -> h", "M . R g -> f"}, // any of the names before, any of those after
	"link came and went (#16753)":         {"- f M d", "M d M f", "- f"},                               // f is where it was
	"all links went":                      {"M . - f", "M . - g"},                                      // only one of them
	"renamed and written":                 {"M . R f -> g"},                                            // nothing of the contents
}

// TestOperations: the change set has all that an operation changed and nothing else. Each has a directory of its own.
func TestOperations(t *testing.T) {
	s := newSource(t, "-o", "xattr=sa", "-o", "recordsize=16k")
	for i, op := range operations {
		dir := filepath.Join(s.dataset.Dir, fmt.Sprintf("%02d", i))
		must(t, os.Mkdir(dir, 0o755))
		a.Apply(t, dir, op.before...)
	}
	base := s.snapshot()
	for i, op := range operations {
		a.Apply(t, filepath.Join(s.dataset.Dir, fmt.Sprintf("%02d", i)), op.after...)
	}
	next := s.snapshot()
	got := make([]string, len(operations))
	for _, word := range strings.Fields(said(s.diff(base, next))) { // paths have no blanks
		i, err := strconv.Atoi(regexp.MustCompile(`[0-9][0-9]`).FindString(word))
		must(t, err)
		word = strings.NewReplacer(fmt.Sprintf("%02d/", i), "", fmt.Sprintf("%02d", i), "").Replace(word)
		got[i] = strings.TrimSpace(got[i] + " " + word)
	}
	told := make([]string, len(operations))
	for line := range strings.Lines(a.ZFS(t, "diff", base.Path, next.Path)) {
		i, err := strconv.Atoi(regexp.MustCompile(`/source/([0-9][0-9])`).FindStringSubmatch(line)[1])
		must(t, err)
		line = strings.NewReplacer(fmt.Sprintf("%s/%02d/", s.dataset.Dir, i), "", fmt.Sprintf("%s/%02d", s.dataset.Dir, i), ".").Replace(line)
		told[i] = strings.TrimSpace(told[i] + " " + strings.Join(strings.Fields(line), " "))
	}
	for i, op := range operations {
		if got[i] != op.want {
			t.Errorf("%s: %q, want %q", op.name, got[i], op.want)
		}
		if wrong := zfsDiffWrong[op.name]; wrong != nil && !slices.Contains(wrong, told[i]) {
			t.Errorf("%s: zfs diff says something new: %q", op.name, told[i])
		}
	}
}

// TestNumberUsedAgain: an object number that was given away again is another inode, also under the old name.
func TestNumberUsedAgain(t *testing.T) {
	s := newSource(t)
	dir := s.dataset.Dir
	a.Apply(t, dir, a.Mkdir("d"), a.Create("d/f", 100, 1), a.Mkdir("e"))
	base := s.snapshot()
	key := Keys(base.root)
	st, err := base.root.Lstat("d/f")
	must(t, err)
	before, err := key("d/f", st.Ino)
	must(t, err)
	a.Apply(t, dir, a.Remove("d/f"), a.Sync())
	a.ZFS(t, "unmount", s.dataset.Name) // numbers are given away from the lowest free one on after a mount
	a.ZFS(t, "mount", s.dataset.Name)
	for i := range 200 {
		a.Apply(t, dir, a.Create("d/f", 100, 1))
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(dir, "d/f"), &st))
		if st.Ino == before.Ino {
			break
		}
		if i == 199 {
			t.Fatal("the number was not given away again")
		}
		a.Apply(t, dir, a.Rename("d/f", fmt.Sprint("e/", i)))
	}
	for _, name := range []string{"d", "e"} {
		a.Apply(t, dir, a.Utimes(name, 7, 7))
	}
	next := s.snapshot()
	after, err := Keys(next.root)("d/f", before.Ino)
	must(t, err)
	if after.Gen == before.Gen {
		t.Fatalf("generations are equal: %+v", after)
	}
	if got := said(s.diff(base, next)); !strings.Contains(got, "-d/f +d/f") || !strings.Contains(got, "gone=d/f") || !strings.Contains(got, "N=d/f") {
		t.Errorf("the change set says %q", got)
	}
}

// TestSignatures: what the stream tells of an inode is what its stat tells, whatever kind it is, and wherever its attributes are.
func TestSignatures(t *testing.T) {
	s := newSource(t, "-o", "xattr=sa", "-o", "dnodesize=auto")
	dir := s.dataset.Dir
	a.Apply(t, dir, a.Create("f", 9, 1))
	base := s.snapshot()
	a.Apply(t, dir, a.Create("a", 70000, 1), a.Link("a", "b"), a.Chown("a", 5, 6), a.Chmod("a", 0o4755), a.Utimes("a", -7, 999999999),
		a.Symlink(strings.Repeat("t", 300), "s"), a.Fifo("p"), a.Mknod("n", unix.S_IFCHR|0o600, 1, 3),
		a.Create("x", 1, 1), a.SetXattr("x", "user.x", strings.Repeat("x", 5000)), a.ACL("f", 7, 5))
	next := s.snapshot()
	o := &objects{data: map[uint64]*extents{}}
	sent, err := zfs.Send(t.Context(), base.Path, next.Path)
	must(t, err)
	defer sent.Close()
	_, err = readStream(sent, o.note)
	must(t, err)
	x := signed{walk(t, next.root), t, next.root}
	seen := 0
	for _, c := range o.all {
		if _, named := x.path(c.num); c.dir || !named {
			continue
		}
		seen++
		if want, err := x.signature(c.num); err != nil || c.sig != want {
			t.Errorf("%v: the signature is %x, that of its stat %x (%v)", x.names[c.num], c.sig, want, err)
		}
	}
	if seen != 6 {
		t.Errorf("%d inodes were compared, want 6", seen)
	}
}

// TestNameless: a change to what the link index has no name of is no native comparison. What needs no name does not count: files deleted while
// open, extended attributes that are files.
func TestNameless(t *testing.T) {
	s := newSource(t, "-o", "xattr=dir")
	dir := s.dataset.Dir
	a.Apply(t, dir, a.Mkdir("d"), a.Create("d/f", 9, 1), a.Mkdir("d/e"), a.Create("x", 9, 1), a.SetXattr("x", "user.x", "1"), a.Mkdir("gone"), a.Create("open", 9, 1))
	file, err := os.OpenFile(filepath.Join(dir, "open"), os.O_WRONLY, 0)
	must(t, err)
	defer file.Close()
	open, err := os.Open(filepath.Join(dir, "gone"))
	must(t, err)
	defer open.Close()
	base := s.snapshot()
	a.Apply(t, dir, a.Append("d/f", 5, 2), a.Create("d/e/new", 5, 2), a.SetXattr("x", "user.x", "2"), a.SetXattr("x", "user.y", "2"), a.Remove("open"), a.Remove("gone"))
	_, err = file.WriteString("unseen")
	must(t, err)
	next := s.snapshot()
	s.diff(base, next)
	for _, name := range []string{"d/f", "d/e"} {
		st, err := base.root.Lstat(name)
		must(t, err)
		links := signed{walk(t, base.root), t, base.root}
		delete(links.names, st.Ino)
		if _, err := s.try(base, next, links, diff.Options{}); !errors.Is(err, diff.ErrNotNative) {
			t.Errorf("without the name of %s: %v", name, err)
		}
		for _, opts := range []diff.Options{{Exclude: diff.MustExclude("d")}, {LeftOut: true}} {
			if _, err = s.try(base, next, links, opts); err != nil {
				t.Errorf("without the name of %s, which it may lack: %v", name, err)
			}
		}
	}
}

// TestTornAttribute: an attribute that is a file gets its value in one transaction, and the inode the time of that in another. A snapshot between them has the one
// without the other, and the next one shows the other alone.
func TestTornAttribute(t *testing.T) {
	s := newSource(t, "-o", "xattr=dir")
	dir := s.dataset.Dir
	a.Apply(t, dir, a.Mkdir("d"))
	for _, name := range []string{"changed", "came", "went", "other", "d/dir"} {
		if name == "d/dir" {
			a.Apply(t, dir, a.Mkdir(name))
		} else {
			a.Apply(t, dir, a.Create(name, 9, 1))
		}
		a.Apply(t, dir, a.SetXattr(name, "user.x", "1"), a.SetXattr(name, "user.y", "1"))
	}
	base := s.snapshot()
	a.Apply(t, dir, a.SetXattr("changed", "user.x", "2"), a.SetXattr("came", "user.z", "1"), a.RemoveXattr("went", "user.x"), a.SetXattr("d/dir", "user.x", "2"))
	torn := s.snapshot()
	links := signed{walk(t, base.root), t, torn.root} // as if their times were those that the base has
	if got, want := said(s.diffBySettled(base, torn, links)), "X=came X=changed X=d/dir X=went"; got != want {
		t.Errorf("what the inodes do not say: %q, want %q", got, want)
	}
	a.Apply(t, dir, a.SetXattr("changed", "user.x", "2"), a.SetXattr("d/dir", "user.x", "2"))
	next := s.snapshot()
	if got, want := said(s.diff(torn, next)), "X=changed X=d/dir"; got != want {
		t.Errorf("what only the inodes say: %q, want %q", got, want)
	}
}

// diffBySettled is diffBy where nothing changed around the taking of the base.
func (s *source) diffBySettled(base, next snap, links diff.LinkIndex) *diff.ChangeSet {
	s.Helper()
	base.Taken = time.Now().Add(time.Hour)
	return s.diffBy(base, next, links)
}

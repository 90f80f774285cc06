package btrfsfeed

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{t: t, path: a.Subvolume(t, filepath.Join(a.Mount(t, a.Btrfs), "source"))}
	must(t, os.Mkdir(s.path+"/.snapdiff", 0o700))
	return s
}

// operations are what may happen to a source between two snapshots: a state, what is done to it, and how many changes
// there must be: names that went, names that came, inodes.
var operations = []struct {
	name               string
	before, after      []a.Change
	went, came, inodes int
	gone               int
}{
	{name: "nothing", before: []a.Change{a.Create("f", 9, 1)}},
	{name: "create", after: []a.Change{a.Create("f", 9, 1)}, came: 1, inodes: 2},
	{name: "delete", before: []a.Change{a.Create("f", 9, 1)}, after: []a.Change{a.Remove("f")}, went: 1, inodes: 1, gone: 1},
	{name: "write", before: []a.Change{a.Create("f", 99999, 1)}, after: []a.Change{a.Write("f", 5000, 9, 2)}, inodes: 1},
	{name: "write inline", before: []a.Change{a.Create("f", 99, 1)}, after: []a.Change{a.Write("f", 50, 9, 2)}, inodes: 1},
	{name: "time put back", before: []a.Change{a.Create("f", 99999, 1)},
		after: []a.Change{a.KeepMtime("f", a.Write("f", 5000, 9, 2))}, inodes: 1},
	{name: "time put back inline", before: []a.Change{a.Create("f", 99, 1)},
		after: []a.Change{a.KeepMtime("f", a.Write("f", 5, 9, 2))}, inodes: 1},
	{name: "mmap", before: []a.Change{a.Create("f", 99999, 1)},
		after: []a.Change{a.KeepMtime("f", a.MmapWrite("f", 5000, 9, 2))}, inodes: 1},
	{name: "nodatacow", before: []a.Change{a.NoCow("f"), a.Append("f", 99999, 1)},
		after: []a.Change{a.KeepMtime("f", a.Write("f", 5000, 9, 2))}, inodes: 1},
	{name: "append", before: []a.Change{a.Create("f", 5000, 1)}, after: []a.Change{a.Append("f", 100, 1)}, inodes: 1},
	{name: "shrink", before: []a.Change{a.Create("f", 99999, 1)}, after: []a.Change{a.Truncate("f", 4096)}, inodes: 1},
	{name: "grow sparse", before: []a.Change{a.Create("f", 5000, 1)}, after: []a.Change{a.Truncate("f", 99999)}, inodes: 1},
	{name: "grow in the block", before: []a.Change{a.Create("f", 5000, 1)}, after: []a.Change{a.Truncate("f", 5001)}, inodes: 1},
	{name: "punch", before: []a.Change{a.Create("f", 99999, 1)}, after: []a.Change{a.KeepMtime("f", a.Punch("f", 8192, 8192))}, inodes: 1},
	{name: "collapse", before: []a.Change{a.Create("f", 98304, 1)}, after: []a.Change{a.Punch("f", 8192, 8192), a.ZeroRange("f", 32768, 4096)}, inodes: 1},
	{name: "prealloc", before: []a.Change{a.Create("f", 98304, 1)},
		after: []a.Change{a.KeepMtime("f", a.PreallocKeep("f", 98304, 98304))}},
	{name: "reflink", before: []a.Change{a.Create("f", 98304, 1), a.Create("g", 98304, 2)},
		after: []a.Change{a.KeepMtime("g", a.ReflinkRange("f", "g", 4096, 8192, 16384))}, inodes: 1},
	{name: "dedupe", before: []a.Change{a.Create("f", 98304, 1), a.Create("g", 98304, 1)}, after: []a.Change{a.Dedupe("f", "g", 98304)}},
	{name: "defragment", before: []a.Change{a.Create("f", 98304, 1), a.Sync(), a.Write("f", 4096, 4096, 3), a.Sync(),
		a.Write("f", 20480, 4096, 3), a.Sync()}, after: []a.Change{a.Defragment("f")}},
	{name: "balance", before: []a.Change{a.Create("f", 98304, 1), a.Create("g", 98304, 1)},
		after: []a.Change{a.Balance(), a.Chmod("g", 0o600)}, inodes: 1},
	{name: "chmod", before: []a.Change{a.Create("f", 9, 1)}, after: []a.Change{a.Chmod("f", 0o4755)}, inodes: 1},
	{name: "chown", before: []a.Change{a.Mkdir("d")}, after: []a.Change{a.Chown("d", 7, 8)}, inodes: 1},
	{name: "atime", before: []a.Change{a.Create("f", 9, 1)}, after: []a.Change{a.TouchAtime("f", 77)}},
	{name: "atime of a directory", before: []a.Change{a.Mkdir("d")}, after: []a.Change{a.TouchAtime("d", 77)}},
	{name: "xattrs", before: []a.Change{a.Create("f", 9, 1), a.Create("g", 9, 1), a.SetXattr("g", "user.x", "y"), a.Mkdir("d")},
		after: []a.Change{a.SetXattr("f", "trusted.x", "y"), a.RemoveXattr("g", "user.x"), a.ACL("d", 7, 4)}, inodes: 3},
	{name: "xattr put back", before: []a.Change{a.Create("f", 9, 1)},
		after: []a.Change{a.SetXattr("f", "user.x", "y"), a.RemoveXattr("f", "user.x")}},
	{name: "rename", before: []a.Change{a.Create("f", 9, 1)}, after: []a.Change{a.Rename("f", "g")}, went: 1, came: 1, inodes: 2},
	{name: "rename and back", before: []a.Change{a.Create("f", 9, 1), a.KeepMtime(".", a.Chmod("f", 0o644))},
		after: []a.Change{a.KeepMtime(".", a.Rename("f", "g"), a.Rename("g", "f"))}},
	{name: "rename directory", before: []a.Change{a.Mkdir("d"), a.Mkdir("e"), a.Create("d/f", 9, 1)},
		after: []a.Change{a.Rename("d", "e/d")}, went: 1, came: 1, inodes: 2},
	{name: "swap", before: []a.Change{a.Create("f", 9, 1), a.Create("g", 9, 2)}, after: []a.Change{a.Exchange("f", "g")}, went: 2, came: 2, inodes: 3},
	{name: "below its child", before: []a.Change{a.Mkdir("d"), a.Mkdir("d/e"), a.Create("d/f", 9, 1)},
		after: []a.Change{a.Rename("d/e", "e"), a.Rename("d", "e/d")}, went: 2, came: 2, inodes: 3},
	{name: "equal lengths", before: []a.Change{a.Create("ab", 9, 1)}, after: []a.Change{a.Remove("ab"), a.Create("xy", 9, 1)},
		went: 1, came: 1, inodes: 2, gone: 1},
	{name: "replaced type", before: []a.Change{a.Create("f", 9, 1)}, after: []a.Change{a.Remove("f"), a.Mkdir("f"), a.Create("f/x", 9, 1)},
		went: 1, came: 2, inodes: 3, gone: 1},
	{name: "re-made", before: []a.Change{a.Create("f", 9, 1)}, after: []a.Change{a.Remove("f"), a.Create("f", 9, 1)},
		went: 1, came: 1, inodes: 2, gone: 1},
	{name: "links", before: []a.Change{a.Mkdir("d"), a.Mkdir("e"), a.Create("d/f", 9, 1), a.Link("d/f", "d/g")},
		after: []a.Change{a.Link("d/f", "e/h"), a.Remove("d/g")}, went: 1, came: 1, inodes: 3},
	{name: "subtree", before: []a.Change{a.Mkdir("d"), a.Mkdir("d/e"), a.Mkdir("d/e/k"), a.Create("d/e/f", 9, 1), a.Create("d/g", 9, 1),
		a.Link("d/g", "h"), a.Create("d/e/k/m", 9, 1)},
		after: []a.Change{a.Rename("d/e/k", "k"), a.RemoveAll("d")}, went: 5, came: 1, inodes: 2, gone: 3},
	{name: "special", after: []a.Change{a.Fifo("p"), a.Socket("s"), a.Mknod("c", 0o20644, 300, 70000), a.Symlink("../x", "l")}, came: 4, inodes: 5},
	{name: "names", after: []a.Change{a.Create("new\nline", 1, 1), a.Create("-x\\", 1, 1), a.Create("\xff\xfe", 1, 1)}, came: 3, inodes: 4},
	{name: "nested", before: []a.Change{a.NestedSubvolume("n"), a.NestedSubvolume("m"), a.NestedSubvolume("o")},
		after: []a.Change{a.DeleteSubvolume("n"), a.Rename("m", "p"), a.NestedSubvolume("q")}, went: 2, came: 2, inodes: 2, gone: 1},
	{name: "into the excluded", before: []a.Change{a.Mkdir("d"), a.Create("d/f", 9, 1), a.Create("g", 9, 1), a.Link("g", "d/g")},
		after: []a.Change{a.Rename("d", ".snapdiff/d")}, went: 3, inodes: 2, gone: 2},
}

// TestOperations compares two snapshots for each operation: the model says whether the change set is right, the counts
// that it has nothing else.
func TestOperations(t *testing.T) {
	s := newSource(t)
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			s := &source{t: t, path: s.path, n: s.n}
			t.Cleanup(func() { empty(t, s.path) })
			a.Apply(t, s.path, op.before...)
			base := s.snapshot()
			a.Apply(t, s.path, op.after...)
			set := s.judge(base, s.snapshot(), diff.Options{})
			got := [4]int{set.Unlinked.Len(), set.Linked.Len(), set.Inodes.Len(), set.Gone.Len()}
			if want := [4]int{op.went, op.came, op.inodes, op.gone}; got != want {
				t.Errorf("went, came, inodes, gone: %v, want %v", got, want)
				set.Inodes.Ascend(func(in diff.Inode) bool { t.Logf("%+v", in); return true })
			}
		})
		s.n += 2
	}
}

// empty empties the source for the next operation.
func empty(t *testing.T, path string) {
	t.Helper()
	for _, dir := range []string{path, path + "/.snapdiff"} {
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			if rel, _ := filepath.Rel(path, filepath.Join(dir, e.Name())); e.Name() != ".snapdiff" {
				var err error
				if isSubvolume(filepath.Join(dir, e.Name())) {
					err = a.DeleteSubvolume(rel).Apply(path)
				} else {
					err = os.RemoveAll(filepath.Join(dir, e.Name()))
				}
				must(t, err)
			}
		}
	}
}

func isSubvolume(path string) bool {
	ok, err := btrfs.IsSubvolume(path)
	return ok && err == nil
}

// TestAgain: inodes that could not be copied are reported though they did not change.
func TestAgain(t *testing.T) {
	s := newSource(t)
	a.Apply(t, s.path, a.Create("f", 9, 1), a.Mkdir("d"))
	base := s.snapshot()
	next := s.snapshot()
	keys := walk(t, base).names
	set := compare(t, base, next, 1<<60, diff.Options{Again: []diff.Key{keys["f"], keys["d"], {Ino: 999999}}})
	what := map[string]diff.What{}
	set.Inodes.Ascend(func(in diff.Inode) bool { what[in.Paths[0]] = in.What; return true })
	if len(what) != 2 || what["f"] != diff.Data|diff.Meta|diff.Xattrs || what["d"] != diff.Meta|diff.Xattrs {
		t.Errorf("reported %v", what)
	}
}

// TestOutOfTheExcluded: what comes into sight is new, though it did not change.
func TestOutOfTheExcluded(t *testing.T) {
	s := newSource(t)
	a.Apply(t, s.path, a.Mkdir(".snapdiff/d"), a.Create(".snapdiff/d/f", 9, 1), a.Mkdir(".snapdiff/d/e"), a.Create("h", 1, 1), a.Link("h", ".snapdiff/d/e/h"))
	base, err := beneath.Open(s.snapshot())
	must(t, err)
	defer base.Close()
	a.Apply(t, s.path, a.Rename(".snapdiff/d", "d"))
	next, err := beneath.Open(s.snapshot())
	must(t, err)
	defer next.Close()
	info, err := btrfs.Info(base.Path())
	must(t, err)
	set, err := Diff(t.Context(), base, next, info.OTransid, diff.Options{Exclude: diff.MustExclude("/.snapdiff")})
	must(t, err)
	var came []string
	set.Linked.Ascend(func(n diff.Name) bool { came = append(came, n.Path); return true })
	set.Inodes.Ascend(func(in diff.Inode) bool {
		came = append(came, fmt.Sprint(strings.Join(in.Paths, "="), in.What))
		return true
	})
	if have, want := strings.Join(came, " "), "d d/e d/e/h d/f 4 d1 d/e1 d/e/h=h16 d/f1"; have != want {
		t.Errorf("names and inodes that came: %s, want %s", have, want)
	}
}

// TestHoleInZeros: a hole that reads as what was there is a change all the same.
func TestHoleInZeros(t *testing.T) {
	s := newSource(t)
	must(t, os.WriteFile(s.path+"/f", make([]byte, 98304), 0o600))
	base := s.snapshot()
	a.Apply(t, s.path, a.KeepMtime("f", a.Punch("f", 8192, 8192)))
	if set := s.judge(base, s.snapshot(), diff.Options{}); set.Inodes.Len() != 1 {
		t.Errorf("%d inodes changed, want 1", set.Inodes.Len())
	}
}

// TestSnapshotInTheSource: a snapshot's own name is put into its directory in the transaction that it carries itself.
func TestSnapshotInTheSource(t *testing.T) {
	s := newSource(t)
	a.Apply(t, s.path, a.Mkdir("snaps"), a.SnapshotInto("snaps/1"), a.SnapshotInto("snaps/2"))
	s.judge(s.path+"/snaps/1", s.path+"/snaps/2", diff.Options{})
}

// TestRandom makes random changes between snapshots and has the model judge each round.
func TestRandom(t *testing.T) {
	s := newSource(t)
	r := rand.New(rand.NewPCG(a.Seed(t), 1))
	rounds := 12
	if a.Soak() {
		rounds = 1000
	}
	base := s.snapshot()
	for round := range rounds {
		var script []a.Change
		for range 150 {
			change := randomChange(r)
			if err := change.Apply(s.path); err == nil {
				script = append(script, change)
			}
		}
		next := s.snapshot()
		s.judge(base, next, diff.Options{})
		if t.Failed() {
			t.Fatalf("round %d:\n%s", round, a.Script(script))
		}
		base = next
	}
}

func randomPath(r *rand.Rand) string {
	path := ""
	for range 1 + r.IntN(3) {
		path = filepath.Join(path, fmt.Sprintf("%c%s", 'a'+r.IntN(5), [...]string{"", "xx", "long"}[r.IntN(3)]))
	}
	return path
}

func randomChange(r *rand.Rand) a.Change {
	p, q := randomPath(r), randomPath(r)
	off, n, seed := int64(r.IntN(30000)), int64(1+r.IntN(20000)), r.IntN(9)
	choices := []func() a.Change{
		func() a.Change { return a.Create(p, int64(r.IntN(2))*n, seed) },
		func() a.Change { return a.Create(p, 1+n%300, seed) },
		func() a.Change { return a.Mkdir(p) },
		func() a.Change { return a.Mkdir(p) },
		func() a.Change { return a.Write(p, off, n, seed) },
		func() a.Change { return a.KeepMtime(p, a.Write(p, off, n, seed)) },
		func() a.Change { return a.Append(p, n, seed) },
		func() a.Change { return a.Truncate(p, off) },
		func() a.Change { return a.KeepMtime(p, a.Punch(p, off, n)) },
		func() a.Change { return a.ZeroRange(p, off, n) },
		func() a.Change { return a.PreallocKeep(p, off, n) },
		func() a.Change { return a.Reflink(p, q) },
		func() a.Change { return a.Defragment(p) },
		func() a.Change { return a.Chmod(p, 0o600+uint32(r.IntN(64))) },
		func() a.Change { return a.SetXattr(p, "user.x", fmt.Sprint(seed)) },
		func() a.Change { return a.TouchAtime(p, off) },
		func() a.Change { return a.Symlink(q, p) },
		func() a.Change { return a.Link(p, q) },
		func() a.Change { return a.Link(p, q) },
		func() a.Change { return a.Rename(p, q) },
		func() a.Change { return a.Rename(p, q) },
		func() a.Change { return a.Rename(p, q) },
		func() a.Change { return a.Exchange(p, q) },
		func() a.Change { return a.Remove(p) },
		func() a.Change { return a.RemoveAll(p) },
	}
	return choices[r.IntN(len(choices))]()
}

// TestNumberUsedAgain: after a mount the highest inode number is given away once more. A file re-made under its old name
// then differs by generation alone.
func TestNumberUsedAgain(t *testing.T) {
	s := newSource(t)
	mount := filepath.Dir(s.path)
	a.Apply(t, s.path, a.Mkdir("d"), a.Create("d/f", 9, 1))
	base := s.snapshot()
	before := walk(t, base).names["d/f"]
	a.Apply(t, s.path, a.KeepMtime("d", a.Remove("d/f")))
	must(t, unix.Unmount(mount, 0))
	out, err := exec.Command("mount", "-o", "loop", filepath.Join(filepath.Dir(mount), "image"), mount).CombinedOutput()
	if err != nil {
		t.Fatalf("mounting again: %v: %s", err, out)
	}
	a.Apply(t, s.path, a.KeepMtime("d", a.Create("d/f", 9, 1)))
	next := s.snapshot()
	if after := walk(t, next).names["d/f"]; after.Ino != before.Ino || after.Gen == before.Gen {
		t.Fatalf("the number was not used again: %v, %v", before, after)
	}
	set := s.judge(base, next, diff.Options{})
	if set.Unlinked.Len() != 1 || set.Linked.Len() != 1 || set.Gone.Len() != 1 {
		t.Errorf("went %d, came %d, gone %d, want 1 each", set.Unlinked.Len(), set.Linked.Len(), set.Gone.Len())
	}
}

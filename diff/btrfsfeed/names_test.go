package btrfsfeed

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// large is a directory whose names fill several leaves.
func large() (script []a.Change) {
	script = append(script, a.Mkdir("d"), a.Mkdir("e"), a.Create("e/x", 9, 1))
	for i := range 400 {
		script = append(script, a.Create(fmt.Sprintf("d/name%03d", i), 0, 1))
	}
	return script
}

// TestLargeDirectories changes a few names among many in ways that may deceive: sums of lengths that come out even, places that are
// used again. The model says whether the change set is right.
func TestLargeDirectories(t *testing.T) {
	const long, longer = "d/abcdefghij", "d/abcdefghijklmnop"
	for _, op := range []struct {
		name       string
		after      []a.Change
		went, came int
		none       bool // no name goes from the directory: it is certain that it need not be read whole
	}{
		{name: "mode", after: []a.Change{a.Chmod("d", 0o700)}, none: true},
		{name: "came", after: []a.Change{a.Create("d/new", 9, 1)}, came: 1, none: true},
		{name: "many came", after: []a.Change{a.Create(long, 9, 1), a.Mkdir(longer), a.Symlink("x", "d/l"), a.Rename("e/x", "d/x"), a.Link("d/name007", "d/y")},
			went: 1, came: 5, none: true},
		{name: "went", after: []a.Change{a.Remove("d/name200")}, went: 1},
		{name: "as long", after: []a.Change{a.Remove("d/name200"), a.Create("d/eman002", 9, 1)}, went: 1, came: 1},
		{name: "as long in sum", after: []a.Change{a.Remove("d/name200"), a.Remove("d/name201"), a.Create("d/abcd", 9, 1), a.Create(long, 9, 1)},
			went: 2, came: 2},
		{name: "went and came longer", after: []a.Change{a.Remove("d/name000"), a.Create(longer, 9, 1)}, went: 1, came: 1},
		{name: "re-made", after: []a.Change{a.Remove("d/name200"), a.Create("d/name200", 9, 1)}, went: 1, came: 1},
		{name: "came and went again", after: []a.Change{a.Create("d/new", 9, 1), a.Remove("d/new")}, none: true},
		{name: "renamed", after: []a.Change{a.Rename("d/name200", "d/eman002")}, went: 1, came: 1},
		{name: "renamed and back", after: []a.Change{a.Rename("d/name200", "d/new"), a.Rename("d/new", "d/name200")}},
		{name: "renamed over", after: []a.Change{a.Rename("d/name200", "d/name201")}, went: 2, came: 1},
		{name: "another renamed over", after: []a.Change{a.Rename("e/x", "d/name201")}, went: 2, came: 1},
		{name: "exchanged", after: []a.Change{a.Exchange("d/name200", "d/name399")}, went: 2, came: 2},
		{name: "exchanged with another directory's", after: []a.Change{a.Exchange("d/name200", "e/x")}, went: 2, came: 2},
		{name: "links move", after: []a.Change{a.Link("d/name200", "d/link200"), a.Remove("d/name200")}, went: 1, came: 1},
		{name: "link instead", after: []a.Change{a.Remove("d/name200"), a.Link("d/name201", "d/name200")}, went: 1, came: 1},
		{name: "last place used again", after: []a.Change{a.Remove("d/name399"), a.Create("d/name400", 9, 1)}, went: 1, came: 1},
		{name: "nested", after: []a.Change{a.NestedSubvolume("d/sub")}, came: 1, none: true},
		{name: "all went", after: []a.Change{a.RemoveAll("d"), a.Mkdir("d")}, went: 401, came: 1},
	} {
		t.Run(op.name, func(t *testing.T) {
			s := newSource(t)
			a.Apply(t, s.path, large()...)
			base := s.snapshot()
			a.Apply(t, s.path, op.after...)
			next := s.snapshot()
			set := s.judge(base, next, diff.Options{})
			if set.Unlinked.Len() != op.went || set.Linked.Len() != op.came {
				t.Errorf("%d names went, %d came; want %d, %d", set.Unlinked.Len(), set.Linked.Len(), op.went, op.came)
			}
			if op.name != "all went" && !readNarrowly(t, base, next, s.path+"/d") && op.none {
				t.Error("the directory has to be read whole")
			}
		})
	}
}

// TestNamesWentOneByOne: only where a name that goes is the first of its leaf the directory has to be read whole, and so many leaves there are
// not.
func TestNamesWentOneByOne(t *testing.T) {
	s := newSource(t)
	a.Apply(t, s.path, large()...)
	narrow := 0
	for _, name := range []string{"d/name050", "d/name110", "d/name170", "d/name230", "d/name290", "d/name350"} {
		base := s.snapshot()
		a.Apply(t, s.path, a.Remove(name), a.Create("d/"+strings.Repeat("n", 40), 0, 1), a.Remove("d/"+strings.Repeat("n", 40)))
		if readNarrowly(t, base, s.snapshot(), s.path+"/d") {
			narrow++
		}
	}
	if narrow == 0 {
		t.Error("the directory has to be read whole each time")
	}
}

// TestNamesWentAnywhere takes runs of names out of a directory of many leaves, and with them whole leaves and their ends, and puts names in.
func TestNamesWentAnywhere(t *testing.T) {
	s := newSource(t)
	r := rand.New(rand.NewPCG(a.Seed(t), 4))
	made := 0
	create := func(n int) (script []a.Change) {
		for range n {
			script = append(script, a.Create(fmt.Sprintf("d/%0*d", 5+r.IntN(9), made), 0, 1))
			made++
		}
		return script
	}
	a.Apply(t, s.path, append([]a.Change{a.Mkdir("d"), a.Create("d/stays", 0, 1)}, create(1500)...)...)
	for range 8 {
		base := s.snapshot()
		var names []string
		entries, err := os.ReadDir(s.path + "/d")
		must(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		slices.SortFunc(names, func(a, b string) int { return strings.Compare(strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")) })
		script := create(r.IntN(40))
		for range 1 + r.IntN(4) {
			from := r.IntN(len(names) - 1)
			end := min(from+1+r.IntN(1+r.IntN(200)), len(names)-1)
			for _, name := range names[from:end] {
				script = append(script, a.Remove("d/"+name))
			}
			names = slices.Delete(names, from, end)
		}
		a.Apply(t, s.path, script...)
		next := s.snapshot()
		readNarrowly(t, base, next, s.path+"/d")
		s.judge(base, next, diff.Options{})
	}
}

// readNarrowly tells whether a directory need not be read whole, and makes sure that the same comes out as if it were.
func readNarrowly(t *testing.T, base, next, dir string) bool {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(dir, &st))
	info, err := btrfs.Info(base)
	must(t, err)
	r := &reader{bound: info.OTransid}
	for path, tree := range map[string]**tree{base: &r.base, next: &r.next} {
		root, err := beneath.Open(path)
		must(t, err)
		defer root.Close()
		*tree = newTree(root.FD())
	}
	went, came, ok, err := r.narrow(st.Ino)
	must(t, err)
	wentWhole, cameWhole, err := r.unlike(st.Ino)
	must(t, err)
	if ok && (!slices.Equal(went, wentWhole) || !slices.Equal(came, cameWhole)) {
		t.Errorf("%s: %v went, %v came; read whole it is %v and %v", dir, went, came, wentWhole, cameWhole)
	}
	return ok
}

// TestMailFolders: a new message in each of many large folders has none of them read whole; nor, as a rule, has one that
// was read and so got another name.
func TestMailFolders(t *testing.T) {
	s := newSource(t)
	sizes := []int{1000, 1000, 10_000}
	name := func(folder, message int) string {
		return fmt.Sprintf("%s/%d/17%08d.M%06dP%d.host,S=1234:2,", s.path, folder, message, message*7919%1_000_000, folder)
	}
	for i, size := range sizes {
		must(t, os.Mkdir(fmt.Sprintf("%s/%d", s.path, i), 0o700))
		for j := range size {
			must(t, os.WriteFile(name(i, j), nil, 0o600))
		}
	}
	base := s.snapshot()
	bound := func() uint64 {
		info, err := btrfs.Info(base)
		must(t, err)
		return info.OTransid
	}
	opts := diff.Options{Exclude: diff.MustExclude("/.snapdiff")}
	for i, size := range sizes {
		must(t, os.WriteFile(name(i, size), []byte("new"), 0o600))
	}
	next := s.snapshot()
	set := compare(t, base, next, bound(), opts)
	if set.Dirs != (diff.DirCount{Changed: 3}) || set.Linked.Len() != 3 || set.Unlinked.Len() != 0 || set.Inodes.Len() != 6 {
		t.Errorf("%d names went, %d came, %d inodes differ; directories: %+v", set.Unlinked.Len(), set.Linked.Len(), set.Inodes.Len(), set.Dirs)
	}
	base = next
	for i, size := range sizes { // the newest is read
		must(t, os.Rename(name(i, size), name(i, size)+"S"))
	}
	next = s.snapshot()
	set = compare(t, base, next, bound(), opts)
	// The first name of a leaf cannot be found when it goes: of these folders that may be so in one, hardly in more.
	if set.Dirs.Changed != 3 || set.Dirs.Whole > 2 || set.Linked.Len() != 3 || set.Unlinked.Len() != 3 {
		t.Errorf("%d names went, %d came; directories: %+v", set.Unlinked.Len(), set.Linked.Len(), set.Dirs)
	}
}

// TestNamesOfTheBasesTransaction: names that came in the transaction in which the base was taken, as many do that somebody else takes without a
// sync before it, are in the base.
func TestNamesOfTheBasesTransaction(t *testing.T) {
	s := newSource(t)
	a.Apply(t, s.path, a.Mkdir("d"), a.Create("d/a", 9, 1), a.Mkdir("snaps"), a.Sync(), a.Create("d/b", 9, 1), a.Create("d/c", 9, 1), a.SnapshotInto("snaps/1"),
		a.Remove("d/c"), a.Create("d/e", 9, 1), a.SnapshotInto("snaps/2"))
	set := s.judge(s.path+"/snaps/1", s.path+"/snaps/2", diff.Options{})
	if set.Unlinked.Len() != 1 || set.Linked.Len() != 2 { // the first snapshot's name came too
		t.Errorf("%d names went, %d came; want 1, 2", set.Unlinked.Len(), set.Linked.Len())
	}
}

// TestSnapshotBesideANameThatWent: the name of the base's own snapshot comes in without a newer transaction, as long as the one that
// goes.
func TestSnapshotBesideANameThatWent(t *testing.T) {
	s := newSource(t)
	a.Apply(t, s.path, large()...)
	a.Apply(t, s.path, a.Mkdir("snaps"), a.Create("snaps/a", 9, 1), a.Sync(), a.SnapshotInto("snaps/1"), a.Remove("snaps/a"), a.SnapshotInto("snaps/2"))
	set := s.judge(s.path+"/snaps/1", s.path+"/snaps/2", diff.Options{})
	if set.Unlinked.Len() != 1 || set.Linked.Len() != 1 {
		t.Errorf("%d names went, %d came; want 1, 1", set.Unlinked.Len(), set.Linked.Len())
	}
	if set.Dirs != (diff.DirCount{Changed: 1, Whole: 1}) { // nothing proves which names went
		t.Errorf("directories: %+v", set.Dirs)
	}
}

// TestNeighbours: inodes that are read together, among directories and inodes that did not change, in every distance, with so many
// xattrs, names and extents that they do not fit into one call.
func TestNeighbours(t *testing.T) {
	s := newSource(t)
	var script, after []a.Change
	for i := range 120 {
		name := fmt.Sprintf("f%03d", i)
		switch i % 5 {
		case 0:
			script = append(script, a.Mkdir(name), a.Create(name+"/x", 9, 1), a.Create(name+"/y", 9, 1))
			after = append(after, a.Chmod(name, 0o700))
			continue
		case 1:
			script = append(script, a.Create(name, 1500, i))
		default:
			script = append(script, a.Create(name, 99999, i))
		}
		if i%3 > 0 {
			for j := range i {
				script = append(script, a.SetXattr(name, fmt.Sprintf("user.%d", j), fmt.Sprintf("%01000d", i)), a.Link(name, fmt.Sprintf("%s-%d", name, j)))
			}
		}
		if i%7 > 2 {
			after = append(after, a.Write(name, 50, 9, i+1), a.SetXattr(name, "user.3", "new"))
		}
	}
	a.Apply(t, s.path, script...)
	base := s.snapshot()
	a.Apply(t, s.path, after...)
	s.judge(base, s.snapshot(), diff.Options{})
}

// TestManyExtents: a file whose extents fill many leaves, of which few changed.
func TestManyExtents(t *testing.T) {
	s := newSource(t)
	f, err := os.Create(s.path + "/f")
	must(t, err)
	defer f.Close()
	const count, apart = 3000, 16 << 10
	for i := range int64(count) {
		_, err := f.WriteAt([]byte(fmt.Sprint(i)), i*apart)
		must(t, err)
	}
	a.Apply(t, s.path, a.Create("g", 9, 1))
	base := s.snapshot()
	for _, i := range []int64{0, 1234, 1235, count - 1} {
		_, err := f.WriteAt([]byte("new"), i*apart+100)
		must(t, err)
	}
	a.Apply(t, s.path, a.Write("g", 0, 9, 2))
	set := s.judge(base, s.snapshot(), diff.Options{})
	in, ok := set.Inodes.Get(diff.Inode{Paths: []string{"f"}})
	if !ok || len(in.Ranges) != 4 {
		t.Fatalf("%+v", in)
	}
	for _, r := range in.Ranges {
		if r.Len > 4096 {
			t.Errorf("range %+v", r)
		}
	}
}

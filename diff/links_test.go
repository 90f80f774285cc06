package diff_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// memTree is a tree in memory, without names: what each directory holds.
type memTree struct {
	dirs  map[uint64]map[string]diff.Entry
	names func(uint64) ([]diff.Ref, error)
}

const memRoot = 1

func (m *memTree) Root() uint64                                            { return memRoot }
func (m *memTree) UseNames(names func(uint64) ([]diff.Ref, error), _ bool) { m.names = names }
func (m *memTree) Names(uint64) ([]diff.Ref, error)                        { panic("has no names of its own") }
func (m *memTree) Xattrs(uint64) (string, error)                           { return "", nil }

// Inode knows only whether it is a directory.
func (m *memTree) Inode(num uint64) (diff.Info, bool, error) {
	if m.dirs[num] != nil {
		return diff.Info{Attr: diff.Attr{Mode: unix.S_IFDIR}}, true, nil
	}
	return diff.Info{Attr: diff.Attr{Mode: unix.S_IFREG}}, len(m.truth()[num]) > 0, nil
}

// Entries goes by names as a mounted tree does.
func (m *memTree) Entries(num uint64, yield func(diff.Entry) error) error {
	for at, up := num, 0; at != memRoot; up++ {
		refs, err := m.names(at)
		if err != nil {
			return err
		}
		if len(refs) != 1 || up > len(m.dirs) || m.dirs[at] == nil || m.dirs[refs[0].Parent][refs[0].Name].Ino != at {
			return diff.ErrElsewhere
		}
		at = refs[0].Parent
	}
	for _, e := range m.dirs[num] {
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

// tellingTree is a memTree that mostly tells what went from a directory of a base and came into it.
type tellingTree struct {
	*memTree
	base *memTree
	r    *rand.Rand
}

// telling has half of all trees tell.
func (m *memTree) telling(base *memTree, r *rand.Rand) diff.Tree {
	if r.IntN(2) == 0 {
		return m
	}
	return tellingTree{m, base, r}
}

func (t tellingTree) Unlike(dir uint64) (went, came []diff.Entry, ok bool, err error) {
	if t.base.dirs[dir] == nil || t.r.IntN(4) == 0 {
		return nil, nil, false, nil
	}
	differ := func(own, other *memTree, list *[]diff.Entry) error {
		return own.Entries(dir, func(e diff.Entry) error {
			if other.dirs[dir][e.Name] != e || e.Ino%3 == 0 { // some that are on both lists
				*list = append(*list, e)
			}
			return nil
		})
	}
	err = differ(t.memTree, t.base, &came)
	if err == nil {
		err = differ(t.base, t.memTree, &went)
	}
	return went, came, true, err
}

// truth are all names.
func (m *memTree) truth() map[uint64][]diff.Ref {
	all := map[uint64][]diff.Ref{}
	for dir, entries := range m.dirs {
		for _, e := range entries {
			all[e.Ino] = append(all[e.Ino], diff.Ref{Parent: dir, Name: e.Name})
		}
	}
	return all
}

func (m *memTree) clone() *memTree {
	c := &memTree{dirs: map[uint64]map[string]diff.Entry{}}
	for d, entries := range m.dirs {
		c.dirs[d] = maps.Clone(entries)
	}
	return c
}

// below tells whether dir is at or below top.
func (m *memTree) below(dir, top uint64) bool {
	for dir != top && dir != memRoot {
		for d, entries := range m.dirs {
			for _, e := range entries {
				if e.Ino == dir {
					dir = d
					goto up
				}
			}
		}
		return false
	up:
	}
	return dir == top
}

// change does something random. Numbers that are free are given away again.
func (m *memTree) change(r *rand.Rand) {
	dirs := slices.Sorted(maps.Keys(m.dirs))
	from, to := dirs[r.IntN(len(dirs))], dirs[r.IntN(len(dirs))]
	a, b := fmt.Sprint(r.IntN(4)), fmt.Sprint(r.IntN(4))
	old, has := m.dirs[from][a]
	_, taken := m.dirs[to][b]
	switch {
	case !has && r.IntN(3) == 0:
		free := uint64(2)
		for used := m.truth(); len(used[free]) > 0 || m.dirs[free] != nil; free++ {
		}
		if free > 30 {
			return
		}
		typ := uint32(unix.S_IFREG)
		if r.IntN(2) == 0 {
			typ, m.dirs[free] = unix.S_IFDIR, map[string]diff.Entry{}
		}
		m.dirs[from][a] = diff.Entry{Name: a, Ino: free, Type: typ}
	case !has:
	case r.IntN(3) == 0:
		if old.Type == unix.S_IFDIR {
			if len(m.dirs[old.Ino]) > 0 {
				return
			}
			delete(m.dirs, old.Ino)
		}
		delete(m.dirs[from], a)
	case taken:
	case old.Type == unix.S_IFREG && r.IntN(2) == 0:
		m.dirs[to][b] = diff.Entry{Name: b, Ino: old.Ino, Type: old.Type}
	case old.Type == unix.S_IFREG || !m.below(to, old.Ino):
		delete(m.dirs[from], a)
		m.dirs[to][b] = diff.Entry{Name: b, Ino: old.Ino, Type: old.Type}
	}
}

// changed are the numbers of the directories that are new or differ from base, and some others, in any order.
func (m *memTree) changed(base *memTree, r *rand.Rand) []uint64 {
	dirs := []uint64{9999} // a number that nobody knows
	for d := range m.dirs {
		if !maps.Equal(base.dirs[d], m.dirs[d]) || base.dirs[d] == nil || r.IntN(4) == 0 {
			dirs = append(dirs, d)
		}
	}
	for d := range base.dirs { // freed numbers are told by some filesystems
		if m.dirs[d] == nil && r.IntN(2) == 0 {
			dirs = append(dirs, d)
		}
	}
	r.Shuffle(len(dirs), func(i, j int) { dirs[i], dirs[j] = dirs[j], dirs[i] })
	return dirs
}

// shown are all names but those that are excluded, and what lies below such.
func (m *memTree) shown(excluded string) map[uint64][]diff.Ref {
	all := map[uint64][]diff.Ref{}
	var walk func(dir uint64)
	walk = func(dir uint64) {
		for _, e := range m.dirs[dir] {
			if e.Name != excluded {
				all[e.Ino] = append(all[e.Ino], diff.Ref{Parent: dir, Name: e.Name})
				walk(e.Ino)
			}
		}
	}
	walk(memRoot)
	return all
}

// memLinks is a link index.
type memLinks map[uint64][]diff.Ref

func (l memLinks) Names(ino uint64) ([]diff.Ref, error) { return l[ino], nil }

func sortedRefs(refs []diff.Ref) []string {
	var out []string
	for _, r := range refs {
		out = append(out, fmt.Sprintf("%d/%q", r.Parent, r.Name))
	}
	slices.Sort(out)
	return out
}

// judgeNames compares the names that a linked tree tells with those that are there.
func judgeNames(t *testing.T, tree diff.Tree, truth map[uint64][]diff.Ref, more ...uint64) {
	t.Helper()
	for _, num := range append(slices.Collect(maps.Keys(truth)), more...) {
		got, err := tree.Names(num)
		if err != nil {
			t.Fatalf("names of %d: %v", num, err)
		}
		if want := sortedRefs(truth[num]); !slices.Equal(sortedRefs(got), want) {
			t.Fatalf("names of %d: %v, want %v", num, sortedRefs(got), want)
		}
	}
}

// TestLinkedModel: the names in the new tree come out right whatever happened, numbers given away again included.
func TestLinkedModel(t *testing.T) {
	r := rand.New(rand.NewPCG(a.Seed(t), 4))
	base := &memTree{dirs: map[uint64]map[string]diff.Entry{memRoot: {}}}
	for range 500 {
		next := base.clone()
		for range r.IntN(60) {
			next.change(r)
		}
		b, n, err := diff.Linked(context.Background(), base, next.telling(base, r), memLinks(base.truth()), next.changed(base, r), nil)
		if err != nil {
			t.Fatal(err)
		}
		judgeNames(t, b, base.truth())
		judgeNames(t, n, next.truth(), slices.Collect(maps.Keys(base.truth()))...)
		base = next
	}
}

// TestLinkedExcludeModel: of what is excluded the index knows nothing; the names of all else come out right, whatever was moved out of
// excluded places or into them, and no name is told that is not there.
func TestLinkedExcludeModel(t *testing.T) {
	r := rand.New(rand.NewPCG(a.Seed(t), 5))
	base := &memTree{dirs: map[uint64]map[string]diff.Entry{memRoot: {}}}
	const excluded = "3"
	for range 500 {
		next := base.clone()
		for range r.IntN(60) {
			next.change(r)
		}
		links := base.shown(excluded)
		b, n, err := diff.Linked(context.Background(), base, next.telling(base, r), memLinks(links), next.changed(base, r), diff.MustExclude(excluded))
		if err != nil {
			t.Fatal(err)
		}
		judgeNames(t, b, links, slices.Collect(maps.Keys(base.truth()))...)
		truth, shown := next.truth(), next.shown(excluded)
		for num := range uint64(40) {
			got, err := n.Names(num)
			if err != nil {
				t.Fatalf("names of %d: %v", num, err)
			}
			for _, ref := range got {
				if !slices.Contains(truth[num], ref) {
					t.Fatalf("names of %d: %v, and %v is not there", num, got, ref)
				}
			}
			for _, ref := range shown[num] {
				if !slices.Contains(got, ref) {
					t.Fatalf("names of %d: %v, and %v is missing", num, got, ref)
				}
			}
		}
		base = next
	}
}

// TestLinkedLacksADirectory: where the list of changed directories or the index lacks something, it is said and not guessed.
func TestLinkedLacksADirectory(t *testing.T) {
	dir := func(name string, ino uint64) diff.Entry {
		return diff.Entry{Name: name, Ino: ino, Type: unix.S_IFDIR}
	}
	base := &memTree{dirs: map[uint64]map[string]diff.Entry{1: {"a": dir("a", 2), "b": dir("b", 3)}, 2: {"d": dir("d", 4)}, 3: {}, 4: {}}}
	next := &memTree{dirs: map[uint64]map[string]diff.Entry{1: {"a": dir("a", 2), "b": dir("b", 3)}, 2: {}, 3: {"d": dir("d", 4)}, 4: {}}}
	_, _, err := diff.Linked(context.Background(), base, next, memLinks(base.truth()), []uint64{4}, nil)
	if !errors.Is(err, diff.ErrNotNative) {
		t.Errorf("a move between directories that are not named: %v, want ErrNotNative", err)
	}
}

// walkNames reads all names of a mounted tree, by inode number.
func walkNames(t *testing.T, top string) (names map[uint64][]diff.Ref, dirs map[uint64]string) {
	t.Helper()
	names, dirs = map[uint64][]diff.Ref{}, map[uint64]string{}
	check(t, filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st, up unix.Stat_t
		check(t, unix.Lstat(path, &st))
		if path != top {
			check(t, unix.Lstat(filepath.Dir(path), &up))
			names[st.Ino] = append(names[st.Ino], diff.Ref{Parent: up.Ino, Name: filepath.Base(path)})
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			dirs[st.Ino] = path
		}
		return nil
	}))
	return names, dirs
}

// noGeneration is good enough where nobody compares them.
func noGeneration(string, *unix.Stat_t) (uint64, error) { return 0, nil }

// linkedMounted links two mounted trees by what a walk of the base tells.
func linkedMounted(t *testing.T, base, next string, dirs []uint64) (diff.Tree, diff.Tree, error) {
	t.Helper()
	var trees [2]*diff.Mounted
	for i, path := range []string{base, next} {
		root, err := beneath.Open(path)
		check(t, err)
		t.Cleanup(func() { root.Close() })
		trees[i], err = diff.NewMounted(root, noGeneration)
		check(t, err)
	}
	links, _ := walkNames(t, base)
	return diff.Linked(t.Context(), trees[0], trees[1], memLinks(links), dirs, nil)
}

// TestLinkedMounted does random changes to real trees. (btrfs never gives a number away again while it is mounted; the model
// does.)
func TestLinkedMounted(t *testing.T) {
	r := rand.New(rand.NewPCG(a.Seed(t), 5))
	top := a.Mount(t, a.Btrfs)
	source := a.Subvolume(t, filepath.Join(top, "source"))
	snapshot := func(i int) string {
		mark, err := btrfs.Create(source, top, fmt.Sprint("snapdiff-", i))
		check(t, err)
		return mark.Path
	}
	base := snapshot(0)
	for round := 1; round <= 6; round++ {
		for range 200 {
			a.RandomChange(r).Apply(source) // many cannot be done
		}
		next := snapshot(round)
		truth, dirs := walkNames(t, next)
		old, _ := walkNames(t, base)
		b, n, err := linkedMounted(t, base, next, slices.Collect(maps.Keys(dirs)))
		check(t, err)
		judgeNames(t, b, old)
		judgeNames(t, n, truth, slices.Collect(maps.Keys(old))...)
		for num := range truth {
			for _, tree := range []diff.Tree{b, n} {
				if _, _, err := tree.Inode(num); err != nil {
					t.Errorf("inode %d: %v", num, err)
				}
			}
		}
		base = next
	}
}

// TestLinkedWrongIndex: an index that does not fit the base is found out.
func TestLinkedWrongIndex(t *testing.T) {
	top := t.TempDir()
	a.Apply(t, top, a.Create("a", 1, 1), a.Link("a", "b"), a.Create("c", 1, 1))
	root, err := beneath.Open(top)
	check(t, err)
	defer root.Close()
	links, _ := walkNames(t, top)
	numbers := map[string]uint64{}
	for num, refs := range links {
		for _, ref := range refs {
			numbers[ref.Name] = num
		}
	}
	links[numbers["a"]] = links[numbers["a"]][:1]
	links[numbers["c"]][0].Name = "a"
	tree, err := diff.NewMounted(root, noGeneration)
	check(t, err)
	tree.UseNames(memLinks(links).Names, false)
	for name, words := range map[string]string{"a": "has 2 links, and the link index knows 1", "c": "is not inode"} {
		_, _, err := tree.Inode(numbers[name])
		if !errors.Is(err, diff.ErrNotNative) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package apply

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// told makes changes readable.
func told(c Change) string {
	s := string(c.Kind) + " "
	if c.OldPath != "" {
		s += c.OldPath + " -> "
	}
	s += c.Path
	for i, w := range []string{"data", "metadata", "xattrs", "link", "replaced", "names"} {
		if c.Why&(1<<i) != 0 {
			s += " " + w
		}
	}
	return s
}

func TestPathsInTheOrderOfAWalk(t *testing.T) {
	want := []string{"", "a", "a/a", "a/z", "a!", "a-b", "ab", "b\xff", "b\xff/c"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, comparePaths)
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What is said of a change set: the directory a moves to b, in it f is written to and g removed; h has a second name that
// moves into a new directory; r is removed and made again.
func TestChangesOfSet(t *testing.T) {
	const reg, dir = unix.S_IFREG, unix.S_IFDIR
	key := func(n uint64) diff.Key { return diff.Key{Ino: n, Gen: 1} }
	name := func(path string, parent, ino uint64, kind uint32) diff.Name {
		return diff.Name{Path: path, Parent: key(parent), Key: key(ino), Type: kind}
	}
	file, folder := diff.Attr{Mode: reg | 0o644, Size: 5, Nlink: 1}, diff.Attr{Mode: dir | 0o755, Nlink: 1}
	later := folder
	later.MtimeSec = 7
	set := diff.NewChangeSet()
	for _, n := range []diff.Name{name("a", 1, 10, dir), name("a/g", 10, 11, reg), name("h2", 1, 13, reg), name("r", 1, 14, reg)} {
		set.Unlinked.ReplaceOrInsert(n)
	}
	for _, n := range []diff.Name{name("b", 1, 10, dir), name("new", 1, 15, dir), name("new/h", 15, 13, reg), name("r", 1, 16, reg)} {
		set.Linked.ReplaceOrInsert(n)
	}
	for _, g := range []diff.Gone{{Key: key(11), BasePaths: []string{"a/g"}, BaseAttr: file}, {Key: key(14), BasePaths: []string{"r"}, BaseAttr: file}} {
		set.Gone.ReplaceOrInsert(g)
	}
	two := file
	two.Nlink = 2
	for _, in := range []diff.Inode{
		{Key: key(1), What: diff.Meta, Paths: []string{""}, BasePaths: []string{""}, Attr: later, BaseAttr: folder},
		{Key: key(10), What: diff.Meta, Paths: []string{"b"}, BasePaths: []string{"a"}, Attr: later, BaseAttr: folder},
		{Key: key(12), What: diff.Data | diff.Meta, Paths: []string{"b/f"}, BasePaths: []string{"a/f"}, Attr: file, BaseAttr: file},
		{Key: key(13), What: diff.Links, Paths: []string{"h1", "new/h"}, BasePaths: []string{"h1", "h2"}, Attr: two, BaseAttr: two},
		{Key: key(15), What: diff.New, Paths: []string{"new"}, Attr: folder},
		{Key: key(16), What: diff.New, Paths: []string{"r"}, Attr: file},
	} {
		set.Inodes.ReplaceOrInsert(in)
	}
	var got []string
	check(t, ChangesOf(set, func(c Change) error { got = append(got, told(c)); return nil }))
	want := []string{"M  names", "- a/g", "R a -> b names", "M a/f -> b/f data", "M h1 link", "+ new", "R h2 -> new/h link", "M r data replaced"}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got:\n%s\nwant:\n%s", g, w)
	}
	if err := ChangesOf(set, func(c Change) error { return fmt.Errorf("full") }); err == nil || err.Error() != "full" {
		t.Errorf("an error on the way gives %v", err)
	}
}

func TestPathsWithTheirDirectories(t *testing.T) {
	for paths, want := range map[string]string{
		"d/e/f d/e/g d/h i a/b": "d/e d/e/f d/e/g d d/h . i a a/b",
		". d d/e d/e/f":         ". d d/e d/e/f",
	} {
		var got []string
		yield := withDirs(func(path string, _ *ViewFile) error {
			if path == "" {
				path = "."
			}
			got = append(got, path)
			return nil
		})
		for path := range strings.SplitSeq(paths, " ") {
			check(t, yield(strings.TrimPrefix(path, "."), nil))
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s: got %s, want %s", paths, g, want)
		}
	}
}

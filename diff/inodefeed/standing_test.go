package inodefeed

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// TestWrongLinkIndex: a link index that is wrong about files which changed, and about the directories that they are in, is found out, though
// the files are not looked up in the base by their names.
func TestWrongLinkIndex(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			at := func(path string) string { return filepath.Join(v.dir, path) }
			for _, dir := range []string{"stays", "before", "other"} {
				must(t, os.Mkdir(at(dir), 0o700))
				for _, name := range []string{"a", "b", "c", "twice"} {
					must(t, os.WriteFile(at(dir+"/"+name), []byte(dir+name), 0o600))
				}
				must(t, os.Link(at(dir+"/twice"), at(dir+"/again")))
			}
			base := v.snapshot()
			nums := map[string]uint64{}
			walk(t, base.Root, func(path string, _ uint64, st unix.Stat_t) { nums[path] = st.Ino })
			for _, name := range []string{"stays/a", "stays/b", "stays/twice", "before/a", "before/b", "other/c"} {
				f, err := os.OpenFile(at(name), os.O_WRONLY|os.O_APPEND, 0)
				must(t, err)
				_, err = f.WriteString(" and more")
				must(t, err)
				must(t, f.Close())
			}
			must(t, os.Rename(at("before"), at("behind")))
			must(t, os.Rename(at("other/c"), at("other/d")))
			next := v.snapshot()
			blocks, truth := changed(t, base, next), index(t, base)
			attempt := func(links names) (*diff.ChangeSet, error) {
				set, _, err := Diff(t.Context(), base.Side, next.Side, blocks, links, diff.Options{})
				return set, err
			}
			right, err := attempt(truth)
			must(t, err)
			var data []string
			right.Inodes.Ascend(func(in diff.Inode) bool {
				if in.What&diff.Data != 0 {
					data = append(data, in.BasePaths...)
				}
				return true
			})
			slices.Sort(data)
			if want := []string{"before/a", "before/b", "other/c", "stays/a", "stays/again", "stays/b", "stays/twice"}; !slices.Equal(data, want) {
				t.Errorf("the contents of %q differ, should be %q", data, want)
			}
			for what, wrong := range map[string]struct {
				path string
				refs []diff.Ref
			}{
				"another name":                                 {"stays/a", []diff.Ref{{Parent: nums["stays"], Name: "c"}}},
				"a name that is not there":                     {"stays/a", []diff.Ref{{Parent: nums["stays"], Name: "x"}}},
				"another directory":                            {"stays/a", []diff.Ref{{Parent: nums["other"], Name: "a"}}},
				"a name too many":                              {"stays/a", []diff.Ref{{Parent: nums["stays"], Name: "a"}, {Parent: nums["stays"], Name: "x"}}},
				"a name too few":                               {"stays/twice", []diff.Ref{{Parent: nums["stays"], Name: "twice"}}},
				"a directory that moved, where it is now":      {"before", []diff.Ref{{Parent: truth[nums["before"]][0].Parent, Name: "behind"}}},
				"a directory that moved, where it never was":   {"before", []diff.Ref{{Parent: truth[nums["before"]][0].Parent, Name: "never"}}},
				"a file that was renamed, with its name now":   {"other/c", []diff.Ref{{Parent: nums["other"], Name: "d"}}},
				"a file that was renamed, with none of them":   {"other/c", []diff.Ref{{Parent: nums["other"], Name: "x"}}},
				"a file of a directory that moved, by no name": {"before/a", []diff.Ref{{Parent: nums["before"], Name: "x"}}},
			} {
				links := maps.Clone(truth)
				links[nums[wrong.path]] = wrong.refs
				if _, err := attempt(links); !errors.Is(err, diff.ErrNotNative) {
					t.Errorf("%s: %s: %v", wrong.path, what, err)
				}
			}
		})
	}
}

// TestOtherFileInTheBase: contents are compared of the inode that changed, not of what a name may mean.
func TestOtherFileInTheBase(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			for _, name := range []string{"a", "b"} {
				must(t, os.WriteFile(filepath.Join(v.dir, name), []byte("the same"), 0o600))
			}
			base, next := v.snapshot(), v.snapshot()
			f, err := newFeed(base.Side, next.Side, changed(t, base, next))
			must(t, err)
			var st unix.Stat_t
			must(t, unix.Stat(filepath.Join(v.dir, "a"), &st))
			info, _, err := f.next.Inode(st.Ino)
			must(t, err)
			c := f.contents(t.Context(), nil)
			if _, changed, err := c.compare(st.Ino, info, info, "a", "a"); changed || err != nil {
				t.Errorf("a file as it was: %v, %v", changed, err)
			}
			if _, _, err := c.compare(st.Ino, info, info, "b", "a"); !errors.Is(err, diff.ErrNotNative) {
				t.Errorf("by the name of another in the base: %v", err)
			}
		})
	}
}

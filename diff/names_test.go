package diff_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

// countedTree counts the names that it tells.
type countedTree struct {
	diff.Tree
	told *int
}

func (c countedTree) Names(num uint64) ([]diff.Ref, error) {
	refs, err := c.Tree.Names(num)
	*c.told += len(refs)
	return refs, err
}

// TestManyNamesOfOneInode: an inode that loses many of its names, or all, is looked at once and not for each of them.
func TestManyNamesOfOneInode(t *testing.T) {
	const count = 400
	top := a.Mount(t, a.Btrfs)
	source := a.Subvolume(t, filepath.Join(top, "source"))
	for _, name := range []string{"some", "all", "other"} {
		check(t, os.WriteFile(filepath.Join(source, name), nil, 0o600))
	}
	for i := range count {
		dir := filepath.Join(source, fmt.Sprint(i%20))
		check(t, os.MkdirAll(dir, 0o700))
		for _, name := range []string{"some", "all", "other"} { // in turn: nobody can keep only the last
			check(t, os.Link(filepath.Join(source, name), filepath.Join(dir, fmt.Sprint(i, name))))
		}
	}
	var snapshots [2]string
	for i := range snapshots {
		mark, err := btrfs.Create(source, top, fmt.Sprint("snapdiff-", i))
		check(t, err)
		snapshots[i] = mark.Path
		for dir := range 20 { // half of them with their directories
			if dir%2 == 0 {
				check(t, os.RemoveAll(filepath.Join(source, fmt.Sprint(dir))))
			}
		}
		for n := range count {
			for _, name := range []string{"some", "all"} {
				if path := filepath.Join(source, fmt.Sprint(n%20), fmt.Sprint(n, name)); name == "all" || n%3 == 0 {
					os.Remove(path) // it may be gone
				}
			}
		}
		check(t, os.RemoveAll(filepath.Join(source, "all")))
	}
	_, dirs := walkNames(t, snapshots[1])
	base, next, err := linkedMounted(t, snapshots[0], snapshots[1], slices.Collect(maps.Keys(dirs)))
	check(t, err)
	names, _ := walkNames(t, snapshots[1])
	told := 0
	set, err := diff.Compare(t.Context(), diff.Reader{Base: countedTree{base, &told}, Next: countedTree{next, &told},
		Content: func(uint64, diff.Info, diff.Info, string, string) ([]diff.Range, bool, error) { return nil, false, nil },
	}, append(slices.Collect(maps.Keys(names)), next.Root()), diff.Options{})
	check(t, err)
	var went, gone int
	set.Unlinked.Ascend(func(n diff.Name) bool {
		if n.Type == unix.S_IFREG {
			went++
		}
		return true
	})
	set.Gone.Ascend(func(g diff.Gone) bool { gone += len(g.BasePaths); return true })
	if went < 2*count || gone < count {
		t.Fatalf("%d names went, %d of them of inodes that are gone: too few to see anything", went, gone)
	}
	if told > 20*count {
		t.Errorf("of %d names that went %d names were told", went, told)
	}
}

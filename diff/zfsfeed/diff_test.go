package zfsfeed

import (
	"context"
	"strconv"
	"strings"
	"testing"

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
	mark, err := zfs.Take(s.Context(), s.dataset, zfs.Prefix+strconv.Itoa(s.n), tag)
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

// index is a link index read from a snapshot.
type index map[uint64][]diff.Ref

func (x index) Names(ino uint64) ([]diff.Ref, error) { return x[ino], nil }

func walk(t testing.TB, root *beneath.Root) index {
	t.Helper()
	x := index{}
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

// diff compares two snapshots.
func (s *source) diff(base, next snap) *diff.ChangeSet {
	s.Helper()
	from, err := strconv.ParseUint(base.ID, 10, 64)
	must(s, err)
	to, err := strconv.ParseUint(next.ID, 10, 64)
	must(s, err)
	sent := zfs.Send(s.Context(), base.Path, next.Path)
	defer sent.Close()
	set, err := Diff(s.Context(), base.root, next.root, sent, from, to, walk(s, base.root), diff.Options{})
	must(s, err)
	return set
}

func TestOperations(t *testing.T) {
	s := newSource(t)
	a.Apply(t, s.dataset.Dir, a.Mkdir("create"), a.Create("f", 100, 1))
	base := s.snapshot()
	a.Apply(t, s.dataset.Dir, a.Create("create/new", 100, 1), a.Append("f", 5, 1))
	next := s.snapshot()
	set := s.diff(base, next)
	set.Inodes.Ascend(func(in diff.Inode) bool { t.Logf("%+v", in); return true })
}

package inodefeed

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot"
)

// mirror keeps a mirror of a volume, as a job does, and judges every run.
type mirror struct {
	*volume
	store   string
	base    *snap
	carried []diff.Key
}

// newMirror makes an empty store.
func newMirror(v *volume) *mirror {
	v.Helper()
	m := &mirror{volume: v, store: filepath.Join(a.Mount(v, a.Ext4), "store")}
	must(v, apply.Init(m.store))
	return m
}

// run takes a snapshot and brings the mirror to it. The change set of a first copy is nil.
func (m *mirror) run() *diff.ChangeSet {
	m.Helper()
	next := m.snapshot()
	store, err := apply.Open(m.store)
	must(m, err)
	defer store.Close()
	mark := snapshot.Mark{Kind: "lvm", Source: "volume", ID: fmt.Sprint(m.taken)}
	var result *apply.Result
	var set *diff.ChangeSet
	if m.base == nil {
		result, err = store.FirstCopy(m.Context(), apply.Copy{Next: next.Root, Keys: Keys(next.Side), Mark: mark}, apply.Options{})
	} else {
		blocks := changed(m, m.base, next)
		set, next.Carried, err = Diff(m.Context(), m.base.Side, next.Side, blocks, index(m, m.base), diff.Options{})
		must(m, err)
		applied := *set
		applied.Inodes = set.Inodes.Clone() // Apply uses them up
		result, err = store.Apply(m.Context(), apply.Run{Changes: &applied, Base: m.base.Root, Next: next.Root, Mark: mark, How: "native"}, apply.Options{})
	}
	must(m, err)
	for _, p := range result.Incomplete {
		m.Errorf("incomplete: %q: %v", p.Path, p.Err)
	}
	m.judge(next)
	if m.base == nil {
		next.Carried, err = Carry(m.Context(), next.Side)
		must(m, err)
	} else {
		m.noFalseChange(set, next)
		m.base.drop()
	}
	m.base = next
	return set
}

// judge compares mirror and snapshot. Holes are kept in blocks of 4 KiB: smaller ones of the source cannot be compared.
func (m *mirror) judge(next *snap) {
	m.Helper()
	var st unix.Statfs_t
	must(m, unix.Statfs(next.dir, &st))
	tree := filepath.Join(m.store, "tree")
	if st.Bsize >= 4096 {
		a.Judge(m, next.dir, tree)
		return
	}
	lines, err := a.Differences(next.dir, tree)
	must(m, err)
	for _, line := range lines {
		if !strings.Contains(line, ": holes is ") {
			m.Error(line)
		}
	}
}

// noFalseChange looks at what the change set says of files that were there before: something must differ, and nothing
// outside the ranges.
func (m *mirror) noFalseChange(set *diff.ChangeSet, next *snap) {
	m.Helper()
	set.Inodes.Ascend(func(in diff.Inode) bool {
		if in.What&diff.New != 0 {
			return true
		}
		if in.What&diff.Meta != 0 && !in.Attr.IsDir() {
			b, n := in.BaseAttr, in.Attr
			b.Size, n.Size, b.Nlink, n.Nlink = 0, 0, 0, 0
			if b == n {
				m.Errorf("false change of metadata: %+v", in)
			}
		}
		if in.What&diff.Data != 0 {
			m.checkRanges(in, next)
		}
		return true
	})
}

// checkRanges compares all bytes outside the ranges.
func (m *mirror) checkRanges(in diff.Inode, next *snap) {
	m.Helper()
	const most = 8 << 20
	if in.BaseAttr.Size > most || in.Attr.Size > most {
		return
	}
	b, n := read(m, m.base, in.BasePaths[0], in.BaseAttr.Size), read(m, next, in.Paths[0], in.Attr.Size)
	if in.Ranges == nil {
		m.Errorf("%q: the ranges are not known", in.Paths)
	}
	end := min(len(b), len(n))
	at := 0
	for _, r := range append(slices.Clone(in.Ranges), diff.Range{Off: int64(len(n))}) {
		to := int(r.Off)
		if to < at || r.Off+r.Len > int64(len(n)) {
			m.Errorf("%q: ranges %v of %d bytes", in.Paths, in.Ranges, len(n))
			return
		}
		if from, to := min(at, end), min(to, end); !bytes.Equal(b[from:to], n[from:to]) {
			m.Errorf("%q differs between bytes %d and %d, outside its ranges %v", in.Paths, from, to, in.Ranges)
		}
		at = to + int(r.Len)
	}
}

// read gives the contents of a file.
func read(t testing.TB, s *snap, path string, size int64) []byte {
	t.Helper()
	f, err := openFile(s.Root, path, size)
	must(t, err)
	defer unix.Close(f.fd)
	data := make([]byte, size)
	must(t, readFull(f.fd, data, 0))
	return data
}

// lacks are what the filesystems of the tests do not know.
var lacks = map[a.Kind][]a.Feature{
	a.Ext4: {a.NeedsSubvolumes, a.NeedsReflink},
	a.XFS:  {a.NeedsSubvolumes},
}

// scenarios brings all scenarios into a mirror.
func scenarios(v *volume, lacks []a.Feature) {
	v.Helper()
	list := a.ScenariosFor(lacks...)
	a.Begin(v, v.dir, list)
	m := newMirror(v)
	m.run()
	a.Go(v, v.dir, list)
	set := m.run()
	if len(list) > 1 && (set.Inodes.Len() == 0 || set.Gone.Len() == 0) {
		v.Errorf("%d inodes changed, %d are gone", set.Inodes.Len(), set.Gone.Len())
	}
	if again := compare(v, m.base, v.snapshot(), diff.Options{}); !again.Empty() {
		again.Inodes.Ascend(func(in diff.Inode) bool { v.Errorf("nothing changed, and yet %+v", in); return true })
	}
	a.End(v, v.dir, list)
	m.run()
}

// TestScenarios brings every operation from each filesystem into a mirror.
func TestScenarios(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) { scenarios(newVolume(t, kind, volumeSize[kind]), lacks[kind]) })
	}
}

package inodefeed

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
)

// operation is what happens to the file f of a directory, and what the change set has to say of it.
type operation struct {
	name          string
	before, after []a.Change
	what          diff.What // 0: nothing
	ranges        []diff.Range
	on            a.Kind // "": any
}

// full is a file of 24 blocks.
func full(path string) a.Change { return a.Create(path, 98304, 1) }

func keep(path string, c ...a.Change) []a.Change { return []a.Change{a.KeepMtime(path, c...)} }

const shared = a.XFS // has reflinks

var operations = []operation{
	{"touch", []a.Change{full("f")}, []a.Change{a.Utimes("f", 7, 7)}, diff.Meta, nil, ""},
	{"mode", []a.Change{full("f")}, []a.Change{a.Chmod("f", 0o4711)}, diff.Meta, nil, ""},
	{"atime", []a.Change{full("f")}, []a.Change{a.TouchAtime("f", 77)}, 0, nil, ""},
	{"xattr", []a.Change{full("f")}, []a.Change{a.SetXattr("f", "user.x", "y")}, diff.Xattrs, nil, ""},
	{"large xattr", []a.Change{full("f"), a.SetXattr("f", "user.x", strings.Repeat("x", 900))}, []a.Change{a.SetXattr("f", "user.x", strings.Repeat("y", 900))}, diff.Xattrs, nil, ""},
	{"xattr put back", []a.Change{full("f")}, []a.Change{a.SetXattr("f", "user.x", "y"), a.RemoveXattr("f", "user.x")}, 0, nil, ""},
	{"link", []a.Change{full("f")}, []a.Change{a.Link("f", "g")}, diff.Links, nil, ""},
	{"write", []a.Change{full("f")}, keep("f", a.Write("f", 9000, 9, 2)), diff.Data, []diff.Range{{Off: 8192, Len: 4096}}, ""},
	{"equal bytes", []a.Change{full("f"), a.KeepMtime("f", a.Fsync("f"))}, keep("f", a.Write("f", 8192, 8192, 1)), 0, nil, ""},
	{"mmap", []a.Change{full("f")}, keep("f", a.MmapWrite("f", 9000, 9, 2)), diff.Data, []diff.Range{{Off: 8192, Len: 4096}}, ""},
	{"append to a small one", []a.Change{a.Create("f", 5000, 1)}, keep("f", a.Append("f", 100, 2)), diff.Data, []diff.Range{{Len: 5100}}, ""},
	{"append", []a.Change{a.Create("f", 200_000, 1)}, keep("f", a.Append("f", 100, 2)), diff.Data, []diff.Range{{Off: 200_000, Len: 100}}, ""},
	{"shrink", []a.Change{a.Create("f", 300_000, 1)}, keep("f", a.Truncate("f", 200_000)), diff.Data, []diff.Range{}, ""},
	{"empty", []a.Change{full("f")}, keep("f", a.Truncate("f", 0)), diff.Data, []diff.Range{}, ""},
	{"grow", []a.Change{a.Create("f", 8192, 1)}, keep("f", a.Truncate("f", 200_000)), diff.Data, []diff.Range{{Off: 8192, Len: 191_808}}, ""},
	{"punch", []a.Change{full("f")}, keep("f", a.Punch("f", 8192, 8192)), diff.Data, []diff.Range{{Off: 8192, Len: 8192}}, ""},
	{"collapse", []a.Change{a.Create("f", 196608, 1)}, keep("f", a.Collapse("f", 8192, 8192)), diff.Data, []diff.Range{{Off: 8192, Len: 180224}}, ""},
	{"zero range", []a.Change{full("f")}, keep("f", a.ZeroRange("f", 8192, 8192)), diff.Data, []diff.Range{{Off: 8192, Len: 8192}}, ""},
	{"prealloc behind the end", []a.Change{full("f")}, keep("f", a.PreallocKeep("f", 98304, 98304)), 0, nil, ""},
	{"prealloc in a hole", []a.Change{a.Create("f", 4096, 1), a.Truncate("f", 98304)}, keep("f", a.PreallocKeep("f", 8192, 8192)), 0, nil, ""},
	{"unwritten filled", []a.Change{a.Create("f", 0, 1), a.Prealloc("f", 0, 98304)}, keep("f", a.Write("f", 8192, 4096, 2)), diff.Data, []diff.Range{{Off: 8192, Len: 4096}}, ""},
	{"reflink", []a.Change{full("f"), a.Create("g", 98304, 2)}, keep("f", a.ReflinkRange("g", "f", 0, 8192, 8192)), diff.Data, []diff.Range{{Off: 8192, Len: 8192}}, shared},
	{"reflinked from", []a.Change{full("f")}, []a.Change{a.Reflink("f", "g")}, 0, nil, shared},
	{"unshared", []a.Change{full("f"), a.Reflink("f", "g")}, keep("f", a.Write("f", 8192, 4096, 2)), diff.Data, []diff.Range{{Off: 8192, Len: 4096}}, shared},
	{"dedupe", []a.Change{full("f"), full("g")}, keep("f", a.Dedupe("g", "f", 98304)), 0, nil, shared},
}

// TestOperations looks at what the change set says of single operations.
func TestOperations(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			list := slices.DeleteFunc(slices.Clone(operations), func(o operation) bool { return o.on != "" && o.on != kind })
			for _, o := range list {
				a.Apply(t, v.dir, a.Mkdir(o.dir()))
				a.Apply(t, filepath.Join(v.dir, o.dir()), o.before...)
			}
			base := v.snapshot()
			for _, o := range list {
				a.Apply(t, filepath.Join(v.dir, o.dir()), o.after...)
			}
			set := compare(t, base, v.snapshot(), diff.Options{})
			for _, o := range list {
				o.check(t, set)
			}
		})
	}
}

func (o operation) dir() string { return strings.ReplaceAll(o.name, " ", "-") }

func (o operation) check(t *testing.T, set *diff.ChangeSet) {
	t.Helper()
	in, ok := set.Inodes.Get(diff.Inode{Paths: []string{o.dir() + "/f"}})
	if in.What != o.what || ok != (o.what != 0) {
		t.Errorf("%s: what changed is %b, should be %b", o.name, in.What, o.what)
	}
	if o.what&diff.Data != 0 && !slices.Equal(in.Ranges, o.ranges) || in.Ranges == nil && o.ranges != nil {
		t.Errorf("%s: ranges %v, should be %v", o.name, in.Ranges, o.ranges)
	}
}

// TestInlineData: contents that lie in the inode itself.
func TestInlineData(t *testing.T) {
	v := newVolume(t, a.Ext4, ext4Size, "-I", "512", "-O", "inline_data")
	list := []operation{
		{"written", []a.Change{a.Create("f", 100, 1)}, keep("f", a.Write("f", 50, 9, 2)), diff.Data, []diff.Range{{Len: 100}}, ""},
		{"equal", []a.Change{a.Create("f", 100, 1)}, keep("f", a.Write("f", 50, 9, 1)), 0, nil, ""},
		{"grown out", []a.Change{a.Create("f", 100, 1)}, keep("f", a.Append("f", 900, 1)), diff.Data, []diff.Range{{Len: 1000}}, ""},
		{"grown by a hole", []a.Change{a.Create("f", 100, 1)}, keep("f", a.Truncate("f", 200_000)), diff.Data, []diff.Range{{Off: 100, Len: 199_900}}, ""},
	}
	for _, o := range list {
		a.Apply(t, v.dir, a.Mkdir(o.dir()))
		a.Apply(t, filepath.Join(v.dir, o.dir()), o.before...)
	}
	m := newMirror(v)
	m.run()
	for _, o := range list {
		a.Apply(t, filepath.Join(v.dir, o.dir()), o.after...)
	}
	set := m.run()
	for _, o := range list {
		o.check(t, set)
	}
}

// TestDeletedWhileOpen: an inode without a name is none.
func TestDeletedWhileOpen(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind])
			a.Apply(t, v.dir, a.Mkdir("d"), full("d/f"), full("d/g"))
			m := newMirror(v)
			m.run()
			fd, err := unix.Open(filepath.Join(v.dir, "d/f"), unix.O_RDWR|unix.O_CLOEXEC, 0)
			must(t, err)
			a.Apply(t, v.dir, a.Remove("d/f"), a.Rename("d", "e"))
			_, err = unix.Pwrite(fd, []byte("late"), 5)
			must(t, err)
			if set := m.run(); set.Gone.Len() != 1 {
				t.Errorf("%d inodes are gone, want 1", set.Gone.Len())
			}
			must(t, unix.Close(fd))
			if set := m.run(); !set.Empty() {
				t.Errorf("the last name had gone before, and yet %d inodes changed", set.Inodes.Len())
			}
		})
	}
}

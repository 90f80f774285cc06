package inodefeed

import (
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
)

// narrowed compares all directories that two snapshots have by their blocks, makes sure that the same comes out as by reading them whole,
// and counts. Every directory can be compared so, or none.
type narrowed struct {
	dirs    int // directories compared
	whole   int // directories that had to be read whole
	differ  int // names that differ
	blocks  int // blocks that the directories have now
	read    int // those of them that were read
	forms   map[string]int
	reasons []string
}

func narrowAll(t testing.TB, base, next *snap) (sum narrowed) {
	t.Helper()
	f, err := newFeed(base.Side, next.Side, changed(t, base, next))
	must(t, err)
	_, _, err = f.candidates(t.Context(), nil)
	must(t, err)
	must(t, f.findStanding(index(t, base)))
	sum.forms = map[string]int{}
	before := entriesOf(t, base)
	for dir, now := range entriesOf(t, next) {
		b, ok, err := f.base.inode(dir)
		must(t, err)
		n, _, err := f.next.inode(dir)
		must(t, err)
		if !ok || !b.IsDir() || b.Gen != n.Gen || before[dir] == nil {
			continue
		}
		d, err := f.next.directory(dir)
		if err == nil {
			sum.forms[form(t, f.next, dir, d)]++
		}
		u, err := f.narrow(dir)
		if err != nil {
			sum.whole++
			sum.reasons = append(sum.reasons, err.Error())
			continue
		}
		sum.dirs++
		went, came := unlikeWhole(f, before[dir], now)
		sum.differ += len(went) + len(came)
		if got := sortedEntries(u.went); !slices.Equal(got, went) {
			t.Errorf("directory %d: by its blocks %q went, by reading it %q", dir, got, went)
		}
		if got := sortedEntries(u.came); !slices.Equal(got, came) {
			t.Errorf("directory %d: by its blocks %q came, by reading it %q", dir, got, came)
		}
		sum.count(f, dir, d)
	}
	return sum
}

// count adds how much of a directory was read.
func (sum *narrowed) count(f *feed, dir uint64, d *directory) {
	for _, e := range d.extents {
		sum.blocks += int(e.len / d.block)
	}
	b, _ := f.base.directory(dir)
	for _, at := range unlikePlaces(b.extents, d.extents, f.changed, d.block) {
		if parts, _ := d.parts(nil, at); len(parts) > 0 {
			sum.read++
		}
	}
}

// form tells how a directory lies.
func form(t testing.TB, tr *tree, dir uint64, d *directory) string {
	t.Helper()
	raw, err := tr.fs.raw(dir)
	must(t, err)
	if x, ok := tr.fs.(*ext4); ok {
		flags, depth := le.Uint32(raw[ext4Flags:]), le.Uint16(raw[ext4Map+6:])
		out := "numbers"
		if flags&ext4ExtentsFlag != 0 {
			out = fmt.Sprint("tree of ", depth)
		}
		if flags&ext4IndexFlag == 0 {
			return out + ", no index"
		}
		b, err := x.meta.bytes(d.extents[0].disk, int(d.block))
		must(t, err)
		return fmt.Sprint(out, ", index of ", b[30]+1) // dx_root_info.indirect_levels
	}
	x, out := tr.fs.(*xfs), ""
	if raw[xfsFormat] == xfsFormatTree {
		out = "tree, "
	}
	last := dirExtent{}
	if n := len(d.extents); n > 0 {
		last = d.extents[n-1]
	}
	b, err := x.meta.bytes(last.disk, 512)
	must(t, err)
	switch {
	case last.len == 0:
		return "inside"
	case last.at < xfsLeafPlace:
		return out + "block"
	case be.Uint16(b[8:]) == xfsLeafOne:
		return out + "leaf"
	}
	return out + "node"
}

// entriesOf reads all directories of a snapshot, by number and name.
func entriesOf(t testing.TB, s *snap) map[uint64]map[string]diff.Entry {
	t.Helper()
	all := map[uint64]map[string]diff.Entry{}
	walk(t, s.Root, func(path string, parent uint64, st unix.Stat_t) {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			all[st.Ino] = map[string]diff.Entry{}
		}
		if path != "" {
			name := filepath.Base(path)
			all[parent][name] = diff.Entry{Name: name, Ino: st.Ino, Type: st.Mode & unix.S_IFMT}
		}
	})
	return all
}

// unlikeWhole compares what was read whole.
func unlikeWhole(f *feed, before, now map[string]diff.Entry) (went, came []string) {
	differs := func(e diff.Entry, other map[string]diff.Entry) bool {
		_, again := f.reused[e.Ino]
		return again || other[e.Name] != e
	}
	var b, n []diff.Entry
	for _, e := range before {
		if differs(e, now) {
			b = append(b, e)
		}
	}
	for _, e := range now {
		if differs(e, before) {
			n = append(n, e)
		}
	}
	return sortedEntries(b), sortedEntries(n)
}

func sortedEntries(list []diff.Entry) (out []string) {
	for _, e := range list {
		out = append(out, fmt.Sprintf("%s: %d %o", e.Name, e.Ino, e.Type))
	}
	slices.Sort(out)
	return out
}

// crowd is some directories whose names come and go at random.
type crowd struct {
	testing.TB
	r     *rand.Rand
	top   string
	dirs  []string
	names map[string][]string // by directory
	made  int
}

func newCrowd(t testing.TB, r *rand.Rand, top string, dirs int) *crowd {
	c := &crowd{TB: t, r: r, top: top, names: map[string][]string{}}
	for i := range dirs {
		dir := filepath.Join(top, fmt.Sprint("dir", i))
		must(t, os.Mkdir(dir, 0o700))
		c.dirs = append(c.dirs, dir)
	}
	return c
}

func (c *crowd) dir() string { return c.dirs[c.r.IntN(len(c.dirs))] }

// name makes a new name of random length.
func (c *crowd) name() string {
	c.made++
	return fmt.Sprint(c.made, strings.Repeat("n", []int{0, 9, 30, 245}[c.r.IntN(4)]))
}

// take takes a name out of a directory.
func (c *crowd) take(dir string) (name string, ok bool) {
	n := len(c.names[dir])
	if n == 0 {
		return "", false
	}
	i := c.r.IntN(n)
	name = c.names[dir][i]
	c.names[dir][i] = c.names[dir][n-1]
	c.names[dir] = c.names[dir][:n-1]
	return filepath.Join(dir, name), true
}

func (c *crowd) grow(dir string, count int) {
	c.Helper()
	for range count {
		name := c.name()
		path := filepath.Join(dir, name)
		switch c.r.IntN(12) {
		case 0:
			must(c, os.Mkdir(path, 0o700))
		case 1:
			must(c, os.Symlink("x", path))
		case 2:
			must(c, unix.Mknod(path, unix.S_IFIFO, 0))
		case 3: // what lies between the blocks of directories
			must(c, os.WriteFile(path, make([]byte, 5000), 0o600))
		default:
			must(c, os.WriteFile(path, nil, 0o600))
		}
		c.names[dir] = append(c.names[dir], name)
	}
}

func (c *crowd) shrink(dir string, count int) {
	c.Helper()
	for range count {
		if path, ok := c.take(dir); ok {
			must(c, os.RemoveAll(path))
		}
	}
}

// again removes a name and makes it again: numbers are given away again.
func (c *crowd) again(dir string, count int) {
	c.Helper()
	for range count {
		if path, ok := c.take(dir); ok {
			must(c, os.RemoveAll(path))
			must(c, os.WriteFile(path, nil, 0o600))
			c.names[dir] = append(c.names[dir], filepath.Base(path))
		}
	}
}

// move renames from one directory to another, at times over something.
func (c *crowd) move(from, to string, count int) {
	c.Helper()
	for range count {
		path, ok := c.take(from)
		if !ok {
			continue
		}
		name := c.name()
		if n := len(c.names[to]); n > 0 && c.r.IntN(3) == 0 {
			over, _ := c.take(to)
			must(c, os.RemoveAll(over))
			name = filepath.Base(over)
		}
		must(c, os.Rename(path, filepath.Join(to, name)))
		c.names[to] = append(c.names[to], name)
	}
}

// step does something to some directories.
func (c *crowd) step() {
	c.Helper()
	for range 1 + c.r.IntN(4) {
		dir := c.dir()
		few := 1 + c.r.IntN(5)
		switch c.r.IntN(9) {
		case 0, 1:
			c.grow(dir, few)
		case 2:
			c.grow(dir, 300)
		case 3:
			c.shrink(dir, few)
		case 4:
			c.shrink(dir, len(c.names[dir])*2/3)
		case 5:
			c.again(dir, few)
		case 6:
			c.move(dir, c.dir(), few)
		case 7:
			c.move(dir, dir, few)
		case 8: // XFS: less room for the map in the inode
			must(c, unix.Setxattr(dir, "user.x", make([]byte, 1+c.r.IntN(90)), 0))
		}
	}
}

// TestDirectoryBlocks: what went and came by the blocks of directories is what reading them tells, whatever happened, in every form of
// a filesystem.
func TestDirectoryBlocks(t *testing.T) {
	for _, kind := range kinds {
		for _, f := range sample(t, kind, 2) {
			t.Run(string(kind)+" "+f.name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(a.Seed(t), 0))
				v := newVolume(t, kind, max(volumeSize[kind], 384<<20), f.options...) // bigalloc takes much for each file
				c := newCrowd(v, r, v.dir, 5)
				for i, dir := range c.dirs {
					c.grow(dir, 40*i*i)
				}
				rounds := 5
				if a.Soak() {
					rounds = 20
				}
				base := v.snapshot()
				for range rounds {
					c.step()
					next := v.snapshot()
					sum := narrowAll(t, base, next)
					if some, all := f.name != "large directories, ea_inode" && f.name != "no file types", f.name != "inline data"; some != (sum.dirs > 0) || some && all && sum.whole > 0 {
						t.Errorf("%d directories could be compared by their blocks, %d not: %q", sum.dirs, sum.whole, sum.reasons)
					}
					base.drop()
					base = next
				}
			})
		}
	}
}

// TestMailFolders: a new message in each of some large folders has none of them read whole, of the blocks of each a few, and the change set says
// so; it also says when all of a folder had to be read.
func TestMailFolders(t *testing.T) {
	for _, f := range []struct {
		kind    a.Kind
		options []string
		whole   bool // blocks of this form are not read here
	}{{kind: a.Ext4}, {kind: a.XFS}, {kind: a.Ext4, options: []string{"-O", "^filetype"}, whole: true}} {
		t.Run(fmt.Sprint(f.kind, f.options), func(t *testing.T) {
			v := newVolume(t, f.kind, volumeSize[f.kind], f.options...)
			sizes := []int{1000, 1000, 10_000}
			name := func(folder, message int) string {
				return filepath.Join(v.dir, fmt.Sprintf("%d/17%08d.M%06dP%d.host,S=1234:2,S", folder, message, message*7919%1_000_000, folder))
			}
			for i, size := range sizes {
				must(t, os.Mkdir(filepath.Join(v.dir, fmt.Sprint(i)), 0o700))
				for j := range size {
					first := j / 3000 * 3000 // links take no room
					if j == first {
						must(t, os.WriteFile(name(i, j), nil, 0o600))
					} else {
						must(t, os.Link(name(i, first), name(i, j)))
					}
				}
			}
			base := v.snapshot()
			for i, size := range sizes {
				must(t, os.WriteFile(name(i, size), []byte("new"), 0o600))
			}
			next := v.snapshot()
			set, _, err := Diff(t.Context(), base.Side, next.Side, changed(t, base, next), index(t, base), diff.Options{})
			must(t, err)
			want := diff.DirCount{Changed: 3}
			if f.whole {
				want.Whole = 3
			}
			if set.Dirs != want || set.Linked.Len() != 3 || set.Unlinked.Len() != 0 {
				t.Errorf("%d names went, %d came; directories: %+v, want %+v", set.Unlinked.Len(), set.Linked.Len(), set.Dirs, want)
			}
			if f.whole {
				return
			}
			if sum := narrowAll(t, base, next); sum.differ != 3 || sum.read*4 > 3*sum.blocks { // what is told to differ is 16 blocks long
				t.Errorf("for %d names that differ %d of %d blocks were read", sum.differ, sum.read, sum.blocks)
			}
		})
	}
}

// TestDirectoryForms: directories that grow through all forms and shrink again.
func TestDirectoryForms(t *testing.T) {
	options := map[a.Kind][]string{a.Ext4: {"-b", "1024"}}
	want := map[a.Kind][]string{
		a.Ext4: {"tree of 0, no index", "tree of 1", "index of 1", "index of 2"},
		a.XFS:  {"inside", "block", "leaf", "node", "tree"},
	}
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newVolume(t, kind, volumeSize[kind], options[kind]...)
			dirs := []string{filepath.Join(v.dir, "one"), filepath.Join(v.dir, "one/two")}
			a.Apply(t, v.dir, a.Mkdir("one"), a.Mkdir("one/two"))
			name := func(dir string, i int) string { return filepath.Join(dir, fmt.Sprint(i, strings.Repeat("n", 240))) }
			seen := map[string]int{}
			base, has := v.snapshot(), 0
			step := func() (sum narrowed) {
				next := v.snapshot()
				if sum = narrowAll(t, base, next); sum.whole > 0 {
					t.Errorf("%d names: %d directories have to be read whole: %q", has, sum.whole, sum.reasons)
				}
				for form := range sum.forms {
					seen[form]++
				}
				base.drop()
				base = next
				return sum
			}
			for _, count := range []int{1, 3, 9, 60, 200, 2400, 2401, 2400, 600, 60, 9, 1, 0} {
				for i := has; i < count; i++ {
					for _, dir := range dirs {
						must(t, os.WriteFile(name(dir, i), nil, 0o600))
					}
				}
				for i := count; i < has; i++ {
					for _, dir := range dirs {
						must(t, os.Remove(name(dir, i)))
					}
				}
				one := has-count == 1 || count-has == 1
				has = count
				if sum := step(); one && has > 1000 && (sum.differ != 2 || sum.read*4 > sum.blocks) {
					t.Errorf("for %d names that differ %d of %d blocks were read", sum.differ, sum.read, sum.blocks)
				}
			}
			for _, form := range want[kind] {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(s string) bool { return strings.Contains(s, form) }) {
					t.Errorf("no directory was a %q: %v", form, seen)
				}
			}
		})
	}
}

// TestDirectoriesMirrored brings directories whose names come and go at random into a mirror.
func TestDirectoriesMirrored(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			r := rand.New(rand.NewPCG(a.Seed(t), 0))
			v := newVolume(t, kind, volumeSize[kind])
			c := newCrowd(v, r, v.dir, 3)
			for i, dir := range c.dirs {
				c.grow(dir, 200*i)
			}
			m := newMirror(v)
			m.run()
			for range 3 {
				c.step()
				c.again(c.dir(), 3)
				m.run()
			}
		})
	}
}

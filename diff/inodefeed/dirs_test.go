package inodefeed

import (
	"bytes"
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
	"snapdiff/snapshot/lvm"
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

// TestChangedBlocksLack: where the changed blocks lack one in which a directory came, its link count tells on ext4, and the index or the link
// count on XFS.
func TestChangedBlocksLack(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			r := rand.New(rand.NewPCG(a.Seed(t), 0))
			v := newVolume(t, kind, volumeSize[kind])
			c := newCrowd(v, r, v.dir, 1)
			c.grow(c.dirs[0], 1000)
			var st unix.Stat_t
			must(t, unix.Stat(c.dirs[0], &st))
			base := v.snapshot()
			change := []func(){
				func() { must(t, os.Mkdir(filepath.Join(c.dirs[0], "directory"), 0o700)) },
				func() { must(t, os.WriteFile(filepath.Join(c.dirs[0], "file"), nil, 0o600)) },
			}
			if kind == a.Ext4 { // nothing tells of a file
				change = change[:1]
			}
			for _, do := range change {
				do()
				next := v.snapshot()
				f, err := newFeed(base.Side, next.Side, changed(t, base, next))
				must(t, err)
				all, err := f.narrow(st.Ino)
				must(t, err)
				d, err := f.next.directory(st.Ino)
				must(t, err)
				refused, chunks := 0, f.changed
				for _, e := range d.extents {
					for off := e.disk; off < e.disk+e.len; off += d.block {
						lacking := lvm.Block{Off: off, Len: d.block}
						if f.changed = without(chunks, lacking, next.Size); len(all.came) != 1 || !chunks.Any(off, d.block) {
							continue
						}
						if u, err := f.narrow(st.Ino); err != nil {
							refused++
						} else if len(u.came) != 1 {
							t.Errorf("without %v the name that came is missing, and nobody noticed", lacking)
						}
					}
				}
				if want := map[a.Kind]int{a.Ext4: 1, a.XFS: 2}[kind]; refused != want { // names and, on XFS, index
					t.Errorf("without a block it was refused %d times, should be %d", refused, want)
				}
				base = next
			}
		})
	}
}

// without takes a block out of others.
func without(blocks lvm.Blocks, one lvm.Block, size int64) lvm.Blocks {
	var out []lvm.Block
	for _, b := range blocks {
		before, after := min(b.End(), one.Off), max(b.Off, one.End())
		out = append(out, lvm.Block{Off: b.Off, Len: before - b.Off}, lvm.Block{Off: after, Len: b.End() - after})
	}
	return lvm.NewBlocks(out, size)
}

// flipped is a device with one bit flipped.
type flipped struct {
	*os.File
	at  int64
	bit byte
}

func (f flipped) ReadAt(b []byte, off int64) (n int, err error) {
	n, err = f.File.ReadAt(b, off)
	if f.at >= off && f.at < off+int64(n) {
		b[f.at-off] ^= f.bit
	}
	return n, err
}

// TestDamagedDirectories: where a bit of a directory's inode, map, index or names is another one, it is read whole, or comes out right.
func TestDamagedDirectories(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			r := rand.New(rand.NewPCG(a.Seed(t), 0))
			v := newVolume(t, kind, volumeSize[kind])
			c := newCrowd(v, r, v.dir, 2)
			dir := c.dirs[1]
			for range 20 {
				c.grow(c.dirs[0], 60)
				c.grow(dir, 60)
			}
			var st unix.Stat_t
			must(t, unix.Stat(dir, &st))
			base := v.snapshot()
			c.grow(dir, 20)
			c.shrink(dir, 20)
			next := v.snapshot()
			blocks := changed(t, base, next)
			compare := func(base, next Side) (went, came []string, places []lvm.Block, err error) {
				f, err := newFeed(base, next, blocks)
				must(t, err)
				u, err := f.narrow(st.Ino)
				for _, tr := range []*tree{f.base, f.next} {
					if err == nil {
						places = append(places, readFor(t, f, tr, st.Ino)...)
					}
				}
				return sortedEntries(u.went), sortedEntries(u.came), places, err
			}
			went, came, places, err := compare(base.Side, next.Side)
			must(t, err)
			if len(went) == 0 || len(came) == 0 {
				t.Fatalf("%d names went, %d came", len(went), len(came))
			}
			refused := 0
			for range 300 {
				p := places[r.IntN(len(places))]
				at, bit := p.Off+r.Int64N(p.Len), byte(1)<<r.IntN(8)
				b, n := base.Side, next.Side
				b.Device, n.Device = flipped{base.file, at, bit}, flipped{next.file, at, bit}
				gotWent, gotCame, _, err := compare(b, n)
				if err != nil {
					refused++
				} else if !slices.Equal(gotWent, went) || !slices.Equal(gotCame, came) {
					t.Errorf("with byte %d changed by %#x %q went, should be %q; %q came, should be %q", at, bit, gotWent, went, gotCame, came)
				}
			}
			if refused < 100 {
				t.Errorf("of 300 times it was refused %d times", refused)
			}
		})
	}
}

// readFor are the parts of the device that are read to compare a directory: in one snapshot.
func readFor(t testing.TB, f *feed, tr *tree, num uint64) (places []lvm.Block) {
	t.Helper()
	switch x := tr.fs.(type) {
	case *ext4:
		g := x.groups[(num-1)/uint64(x.super.inodesPerGroup)]
		places = append(places, lvm.Block{Off: g.table + int64((num-1)%uint64(x.super.inodesPerGroup))*x.super.inodeSize, Len: x.super.inodeSize})
	case *xfs:
		group, inGroup, _ := x.super.split(num)
		places = append(places, lvm.Block{Off: x.super.place(group, inGroup), Len: x.super.inodeSize})
	}
	b, err := f.base.directory(num)
	must(t, err)
	n, err := f.next.directory(num)
	must(t, err)
	d := map[*tree]*directory{f.base: b, f.next: n}[tr]
	for _, at := range unlikePlaces(b.extents, n.extents, f.changed, n.block) {
		parts, err := d.parts(nil, at)
		must(t, err)
		places = append(places, parts...)
	}
	return places
}

// BenchmarkMail compares folders of so many messages, one of which is new, by their blocks and by reading them whole. names/folder are
// those that either way reads of both snapshots, once; whole, a run read them twice.
func BenchmarkMail(b *testing.B) {
	for _, kind := range kinds {
		for _, size := range []int{1000, 10_000} {
			v := newVolume(b, kind, volumeSize[kind])
			must(b, os.WriteFile(filepath.Join(v.dir, "message"), nil, 0o600))
			var dirs []string
			for i := range 20 {
				dirs = append(dirs, filepath.Join(v.dir, fmt.Sprint(i)))
				must(b, os.Mkdir(dirs[i], 0o700))
			}
			for i := range size { // in turn, as mail comes, and with a file beside it
				for d, dir := range dirs {
					if i%3000 == 0 {
						must(b, os.WriteFile(filepath.Join(dir, "message"+fmt.Sprint(i)), nil, 0o600))
					}
					must(b, os.Link(filepath.Join(dir, "message"+fmt.Sprint(i/3000*3000)), filepath.Join(dir, fmt.Sprintf("17%08d.M%06dP%d.host,S=1234:2,S", i, i*7919%1_000_000, d))))
				}
			}
			base := v.snapshot()
			for _, dir := range dirs {
				must(b, os.WriteFile(filepath.Join(dir, "1800000000.M123456P1.host,S=1234"), nil, 0o600))
			}
			next := v.snapshot()
			blocks, links := changed(b, base, next), index(b, base)
			nums := make([]uint64, len(dirs))
			for i, dir := range dirs {
				var st unix.Stat_t
				must(b, unix.Stat(dir, &st))
				nums[i] = st.Ino
			}
			newPair := func() *feed {
				f, err := newFeed(base.Side, next.Side, blocks)
				must(b, err)
				_, _, err = diff.Linked(b.Context(), f.base, f.next, links, nil, nil)
				must(b, err)
				return f
			}
			b.Run(fmt.Sprintf("%s/%d/blocks", kind, size), func(b *testing.B) {
				for b.Loop() {
					f := newPair()
					for _, num := range nums {
						u, err := f.narrow(num)
						must(b, err)
						if len(u.came) != 1 || len(u.went) != 0 {
							b.Fatalf("%v", u)
						}
					}
				}
				f, names := newPair(), 0
				for _, num := range nums {
					names += namesRead(b, f, num)
				}
				b.ReportMetric(float64(names)/float64(len(nums)), "names/folder")
			})
			b.Run(fmt.Sprintf("%s/%d/whole", kind, size), func(b *testing.B) {
				names := 0
				for b.Loop() {
					f := newPair()
					for _, num := range nums {
						for _, tree := range []*tree{f.base, f.next} {
							must(b, tree.Entries(num, func(diff.Entry) error { names++; return nil }))
						}
					}
				}
				b.ReportMetric(float64(names)/float64(b.N*len(nums)), "names/folder")
			})
		}
	}
}

// namesRead counts the names that are read to compare a directory by its blocks.
func namesRead(t testing.TB, f *feed, num uint64) (count int) {
	t.Helper()
	b, err := f.base.directory(num)
	must(t, err)
	n, err := f.next.directory(num)
	must(t, err)
	places := unlikePlaces(b.extents, n.extents, f.changed, n.block)
	must(t, f.base.blocks.open(b, places))
	must(t, f.next.blocks.open(n, places))
	for _, at := range places {
		b, err := f.base.blocks.read(at)
		must(t, err)
		n, err := f.next.blocks.read(at)
		must(t, err)
		if bytes.Equal(b, n) {
			continue
		}
		_, err = f.base.blocks.names(at, b, func(diff.Entry) { count++ })
		must(t, err)
		_, err = f.next.blocks.names(at, n, func(diff.Entry) { count++ })
		must(t, err)
	}
	return count
}

// drawnExtents maps a directory of few bytes on a device of few bytes, mostly like another.
func drawnExtents(r *rand.Rand, like []int64) (es []dirExtent, at []int64) {
	for i := 0; i < 40; i++ {
		disk := int64(-1)
		if r.IntN(4) > 0 {
			disk = r.Int64N(50)
		}
		if like != nil && r.IntN(8) > 0 {
			disk = like[i]
		}
		at = append(at, disk)
		if n := len(es); disk < 0 {
		} else if n > 0 && es[n-1].end() == int64(i) && es[n-1].disk+es[n-1].len == disk && r.IntN(2) == 0 {
			es[n-1].len++
		} else {
			es = append(es, dirExtent{int64(i), disk, 1})
		}
	}
	return es, at
}

// TestUnlikePlaces: every block of which a byte lies elsewhere, or where something may differ, is named, and no other.
func TestUnlikePlaces(t *testing.T) {
	r := rand.New(rand.NewPCG(a.Seed(t), 0))
	for range 20_000 {
		base, b := drawnExtents(r, nil)
		next, n := drawnExtents(r, b)
		block := []int64{1, 2, 4}[r.IntN(3)]
		changed := lvm.NewBlocks([]lvm.Block{{Off: r.Int64N(64) / 8 * 8, Len: 8}, {Off: r.Int64N(64) / 8 * 8, Len: 8}}, 64)
		var want []int64
		for at := int64(0); at < 40; at += block {
			for i := at; i < at+block; i++ {
				if b[i] != n[i] || b[i] >= 0 && changed.Any(b[i], 1) {
					want = append(want, at)
					break
				}
			}
		}
		if got := unlikePlaces(base, next, changed, block); !slices.Equal(got, want) {
			t.Fatalf("%v and %v, changed %v, in blocks of %d: %v, want %v", base, next, changed, block, got, want)
		}
	}
}

package inodefeed

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/snapshot/lvm"
)

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

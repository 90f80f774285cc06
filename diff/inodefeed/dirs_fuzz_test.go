package inodefeed

import (
	"bytes"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"snapdiff/diff"
	"snapdiff/snapshot/lvm"
)

// namesIn reads the names of a directory, at most 64 blocks of them.
func namesIn(side Side, d *directory) (names []diff.Entry, err error) {
	names = append(names, d.inside...)
	places := unlikePlaces(nil, d.extents[:min(64, len(d.extents))], nil, d.block)
	r := blockReader{dev: newDevice(side.Device, side.Size, 4096)}
	if err := r.open(d, places); err != nil {
		return nil, err
	}
	spare := 0
	for _, at := range places[:min(64, len(places))] {
		b, err := r.read(at)
		if err != nil {
			return nil, err
		}
		n, err := r.names(at, b, func(e diff.Entry) { names = append(names, e) })
		if err != nil {
			return nil, err
		}
		spare += n
	}
	if spare != 0 && len(places) <= 64 {
		panic("there are more names than the index has, and yet all checksums are right")
	}
	return names, nil
}

// capturedDirectory is a directory of a captured filesystem, with its inode and the blocks of its names.
type capturedDirectory struct {
	num    uint64
	raw    []byte
	fs     filesystem
	blocks map[int64][]byte // by place
	names  []diff.Entry
}

func capturedDirectories(t testing.TB, name string) (all []capturedDirectory) {
	t.Helper()
	side := sideOf(readCaptured(t, name))
	fs, err := open(side)
	must(t, err)
	must(t, fs.scan(t.Context(), lvm.Blocks{{Len: side.Size}}, func(num uint64) error {
		raw, err := fs.raw(num)
		must(t, err)
		if i, err := fs.decode(raw); err != nil || !i.IsDir() {
			return err
		}
		c := capturedDirectory{num: num, raw: bytes.Clone(raw), fs: fs, blocks: map[int64][]byte{}}
		d, err := fs.directory(num, c.raw)
		if err != nil { // inline data
			all = append(all, c)
			return nil
		}
		c.names, err = namesIn(side, d)
		must(t, err)
		for _, e := range d.extents {
			for at := e.at; at < e.end(); at += d.block {
				b := make([]byte, d.block)
				_, err := side.Device.ReadAt(b, e.disk+at-e.at)
				must(t, err)
				c.blocks[at] = b
			}
		}
		all = append(all, c)
		return nil
	}))
	return all
}

// TestCapturedDirectories: the captured directories have the names that testdata/capture.sh gave them.
func TestCapturedDirectories(t *testing.T) {
	for name, small := range map[string]bool{"ext4": false, "xfs": true} {
		var sizes []int
		for _, d := range capturedDirectories(t, name) {
			sizes = append(sizes, len(d.names))
		}
		slices.Sort(sizes)
		want := []int{0, 0, 0, 3, 102} // lost+found is empty, two are inline data
		if small {
			want = []int{0, 2, 4, 102}
		}
		if !slices.Equal(sizes, want) {
			t.Errorf("%s: directories with %v names, want %v", name, sizes, want)
		}
	}
}

func checkName(t *testing.T) func(diff.Entry) {
	return func(e diff.Entry) {
		if e.Name == "" || strings.ContainsAny(e.Name, "/\x00") || e.Type == 0 {
			t.Errorf("a name %+v", e)
		}
	}
}

// FuzzExt4Names reads anything as a block of an ext4 directory.
func FuzzExt4Names(f *testing.F) {
	for _, d := range capturedDirectories(f, "ext4") {
		for at, b := range d.blocks {
			f.Add(b, at == 0, true)
			f.Add(b, at == 0, false)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, first, checksums bool) {
		d := &ext4Directory{ext4: &ext4{super: ext4Super{inodes: 1000}}, flags: ext4IndexFlag}
		if checksums {
			d.super.roCompat = ext4RoMetadataCsum
		}
		b = append(b, make([]byte, 1024)...)[:1024]
		at := int64(1024)
		if first {
			at = 0
		}
		d.parse(at, 0, b, checkName(t))
	})
}

// fixed puts the right checksum in.
func fixed(b []byte, at int) {
	clear(b[at:][:4])
	le.PutUint32(b[at:], crc32.Checksum(b, castagnoli))
}

// FuzzXFSNames reads anything, with the right checksum, as a block of an XFS directory.
func FuzzXFSNames(f *testing.F) {
	for _, d := range capturedDirectories(f, "xfs") {
		for at, b := range d.blocks {
			f.Add(b, at >= xfsLeafPlace)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, leaf bool) {
		b = append(b, make([]byte, 4096)...)[:4096]
		at, sum, block, uuid, owner := int64(0), 4, 8, 24, 40
		if leaf {
			at, sum, block, uuid, owner = xfsLeafPlace, 12, 16, 32, 48
		}
		fixed(b, sum)
		d := &xfsDirectory{&xfs{super: xfsSuper{uuid: [16]byte(b[uuid:])}}, be.Uint64(b[owner:])}
		d.parse(at, int64(be.Uint64(b[block:])<<9), b, checkName(t))
	})
}

// FuzzXFSInside reads anything as names in an XFS inode.
func FuzzXFSInside(f *testing.F) {
	for _, d := range capturedDirectories(f, "xfs") {
		if fork, _ := xfsFork(d.raw); d.raw[xfsFormat] == xfsFormatLocal {
			f.Add(fork[:be.Uint64(d.raw[56:])])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		names, _ := xfsInside(b)
		for _, e := range names {
			checkName(t)(e)
		}
	})
}

// checkExtents makes sure that a map is in order and lies on the device.
func checkExtents(t *testing.T, es []dirExtent, size int64) {
	end := int64(0)
	for _, e := range es {
		if e.at < end || e.len <= 0 || e.disk < 0 || e.disk+e.len > size {
			t.Errorf("a map %v", es)
		}
		end = e.end()
	}
}

// FuzzExt4Map reads anything as the map of an ext4 directory, in an inode and a block of its own.
func FuzzExt4Map(f *testing.F) {
	for _, d := range capturedDirectories(f, "ext4") {
		f.Add(d.raw[ext4Map:][:ext4MapSize], d.raw[ext4Map:][:ext4MapSize], le.Uint32(d.raw[ext4Flags:]), uint16(4))
	}
	f.Fuzz(func(t *testing.T, root, node []byte, flags uint32, blocks uint16) {
		device := make([]byte, fuzzBlock*fuzzBlocks)
		copy(device[5*fuzzBlock:6*fuzzBlock], node)
		dev := newDevice(bytes.NewReader(device), int64(len(device)), fuzzBlock)
		d := &ext4Directory{ext4: &ext4{meta: dev, super: ext4Super{blockSize: fuzzBlock, blocks: fuzzBlocks}}, flags: flags}
		root = append(root, make([]byte, ext4MapSize)...)[:ext4MapSize]
		if es, err := d.extents(root, int64(blocks)*fuzzBlock); err == nil {
			checkExtents(t, es, int64(len(device)))
		}
	})
}

// FuzzXFSMap reads anything as the map of an XFS directory, in an inode and a block of its own.
func FuzzXFSMap(f *testing.F) {
	for _, d := range capturedDirectories(f, "xfs") {
		fork, count := xfsFork(d.raw)
		f.Add(d.raw[xfsFormat], fork, fork, uint16(count))
	}
	tree, leaf := make([]byte, xfsMapRoot+2*xfsMapKey), make([]byte, fuzzBlock)
	be.PutUint32(tree, 1<<16|1)
	be.PutUint64(tree[xfsMapRoot+xfsMapKey:], 5)
	be.PutUint16(leaf[6:], 1)
	be.PutUint64(leaf[xfsMapHead+8:], 7<<21|1)
	f.Add(byte(xfsFormatTree), tree, leaf, uint16(1))
	f.Fuzz(func(t *testing.T, form byte, fork, node []byte, count uint16) {
		device := make([]byte, fuzzBlock*fuzzBlocks)
		copy(device[5*fuzzBlock:6*fuzzBlock], node)
		b := device[5*fuzzBlock:][:fuzzBlock]
		be.PutUint32(b, xfsMapMagic)
		be.PutUint64(b[24:], 5*fuzzBlock/512)
		clear(b[40:64])
		fixed(b, 64)
		dev := newDevice(bytes.NewReader(device), int64(len(device)), fuzzBlock)
		d := &xfsDirectory{&xfs{meta: dev, super: xfsSuper{blockSize: fuzzBlock, groups: 1, groupSize: fuzzBlocks, groupLog: 6}}, 0}
		if es, err := d.extents(form, fork, uint64(count)); err == nil {
			checkExtents(t, es, int64(len(device)))
		}
	})
}

package inodefeed

import (
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
)

// xfsFeatures are the ways to make an XFS that differ in how inodes lie on it.
var xfsFeatures = []feature{
	{"default", nil},
	{"inodes of 1024", []string{"-i", "size=1024"}},
	{"inodes of 2048", []string{"-i", "size=2048"}},
	{"blocks of 1024", []string{"-b", "size=1024"}},
	{"no reflink, no bigtime", []string{"-m", "reflink=0,bigtime=0,inobtcount=0"}},
	{"no finobt", []string{"-m", "finobt=0,inobtcount=0"}},
	{"rmapbt", []string{"-m", "rmapbt=1"}},
	{"no sparse inodes", []string{"-i", "sparse=0"}},
	{"nrext64", []string{"-i", "nrext64=1"}},
	{"many groups", []string{"-d", "agcount=7"}},
	{"directory blocks of 16384", []string{"-n", "size=16384"}},
	{"sectors of 4096", []string{"-s", "size=4096"}},
}

// TestSparseInodes: where no free space is left for whole chunks of inodes, XFS makes chunks with holes.
func TestSparseInodes(t *testing.T) {
	v := newVolume(t, a.XFS, 320<<20)
	command(t, "xfs_io", "-x", "-c", "resblks 0", v.dir) // nothing is kept back
	a.Apply(t, v.dir, a.Create("filler", 0, 1))
	for off, n := int64(0), int64(32<<20); n >= 4096; {
		if a.PreallocKeep("filler", off, n).Apply(v.dir) != nil {
			n /= 2
			continue
		}
		off += n
	}
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(v.dir, "filler"), &st))
	const chunkSize = xfsChunkInodes * 512
	a.Apply(t, v.dir, a.Truncate("filler", 1<<30), a.Many("punch", 0, int(st.Blocks*512), chunkSize, func(i int) a.Change {
		return a.Punch("filler", int64(i), chunkSize/2)
	}), a.Wide("w", 4000))
	s := v.snapshot()
	checkInodes(t, s)
	if sparseChunks(t, s) == 0 {
		t.Error("there is no chunk with holes")
	}
}

// sparseChunks counts the records of trees of one block that say so.
func sparseChunks(t *testing.T, s *snap) (count int) {
	fs, err := open(s.Side)
	must(t, err)
	x := fs.(*xfs)
	for n, g := range x.groups {
		b, err := x.meta.bytes(x.super.groupStart(uint32(n))+int64(g.root)*x.super.blockSize, int(x.super.blockSize))
		must(t, err)
		for i := range int(be.Uint16(b[6:])) {
			if be.Uint16(b[4:]) == 0 && be.Uint16(b[xfsInobtHead+i*xfsChunkSize+4:]) != 0 {
				count++
			}
		}
	}
	return count
}

// TestLargeNumbers: inode numbers of more than 32 bits.
func TestLargeNumbers(t *testing.T) {
	v := newVolume(t, a.XFS, 6<<40, "-l", "size=64m")
	for i := range 12 { // directories go to all groups in turn
		a.Apply(t, v.dir, a.Mkdir(fmt.Sprint(i)), a.Create(fmt.Sprint(i, "/f"), 5000, i))
	}
	base := v.snapshot()
	checkInodes(t, base)
	a.Apply(t, v.dir, a.Many("append", 0, 12, 1, func(i int) a.Change { return a.Append(fmt.Sprint(i, "/f"), 5, i) }))
	highest := uint64(0)
	set := compare(t, base, v.snapshot(), diff.Options{})
	set.Inodes.Ascend(func(in diff.Inode) bool { highest = max(highest, in.Key.Ino); return true })
	if set.Inodes.Len() != 12 || highest < 1<<32 {
		t.Errorf("%d inodes changed, the highest number is %#x", set.Inodes.Len(), highest)
	}
}

package inodefeed

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
)

// ext4Features are the ways to make an ext4 that differ in how inodes lie on it.
var ext4Features = []feature{
	{"default", nil},
	{"inodes of 128", []string{"-I", "128"}},
	{"inodes of 1024", []string{"-I", "1024"}},
	{"inline data", []string{"-I", "512", "-O", "inline_data"}},
	{"not 64-bit", []string{"-O", "^64bit,^metadata_csum"}},
	{"no checksums", []string{"-O", "^metadata_csum,^uninit_bg"}},
	{"uninit_bg", []string{"-O", "^metadata_csum,uninit_bg"}},
	{"ext3", []string{"-O", "^extents,^flex_bg,^huge_file,^64bit,^metadata_csum,^dir_nlink,^extra_isize"}},
	{"blocks of 1024", []string{"-b", "1024"}},
	{"blocks of 1024, meta_bg", []string{"-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024"}},
	{"meta_bg", []string{"-O", "meta_bg,^resize_inode", "-g", "512"}},
	{"meta_bg, not 64-bit", []string{"-O", "meta_bg,^resize_inode,^64bit", "-g", "512"}},
	{"no flex_bg", []string{"-O", "^flex_bg", "-g", "1024"}},
	{"bigalloc", []string{"-O", "bigalloc", "-C", "65536"}},
	{"bigalloc, blocks of 1024", []string{"-b", "1024", "-O", "bigalloc", "-C", "16384"}},
	{"sparse_super2", []string{"-O", "sparse_super2,^resize_inode", "-g", "1024"}},
	{"no sparse_super", []string{"-O", "^sparse_super,^resize_inode", "-g", "1024"}},
	{"no journal", []string{"-O", "^has_journal"}},
	{"verity", []string{"-O", "verity"}},
	{"large directories, ea_inode", []string{"-O", "large_dir,ea_inode"}},
	{"no file types", []string{"-O", "^filetype"}},
}

const ext4Size = 96 << 20

// TestLargeExt4: numbers of blocks of more than 32 bits. It takes much memory: only in a soak.
func TestLargeExt4(t *testing.T) {
	if !a.Soak() {
		return
	}
	v := newVolume(t, a.Ext4, 18<<40, "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-N", "150000", "-J", "size=4")
	a.Apply(t, v.dir, a.Many("directories", 0, 100, 1, func(i int) a.Change { return a.Mkdir(fmt.Sprint(i)) }))
	a.Apply(t, v.dir, odd...)
	s := v.snapshot()
	checkInodes(t, s)
	fs, err := open(s.Side)
	must(t, err)
	highest := int64(0)
	walk(t, s.Root, func(_ string, _ uint64, st unix.Stat_t) {
		x := fs.(*ext4)
		highest = max(highest, x.groups[(st.Ino-1)/uint64(x.super.inodesPerGroup)].table/x.super.blockSize)
	})
	if highest < 1<<32 {
		t.Errorf("the highest inode table in use is at block %#x", highest)
	}
}

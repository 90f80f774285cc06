package btrfsfeed

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

// setDirSize gives a directory of the subvolume with this number another size, in the newest leaves of the device that hold its item: struct
// btrfs_header (linux/btrfs_tree.h) is checksum 32, filesystem 16, address 8, flags 8, chunk tree's UUID 16, generation 8, owner 8, items 4 and
// level 1 bytes; struct btrfs_item a key of 17, offset 4 and size 4.
func setDirSize(t *testing.T, image string, subvolume, dir, size uint64) {
	t.Helper()
	const node, head, item = 16 << 10, 101, 25
	le := binary.LittleEndian
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	var newest uint64
	var at, in []int64 // leaves, and where the size is in them
	b := make([]byte, node)
	for off := int64(0); ; off += 4096 {
		data, err := f.Seek(off, unix.SEEK_DATA) // its last data is a page that something was written to
		if err != nil {
			break
		}
		off = data / 4096 * 4096
		if _, err := f.ReadAt(b, off); err != nil {
			break
		}
		count, generation := int(le.Uint32(b[96:])), le.Uint64(b[80:])
		if le.Uint64(b[88:]) != subvolume || b[100] != 0 || count > (node-head)/item || crc32.Checksum(b[32:], castagnoli) != le.Uint32(b) {
			continue
		}
		for i := range count {
			it := b[head+i*item:]
			if le.Uint64(it) != dir || it[8] != btrfs.InodeItemKey || generation < newest {
				continue
			}
			if generation > newest {
				newest, at, in = generation, nil, nil
			}
			at, in = append(at, off), append(in, head+int64(le.Uint32(it[17:]))+16)
		}
	}
	if len(at) == 0 {
		t.Fatal("the directory's item was not found")
	}
	for i, off := range at {
		_, err := f.ReadAt(b, off)
		must(t, err)
		le.PutUint64(b[in[i]:], size)
		le.PutUint32(b, crc32.Checksum(b[32:], castagnoli))
		_, err = f.WriteAt(b, off)
		must(t, err)
	}
}

// TestWrongSize: a name went, and something made the directory as large again as it was while the filesystem was not mounted.
func TestWrongSize(t *testing.T) {
	s := newSource(t)
	a.Apply(t, s.path, large()...)
	base := s.snapshot()
	var before, after unix.Stat_t
	must(t, unix.Stat(s.path+"/d", &before))
	a.Apply(t, s.path, a.Remove("d/name007"), a.Sync())
	info, err := btrfs.Info(s.path)
	must(t, err)
	mount := filepath.Dir(s.path)
	image := filepath.Join(filepath.Dir(mount), "image")
	must(t, unix.Unmount(mount, 0))
	setDirSize(t, image, info.ID, before.Ino, uint64(before.Size))
	out, err := exec.Command("mount", "-o", "loop", image, mount).CombinedOutput()
	if err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	must(t, unix.Stat(s.path+"/d", &after))
	if after.Size != before.Size {
		t.Fatalf("the directory has size %d, want %d", after.Size, before.Size)
	}
	s.judge(base, s.snapshot(), diff.Options{Remounted: true})
}

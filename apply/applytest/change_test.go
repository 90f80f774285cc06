package applytest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPatternDependsOnOffsetAlone(t *testing.T) {
	whole := pattern(7, 0, 20000)
	for _, off := range []int64{0, 1, 4095, 4096, 5000, 12288} {
		if part := pattern(7, off, 5001); !bytes.Equal(part, whole[off:off+5001]) {
			t.Errorf("pattern at %d differs from the whole", off)
		}
	}
	if bytes.Equal(pattern(7, 0, 100), pattern(8, 0, 100)) {
		t.Error("two seeds give the same content")
	}
}

// everyChange uses each change that every filesystem in the tests can do.
func everyChange() []Change {
	deep := DeepName("deep", 20)
	return []Change{
		Mkdir("d"), Create("d/a", 20000, 1), Write("d/a", 5000, 100, 2), Append("d/a", 5000, 3), Truncate("d/a", 90000),
		Punch("d/a", 4096, 4096), ZeroRange("d/a", 12288, 4096), Prealloc("d/a", 90000, 10000), PreallocKeep("d/a", 200000, 8192),
		MmapWrite("d/a", 4000, 200, 4), Fsync("d/a"), NoCow("d/n"), Append("d/n", 10, 5), Create("d/c", 20000, 6), Collapse("d/c", 4096, 4096),
		Chmod("d/a", 0o6755), Chown("d/a", 3, 4), SetXattr("d/a", "user.x", "y"), SetXattr("d/a", "trusted.t", "z"), ACL("d/a", 77, 5),
		DefaultACL("d", 77, 4), Capability("d/c", 1<<13), Utimes("d/a", 1234567890, 123456789), TouchAtime("d/a", 99),
		SetXattr("d/c", "user.gone", ""), RemoveXattr("d/c", "user.gone"), KeepMtime("d/c", Write("d/c", 0, 1, 7)),
		Symlink("a\xff/../nowhere", "d/s"), Chown("d/s", 5, 6), Mknod("d/null", unix.S_IFCHR|0o600, 1, 3), Mknod("d/b", unix.S_IFBLK|0o600, 7, 300),
		Fifo("d/f"), Socket("d/k"), Link("d/a", "l"), Link("d/s", "ls"), Rename("d/c", "c"), Exchange("l", "c"), Remove("d/null"), Appear("n", 9000, 2), Whiteout("n", "m"),
		Wide("w", 30), Many("chmod", 0, 30, 10, func(i int) Change { return Chmod(wideName("w", i), 0o600) }),
		Deep("deep", 20), Create(deep+"/bottom", 100, 8), Link(deep+"/bottom", "top"), Chmod(deep+"/bottom", 0o600),
		Rename(deep+"/bottom", deep+"/bottom2"), Mkdir("e"), Create("e/x", 1, 1), RemoveAll("e"), Sync(),
	}
}

func TestEveryChange(t *testing.T) {
	for _, kind := range MirrorKinds {
		t.Run(string(kind), func(t *testing.T) {
			dir := Mount(t, kind)
			Apply(t, dir, everyChange()...)
			data, err := os.ReadFile(filepath.Join(dir, "c"))
			if err != nil || len(data) != 100000 {
				t.Fatalf("c has %d bytes, %v", len(data), err)
			}
			if want := pattern(4, 4000, 96); !bytes.Equal(data[4000:4096], want) {
				t.Error("the bytes written through the mapping are not there")
			}
			moved, err := os.ReadFile(filepath.Join(dir, "l"))
			if err != nil || !bytes.Equal(moved[4096:], pattern(6, 8192, 20000-8192)) {
				t.Errorf("the collapsed file is wrong: %v", err)
			}
		})
	}
}

func TestBtrfsChanges(t *testing.T) {
	dir := Mount(t, Btrfs)
	Apply(t, dir, Create("a", 1<<20, 1), Reflink("a", "b"), ReflinkRange("a", "b", 0, 8192, 65536), Create("e", 1<<20, 1), Dedupe("a", "e", 1<<20),
		NestedSubvolume("n"), SnapshotInto("s"), DeleteSubvolume("n"), Compress("a", "zstd"), Sync(), Defragment("a"), Balance())
	data, err := os.ReadFile(filepath.Join(dir, "b"))
	if err != nil || !bytes.Equal(data[65536:65536+8192], pattern(1, 0, 8192)) {
		t.Errorf("the reflinked range is wrong: %v", err)
	}
}

func TestChangePrintsAsGo(t *testing.T) {
	for want, c := range map[string]Change{
		`Create("a\n", 5, 1)`:                    Create("a\n", 5, 1),
		`Symlink("to", "at")`:                    Symlink("to", "at"),
		`KeepMtime("a", Write("a", 0, 1, 2))`:    KeepMtime("a", Write("a", 0, 1, 2)),
		`Rename("a", "b\xff")`:                   Rename("a", "b\xff"),
		`SetXattr("a", "user.x", "v")`:           SetXattr("a", "user.x", "v"),
		`Mknod("n", 0x2180, 0x1, 0x3)`:           Mknod("n", unix.S_IFCHR|0o600, 1, 3),
		`ReflinkRange("a", "b", 0, 4096, 8192)`:  ReflinkRange("a", "b", 0, 4096, 8192),
		"Create(\"a\", 1, 1),\nRemove(\"a\"),\n": {text: "Create(\"a\", 1, 1),\nRemove(\"a\"),\n"},
	} {
		if c.String() != want {
			t.Errorf("prints %s, want %s", c, want)
		}
	}
}

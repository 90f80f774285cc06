package applytest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Scenario is one operation on a source: what is there before, and what happens between two snapshots. Each has a directory
// of its own, so that one run does them all.
type Scenario struct {
	Name          string
	Before, After []Change
	// Needs are what not every filesystem can do.
	Needs []Feature
}

// Feature is something that a source's filesystem may lack.
type Feature string

// What scenarios may need.
const (
	NeedsSubvolumes Feature = "subvolumes" // and all else that is btrfs's own
	NeedsReflink    Feature = "reflink"
	NeedsCollapse   Feature = "collapse range"
	NeedsZeroRange  Feature = "zero range"
	NeedsPrealloc   Feature = "preallocation"
)

// changes are lists in scenarios.
type changes = []Change

// bottom is a file whose path no single system call takes.
var bottom = DeepName("deep", 20) + "/bottom"

// wide is how many files a wide directory has: enough for a directory of many blocks. In the test machine, where each file
// costs seven times as much, fewer, and still more than one block.
var wide = func() int {
	if InTestMachine() {
		return 300
	}
	return 2000
}()

// Scenarios are the operations that a source of any kind is promised to survive.
var Scenarios = []Scenario{
	{"nothing", changes{Create("a", 5000, 1)}, nil, nil},
	{"create", nil, changes{Create("a", 5000, 1), Create("empty", 0, 1), Mkdir("d"), Create("d/x", 1, 2)}, nil},
	{"rename", changes{Create("a", 5000, 1), Mkdir("d")}, changes{Rename("a", "d/b")}, nil},
	{"rename over", changes{Create("a", 5000, 1), Create("b", 10, 2)}, changes{Rename("a", "b")}, nil},
	{"whiteout", changes{Create("a", 5000, 1), Mkdir("d"), Create("d/x", 1, 1)}, changes{Whiteout("a", "b"), Whiteout("d", "e"), Append("e/x", 1, 1)}, nil},
	{"from nowhere", changes{Appear("a", 5000, 1)}, changes{Appear("b", 5000, 1), Append("a", 5, 1)}, nil},
	{"swap", changes{Create("a", 5000, 1), Create("b", 10, 2)}, changes{Exchange("a", "b")}, nil},
	{"swap dirs", changes{Mkdir("a"), Create("a/x", 1, 1), Mkdir("b"), Create("b/y", 1, 2)}, changes{Exchange("a", "b"), Create("a/new", 3, 3)}, nil},
	{"swap file and dir", changes{Create("a", 5000, 1), Mkdir("b"), Create("b/y", 1, 2)}, changes{Exchange("a", "b")}, nil},
	{"chain", changes{Create("1", 1, 1), Create("2", 2, 2), Create("3", 3, 3)}, changes{Rename("3", "4"), Rename("2", "3"), Rename("1", "2")}, nil},
	{"cycle", changes{Create("1", 1, 1), Create("2", 2, 2), Create("3", 3, 3)}, changes{Rename("1", "t"), Rename("2", "1"), Rename("3", "2"), Rename("t", "3")}, nil},
	{"below its child", changes{Mkdir("a"), Mkdir("a/b"), Create("a/x", 1, 1), Create("a/b/y", 1, 2)}, changes{Rename("a/b", "b"), Rename("a", "b/a")}, nil},
	{"moved to the same path", changes{Mkdir("a"), Mkdir("b"), Create("a/x", 5000, 1), Mkdir("a/d")}, changes{Rename("a/x", "b/x"), Rename("a/d", "b/d"), Exchange("a", "b")}, nil},
	{"moved dir with changes", changes{Mkdir("a"), Mkdir("a/s"), Create("a/s/x", 9000, 1), Create("a/s/y", 1, 2)},
		changes{Rename("a", "b"), Append("b/s/x", 10, 3), Remove("b/s/y"), Rename("b/s", "s"), Create("b/z", 1, 1)}, nil},
	{"replaced type", changes{Create("a", 5, 1), Mkdir("b"), Create("b/x", 1, 1), Symlink("t", "c"), Fifo("d")},
		changes{Remove("a"), Mkdir("a"), Create("a/in", 1, 2), RemoveAll("b"), Symlink("u", "b"), Remove("c"), Create("c", 7, 3), Remove("d"), Mkdir("d")}, nil},
	{"made again", changes{Create("a", 5000, 1), Mkdir("d"), Create("d/x", 1, 1)}, changes{Remove("a"), Create("a", 5000, 2), RemoveAll("d"), Mkdir("d"), Create("d/x", 1, 1)}, nil},
	{"links", changes{Mkdir("d"), Mkdir("e"), Create("a", 5000, 1), Link("a", "d/b"), Link("a", "e/c"), Create("z", 1, 1)},
		changes{Remove("a"), Link("d/b", "e/new"), Link("z", "d/z"), Remove("e/c")}, nil},
	{"links and data", changes{Mkdir("d"), Create("a", 5000, 1), Link("a", "d/b")}, changes{Append("a", 5000, 2), Link("a", "c"), Chmod("a", 0o600)}, nil},
	{"links cut", changes{Create("a", 5000, 1), Link("a", "b"), Link("a", "c")}, changes{Remove("b"), Create("b", 5000, 1)}, nil},
	{"links exchanged", changes{Create("a", 1, 1), Link("a", "a2"), Create("b", 2, 2), Link("b", "b2")}, changes{Exchange("a", "b")}, nil},
	{"delete with survivors", changes{Mkdir("d"), Mkdir("d/e"), Create("d/e/x", 1, 1), Create("d/e/y", 2, 2), Create("d/e/z", 3, 3), Link("d/e/y", "outside"), Mkdir("d/keep"), Create("d/keep/k", 1, 1)},
		changes{Rename("d/e/x", "x"), Rename("d/keep", "keep"), RemoveAll("d")}, nil},
	{"truncate", changes{Create("a", 90000, 1), Create("b", 90000, 2), Create("c", 10, 3)}, changes{Truncate("a", 5001), Truncate("b", 0), Truncate("c", 90000)}, nil},
	{"punch", changes{Create("a", 200000, 1), Create("b", 90000, 2)}, changes{Punch("a", 40960, 81920), Punch("b", 100, 50)}, nil},
	{"small hole", changes{Create("a", 0, 1), Create("b", 3000, 2), Create("c", 0, 1), Truncate("c", 100)},
		changes{Truncate("a", 4086), Punch("b", 0, 4096), Write("c", 0, 10, 3)}, nil},
	{"fill a hole", changes{Create("a", 10, 1), Truncate("a", 200000)}, changes{Write("a", 81920, 4096, 2)}, nil},
	{"collapse", changes{Create("a", 200000, 1)}, changes{Collapse("a", 4096, 8192)}, []Feature{NeedsCollapse}},
	{"zero range", changes{Create("a", 200000, 1)}, changes{ZeroRange("a", 40960, 8192)}, []Feature{NeedsZeroRange}},
	{"prealloc", changes{Create("a", 5000, 1), Create("b", 5000, 1), Create("c", 0, 1)}, changes{Prealloc("a", 0, 50000), PreallocKeep("b", 8192, 40960), PreallocKeep("c", 0, 40960)}, []Feature{NeedsPrealloc}},
	{"reflink", changes{Create("a", 200000, 1), Create("b", 200000, 2)}, changes{Reflink("a", "c"), ReflinkRange("a", "b", 0, 65536, 65536)}, []Feature{NeedsReflink}},
	{"dedupe", changes{Create("a", 131072, 1), Create("b", 131072, 1)}, changes{Dedupe("a", "b", 131072)}, []Feature{NeedsReflink}},
	{"nodatacow", changes{NoCow("a"), Append("a", 200000, 1)}, changes{Write("a", 8192, 4096, 2)}, []Feature{NeedsSubvolumes}},
	{"compressed", changes{Create("a", 0, 1), Compress("a", "zstd")}, changes{Append("a", 200000, 2)}, []Feature{NeedsSubvolumes}},
	{"mmap", changes{Create("a", 50000, 1)}, changes{MmapWrite("a", 4000, 9000, 2)}, nil},
	{"mapped before and after", changes{Create("a", 50000, 1), Fsync("a"), MmapWrite("a", 4000, 9000, 2)}, changes{MmapWrite("a", 30000, 100, 3)}, nil},
	{"mtime put back", changes{Create("a", 50000, 1), Create("small", 100, 1)}, changes{KeepMtime("a", Write("a", 0, 1, 2)), KeepMtime("small", Write("small", 50, 1, 2))}, nil},
	{"atime", changes{Create("a", 50000, 1)}, changes{TouchAtime("a", 99)}, nil},
	{"mtime", changes{Create("a", 50000, 1), Create("b", 1, 1), Create("c", 1, 1), Mkdir("d"), Symlink("x", "s")}, changes{Utimes("a", 1, 999999999), Utimes("d", -5, 1), Utimes("s", 7, 7), Utimes("b", 1<<32+1, 999999999), Utimes("c", -1<<31+1, 1)}, nil},
	{"owner and mode", changes{Create("a", 10, 1), Mkdir("d"), Symlink("x", "s"), Create("su", 10, 1)}, changes{Chmod("a", 0o4711), Chown("d", 5, 6), Chmod("d", 0o1777), Chown("s", 7, 8), Chown("su", 1, 2), Chmod("su", 0o6755)}, nil},
	{"acl", changes{Create("a", 10, 1), Mkdir("d")}, changes{ACL("a", 77, 5), DefaultACL("d", 77, 4)}, nil},
	{"xattr", changes{Create("a", 10, 1), SetXattr("a", "user.x", "1"), SetXattr("a", "user.y", "1"), Mkdir("d"), Symlink("x", "s")},
		changes{SetXattr("a", "user.x", "2"), RemoveXattr("a", "user.y"), SetXattr("a", "trusted.t", "\x00\xff"), SetXattr("d", "user.d", ""), SetXattr("s", "trusted.s", "v")}, nil},
	{"capability", changes{Create("a", 10, 1), Create("b", 10, 1), Capability("b", 1<<13)}, changes{Capability("a", 1<<13), Append("b", 1, 1)}, nil},
	// XFS holds no symlink target above 1,024 bytes.
	{"symlinks", changes{Symlink("here", "a"), Symlink("\xff\n", "b")}, changes{Remove("a"), Symlink("there", "a"), Link("b", "c"), Symlink(strings.Repeat("l", 1000), "long")}, nil},
	{"specials", changes{Mknod("n", unix.S_IFCHR|0o600, 1, 3), Fifo("f"), Socket("s")},
		changes{Remove("n"), Mknod("n", unix.S_IFCHR|0o600, 1, 5), Mknod("b", unix.S_IFBLK|0o600, 300, 70000), Chmod("f", 0o666), Rename("s", "t"), Link("f", "g")}, nil},
	{"names", changes{Create("new\nline", 1, 1), Create(`back\slash`, 1, 1), Create("-dash", 1, 1), Create("\xff\xfe", 1, 1), Create(strings.Repeat("n", 255), 1, 1)},
		changes{Append("new\nline", 1, 1), Rename(`back\slash`, `\`), Append("-dash", 1, 2), Rename("\xff\xfe", "\xfe"), Append(strings.Repeat("n", 255), 1, 2), Create(" ", 1, 1), Create("*?[", 1, 1)}, nil},
	{"beyond PATH_MAX", changes{Deep("deep", 20), Create(bottom, 100, 1), Create(bottom+"2", 100, 1)}, changes{Append(bottom, 5, 2), Rename(bottom+"2", bottom+"3"), Create(bottom+"4", 1, 1)}, nil},
	{"wide", changes{Wide("w", wide)}, changes{
		Many("write", 0, wide, 97, func(i int) Change { return Append(wideName("w", i), 3, i) }),
		Many("remove", 1, wide, 89, func(i int) Change { return Remove(wideName("w", i)) }),
	}, nil},
	{"nested", changes{NestedSubvolume("old"), NestedSubvolume("moved"), Mkdir("d")}, changes{NestedSubvolume("new"), DeleteSubvolume("old"), Rename("moved", "d/moved")}, []Feature{NeedsSubvolumes}},
	{"subvolume for a directory", changes{Mkdir("a"), Mkdir("a/d"), Create("a/d/x", 100, 1), NestedSubvolume("b"), Mkdir("c"), Create("c/x", 1, 1), NestedSubvolume("c/n")},
		changes{RemoveAll("a"), NestedSubvolume("a"), DeleteSubvolume("b"), Mkdir("b"), Create("b/y", 100, 2), DeleteSubvolume("c/n"), Append("c/x", 1, 2)}, []Feature{NeedsSubvolumes}},
	{"defragment", changes{Create("a", 90000, 1), Sync(), Write("a", 8192, 4096, 2), Sync(), Write("a", 20480, 4096, 3), Sync()}, changes{Defragment("a")}, []Feature{NeedsSubvolumes}},
	{"removed dir", changes{Mkdir("a"), Mkdir("a/b"), Create("a/b/x", 1, 1), Mkdir("empty")}, changes{RemoveAll("a"), Remove("empty")}, nil},
	{"dir in place of its parent", changes{Mkdir("a"), Mkdir("a/a"), Create("a/a/x", 1, 1), Create("a/gone", 1, 1)}, changes{Rename("a/a", "t"), RemoveAll("a"), Rename("t", "a")}, nil},
	// The tree of snapper issue 321 in both orders: what a directory held moves out and the directory goes, new things come
	// under the old names.
	{"moved out and removed", changes{Mkdir("a"), Create("a/lake", 5000, 1), Mkdir("a/d"), Create("a/d/173", 3000, 2), Mkdir("b")},
		changes{Rename("a/d", "d"), Rename("a/lake", "d/lake"), Create("d/colours", 700, 3), Remove("a")}, nil},
	{"removed and moved in", changes{Mkdir("a"), Mkdir("a/d"), Create("a/d/173", 3000, 2), Mkdir("b"), Create("b/x", 1, 1)},
		changes{Rename("a/d/173", "b/173"), RemoveAll("a"), Rename("b", "a"), Mkdir("b"), Rename("a/x", "b/x"), Mkdir("a/d"), Rename("a/173", "a/d/173")}, nil},
	// OpenZFS issues 16753 and 13283: a link that came and went again between the snapshots.
	{"link that was there for a while", changes{Mkdir("src"), Mkdir("dest"), Create("src/file", 5000, 1)}, changes{Link("src/file", "dest/file"), Remove("dest/file")}, nil},
	// OpenZFS issue 4367: the directory of the first of several links goes, the file lives on and changes.
	{"link whose first directory went", changes{Mkdir("one"), Mkdir("two"), Create("one/a", 5000, 1), Link("one/a", "two/b")},
		changes{Remove("one/a"), Remove("one"), Append("two/b", 100, 2)}, nil},
	{"one link for another", changes{Mkdir("d"), Create("a", 5000, 1), Link("a", "d/b")}, changes{Link("a", "d/c"), Remove("d/b")}, nil},
	{"grown by truncate", changes{Create("a", 5000, 1), Create("b", 0, 1)}, changes{KeepMtime("a", Truncate("a", 300000)), Truncate("b", 1<<20)}, nil},
}

// ScenariosFor are those that a filesystem without the features lacks can do. SNAPDIFF_SCENARIO=NAME leaves one of them alone.
func ScenariosFor(lacks ...Feature) []Scenario {
	only := os.Getenv("SNAPDIFF_SCENARIO")
	return slices.DeleteFunc(slices.Clone(Scenarios), func(s Scenario) bool {
		return only != "" && s.Name != only || slices.ContainsFunc(s.Needs, func(f Feature) bool { return slices.Contains(lacks, f) })
	})
}

// Dir is the directory of a scenario.
func (s Scenario) Dir() string { return strings.ReplaceAll(s.Name, " ", "-") }

// Begin makes what the scenarios start from.
func Begin(t testing.TB, source string, scenarios []Scenario) {
	t.Helper()
	for _, s := range scenarios {
		Apply(t, source, Mkdir(s.Dir()))
		Apply(t, filepath.Join(source, s.Dir()), s.Before...)
	}
}

// Go does what happens in the scenarios.
func Go(t testing.TB, source string, scenarios []Scenario) {
	t.Helper()
	for _, s := range scenarios {
		Apply(t, filepath.Join(source, s.Dir()), s.After...)
	}
}

// End removes all that the scenarios made.
func End(t testing.TB, source string, scenarios []Scenario) {
	t.Helper()
	for _, s := range scenarios {
		Apply(t, source, RemoveAll(s.Dir()))
	}
}

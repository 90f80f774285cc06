package applytest

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// judgedTree makes one of everything that the comparer looks at.
func judgedTree() []Change {
	bottom := DeepName("deep", 20) + "/bottom"
	return []Change{
		Create("a", 100000, 1), Link("a", "b"), Create("c", 100000, 1), Create("sparse", 0, 0), Mkdir("d"), Create("d/x", 10, 2),
		Symlink("to", "s"), Mknod("n", unix.S_IFCHR|0o600, 1, 3), Deep("deep", 20), Create(bottom, 10, 3), SetXattr("a", "user.x", "1"),
		Truncate("sparse", 50000), writeZeros("zeros", 20000), Utimes("d", 1000, 1), Utimes("", 5, 5),
	}
}

// TestJudgeSeesEveryDifference is the comparer's self-test: one alteration for each of its checks.
func TestJudgeSeesEveryDifference(t *testing.T) {
	top := Mount(t, Btrfs)
	snap := Subvolume(t, filepath.Join(top, "snap"))
	Apply(t, snap, judgedTree()...)
	bottom := DeepName("deep", 20) + "/bottom"
	for _, c := range []struct {
		name, want string
		change     []Change
	}{
		{"missing", "missing", []Change{KeepMtime("d", Remove("d/x"))}},
		{"too many", "too many", []Change{KeepMtime("d", Create("d/y", 0, 0))}},
		{"mode", "mode", []Change{Chmod("c", 0o600)}},
		{"owner", "owner", []Change{Chown("s", 7, 8)}},
		{"mtime", "mtime", []Change{Utimes("c", 1, 1)}},
		{"nanosecond", "mtime", []Change{Utimes("d", 1000, 2)}},
		{"size", "size", []Change{KeepMtime("c", Append("c", 1, 1))}},
		{"data", "data", []Change{KeepMtime("c", Write("c", 50000, 1, 9))}},
		{"xattrs", "xattrs", []Change{SetXattr("a", "user.x", "2")}},
		{"hole", "holes", []Change{KeepMtime("zeros", Punch("zeros", 4096, 4096))}},
		{"target", "target", []Change{Remove("s"), Symlink("at", "s")}},
		{"device", "device", []Change{Remove("n"), Mknod("n", unix.S_IFCHR|0o600, 1, 5)}},
		{"link lost", "links are", []Change{Remove("b"), Create("b", 100000, 1)}},
		{"link gained", "links are", []Change{Remove("c"), Link("a", "c")}},
		{"link to outside", "link count", []Change{Link("a", ".snapdiff"), Utimes("", 5, 5)}},
		{"beyond PATH_MAX", "data", []Change{KeepMtime(bottom, Write(bottom, 0, 1, 9))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := filepath.Join(top, strings.ReplaceAll(c.name, " ", "_"))
			command(t, "btrfs", "subvolume", "snapshot", snap, tree)
			Judge(t, snap, tree)
			Apply(t, tree, c.change...)
			lines, err := Differences(snap, tree)
			if err != nil || !strings.Contains(strings.Join(lines, "\n"), c.want) {
				t.Errorf("the comparer says %q, %v; want a line with %q", lines, err, c.want)
			}
		})
	}
}

// writeZeros makes a file of zeros that are there, not a hole.
func writeZeros(path string, size int) Change {
	return change("writeZeros", path, func(p string) error {
		return withFile(p, unix.O_CREAT, func(fd int) error {
			_, err := unix.Write(fd, make([]byte, size))
			return err
		})
	}, size)
}

func TestJudgeKnowsPlaceholders(t *testing.T) {
	top, tree := Mount(t, Btrfs), Mount(t, Ext4)
	source := Subvolume(t, filepath.Join(top, "source"))
	Apply(t, source, Utimes("", 5, 5), NestedSubvolume("nested"), Utimes("", 5, 5))
	snap := filepath.Join(top, "snap")
	command(t, "btrfs", "subvolume", "snapshot", "-r", source, snap)
	Apply(t, tree, Mkdir("nested"), Utimes("nested", 0, 0), Chmod("", 0o755), Utimes("", 5, 5))
	Judge(t, snap, tree)
	Apply(t, tree, Create("nested/inside", 1, 1))
	if lines, err := Differences(snap, tree); err != nil || len(lines) != 1 {
		t.Errorf("something in a placeholder gives %q, %v", lines, err)
	}
	Apply(t, tree, RemoveAll("nested"), Create("nested", 1, 1), Utimes("", 5, 5))
	if lines, err := Differences(snap, tree); err != nil || len(lines) != 1 || !strings.Contains(lines[0], "type of a placeholder") {
		t.Errorf("a file for a placeholder gives %q, %v", lines, err)
	}
	Apply(t, tree, Remove("nested"), Utimes("", 5, 5))
	if lines, err := Differences(snap, tree); err != nil || len(lines) != 1 || !strings.Contains(lines[0], "missing") {
		t.Errorf("no placeholder gives %q, %v", lines, err)
	}
}

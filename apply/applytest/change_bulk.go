package applytest

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// DeepName is the path of a directory at the given depth below top; each element has 250 bytes, so that depth 20 is
// beyond the 4,096 bytes that one system call takes.
func DeepName(top string, depth int) string {
	path := top
	for i := range depth {
		path += fmt.Sprintf("/%03d", i) + strings.Repeat("d", 247)
	}
	return path
}

// Deep makes DeepName(top, depth) with everything above it.
func Deep(top string, depth int) Change {
	return Change{text: call("Deep", []any{top, depth}), do: func(root string) error {
		for i := range depth + 1 {
			err := at(root, DeepName(top, i), func(p string) error { return unix.Mkdir(p, 0o755) })
			if err != nil && err != unix.EEXIST {
				return err
			}
		}
		return nil
	}}
}

// wideName is the name of file number i in a wide directory.
func wideName(dir string, i int) string { return fmt.Sprintf("%s/f%06d", dir, i) }

// Wide makes a directory with count small files, f000000 and so on; every third is empty.
func Wide(dir string, count int) Change {
	return Change{text: call("Wide", []any{dir, count}), do: func(root string) error {
		if err := Mkdir(dir).do(root); err != nil {
			return err
		}
		for i := range count {
			if err := Create(wideName(dir, i), int64(i%3)*7, i).do(root); err != nil {
				return err
			}
		}
		return nil
	}}
}

// Many does one change for each number from first to last in steps, e.g. to every tenth file of a wide directory.
func Many(name string, first, last, step int, each func(i int) Change) Change {
	text := fmt.Sprintf("Many(%q, %d, %d, %d, ...)", name, first, last, step)
	return Change{text: text, do: func(root string) error {
		for i := first; i < last; i += step {
			if err := each(i).Apply(root); err != nil {
				return err
			}
		}
		return nil
	}}
}

// NestedSubvolume makes a btrfs subvolume inside the tree, with a file in it.
func NestedSubvolume(path string) Change {
	return change("NestedSubvolume", path, func(p string) error {
		if _, err := run("btrfs", "subvolume", "create", p); err != nil {
			return err
		}
		return Create("inside", 100, 1).do(p)
	})
}

// DeleteSubvolume removes a nested subvolume with what is in it.
func DeleteSubvolume(path string) Change {
	return change("DeleteSubvolume", path, func(p string) error {
		_, err := run("btrfs", "subvolume", "delete", p)
		return err
	})
}

// SnapshotInto makes a nested snapshot of the source's own subvolume at path: its files have the same inode numbers as
// the source's own.
func SnapshotInto(path string) Change {
	return Change{text: call("SnapshotInto", []any{path}), do: func(root string) error {
		_, err := run("btrfs", "subvolume", "snapshot", root, filepath.Join(root, path))
		return err
	}}
}

// Defragment rewrites the extents of everything below a path and changes no content.
func Defragment(path string) Change {
	return change("Defragment", path, func(p string) error {
		_, err := run("btrfs", "filesystem", "defragment", "-r", "-f", "-t", "32M", p)
		return err
	})
}

// Balance moves every block of the whole btrfs and changes no content. It raises the generation of all its subvolumes.
func Balance() Change {
	return Change{text: "Balance()", do: func(root string) error {
		_, err := run("btrfs", "balance", "start", "--full-balance", root)
		return err
	}}
}

// Compress sets the compression that new data of a file or directory get; a property, so no change by itself.
func Compress(path, algorithm string) Change {
	return change("Compress", path, func(p string) error {
		_, err := run("btrfs", "property", "set", p, "compression", algorithm)
		return err
	}, algorithm)
}

// Sync brings everything to disk.
func Sync() Change {
	return Change{text: "Sync()", do: func(root string) error {
		fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Syncfs(fd)
	}}
}

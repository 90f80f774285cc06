package beneath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGraft: what is below a path comes from another tree, at any depth, and nothing of what is hidden can be reached.
func TestGraft(t *testing.T) {
	dir := t.TempDir()
	for path, content := range map[string]string{
		"top/a/b/hidden": "0", "top/a/bc": "1", "one/x": "2", "one/deep/er/hidden": "3", "two/y/z": "4",
	} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	open := func(name string) *Root {
		r, err := Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	top := open("top")
	others := map[string]*Root{"a/b": open("one"), "a/b/deep/er": open("two"), "a/b/new": open("two")}
	top.Graft(others)
	for path, want := range map[string]string{"a/bc": "1", "a/b/x": "2", "a/b/deep/er/y/z": "4", "a/b/hidden": "", "a/b/deep/er/hidden": "", "a/b/new/y/z": "4"} {
		got := ""
		fd, err := top.Open(path, unix.O_RDONLY, 0)
		if err == nil {
			b := make([]byte, 9)
			n, _ := unix.Read(fd, b)
			got = string(b[:n])
			unix.Close(fd)
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
		if got != want {
			t.Errorf("%s has %q, want %q", path, got, want)
		}
	}
	one, err := os.Stat(filepath.Join(dir, "one"))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := top.Lstat("a/b"); err != nil || !os.SameFile(one, stat(t, top, "a/b")) {
		t.Errorf("the top of what is grafted is %+v, %v", st, err)
	}
	var names []string
	if err := top.ReadDir("a/b", func(name string, _ uint8, _ uint64) error { names = append(names, name); return nil }); err != nil {
		t.Error(err)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"deep", "new", "x"}) {
		t.Errorf("names are %v", names)
	}
	for _, r := range []*Root{top, others["a/b"], others["a/b/deep/er"], others["a/b/new"]} {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// stat is what is at a path of a tree, by its descriptor.
func stat(t *testing.T, r *Root, path string) fs.FileInfo {
	t.Helper()
	fd, err := r.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

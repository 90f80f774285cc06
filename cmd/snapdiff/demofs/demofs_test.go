package demofs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
	"snapdiff/snapshot/btrfs"
)

func mount(t *testing.T, size int64) *FS {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/mnt", 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := Mount(dir+"/image", dir+"/mnt", size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// Two at once, grown, usable as a source, and gone without a trace.
func TestTwoSideBySide(t *testing.T) {
	applytest.NeedRoot(t)
	a, b := mount(t, 1<<30), mount(t, MinSize)
	for _, f := range []*FS{a, b} {
		if err := os.WriteFile(f.dir+"/mail", []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := btrfs.Create(f.dir, f.dir, btrfs.Prefix+"1"); err != nil {
			t.Error(err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(a.dir, &st); err != nil || st.Blocks*uint64(st.Bsize) != 1<<30 {
		t.Errorf("%d bytes, %v", st.Blocks*uint64(st.Bsize), err)
	}
	for _, f := range []*FS{a, b} {
		for range 2 {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Stat(f.image); !os.IsNotExist(err) {
			t.Errorf("the image is still there: %v", err)
		}
		if left := attached(t, f.image); left != "" {
			t.Errorf("%s is still attached", left)
		}
	}
}

// attached names the loop device that has the file.
func attached(t *testing.T, image string) string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(text), image) {
			return file
		}
	}
	return ""
}

func TestFailureLeavesNothing(t *testing.T) {
	applytest.NeedRoot(t)
	dir := t.TempDir()
	if _, err := Mount(dir+"/image", dir+"/none", MinSize); err == nil {
		t.Error("mounted at a directory that is not there")
	}
	if _, err := Mount(dir+"/image", dir, 1<<20); err == nil {
		t.Error("made too small a filesystem")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if left := attached(t, dir); left != "" {
		t.Errorf("%s is still attached", left)
	}
}

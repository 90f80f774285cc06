package output_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/output"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// replace has "new" at path.
func replace(path string) error {
	return output.ReplaceFile(path, 0o644, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err })
}

// nothingElse wants these names alone in a directory.
func nothingElse(t *testing.T, dir string, names ...string) {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil || len(found) != len(names) {
		t.Errorf("%s has %v %v, want %q", dir, found, err, names)
	}
}

// A file is replaced, not written to; of a symlink that to which it leads, also where nothing is there yet.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.MkdirAll(at("deep/real"), 0o755), os.Mkdir(at("links"), 0o755), os.Symlink("../deep/real", at("links/dir")),
		os.WriteFile(at("deep/real/file"), []byte("old"), 0o600), os.Symlink("file", at("deep/real/link")),
		os.Symlink("dir/../real/link", at("links/relative")), os.Symlink(at("deep/real/file"), at("links/absolute")),
		os.Symlink("dir/../not-yet", at("links/dangling")))
	for path, target := range map[string]string{
		"deep/real/file": "deep/real/file", "links/dir/file": "deep/real/file", "links/relative": "deep/real/file",
		"links/absolute": "deep/real/file", "links/dangling": "deep/not-yet", "links/plain": "links/plain",
	} {
		before, err := os.Lstat(at(path))
		isLink := err == nil && before.Mode()&fs.ModeSymlink != 0
		old, _ := os.Open(at(target))
		if old != nil {
			must(t, os.WriteFile(at(target), []byte("old"), 0o600))
		}
		must(t, replace(at(path)))
		if text, err := os.ReadFile(at(target)); err != nil || string(text) != "new" {
			t.Errorf("%s: %s has %q %v", path, target, text, err)
		}
		if st, err := os.Lstat(at(target)); err != nil || st.Mode() != 0o644 {
			t.Errorf("%s: %s is %v %v", path, target, st, err)
		}
		if st, err := os.Lstat(at(path)); err != nil || isLink != (st.Mode()&fs.ModeSymlink != 0) {
			t.Errorf("%s is %v %v", path, st, err)
		}
		if old != nil {
			if text, err := io.ReadAll(old); err != nil || string(text) != "old" {
				t.Errorf("%s: whoever reads %s meanwhile has %q %v", path, target, text, err)
			}
			old.Close()
		}
	}
	nothingElse(t, at("deep/real"), "file", "link")
	nothingElse(t, at("deep"), "not-yet", "real")
	nothingElse(t, at("links"), "absolute", "dangling", "dir", "plain", "relative")

	must(t, os.Symlink("loop", at("loop")))
	for path, want := range map[string]error{"loop": unix.ELOOP, "deep": unix.EISDIR, "no/file": fs.ErrNotExist, "deep/real/file/x": unix.ENOTDIR} {
		if err := replace(at(path)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	failed := errors.New("failed")
	must(t, os.WriteFile(at("deep/real/file"), []byte("old"), 0o600))
	if err := output.ReplaceFile(at("deep/real/file"), 0o644, func(io.Writer) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	if text, err := os.ReadFile(at("deep/real/file")); err != nil || string(text) != "old" {
		t.Errorf("after a failure it has %q %v", text, err)
	}
	nothingElse(t, at("deep/real"), "file", "link")
}

// A FIFO, a device and what a process has open are written to: none of them becomes a file.
func TestReplaceFileWritesToWhatIsNone(t *testing.T) {
	applytest.NeedRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))), unix.Mknod(at("full"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))),
		unix.Mkfifo(at("fifo"), 0o600), os.Symlink("null", at("link")))
	for path, want := range map[string]error{"null": nil, "link": nil, "full": unix.ENOSPC} {
		if err := replace(at(path)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	fifo, err := os.OpenFile(at("fifo"), os.O_RDWR, 0)
	must(t, err)
	defer fifo.Close()
	must(t, replace(at("fifo")))
	text := make([]byte, 10)
	if n, err := fifo.Read(text); err != nil || string(text[:n]) != "new" {
		t.Errorf("the FIFO has %q %v", text[:n], err)
	}
	for name, mode := range map[string]fs.FileMode{"null": fs.ModeDevice | fs.ModeCharDevice, "full": fs.ModeDevice | fs.ModeCharDevice, "fifo": fs.ModeNamedPipe, "link": fs.ModeSymlink} {
		if st, err := os.Lstat(at(name)); err != nil || st.Mode().Type() != mode {
			t.Errorf("%s is now %v %v", name, st, err)
		}
	}
	log, err := os.OpenFile(at("log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	must(t, err)
	defer log.Close()
	_, err = log.WriteString("old, ")
	must(t, err, os.Symlink("/proc/self/fd", at("fds")))
	must(t, replace(fmt.Sprintf("%s/%d", at("fds"), log.Fd())))
	if text, err := os.ReadFile(at("log")); err != nil || string(text) != "old, new" {
		t.Errorf("a file that is open, by its descriptor: %q %v", text, err)
	}
	nothingElse(t, dir, "fds", "fifo", "full", "link", "log", "null")
}

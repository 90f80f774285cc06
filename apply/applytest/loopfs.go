package applytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is a kind of filesystem that a test can make.
type Kind string

// The kinds that Mount can make, all of them on a loop device over a sparse file in memory.
const (
	Btrfs Kind = "btrfs"
	Ext4  Kind = "ext4"
	XFS   Kind = "xfs"
)

// MirrorKinds are the filesystems on which a mirror is promised to work.
var MirrorKinds = []Kind{Ext4, XFS, Btrfs}

// mkfs has the command line for each kind. Small inode tables and journals make ext4 quick to mount; blocks are 4 KiB as
// they are on any real disk, so that holes can be compared.
var mkfs = map[Kind][]string{
	Btrfs: {"mkfs.btrfs", "-q", "-f"},
	Ext4:  {"mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256"},
	XFS:   {"mkfs.xfs", "-q", "-f"},
}

// Mount makes an empty filesystem of 4 GiB (sparse, held in memory) and mounts it for the duration of the test. It needs
// root.
func Mount(t testing.TB, kind Kind) string {
	t.Helper()
	return MountSized(t, kind, 4<<30)
}

// MountSized is Mount with a size in bytes. XFS wants at least 300 MiB.
func MountSized(t testing.TB, kind Kind, size int64, mkfsOptions ...string) string {
	t.Helper()
	NeedRoot(t)
	base, err := os.MkdirTemp("", "snapdiff-"+string(kind)+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	mount(t, "snapdiff-test", base, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size+size/8))
	return MountIn(t, base, kind, size, mkfsOptions...)
}

// MountIn is MountSized with the image in a directory of another filesystem, as base/image, mounted at base/mnt. What that one cannot read this one cannot.
func MountIn(t testing.TB, base string, kind Kind, size int64, mkfsOptions ...string) string {
	t.Helper()
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	makeImage(t, kind, image, size, mkfsOptions)
	// mount(8) attaches the loop device so that it frees itself with the last unmount.
	command(t, "mount", "-o", "loop", "-t", string(kind), image, dir)
	t.Cleanup(func() { unmount(t, dir) })
	removeLostAndFound(t, dir)
	return dir
}

// makeImage makes a sparse file with a filesystem in it.
func makeImage(t testing.TB, kind Kind, image string, size int64, options []string) {
	t.Helper()
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	argv := append(append(mkfs[kind][:len(mkfs[kind]):len(mkfs[kind])], options...), image)
	for tries := 0; ; tries++ {
		_, err := run(argv[0], argv[1:]...)
		if err == nil {
			return
		}
		// mkfs.btrfs looks at all loop devices that are mounted, and another test may just be giving back one of them.
		if tries == 100 || !strings.Contains(err.Error(), "cannot check mount status") {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// mount mounts and unmounts at the end of the test.
func mount(t testing.TB, source, dir, fstype string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, dir, fstype, flags, data); err != nil {
		t.Fatalf("mounting %s at %s: %v", fstype, dir, err)
	}
	t.Cleanup(func() { unmount(t, dir) })
}

// unmountPatience is how long a mount may stay busy: the kernel lets go of a private mount namespace, or of what a killed process had
// open, some time after the process has ended, and of what a test left open never.
const unmountPatience = time.Minute

// unmount takes a mount away even where a failed test left something open below it.
func unmount(t testing.TB, dir string) {
	err := unix.Unmount(dir, 0)
	for start := time.Now(); err == unix.EBUSY && time.Since(start) < unmountPatience; err = unix.Unmount(dir, 0) {
		time.Sleep(20 * time.Millisecond)
	}
	if err == nil {
		return
	}
	t.Errorf("unmounting %s: %v (something was left open below it: %s)", dir, err, openBelow(dir))
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Errorf("detaching %s: %v", dir, err)
	}
}

// openBelow lists what processes and the mounts have below a directory.
func openBelow(dir string) string {
	var all []string
	for _, pattern := range []string{"/proc/[0-9]*/fd/*", "/proc/[0-9]*/cwd", "/proc/[0-9]*/root"} {
		links, _ := filepath.Glob(pattern)
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, dir) {
				name, _ := os.ReadFile(strings.Join(strings.Split(link, "/")[:3], "/") + "/comm")
				all = append(all, fmt.Sprintf("%s (%s) -> %s", link, strings.TrimSpace(string(name)), to))
			}
		}
	}
	for _, file := range []string{"/proc/self/mounts", "/proc/self/maps"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, dir+"/") {
				all = append(all, filepath.Base(file)+": "+strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(all, "; ")
}

// removeLostAndFound leaves nothing in a new filesystem.
func removeLostAndFound(t testing.TB, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// command runs a program and fails the test if it does.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := run(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run runs a program; its error has the program's own words.
func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Subvolume makes a btrfs subvolume and gives its path.
func Subvolume(t testing.TB, path string) string {
	t.Helper()
	command(t, "btrfs", "subvolume", "create", path)
	return path
}

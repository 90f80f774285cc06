package applytest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Fill takes all but about so many bytes of the filesystem that dir lies on, and gives them back with the result.
func Fill(t testing.TB, dir string, leave int64) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for step := int64(64 << 20); step >= 64<<10; {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		end, err := f.Seek(0, 2)
		if err != nil {
			t.Fatal(err)
		}
		room := int64(st.Bavail)*st.Bsize - leave
		if room < step || unix.Fallocate(int(f.Fd()), 0, end, step) != nil {
			step /= 2
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		Apply(t, dir, Sync())
	}
}

// FillInodes takes all inodes of the filesystem that dir lies on.
func FillInodes(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "inodes")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(path, fmt.Sprint(i)))
		if err != nil {
			break
		}
		f.Close()
	}
	return func() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Shutdown ends an ext4 or XFS as if its disk had gone: nothing more is read or written, what lies in the journal is lost too. Remount
// brings it back.
func Shutdown(t testing.TB, dir string) {
	t.Helper()
	const goingDown, noLogFlush = 0x8004587d, 2 // XFS_IOC_GOINGDOWN of fs/xfs/libxfs/xfs_fs.h and EXT4_IOC_SHUTDOWN are one
	d, err := os.Open(dir)
	if err == nil {
		defer d.Close()
		err = unix.IoctlSetPointerInt(int(d.Fd()), goingDown, noLogFlush)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Remount unmounts what Mount mounted at dir and mounts it again. In between it waits until the filesystem is unmounted everywhere: another test may have made
// a mount namespace, with a copy of this mount in it, and until that is gone the same filesystem would be mounted again, with all that is wrong with it.
func Remount(t testing.TB, dir string) {
	t.Helper()
	command(t, "umount", dir)
	image := filepath.Join(filepath.Dir(dir), "image")
	for start := time.Now(); command(t, "losetup", "-j", image) != ""; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > unmountPatience {
			t.Fatalf("%s is unmounted at %s and still in use", image, dir)
		}
	}
	command(t, "mount", "-o", "loop", image, dir)
}

// Rot overwrites the beginning of texts, wherever they are, in the image of the filesystem that is mounted at dir by Mount or MountIn. What the kernel has
// in memory of the files stays as it was: see Forget.
func Rot(t testing.TB, dir string, texts ...string) {
	t.Helper()
	Apply(t, dir, Sync())
	f, err := os.OpenFile(filepath.Join(filepath.Dir(dir), "image"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := make([]int, len(texts))
	for off := int64(0); ; { // the image has holes
		off, err = f.Seek(off, unix.SEEK_DATA)
		if err != nil {
			break
		}
		end, err := f.Seek(off, unix.SEEK_HOLE)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, end-off)
		if _, err := f.ReadAt(data, off); err != nil {
			t.Fatal(err)
		}
		for i, text := range texts {
			for at := 0; ; at += len(text) {
				next := bytes.Index(data[at:], []byte(text))
				if next < 0 {
					break
				}
				at += next
				if _, err := f.WriteAt([]byte("ROT"), off+int64(at)); err != nil {
					t.Fatal(err)
				}
				found[i]++
			}
		}
		off = end
	}
	for i, n := range found {
		if n == 0 {
			t.Fatalf("%q is not on the disk", texts[i])
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// Forget has the kernel forget what it has read of files.
func Forget(t testing.TB) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

package floor

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// copyFile copies a regular file with mode and mtime.
func copyFile(from int, path string, to int, name string, buf []byte) error {
	in, err := unix.Openat(from, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return err
	}
	out, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, st.Mode&0o7777)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	for left := st.Size; left > 0; {
		n, err := unix.Read(in, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		if _, err := unix.Write(out, buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}
	if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(out), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// Copy copies a whole snapshot of directories and regular files into target/tree on several workers, and waits until it is on the
// disk.
func Copy(snapshot, target string, workers int) error {
	unix.Umask(0)
	tree := filepath.Join(target, "tree")
	c := &copier{from: snapshot, to: tree, dirs: []string{"."}}
	c.wake = sync.NewCond(&c.mu)
	var all sync.WaitGroup
	for range workers {
		all.Go(c.work)
	}
	all.Wait()
	if c.err != nil {
		return c.err
	}
	d, err := os.Open(tree)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

type copier struct {
	from, to string

	mu   sync.Mutex
	wake *sync.Cond
	dirs []string // made, not yet copied
	busy int
	err  error
}

func (c *copier) work() {
	buf := make([]byte, 1<<20)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil {
		n := len(c.dirs)
		if n == 0 && c.busy == 0 {
			break
		}
		if n == 0 {
			c.wake.Wait()
			continue
		}
		dir := c.dirs[n-1]
		c.dirs = c.dirs[:n-1]
		c.busy++
		c.mu.Unlock()
		kids, err := c.copyDir(dir, buf)
		c.mu.Lock()
		c.busy--
		c.dirs = append(c.dirs, kids...)
		if err != nil {
			c.err = err
		}
		c.wake.Broadcast()
	}
	c.wake.Broadcast()
}

// copyDir copies what lies in one directory; its subdirectories are made empty.
func (c *copier) copyDir(dir string, buf []byte) (kids []string, err error) {
	from, err := os.Open(filepath.Join(c.from, dir))
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to, err := os.Open(filepath.Join(c.to, dir))
	if err != nil {
		return nil, err
	}
	defer to.Close()
	list, err := from.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.IsDir() && dir == "." && e.Name() == ".snapdiff" {
			continue
		}
		if e.IsDir() {
			kids = append(kids, filepath.Join(dir, e.Name()))
			err = unix.Mkdirat(int(to.Fd()), e.Name(), 0o755)
		} else {
			err = copyFile(int(from.Fd()), e.Name(), int(to.Fd()), e.Name(), buf)
		}
		if err != nil {
			return nil, &os.PathError{Op: "floor, copy", Path: filepath.Join(dir, e.Name()), Err: err}
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return nil, err
	}
	return kids, unix.UtimesNanoAt(int(to.Fd()), ".", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}, 0)
}

package output

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ReplaceFile has write write what the file at path is to hold from now on: whole or not at all, and whoever reads it meanwhile has the old one.
// Of a symlink the file that it leads to is replaced. What is no regular file (a device, a FIFO) is written to and stays what it is.
func ReplaceFile(path string, mode fs.FileMode, write func(io.Writer) error) error {
	target, into, err := whatIsAt(path)
	if err != nil {
		return err
	}
	if into {
		return writeInto(target, write)
	}
	f, err := os.CreateTemp(dirOf(target), ".snapdiff-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if err == nil {
		err = f.Chmod(mode)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), target)
	}
	return err
}

// writeInto writes to what is there.
func writeInto(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// whatIsAt follows symlinks to the file that is to be replaced, which need not be there; into: it is not to be replaced but written to.
func whatIsAt(path string) (target string, into bool, err error) {
	// The kernel looks first: it refuses to follow what a stranger put into a directory such as /tmp (fs.protected_symlinks).
	switch st, err := os.Stat(path); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", false, err
	case err == nil && !st.Mode().IsRegular():
		return path, true, nil
	}
	const most = 40 // as the kernel has it
	for range most {
		to, err := os.Readlink(path)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) { // no symlink, or nothing at all
			return path, false, nil
		}
		if err != nil {
			return "", false, err
		}
		var at unix.Statfs_t
		if unix.Statfs(dirOf(path), &at) == nil && at.Type == unix.PROC_SUPER_MAGIC {
			return path, true, nil // an open file, /dev/stdout for one: whoever has it open would not have another
		}
		if !filepath.IsAbs(to) {
			to = dirOf(path) + to
		}
		path = to
	}
	return "", false, fmt.Errorf("follow %s: %w", path, unix.ELOOP)
}

// dirOf is the directory of a path, with a slash at its end. filepath.Dir would take out what is before a "..", which may be a symlink.
func dirOf(path string) string {
	if dir, _ := filepath.Split(path); dir != "" {
		return dir
	}
	return "./"
}

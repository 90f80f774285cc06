package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// BadFile says that one inode of the snapshot could not be read, or cannot be held by the mirror's filesystem. The run
// goes on without it: the inode keeps its old version, is named in the result and is tried again in every run. Any other
// error of a copy stops the run.
type BadFile struct {
	Path string // relative to the top of the snapshot
	Op   string // what was being done
	Err  error
}

func (b *BadFile) Error() string {
	const shown = 512 // bytes of a path in a text: somebody may have made one of megabytes
	if len(b.Path) > shown {
		return fmt.Sprintf("%s %q... (%d bytes): %v", b.Op, b.Path[:shown], len(b.Path), b.Err)
	}
	return fmt.Sprintf("%s %q: %v", b.Op, b.Path, b.Err)
}

// Unwrap gives the cause.
func (b *BadFile) Unwrap() error { return b.Err }

// reasonOf is an error of the file at path for who names that himself: a path may be long.
func reasonOf(err error, path string) string {
	bad, ok := err.(*BadFile)
	if !ok || bad.Path != path {
		return err.Error()
	}
	cause := bad.Err
	if at, ok := cause.(*fs.PathError); ok {
		cause = at.Err
	}
	return strings.TrimSuffix(bad.Op, " of") + ": " + cause.Error()
}

// CannotHold tells a problem of a file that comes from what the mirror's filesystem, or any mirror, can hold: to try it again does not help. The store keeps
// problems as texts, which end with the cause.
func CannotHold(problem error) bool {
	text := problem.Error()
	return slices.ContainsFunc([]error{unix.ENAMETOOLONG, unix.EMLINK, unix.EFBIG, unix.EILSEQ, unix.EOVERFLOW, unix.EOPNOTSUPP,
		unix.ENOSPC, unix.EDQUOT, unix.E2BIG, unix.ERANGE, errCannotHold, diff.ErrTooDeep}, // no room: for an attribute, see xattrError
		func(cause error) bool { return strings.HasSuffix(text, cause.Error()) })
}

// IsBadFile tells an error that concerns one inode only.
func IsBadFile(err error) bool {
	var bad *BadFile
	return errors.As(err, &bad)
}

// errShort says that a file ended before its size: a snapshot does not change, so it is damaged or was made writable.
var errShort = errors.New("the file is shorter than its size says: damaged, or the snapshot was altered")

// errCannotHold says that a call succeeded and the attribute still is not what was asked for (a time outside of the
// filesystem's range, say, is cut silently by the kernel).
var errCannotHold = errors.New("the mirror's filesystem cannot hold this attribute")

// sideError is an error of one side of a copy that stops the run.
type sideError struct {
	op, path string
	side     string // "snapshot" or "store"
	err      error
}

func (e *sideError) Error() string {
	return fmt.Sprintf("%s %q in the %s: %v", e.op, e.path, e.side, e.err)
}

// Unwrap gives the cause.
func (e *sideError) Unwrap() error { return e.err }

// restoring is the same error of a restore: what is read there is the store, and the file is named by whoever restores it.
func restoring(err error) error {
	var e *sideError
	switch {
	case !errors.As(err, &e):
		return err
	case e.side == "snapshot":
		return fmt.Errorf("%s it in the store: %w", e.op, e.err)
	}
	return fmt.Errorf("%s it: %w", e.op, e.err)
}

// readError sorts an error met while reading the snapshot. A name that is not there any more or descriptors running out
// say nothing about the file.
func readError(path, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case isAny(err, unix.ENOENT, unix.ESTALE, unix.ENOTDIR, unix.EXDEV, unix.ELOOP, unix.ENOMEM, unix.EMFILE, unix.ENFILE,
		unix.EBADF, unix.EFAULT, unix.EINTR, unix.ENODEV, unix.EISDIR):
		return &sideError{op, path, "snapshot", err}
	}
	return &BadFile{Path: path, Op: op, Err: err}
}

// writeError sorts an error met while making an inode or writing its data: only what another file would not meet as
// well is the file's own.
func writeError(path, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case isAny(err, unix.ENAMETOOLONG, unix.EMLINK, unix.EFBIG, unix.EILSEQ, unix.EINVAL, unix.EOPNOTSUPP, unix.EOVERFLOW,
		unix.EPERM, errCannotHold):
		return &BadFile{Path: path, Op: op, Err: err}
	}
	return &sideError{op, path, "store", err}
}

// xattrError is writeError for extended attributes, where "no space" means that they do not fit into the inode, unless
// the filesystem of the descriptor is full indeed.
func xattrError(fd int, path, name string, err error) error {
	op := fmt.Sprintf("set attribute %q of", name)
	switch {
	case isAny(err, unix.ENOSPC, unix.EDQUOT) && full(fd):
		return &sideError{op, path, "store", err}
	case isAny(err, unix.ENOSPC, unix.E2BIG, unix.ERANGE, unix.EACCES):
		return &BadFile{Path: path, Op: op, Err: err}
	}
	return writeError(path, op, err)
}

// full tells a filesystem with less than 1 MiB left.
func full(fd int) bool {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return true
	}
	return int64(fs.Bavail)*fs.Bsize < 1<<20
}

func isAny(err error, any ...error) bool {
	for _, e := range any {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

package job

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
)

// DiskFails says that a disk, the store's or the source's, did not do what it was told, or does not take writes at all.
type DiskFails struct {
	Err  error
	Next string // what to do next where it is known; "" else
}

// Error gives what failed.
func (e *DiskFails) Error() string { return "a disk does not work: " + e.Err.Error() }

// Unwrap gives what failed.
func (e *DiskFails) Unwrap() error { return e.Err }

// Hint is what to do next.
func (e *DiskFails) Hint() string {
	if e.Next != "" {
		return e.Next
	}
	return "look at dmesg and smartctl, and at the mounts of source and store; when the disk is well, run again: a run that was cut off is finished first, nothing is lost"
}

// diskErrors are what the kernel says when a disk fails, is gone, or was made read-only because it failed. EUCLEAN and EBADMSG are
// what ext4, XFS and ZFS say of damage (EFSCORRUPTED, EFSBADCRC); EIO what btrfs says.
var diskErrors = []error{unix.EIO, unix.EROFS, unix.ENXIO, unix.ENODEV, unix.EUCLEAN, unix.EBADMSG, unix.EREMOTEIO, unix.ESHUTDOWN}

// explain tells a full and a failing disk from other reasons for which something went wrong. SQLite has words of its own for both.
func explain(err error, j config.Job) error {
	if err == nil || errorIs[*NoSpace](err) || errorIs[*SourceFull](err) || errorIs[*DiskFails](err) || errorIs[*RunHeld](err) || errorIs[*Incomplete](err) ||
		errors.Is(err, apply.ErrLocked) || errors.Is(err, context.Canceled) {
		return err
	}
	code := sqlite.ErrCode(err).ToPrimary()
	places := []string{j.Store}
	if j.Catalog != "" {
		places = append(places, j.Catalog)
	}
	for _, place := range places {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || code == sqlite.ResultFull || isFull(place) {
			return &NoSpace{place, err}
		}
	}
	if code == sqlite.ResultIOErr {
		return &DiskFails{err, "look at dmesg and smartctl, and at the mounts of source and store; when the disk is well, run again: nothing is lost. " +
			"Where it is not to be and only the catalog cannot be read, snapdiff doctor " + j.Name + " --repair makes that anew"}
	}
	if code == sqlite.ResultReadOnly || errors.Is(err, apply.ErrFault) {
		return &DiskFails{Err: err}
	}
	if code == sqlite.ResultCorrupt || code == sqlite.ResultNotADB { // also what SQLite says where reads fail halfway
		return &DiskFails{err, "look at dmesg and smartctl; if the disk is well, the catalog is damaged: snapdiff doctor " + j.Name}
	}
	for _, e := range diskErrors {
		if errors.Is(err, e) {
			return &DiskFails{Err: err}
		}
	}
	return err
}

// explainFailure is explain for what also fails for reasons that a full disk has nothing to do with.
func explainFailure(err error, j config.Job) error {
	var errno syscall.Errno
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultError && !errors.As(err, &errno) {
		return err
	}
	return explain(err, j)
}

func errorIs[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// isFull tells a filesystem without room or inodes.
func isFull(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(existing(path), &st) == nil && (int64(st.Bavail)*st.Bsize < 1<<20 || st.Files > 0 && st.Ffree == 0)
}

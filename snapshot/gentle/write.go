package gentle

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Behind follows the writing of a large new file: what was written goes to the disk and then out of memory, a window or two behind
// the writer. So a copy of 100 GB leaves a few megabytes there, and never as much unwritten data that everybody who writes has to
// wait for it.
type Behind struct {
	on    bool
	fd    int
	begun int64 // up to here the disk has been told
	done  int64 // up to here it is on the disk and not in memory
}

// NewBehind makes one for a file that is written from its beginning. The zero Behind does nothing.
func NewBehind(fd int) Behind { return Behind{on: true, fd: fd} }

// Wrote says that everything before end is written. The error is one of the disk.
func (b *Behind) Wrote(end int64) error {
	if !b.on || end-b.begun < window {
		return nil
	}
	unix.SyncFileRange(b.fd, b.begun, end-b.begun, unix.SYNC_FILE_RANGE_WRITE)
	if b.begun > b.done {
		const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		err := unix.SyncFileRange(b.fd, b.done, b.begun-b.done, all)
		if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return err // any other says that the call is not known here
		}
		unix.Fadvise(b.fd, 0, b.begun, unix.FADV_DONTNEED)
		b.done = b.begun
	}
	b.begun = end
	return nil
}

package job

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/config"
)

// SourceFull says that the source's filesystem, pool or volume group has no room for a snapshot. Nothing was touched.
type SourceFull struct {
	Job config.Job
	Err error
}

// Error gives what failed.
func (e *SourceFull) Error() string {
	return fmt.Sprintf("no room for a snapshot on the filesystem of the source %s; the mirror was not touched: %v", e.Job.Source, e.Err)
}

// Unwrap gives what failed.
func (e *SourceFull) Unwrap() error { return e.Err }

// Hint is what to do next.
func (e *SourceFull) Hint() string {
	return fmt.Sprintf("make room there, or raise its quota, and run again; if our own snapshots are what fills it, snapdiff release -j %s lets them go, and the next run compares in full", e.Job.Name)
}

// fullWords are what the programs of ZFS and LVM print where there is no room; btrfs gives an errno.
var fullWords = []string{"out of space", "No space left on device", "quota exceeded", "insufficient free space"}

// sourceFull tells a full source from other reasons for which a snapshot could not be taken.
func sourceFull(err error, j config.Job) error {
	if err == nil || errorIs[*SourceFull](err) {
		return err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &SourceFull{j, err}
	}
	for _, words := range fullWords {
		if strings.Contains(err.Error(), words) {
			return &SourceFull{j, err}
		}
	}
	return err
}

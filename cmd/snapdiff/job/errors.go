package job

import (
	"fmt"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
)

// TooManyDeleted says that a run was held before it touched the mirror: it would have deleted more than max_deleted.
type TooManyDeleted struct {
	Deleted, Files int64 // to be deleted; in the mirror
	Limit          config.Limit
}

// Error gives both figures and the limit.
func (e *TooManyDeleted) Error() string {
	return fmt.Sprintf("held: %s of %s files would be deleted, max_deleted is %s; the mirror was not touched",
		output.Count(e.Deleted), output.Count(e.Files), e.Limit)
}

// Hint is what to do next.
func (e *TooManyDeleted) Hint() string {
	return fmt.Sprintf("look at the source; if the files are meant to go, raise max_deleted in the configuration (max_deleted = %d) for one run",
		e.Deleted)
}

// NoNativeDiff says that the filesystem cannot tell what changed since the last run.
type NoNativeDiff struct{ Reason string }

// Error gives the reason.
func (e *NoNativeDiff) Error() string {
	return "the changes since the last run cannot be had from the filesystem: " + e.Reason
}

// Incomplete says that the mirror lacks files that could not be copied; everything else is done.
type Incomplete struct{ Files int }

// Error gives the number of files.
func (e *Incomplete) Error() string {
	return fmt.Sprintf("incomplete: %s files could not be copied", output.Count(int64(e.Files)))
}

// Hint is what to do next.
func (e *Incomplete) Hint() string {
	return "see the files named above; each run tries them again"
}

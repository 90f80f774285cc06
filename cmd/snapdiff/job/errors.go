package job

import (
	"fmt"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
)

// TooManyDeleted says that a run was held before it touched the mirror: it would have deleted more than max_deleted.
type TooManyDeleted struct {
	Job            string
	Run            int64 // the id under which it can be approved
	Deleted, Files int64 // to be deleted; in the mirror
	Limit          config.Limit
}

// Error gives both figures and the limit.
func (e *TooManyDeleted) Error() string {
	return fmt.Sprintf("r%d is held: %s of %s files would be deleted, max_deleted is %s; the mirror was not touched",
		e.Run, output.Count(e.Deleted), output.Count(e.Files), e.Limit)
}

// Hint is what to do next.
func (e *TooManyDeleted) Hint() string {
	return fmt.Sprintf("to see what would go: snapdiff run %s --approve r%d --dry-run; if it is meant to go: snapdiff run %s --approve r%d", e.Job, e.Run, e.Job, e.Run)
}

// OtherSource says that a job's source is not the one which its store mirrors. Nothing was touched.
type OtherSource struct {
	Job          config.Job
	Known, Found string // identities
}

// Error shows both.
func (e *OtherSource) Error() string {
	return fmt.Sprintf("%s is another source (%s) than the one that the store mirrors (%s)", e.Job.Source, e.Found, e.Known)
}

// Hint is what to do next.
func (e *OtherSource) Hint() string {
	return fmt.Sprintf("is the right filesystem mounted? To mirror this one from now on, compared in full and with all history kept: snapdiff run %s --accept-new-source", e.Job.Name)
}

// NoNativeDiff says that the filesystem cannot tell what changed since the last run.
type NoNativeDiff struct{ Reason string }

// Error gives the reason.
func (e *NoNativeDiff) Error() string {
	return "only a full comparison can tell what to do: " + e.Reason
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

package job

import (
	"fmt"
	"strings"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
)

// RunHeld says that a run was held before it touched the mirror, because of what it would have done there.
type RunHeld struct {
	Job  string
	Held Held
}

// Error gives the reasons and the worst places.
func (e *RunHeld) Error() string {
	text := fmt.Sprintf("r%d is held: %s; the mirror was not touched", e.Held.ID, e.Held.Reason())
	if places := e.Held.Places(); len(places) > 0 {
		text += "; most of it " + strings.Join(places, ", ")
	}
	return text
}

// Hint is what to do next.
func (e *RunHeld) Hint() string {
	return fmt.Sprintf("to see all of it: snapdiff run %s --approve r%d --dry-run; if it is meant: snapdiff run %s --approve r%d", e.Job, e.Held.ID, e.Job, e.Held.ID)
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
type Incomplete struct {
	Files int
	Unfit int // those of them that the mirror's filesystem cannot hold
}

// Error gives the number of files.
func (e *Incomplete) Error() string {
	return fmt.Sprintf("incomplete: %s files could not be copied", output.Count(int64(e.Files)))
}

// Hint is what to do next.
func (e *Incomplete) Hint() string {
	next := "see the files named above; each run tries them again"
	if e.Unfit > 0 {
		next += fmt.Sprintf("; %s of them this mirror cannot hold: exclude them, or use a mirror that can hold them", output.Count(int64(e.Unfit)))
	}
	return next
}

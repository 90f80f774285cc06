package job

import (
	"fmt"
	"time"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/diff"
)

// Report is what one finished run did: a restore point.
type Report struct {
	Job string `json:"job"`
	Run string `json:"run"` // "r17"
	// State is "done": only finished runs are reported.
	State string `json:"state"`
	// Time is when the snapshot was taken.
	Time time.Time `json:"time"`
	// How the changes were found: "first", "native" or "full"; Reason says why it was no native one.
	How    string `json:"how"`
	Reason string `json:"reason,omitempty"`
	apply.Counts
	Seconds float64 `json:"seconds"`
	// Directories is how a native comparison looked at directories, in the report of the run itself.
	Directories *diff.DirCount `json:"directories,omitempty"`
	// History is the space, in bytes, of what this run replaced and earlier restore points need.
	History int64 `json:"history_bytes"`
	// Failed is the number of files that could not be copied; Incomplete names them, in the report of the run itself.
	Failed     int64     `json:"incomplete"`
	Incomplete []Problem `json:"problems,omitempty"`
	unfit      int       // those that the mirror's filesystem cannot hold
	Warnings   []string  `json:"warnings,omitempty"`
	// Skipped are the nested subvolumes or datasets, which are not followed, in the report of the run itself.
	Skipped []output.Path `json:"skipped,omitempty"`
}

// Problem is a file that could not be copied.
type Problem struct {
	output.Path
	Error string `json:"error"`
}

// Headings are those of Cells.
var Headings = []string{"JOB", "RUN", "TIME", "HOW", "ADDED", "REMOVED", "MODIFIED", "META", "COPIED", "HISTORY", "TOOK", "STATE"}

// Cells are a report as a row of a table.
func (r *Report) Cells() []string {
	added, state := r.Added, "complete"
	if r.How == "first" {
		added = r.Files
	}
	if r.Failed > 0 {
		state = fmt.Sprintf("incomplete (%d)", r.Failed)
	}
	return []string{r.Job, r.Run, r.Time.Local().Format("2006-01-02 15:04:05"), r.How, output.Count(added), output.Count(r.Removed),
		output.Count(r.Modified), output.Count(r.Meta), output.Size(r.Bytes), output.Size(r.History),
		output.Duration(time.Duration(r.Seconds * float64(time.Second))), state}
}

// Sentence is a report for people.
func (r *Report) Sentence() string {
	took := output.Duration(time.Duration(r.Seconds * float64(time.Second)))
	if r.How == "first" {
		return fmt.Sprintf("%s: %s done: %s files and %s directories copied, %s in %s", r.Job, r.Run, output.Count(r.Files),
			output.Count(r.Dirs), output.Size(r.Bytes), took)
	}
	return fmt.Sprintf("%s: %s done: %s names came, %s went, %s files have other contents, %s other metadata; %s copied in %s", r.Job, r.Run,
		output.Count(r.Added), output.Count(r.Removed), output.Count(r.Modified), output.Count(r.Meta), output.Size(r.Bytes), took)
}

func newReport(job string, run apply.RunInfo) *Report {
	return &Report{Job: job, Run: fmt.Sprintf("r%d", run.ID), State: run.State, Time: run.Date, How: run.How, Reason: run.Reason, Counts: run.Counts,
		Seconds: run.Ended.Sub(run.Started).Seconds(), Failed: run.Incomplete, History: run.Space, Warnings: run.Warnings}
}

// List gives the restore points of a job, oldest first. The source need not be there, and a run may be on.
func List(j config.Job) (reports []*Report, err error) {
	store, err := apply.OpenReadOnly(j.Store, apply.CatalogAt(j.Catalog))
	if err != nil {
		return nil, err
	}
	defer store.Close()
	runs, err := store.Runs()
	for _, run := range runs {
		if run.State == apply.Done {
			reports = append(reports, newReport(j.Name, run))
		}
	}
	return reports, err
}

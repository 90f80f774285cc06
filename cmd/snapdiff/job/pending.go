package job

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/gate"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/diff"
)

// Preview is what a run would do now.
type Preview struct {
	Job string `json:"job"`
	// State is "pending", or "held" when the run would be held; Why says why.
	State string `json:"state"`
	// Set is the pending change set; nil when a first run would copy everything.
	Set *diff.ChangeSet `json:"-"`
	// How and Reason are as in Report.
	How    string `json:"how"`
	Reason string `json:"reason,omitempty"`
	// Unfinished is the run that was cut off and would be finished before ("r17"); "" for none. Set is what comes after it.
	Unfinished string `json:"unfinished,omitempty"`
	// Deleted of Files names of files would go, Changed would not be as they are (see gate.Changed).
	Deleted int64    `json:"deleted"`
	Changed int64    `json:"changed"`
	Files   int64    `json:"files"`
	Why     []string `json:"why,omitempty"`
}

// Sentences say for people what the change set does not show.
func (p *Preview) Sentences() (lines []string) {
	if p.Unfinished != "" {
		lines = append(lines, p.Unfinished+" was cut off and would be finished first")
	}
	switch {
	case p.Set == nil:
		lines = append(lines, "a first run would copy everything")
	case p.How == "full":
		lines = append(lines, "compared in full: "+p.Reason)
	}
	if p.State == "held" {
		lines = append(lines, "this run would be held: "+strings.Join(p.Why, "; "))
	}
	return lines
}

// Look finds out what Run would do with the same options. It takes a snapshot to look at and destroys it again; mirror and
// catalog are not touched.
func Look(ctx context.Context, j config.Job, opts Options) (_ *Preview, err error) {
	r, err := newRunner(ctx, j, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	mark, err := r.newState(ctx)
	if err != nil {
		return nil, err
	}
	if r.approved == nil {
		defer func() { err = errors.Join(err, r.src.Drop(context.Background(), mark)) }()
	}
	next, err := r.src.Open(ctx, mark)
	if err != nil {
		return nil, err
	}
	defer next.Close()
	return r.look(ctx, next)
}

func (r *runner) look(ctx context.Context, next *source.Snapshot) (*Preview, error) {
	p := &Preview{Job: r.job.Name, State: "pending", How: "first"}
	last, cut, err := r.store.Last()
	if err != nil {
		return nil, err
	}
	if cut != nil {
		p.Unfinished = fmt.Sprintf("r%d", cut.ID)
		last = cut // once it is finished, the mirror equals its snapshot
	}
	if adopted, err := r.adopted(); err != nil || last == nil && !adopted || cut != nil && cut.State == apply.Copying {
		return p, err
	}
	run, base, err := r.compare(ctx, last, next)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	h, err := r.weigh(ctx, run)
	if err != nil {
		return nil, err
	}
	p.Set, p.How, p.Reason, p.Deleted, p.Changed, p.Files, p.Why = run.Changes, run.How, run.Reason, gate.Deleted(run.Changes), h.Changed, h.Files, h.Why
	if len(h.Why) > 0 {
		p.State = "held"
	}
	return p, nil
}

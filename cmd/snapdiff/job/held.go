package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/gate"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/snapshot"
)

// metaHeld is where the store keeps the run that is held.
const metaHeld = "held"

// Held is a run that was stopped before it touched the mirror, because of what it would do there. Its snapshot is kept, so that what is
// approved is what goes through.
type Held struct {
	ID   int64         // the run's, reserved for it
	Base string        // id of the snapshot that the mirror equalled; "" if there was no restore point
	Mark snapshot.Mark // of the run's own snapshot
	// Deleted of Files names of files would go.
	Deleted, Files int64
	Changed        int64      // names of files that would not be as they are, see gate.Changed
	Signs          []string   // of ransomware
	Why            []string   // in sentences; none in a store that an earlier version wrote: max_deleted
	Worst          []gate.Dir // where
	Since          time.Time
}

// Reason says in one sentence why the run is held.
func (h *Held) Reason() string {
	if len(h.Why) == 0 {
		return tooMany("deleted", h.Deleted, h.Files, "max_deleted")
	}
	return strings.Join(h.Why, "; ")
}

func tooMany(what string, n, files int64, limit string) string {
	return fmt.Sprintf("%s of %s files would be %s, more than %s", output.Count(n), output.Count(files), what, limit)
}

// Places say where most of it would happen, the worst first.
func (h *Held) Places() (list []string) {
	for _, d := range h.Worst {
		list = append(list, fmt.Sprintf("in %s (%s deleted, %s changed)", output.Name(shown(d.Path)), output.Count(d.Deleted), output.Count(d.Changed)))
	}
	return list
}

// HeldRun reads the held run; nil if there is none. Any run that began meanwhile makes it void.
func HeldRun(store *apply.Store) (*Held, error) {
	text, err := store.Meta(metaHeld)
	if err != nil || text == "" {
		return nil, err
	}
	h := new(Held)
	if err := json.Unmarshal([]byte(text), h); err != nil {
		return nil, fmt.Errorf("read the held run: %w", err)
	}
	runs, err := store.Runs()
	if err != nil {
		return nil, err
	}
	base := ""
	for _, run := range runs {
		if run.ID > h.ID { // also one that kept the base: a repair, or one that was undone
			return nil, nil
		}
		if run.State == apply.Done {
			base = run.Mark.ID
		}
	}
	if h.Base != base {
		return nil, nil
	}
	return h, nil
}

// approve gives the snapshot of the held run that may go through.
func (r *runner) approve() (snapshot.Mark, error) {
	held, err := HeldRun(r.store)
	switch {
	case err != nil:
		return snapshot.Mark{}, err
	case held == nil:
		return snapshot.Mark{}, hint.With(fmt.Errorf("r%d is not held: no run is", r.opts.Approve), "snapdiff list %s; snapdiff run %s", r.job.Name, r.job.Name)
	case held.ID != r.opts.Approve:
		return snapshot.Mark{}, hint.With(fmt.Errorf("r%d is not held; r%d is: %s", r.opts.Approve, held.ID, held.Reason()),
			"snapdiff run %s --approve r%d --dry-run shows what it would do", r.job.Name, held.ID)
	}
	r.approved = held
	r.say("r%d was held since %s and is approved", held.ID, held.Since.Local().Format("2006-01-02 15:04:05"))
	return held.Mark, nil
}

// weigh looks at what a run would do. The result says why it is to be held, or has no reasons. What was approved before is no reason
// again, unless there is more of it now.
func (r *runner) weigh(ctx context.Context, run *apply.Run) (*Held, error) {
	files, err := r.store.FileNames()
	if err != nil {
		return nil, err
	}
	h := &Held{Mark: run.Mark, Files: files, Changed: gate.Changed(run.Changes), Since: time.Now()}
	approved := Held{Deleted: -1, Changed: -1}
	because := ""
	if r.configured != "" {
		because = " (" + r.configured + ")"
	}
	if r.approved != nil {
		approved = *r.approved
	}
	if r.job.MaxDeleted.Exceeded(gate.GoneNames(run.Changes), files) { // else the exact number, which takes memory, is below it too
		h.Deleted = gate.Deleted(run.Changes)
	}
	if r.job.MaxDeleted.Exceeded(h.Deleted, files) && h.Deleted > approved.Deleted {
		h.Why = append(h.Why, tooMany("deleted", h.Deleted, files, "max_deleted = "+r.job.MaxDeleted.String())+because)
	}
	if r.job.MaxChanged.Exceeded(h.Changed, files) && h.Changed > approved.Changed {
		h.Why = append(h.Why, tooMany("changed or deleted", h.Changed, files, "max_changed = "+r.job.MaxChanged.String())+because)
	}
	if r.job.Ransomware == config.RansomwareHold && len(approved.Signs) == 0 {
		if h.Signs, err = gate.Encrypted(ctx, run.Changes, run.Base, run.Next); err != nil {
			return nil, fmt.Errorf("look for signs of ransomware: %w", err)
		}
		h.Why = append(h.Why, h.Signs...)
	}
	if len(h.Why) > 0 {
		h.Deleted = gate.Deleted(run.Changes)
		h.Worst = gate.Worst(run.Changes)
	}
	return h, nil
}

// pass lets a change set through, or holds the run.
func (r *runner) pass(ctx context.Context, run *apply.Run) error {
	h, err := r.weigh(ctx, run)
	if err != nil || len(h.Why) == 0 {
		return err
	}
	return r.hold(ctx, h)
}

// hold keeps a run for approval. A run that was held before is void now.
func (r *runner) hold(ctx context.Context, h *Held) error {
	id, err := r.store.ReserveRun()
	if err != nil {
		return err
	}
	last, _, err := r.store.Last()
	if err != nil {
		return err
	}
	h.ID = id
	keep := []snapshot.Mark{h.Mark}
	if last != nil {
		h.Base = last.Mark.ID
		keep = append(keep, last.Mark)
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := errors.Join(r.store.SetMeta(metaHeld, string(text)), forgetFailed(r.store)); err != nil {
		return err
	}
	return errors.Join(&RunHeld{Job: r.job.Name, Held: *h}, r.src.Clean(ctx, keep...))
}

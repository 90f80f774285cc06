package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
)

// Fate is what a prune does with one restore point.
type Fate struct {
	Job  string    `json:"job"`
	Run  string    `json:"run"`
	Time time.Time `json:"time"`
	Keep bool      `json:"keep"`
	Why  []string  `json:"why"` // the rules that keep it; "in use" when somebody looks at it; none for one that goes
	// Frees is how many bytes go with it.
	Frees int64 `json:"frees"`
}

// FateHeadings are those of Cells.
var FateHeadings = []string{"JOB", "RUN", "TIME", "", "WHY", "FREES"}

// Cells are a fate as a row of a table.
func (f *Fate) Cells() []string {
	what, why, frees := "keep", strings.Join(f.Why, ", "), ""
	if !f.Keep {
		what, why, frees = "drop", "no rule keeps it", output.Size(f.Frees)
	}
	return []string{f.Job, f.Run, f.Time.Local().Format("2006-01-02 15:04:05"), what, why, frees}
}

// NothingDropped says that restore points stay because a run is held: what it would do may be what they are needed for.
type NothingDropped struct {
	Job  string
	Held Held
}

// Error names the held run.
func (e *NothingDropped) Error() string {
	return fmt.Sprintf("no restore point is dropped while r%d is held: %s", e.Held.ID, e.Held.Reason())
}

// Hint is what to do next.
func (e *NothingDropped) Hint() string { return (&RunHeld{e.Job, e.Held}).Hint() }

// ErrNoKeep says that a job keeps all its restore points.
var ErrNoKeep = errors.New("has no keep in the configuration: every restore point stays")

// Prune drops the restore points that the job's keep does not keep, and gives the fate of all of them, oldest first. The
// source need not be there. dry: it only says what it would do.
func Prune(ctx context.Context, j config.Job, dry bool, opts apply.Options) ([]*Fate, error) {
	if j.Keep == nil {
		return nil, hint.With(fmt.Errorf("job %s %w", j.Name, ErrNoKeep), `say which are to stay: keep = { last = 7, daily = 14, weekly = 8 } in [jobs.%s], for example`, j.Name)
	}
	restore, err := behave(j.Neighbour)
	if err != nil {
		return nil, err
	}
	defer restore()
	if !dry {
		if err := apply.UseSpare(j.Store); err != nil {
			return nil, explain(err, j)
		}
	}
	store, err := apply.Open(j.Store, apply.CatalogAt(j.Catalog))
	if err != nil {
		return nil, explain(err, j)
	}
	held, err := HeldRun(store)
	if err == nil && held != nil && !dry {
		err = &NothingDropped{Job: j.Name, Held: *held}
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	fates, err := prune(ctx, j, store, dry, opts)
	if err == nil && !dry {
		err = store.KeepSpare()
	}
	return fates, explain(errors.Join(err, store.Close()), j)
}

func prune(ctx context.Context, j config.Job, store *apply.Store, dry bool, opts apply.Options) ([]*Fate, error) {
	runs, err := store.Runs()
	if err != nil {
		return nil, err
	}
	var points []apply.RestorePoint
	for _, r := range runs {
		if r.State == apply.Done {
			points = append(points, apply.RestorePoint{Run: r.ID, Date: r.Date})
		}
	}
	choices := apply.Keep(*j.Keep).Choose(points, time.Local)
	var drop []int64
	for _, c := range choices {
		if !c.Keep {
			drop = append(drop, c.Run)
		}
	}
	var done apply.Pruned
	if dry {
		done, err = store.PruneDry(ctx, drop)
	} else {
		done, err = store.Prune(ctx, drop, opts)
	}
	fates := make([]*Fate, len(choices))
	for i, c := range choices {
		fates[i] = &Fate{Job: j.Name, Run: fmt.Sprintf("r%d", c.Run), Time: c.Date, Keep: c.Keep, Why: c.Why, Frees: done.By[c.Run]}
		if slices.Contains(done.InUse, c.Run) {
			fates[i].Keep, fates[i].Why = true, []string{"in use"}
		}
	}
	return fates, err
}

// prune ends every run: it drops what keep does not keep, and finishes a prune that was cut off.
func (r *runner) prune(ctx context.Context) error {
	if r.job.Keep == nil {
		_, err := r.store.Prune(ctx, nil, r.applyOptions())
		return err
	}
	fates, err := prune(ctx, r.job, r.store, false, r.applyOptions())
	for _, f := range fates {
		if !f.Keep {
			r.say("dropped %s, which no rule of keep keeps: %s freed", f.Run, output.Size(f.Frees))
		}
	}
	return err
}

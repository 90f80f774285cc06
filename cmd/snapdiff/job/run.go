package job

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/diff"
	"snapdiff/snapshot"
)

// runner is one `snapdiff run` of one job.
type runner struct {
	job   config.Job
	src   source.Source
	store *apply.Store
	say   func(format string, args ...any)
}

// Run brings the mirror up to date: it finishes a run that was cut off, then makes one of its own. It gives the reports of
// all that it finished, also with an error. say is told what is being done.
func Run(ctx context.Context, j config.Job, say func(format string, args ...any)) (reports []*Report, err error) {
	src, store, err := open(ctx, j)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close(), src.Close()) }()
	r := &runner{job: j, src: src, store: store, say: say}
	for _, step := range []func(context.Context) (*apply.Result, error){r.resume, r.run} {
		result, err := step(ctx)
		if err != nil {
			return reports, err
		}
		if result == nil {
			continue
		}
		report, err := r.report(result)
		if err != nil {
			return reports, err
		}
		reports = append(reports, report)
	}
	if n := len(reports[len(reports)-1].Incomplete); n > 0 {
		return reports, &Incomplete{n}
	}
	return reports, nil
}

// resume finishes a run that was cut off; nil if there is none.
func (r *runner) resume(ctx context.Context) (*apply.Result, error) {
	_, cut, err := r.store.Last()
	if err != nil || cut == nil {
		return nil, err
	}
	r.say("finishing r%d, which was cut off (%s)", cut.ID, cut.State)
	next, err := r.src.Open(ctx, cut.Mark)
	if err != nil {
		return nil, r.cannotFinish(cut.ID, err)
	}
	defer next.Close()
	var result *apply.Result
	if cut.State == apply.Copying {
		result, err = r.firstCopy(ctx, next)
	} else {
		result, err = r.store.Resume(ctx, *cut, next.Root, apply.Options{})
	}
	if err != nil {
		return nil, err
	}
	return result, r.clean(ctx, cut.Mark)
}

func (r *runner) cannotFinish(run int64, err error) error {
	return hint.With(fmt.Errorf("r%d was cut off and cannot be finished: %w", run, err),
		"this version cannot go on without that snapshot; move %s away and make a new store: snapdiff init %s", r.job.Store, r.job.Name)
}

// run makes one run.
func (r *runner) run(ctx context.Context) (_ *apply.Result, err error) {
	last, _, err := r.store.Last()
	if err != nil {
		return nil, err
	}
	mark, err := r.src.Take(ctx)
	if err != nil {
		return nil, err
	}
	r.say("snapshot %s", mark.Path)
	defer func() { err = errors.Join(err, r.dropUnused(mark, err)) }()
	next, err := r.src.Open(ctx, mark)
	if err != nil {
		return nil, err
	}
	defer next.Close()
	var result *apply.Result
	if last != nil {
		result, err = r.incremental(ctx, last.Mark, next)
	} else {
		r.say("first run: copying all of %s", r.job.Source)
		result, err = r.firstCopy(ctx, next)
	}
	if err != nil {
		return nil, err
	}
	return result, r.clean(ctx, mark)
}

func (r *runner) firstCopy(ctx context.Context, next *source.Snapshot) (*apply.Result, error) {
	return r.store.FirstCopy(ctx, apply.Copy{Next: next.Root, Keys: r.src.Keys(next), Mark: next.Mark}, apply.Options{})
}

// incremental applies what changed since the base.
func (r *runner) incremental(ctx context.Context, mark snapshot.Mark, next *source.Snapshot) (*apply.Result, error) {
	base, reason, err := r.comparable(ctx, mark, next.Mark)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return r.full(ctx, reason, next)
	}
	defer base.Close()
	again, err := r.again(next)
	if err != nil {
		return nil, err
	}
	changes, err := r.src.Diff(ctx, base, next, nil, diff.Options{Exclude: r.src.Exclude(), Again: again})
	if errors.Is(err, diff.ErrNotNative) {
		return r.full(ctx, err.Error(), next)
	}
	if err != nil {
		return nil, fmt.Errorf("find what changed: %w", err)
	}
	return r.apply(ctx, apply.Run{Changes: changes, Base: base.Root, Next: next.Root, Mark: next.Mark, How: "native"})
}

// full compares every name and inode with the mirror, because the filesystem cannot tell what changed.
func (r *runner) full(ctx context.Context, reason string, next *source.Snapshot) (*apply.Result, error) {
	if r.job.OnLostBase == config.LostBaseStop {
		return nil, hint.With(&NoNativeDiff{reason},
			`the mirror was not touched and shows the last restore point. To compare in full, which reads everything, set on_lost_base = "full"`)
	}
	r.say("comparing in full: %s", reason)
	mirror := r.store.Mirror()
	changes, rekey, err := diff.Full(ctx, mirror, next.Root, r.src.Keys(next), diff.FullOptions{Exclude: r.src.Exclude()})
	if err != nil {
		return nil, fmt.Errorf("compare in full: %w", err)
	}
	return r.apply(ctx, apply.Run{Changes: changes, Rekey: rekey, Base: mirror, Next: next.Root, Mark: next.Mark, How: "full", Reason: reason})
}

// apply brings a change set into the mirror unless it deletes too much.
func (r *runner) apply(ctx context.Context, run apply.Run) (*apply.Result, error) {
	c := run.Changes
	r.say("changed: %d names went, %d came, %d inodes are new or differ", c.Unlinked.Len(), c.Linked.Len(), c.Inodes.Len())
	for _, path := range c.Skipped {
		r.say("nested subvolume %s is not followed: give it a job of its own", output.Name(path))
	}
	if err := r.checkDeleted(c); err != nil {
		return nil, err
	}
	return r.store.Apply(ctx, run, apply.Options{})
}

// again are the inodes that earlier runs could not copy. A first copy has noted them without their generation.
func (r *runner) again(next *source.Snapshot) ([]diff.Key, error) {
	pending, err := r.store.Pending()
	if err != nil {
		return nil, err
	}
	keyOf := r.src.Keys(next)
	var keys []diff.Key
	for _, p := range pending {
		if p.Key.Gen == 0 {
			p.Key, err = keyOf(p.Path, p.Key.Ino)
			if errors.Is(err, diff.ErrNoInode) {
				continue // gone from the source: nothing to try again
			}
			if err != nil {
				return nil, fmt.Errorf("look at %q, which an earlier run could not copy: %w", p.Path, err)
			}
		}
		keys = append(keys, p.Key)
	}
	return keys, nil
}

// comparable opens the base, or says why it cannot be compared natively with the new snapshot.
func (r *runner) comparable(ctx context.Context, mark, next snapshot.Mark) (base *source.Snapshot, reason string, err error) {
	base, err = r.src.Open(ctx, mark)
	switch {
	case errors.Is(err, snapshot.ErrGone), errors.Is(err, snapshot.ErrAltered):
		return nil, "the " + err.Error(), nil
	case err != nil:
		return nil, "", fmt.Errorf("open the base: %w", err)
	}
	if reason = r.src.Comparable(mark, next); reason != "" {
		return nil, reason, base.Close()
	}
	return base, "", nil
}

// dropUnused destroys the snapshot of a run that failed, unless the store needs it to finish that run.
func (r *runner) dropUnused(mark snapshot.Mark, failed error) error {
	if failed == nil {
		return nil
	}
	last, cut, err := r.store.Last()
	if err != nil || cut != nil || last != nil && last.Mark.ID == mark.ID {
		return err
	}
	return r.src.Drop(context.Background(), mark)
}

// clean destroys all snapshots of this job but the one that the mirror now equals: the old base, and what cut-off runs left.
func (r *runner) clean(ctx context.Context, keep snapshot.Mark) error {
	if err := r.src.Clean(ctx, keep); err != nil {
		return fmt.Errorf("the run is done, but: %w", err)
	}
	return nil
}

// checkDeleted holds a run that would delete more than max_deleted.
func (r *runner) checkDeleted(changes *diff.ChangeSet) error {
	var deleted int64
	changes.Gone.Ascend(func(g diff.Gone) bool {
		if g.BaseAttr.Type() != unix.S_IFDIR {
			deleted++
		}
		return true
	})
	files, err := r.files()
	if err != nil {
		return err
	}
	if r.job.MaxDeleted.Exceeded(deleted, files) {
		return &TooManyDeleted{deleted, files, r.job.MaxDeleted}
	}
	return nil
}

// files is the number of names in the mirror, by what the runs so far have counted. Added and removed directories are in it.
func (r *runner) files() (int64, error) {
	runs, err := r.store.Runs()
	var files int64
	for _, run := range runs {
		files += run.Counts.Files + run.Counts.Added - run.Counts.Removed
	}
	return files, err
}

// report describes the run that has just ended.
func (r *runner) report(result *apply.Result) (*Report, error) {
	last, _, err := r.store.Last()
	if err != nil {
		return nil, err
	}
	report := newReport(r.job.Name, *last)
	for _, p := range result.Incomplete {
		report.Incomplete = append(report.Incomplete, Problem{output.NewPath(p.Path), p.Err.Error()})
	}
	return report, nil
}

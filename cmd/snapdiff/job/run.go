package job

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// runner is one `snapdiff run` of one job.
type runner struct {
	job   config.Job
	store *apply.Store
	say   func(format string, args ...any)
}

// Run brings the mirror up to date: it finishes a run that was cut off, then makes one of its own. It gives the reports of
// all that it finished, also with an error. say is told what is being done.
func Run(ctx context.Context, j config.Job, say func(format string, args ...any)) (reports []*Report, err error) {
	store, err := open(j)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	r := &runner{job: j, store: store, say: say}
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
	next, err := r.openSnapshot(cut.Mark)
	if err != nil {
		return nil, r.cannotFinish(cut.ID, err)
	}
	defer next.Close()
	var result *apply.Result
	if cut.State == apply.Copying {
		result, err = r.firstCopy(ctx, next, cut.Mark)
	} else {
		result, err = r.store.Resume(ctx, *cut, next, apply.Options{})
	}
	if err != nil {
		return nil, err
	}
	return result, r.clean(cut.Mark)
}

func (r *runner) cannotFinish(run int64, err error) error {
	return withHint(fmt.Errorf("r%d was cut off and cannot be finished: %w", run, err),
		"this version cannot go on without that snapshot; move %s away and make a new store: snapdiff init %s", r.job.Store, r.job.Name)
}

// run makes one run.
func (r *runner) run(ctx context.Context) (_ *apply.Result, err error) {
	if err := makeSnapshotDir(r.job); err != nil {
		return nil, err
	}
	last, _, err := r.store.Last()
	if err != nil {
		return nil, err
	}
	mark, err := r.takeSnapshot()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.dropUnused(mark, err)) }()
	next, err := beneath.Open(mark.Path)
	if err != nil {
		return nil, err
	}
	defer next.Close()
	var result *apply.Result
	if last != nil {
		result, err = r.incremental(ctx, last.Mark, mark, next)
	} else {
		r.say("first run: copying all of %s", r.job.Source)
		result, err = r.firstCopy(ctx, next, mark)
	}
	if err != nil {
		return nil, err
	}
	return result, r.clean(mark)
}

func (r *runner) firstCopy(ctx context.Context, next *beneath.Root, mark snapshot.Mark) (*apply.Result, error) {
	return r.store.FirstCopy(ctx, apply.Copy{Next: next, Keys: newKeys(next).of, Mark: mark}, apply.Options{})
}

// incremental applies what changed since the base.
func (r *runner) incremental(ctx context.Context, base, mark snapshot.Mark, next *beneath.Root) (*apply.Result, error) {
	basePath, reason, err := r.comparable(base, mark)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return r.full(ctx, reason, mark, next)
	}
	again, err := r.again(next)
	if err != nil {
		return nil, err
	}
	from, err := beneath.Open(basePath)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	changes, err := btrfsfeed.Diff(ctx, from, next, base.Trans, diff.Options{Exclude: []string{ownDir}, Again: again})
	if err != nil {
		return nil, fmt.Errorf("find what changed: %w", err)
	}
	return r.apply(ctx, apply.Run{Changes: changes, Base: from, Next: next, Mark: mark, How: "native"})
}

// full compares every name and inode with the mirror, because the filesystem cannot tell what changed.
func (r *runner) full(ctx context.Context, reason string, mark snapshot.Mark, next *beneath.Root) (*apply.Result, error) {
	if r.job.OnLostBase == config.LostBaseStop {
		return nil, withHint(&NoNativeDiff{reason},
			`the mirror was not touched and shows the last restore point. To compare in full, which reads everything, set on_lost_base = "full"`)
	}
	r.say("comparing in full: %s", reason)
	mirror := r.store.Mirror()
	changes, rekey, err := diff.Full(ctx, mirror, next, newKeys(next).of, diff.FullOptions{Exclude: []string{ownDir}})
	if err != nil {
		return nil, fmt.Errorf("compare in full: %w", err)
	}
	return r.apply(ctx, apply.Run{Changes: changes, Rekey: rekey, Base: mirror, Next: next, Mark: mark, How: "full", Reason: reason})
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
func (r *runner) again(next *beneath.Root) ([]diff.Key, error) {
	pending, err := r.store.Pending()
	if err != nil {
		return nil, err
	}
	var keys []diff.Key
	for _, p := range pending {
		if p.Key.Gen == 0 {
			p.Key, err = newKeys(next).of(p.Path, p.Key.Ino)
			if errors.Is(err, errNoInode) {
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

// comparable finds the base, and says why it cannot be compared natively with the new snapshot: "" if it can.
func (r *runner) comparable(base, mark snapshot.Mark) (path, reason string, err error) {
	path, err = btrfs.Find(base, r.job.Snapshots)
	switch {
	case errors.Is(err, snapshot.ErrGone):
		return "", "the " + err.Error(), nil
	case errors.Is(err, snapshot.ErrAltered):
		return "", "the " + err.Error(), nil
	case err != nil:
		return "", "", fmt.Errorf("find the base: %w", err)
	}
	return path, btrfs.Lineage(base, mark), nil
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

// openSnapshot opens a snapshot that the catalog remembers.
func (r *runner) openSnapshot(mark snapshot.Mark) (*beneath.Root, error) {
	path, err := btrfs.Find(mark, r.job.Snapshots)
	if err != nil {
		return nil, err
	}
	return beneath.Open(path)
}

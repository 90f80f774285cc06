package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
)

// Options say how a run is to be made. The zero value is an ordinary run.
type Options struct {
	// Approve is the id of the held run that may go through now; 0 for none.
	Approve int64
	// Snapshot, when set, names a snapshot that somebody else made as the new state of the source.
	Snapshot string
	// NewSource accepts that the source is another one than before.
	NewSource bool
	// Full compares in full, whatever the filesystem can tell.
	Full bool

	// Say, when set, is told what is being done.
	Say func(format string, args ...any)
	// Progress, when set, is told now and then how far it is.
	Progress func(apply.Progress)
	// Destroy, when set, destroys snapshots that are not needed any more, given by their paths; the run goes on meanwhile. What it leaves
	// the next run destroys.
	Destroy func(paths ...string) error
}

func (o Options) say() func(format string, args ...any) {
	if o.Say == nil {
		return func(string, ...any) {}
	}
	return o.Say
}

// runner is one `snapdiff run` of one job.
type runner struct {
	job     config.Job
	opts    Options
	src     source.Source
	store   *apply.Store
	say     func(format string, args ...any)
	known   string // identity of the source that the store mirrors; "" where init was cut off
	exclude *diff.Exclude
	// why is why this run has to compare in full; "" if it need not.
	why string
	// configured is what was changed in the configuration, so that files come or go which did not in the source; "" if nothing was.
	configured string
	skipped    []output.Path       // nested subvolumes that the run met
	unfollowed []source.Unfollowed // those that the snapshot does not show
	dirs       *diff.DirCount      // of a native comparison, for the report
	back       string              // that an altered mirror was brought back; "" if it was not
	clock      string              // what is to be said of it; see noteClock
	// approved is the held run that goes through now, nil for none.
	approved *Held
	// destroying gives the error of Options.Destroy when that has ended; nil: it was not called.
	destroying chan error
	pace       *gentle.Pace // of all file data that the run moves; nil: no limit
	restore    func()       // the priorities of before
}

// newRunner opens a job and makes sure that its source is the one which the store mirrors, or accepted as that. It
// writes nothing. Its close closes source and store.
func newRunner(ctx context.Context, j config.Job, opts Options) (*runner, error) {
	if err := ctx.Err(); err != nil { // with the job before, of several
		return nil, err
	}
	restore, err := behave(j.Neighbour)
	if err != nil {
		return nil, err
	}
	src, store, err := open(ctx, j)
	if err != nil {
		restore()
		return nil, err
	}
	r := &runner{job: j, opts: opts, src: src, store: store, say: opts.say(), pace: gentle.NewPace(ctx, j.BwLimit), restore: restore}
	if opts.Full {
		r.why = "asked for with --full"
	}
	r.known, err = store.Meta(metaSource)
	if err == nil && r.known != "" && r.known != src.ID() {
		r.why = fmt.Sprintf("the source is another one (%s) than before (%s), and was accepted", src.ID(), r.known)
		if !opts.NewSource {
			err = &OtherSource{Job: j, Known: r.known, Found: src.ID()}
		}
	}
	if err == nil {
		err = r.readExclude()
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *runner) close() error {
	defer r.restore()
	return errors.Join(r.store.Close(), r.src.Close())
}

// Run brings the mirror up to date: it finishes a run that was cut off, then makes one of its own. It gives the reports of
// all that it finished, also with an error.
func Run(ctx context.Context, j config.Job, opts Options) (reports []*Report, err error) {
	defer func() {
		if err != nil && len(reports) == 0 {
			err = errors.Join(err, letGo(ctx, j, err))
		}
	}()
	r, err := newRunner(ctx, j, opts)
	if err != nil { // a store that is not mounted is the failure that somebody has to hear of
		h := runner{job: j, opts: opts, say: opts.say()}
		return nil, h.ended(ctx, nil, explain(err, j))
	}
	defer func() {
		err = errors.Join(r.ended(ctx, reports, explain(errors.Join(err, r.destroyed()), j)), r.close())
	}()
	// Also where init was cut off before it could say so. If this run fails, the next one finds the base of another source and
	// compares in full.
	if r.known != r.src.ID() {
		if err := r.store.SetMeta(metaSource, r.src.ID()); err != nil {
			return nil, err
		}
	}
	if err := r.store.CompleteManifests(ctx); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) (*apply.Result, error){r.resume, r.run, r.mend} {
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
	if r.back != "" {
		last := reports[len(reports)-1]
		last.Warnings = append(last.Warnings, r.back)
	}
	for _, note := range []func(last *Report) error{r.noteCopied, r.noteUnfollowed} {
		if err := note(reports[len(reports)-1]); err != nil {
			return reports, err
		}
	}
	if err := errors.Join(r.prune(ctx), r.store.KeepSpare(), forgetFailed(r.store)); err != nil {
		return reports, err
	}
	r.store.Settle() // while snapshots are being destroyed
	if last := reports[len(reports)-1]; len(last.Incomplete) > 0 {
		return reports, &Incomplete{len(last.Incomplete), last.unfit}
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
	lost := errors.Is(err, snapshot.ErrGone) || errors.Is(err, snapshot.ErrAltered)
	switch {
	case lost && cut.State == apply.Copying:
		r.say("the first copy begins anew: the %v", err)
		return nil, nil
	case lost:
		return nil, r.abandon(ctx, *cut, err)
	case err != nil:
		return nil, fmt.Errorf("finish r%d, which was cut off: %w", cut.ID, err)
	}
	defer next.Close()
	var result *apply.Result
	if cut.State == apply.Copying {
		if err := r.mixExclude(""); err != nil {
			return nil, err
		}
		result, err = r.firstCopy(ctx, next)
	} else {
		result, err = r.finish(ctx, *cut, next)
	}
	if err != nil {
		return nil, err
	}
	return result, r.clean(ctx, cut.Mark)
}

// finish finishes a run that was recorded. Its base is only needed where somebody altered the mirror.
func (r *runner) finish(ctx context.Context, cut apply.RunInfo, next *source.Snapshot) (*apply.Result, error) {
	var base *beneath.Root
	if cut.Base.ID != "" {
		if snap, err := r.src.Open(ctx, cut.Base); err != nil {
			r.say("the base of r%d is not there any more: %v", cut.ID, err)
		} else {
			defer snap.Close()
			base = snap.Root
		}
	}
	result, err := r.store.Resume(ctx, cut, base, next.Root, r.applyOptions())
	if err == nil {
		err = r.finishedExclude()
	}
	return result, err
}

// abandon gives up a run that was cut off, because why says that its snapshot is not there any more. The next run compares in full.
func (r *runner) abandon(ctx context.Context, run apply.RunInfo, why error) error {
	r.say("r%d cannot be finished: the %v; what it did to the mirror is undone", run.ID, why)
	return r.store.Abandon(ctx, run, r.applyOptions())
}

// run makes one run.
func (r *runner) run(ctx context.Context) (_ *apply.Result, err error) {
	mark, err := r.newState(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.dropUnused(mark, err)) }()
	next, err := r.src.Open(ctx, mark)
	if err != nil {
		return nil, err
	}
	defer next.Close()
	last, _, err := r.store.Last()
	if err != nil {
		return nil, err
	}
	if err := r.readExclude(); err != nil { // again: a first copy with other patterns may have been finished just now
		return nil, err
	}
	if last != nil {
		if err := r.bringBack(ctx, last, nil); err != nil {
			return nil, err
		}
	}
	r.noteClock(last, mark)
	result, err := r.bring(ctx, last, next)
	if err == nil {
		err = r.noteExclude()
	}
	if err != nil {
		return nil, err
	}
	// Closed first, what it needed of its source can be given back in one go with the old snapshots.
	return result, errors.Join(next.Close(), r.clean(ctx, mark))
}

// mend makes good at once what somebody had done to the mirror, where the run has met that. The result is of the full comparison if
// there has to be one.
func (r *runner) mend(ctx context.Context) (*apply.Result, error) {
	reason, err := r.store.NeedsFull()
	if err != nil || reason == "" {
		return nil, err
	}
	last, _, err := r.store.Last()
	if err != nil {
		return nil, err
	}
	next, err := r.src.Open(ctx, last.Mark)
	if err != nil {
		return nil, err
	}
	defer next.Close()
	r.approved = nil // that was for the run before
	if err := r.bringBack(ctx, last, next); err != nil {
		return nil, err
	}
	if reason, err = r.store.NeedsFull(); err != nil || reason == "" {
		return nil, err
	}
	return r.bring(ctx, last, next)
}

// newState gives the snapshot that the mirror is to equal: a new one of the source, a foreign one, or that of a held run.
func (r *runner) newState(ctx context.Context) (mark snapshot.Mark, err error) {
	if err := r.expectBase(); err != nil {
		return mark, err
	}
	switch {
	case r.opts.Approve != 0:
		return r.approve()
	case r.opts.Snapshot != "":
		mark, err = r.foreign(ctx)
	default:
		err = r.quiesced(ctx, func() error { mark, err = r.src.Take(ctx); return sourceFull(err, r.job) })
		if err != nil && mark.ID != "" { // taken, but the hook after it failed
			err = errors.Join(err, r.src.Drop(context.WithoutCancel(ctx), mark))
		}
	}
	if err == nil {
		r.say("snapshot %s", mark.Path)
	}
	if n := len(mark.Children); n > 0 {
		r.say("and %s of what is nested in it", output.Count(int64(n)))
	}
	return mark, err
}

// former tells a source that can have children what the mirror equals, or will when the run that was cut off is finished.
func former(src source.Source, store *apply.Store) error {
	p, ok := src.(source.Parent)
	if !ok {
		return nil
	}
	last, cut, err := store.Last()
	if run := cmp.Or(cut, last); err == nil && run != nil {
		p.Former(run.Mark)
	}
	return err
}

// expectBase tells the source what the new snapshot will be compared with, unless it is not going to be.
func (r *runner) expectBase() error {
	if err := former(r.src, r.store); err != nil {
		return err
	}
	e, ok := r.src.(source.Expecter)
	if !ok || r.why != "" {
		return nil
	}
	last, _, err := r.store.Last()
	if err == nil && last != nil {
		e.Expect(last.Mark)
	}
	return err
}

// foreign takes over a snapshot that somebody else made. It must be newer than the last restore point: restore points are
// in the order of time, and the filesystem cannot tell what changed backwards.
func (r *runner) foreign(ctx context.Context) (snapshot.Mark, error) {
	last, _, err := r.store.Last()
	if err != nil {
		return snapshot.Mark{}, err
	}
	mark, err := r.src.Foreign(ctx, r.opts.Snapshot)
	if err != nil || last == nil || mark.Trans > last.Mark.Trans {
		return mark, err
	}
	order := "is older than"
	if mark.Trans == last.Mark.Trans {
		order = "is the state of"
	}
	err = hint.With(fmt.Errorf("the snapshot %s %s the restore point r%d (%s, r%d has %s): nothing was changed",
		r.opts.Snapshot, order, last.ID, age(mark), last.ID, age(last.Mark)),
		"import snapshots in the order in which they were made; older ones cannot come between")
	if mark.ID != last.Mark.ID { // where others' snapshots are bases themselves, it is ours to keep
		err = errors.Join(err, r.src.Drop(ctx, mark))
	}
	return mark, err
}

// age tells what Trans of a mark is, for people.
func age(m snapshot.Mark) string {
	if m.Kind == "lvm" {
		return "the time " + m.Taken.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("transaction %d", m.Trans)
}

// bring makes the mirror equal to next.
func (r *runner) bring(ctx context.Context, last *apply.RunInfo, next *source.Snapshot) (*apply.Result, error) {
	if last == nil {
		adopted, err := r.adopted()
		if err != nil {
			return nil, err
		}
		if !adopted {
			r.say("first run: copying all of %s", r.job.Source)
			if err := r.noteExclude(); err != nil {
				return nil, err
			}
			return r.firstCopy(ctx, next)
		}
	}
	run, base, err := r.compare(ctx, last, next)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	return r.apply(ctx, run)
}

func (r *runner) firstCopy(ctx context.Context, next *source.Snapshot) (*apply.Result, error) {
	if err := r.skipNested(); err != nil {
		return nil, err
	}
	opts := r.applyOptions()
	if r.opts.Progress != nil {
		total := usedBytes(ctx, r.src) // the most there can be, so the time left is the most too
		opts.Progress = func(p apply.Progress) { p.OfBytes = max(total, p.Bytes+1); r.opts.Progress(p) }
	}
	keys := r.src.Keys(next)
	var mu sync.Mutex
	return r.store.FirstCopy(ctx, apply.Copy{Next: next.Root, Mark: next.Mark, Exclude: r.exclude, Links: r.src.NeedsLinks(), Signatures: r.src.NeedsSignatures(), Keys: func(path string, ino uint64) (diff.Key, error) {
		key, err := keys(path, ino)
		if err == nil && key.IsPlaceholder() {
			mu.Lock()
			defer mu.Unlock()
			r.skip(path, "")
		}
		return key, err
	}}, opts)
}

// apply brings a change set into the mirror unless it is held.
func (r *runner) apply(ctx context.Context, run *apply.Run) (*apply.Result, error) {
	c := run.Changes
	r.say("changed: %d names went, %d came, %d inodes are new or differ", c.Unlinked.Len(), c.Linked.Len(), c.Inodes.Len())
	if r.skipped, r.dirs = nil, nil; run.How == "native" {
		dirs := c.Dirs // a copy: the change set is to go when it is used up
		r.dirs = &dirs
		r.say("%d directories changed, of which %d had to be read whole", c.Dirs.Changed, c.Dirs.Whole)
	}
	for _, path := range c.Skipped {
		r.skip(path, "")
	}
	if err := r.skipNested(); err != nil {
		return nil, err
	}
	if err := r.pass(ctx, run); err != nil {
		return nil, err
	}
	if err := r.checkRoom(c, run.Next); err != nil {
		return nil, err
	}
	if r.approved != nil {
		run.ID = r.approved.ID
	}
	if err := r.mixExclude(r.excludeText()); err != nil {
		return nil, err
	}
	r.say("applying")
	return r.store.Apply(ctx, *run, r.applyOptions())
}

// again are the inodes that earlier runs could not copy. A first copy has noted them without their generation. leftOut: names below them may be missing too.
func (r *runner) again(next *source.Snapshot) (keys []diff.Key, leftOut bool, err error) {
	pending, err := r.store.Pending()
	if err != nil {
		return nil, false, err
	}
	keyOf := r.src.Keys(next)
	for _, p := range pending {
		st, err := next.Root.Lstat(p.Path)
		leftOut = leftOut || err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR || diff.TooDeep(p.Path)
		if p.Key.Gen == 0 {
			p.Key, err = keyOf(p.Path, p.Key.Ino)
			if errors.Is(err, diff.ErrNoInode) {
				continue // gone from the source: nothing to try again
			}
			if err != nil {
				return nil, false, fmt.Errorf("look at %q, which an earlier run could not copy: %w", p.Path, err)
			}
		}
		keys = append(keys, p.Key)
	}
	return keys, leftOut, nil
}

// shown is a path as people and programs see it: the top directory is ".".
func shown(path string) string {
	if path == "" {
		return "."
	}
	return path
}

// ShortName is output.Name of a path that may be long: of one of thousands of bytes both ends are enough on a line for people.
func ShortName(path string) string {
	const most = 300
	return output.Shorten(output.Name(path), most)
}

// dropUnused destroys the snapshot of a run that failed, unless the store needs it to finish that run or holds it.
func (r *runner) dropUnused(mark snapshot.Mark, failed error) error {
	if failed == nil {
		return nil
	}
	last, cut, err := r.store.Last()
	if err != nil || cut != nil || last != nil && last.Mark.ID == mark.ID {
		return err
	}
	held, err := HeldRun(r.store)
	if err != nil || held != nil && held.Mark.ID == mark.ID {
		return err
	}
	return r.src.Drop(context.Background(), mark)
}

// clean destroys all snapshots of this job but the one that the mirror now equals: the old base, a held one (which is void
// now), and what cut-off runs left.
func (r *runner) clean(ctx context.Context, keep snapshot.Mark) error {
	return butDone(r.destroy(ctx, keep))
}

// butDone is an error of what follows a run that is done.
func butDone(err error) error {
	if err != nil {
		err = fmt.Errorf("the run is done, but: %w", err)
	}
	return err
}

func (r *runner) destroy(ctx context.Context, keep snapshot.Mark) error {
	lingerer, ok := r.src.(source.Lingerer)
	if !ok || r.opts.Destroy == nil {
		return r.src.Clean(ctx, keep)
	}
	err := r.destroyed() // what a run that was finished just now left: it must not be found again
	old, listing := lingerer.Old(keep)
	ended := make(chan error, 1)
	go func() {
		var err error
		const most = 1000 // arguments of a program may have 2 MB in all
		for some := range slices.Chunk(old, most) {
			err = errors.Join(err, r.opts.Destroy(some...))
		}
		ended <- butDone(err)
	}()
	r.destroying = ended
	return errors.Join(err, listing)
}

// destroyed waits until Options.Destroy has ended.
func (r *runner) destroyed() error {
	if r.destroying == nil {
		return nil
	}
	err := <-r.destroying
	r.destroying = nil
	return err
}

// report describes the run that has just ended.
func (r *runner) report(result *apply.Result) (*Report, error) {
	last, _, err := r.store.Last()
	if err != nil {
		return nil, err
	}
	report := newReport(r.job.Name, *last)
	report.Skipped = r.skipped
	report.Directories, r.dirs = r.dirs, nil
	if r.clock != "" {
		report.Warnings, r.clock = append(report.Warnings, r.clock), ""
	}
	for _, p := range result.Incomplete {
		report.Incomplete = append(report.Incomplete, Problem{output.NewPath(shown(p.Path)), p.Err.Error()})
		if apply.CannotHold(p.Err) {
			report.unfit++
		}
	}
	return report, nil
}

package apply

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
)

// Problem is a file that could not be brought into the mirror: its old version, if any, stays. It is tried again in
// every run (see Store.Pending).
type Problem struct {
	Path string
	Key  diff.Key
	Err  error
}

// Options of all that changes a store.
type Options struct {
	// Workers that copy files; 0: as many as do a disk good.
	Workers int
	// Pace limits how fast file data is copied; nil does not.
	Pace *gentle.Pace
	// Progress, when set, is told now and then how far it is.
	Progress func(Progress)
	// NoSums leaves out the checksums of what is copied.
	NoSums bool
	// ReadBack reads what was written from the disk again before the run is committed, and fails the run if it is not what
	// was written.
	ReadBack bool
	// Step, when set, is called before every single change, with its name. An error of it stops everything there, as a
	// kill would. For tests.
	Step func(name string) error
}

func (o *Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return defaultWorkers()
}

// Result is what a run did.
type Result struct {
	Run        int64
	How        string
	Reason     string
	Counts     Counts
	Incomplete []Problem
	Warnings   []string
	// Altered says what somebody else did to the mirror; "" if nothing was met. The mirror may then lack things, and the next run
	// must compare in full (see Store.NeedsFull).
	Altered string
}

// Run is a change set to apply and the two snapshots that it was found in.
type Run struct {
	Changes    *diff.ChangeSet // Apply takes its inodes out
	Base, Next *beneath.Root
	BaseMark   snapshot.Mark // of Base; zero in a full comparison
	Mark       snapshot.Mark // of Next
	How        string        // native, full
	Reason     string        // why not native
	ID         int64         // what ReserveRun gave, when no run has begun since; 0 takes the next
	// Links: the source needs the link index; a full comparison makes it anew, with Signatures one that gets them. (One that is
	// there is always kept.)
	Links, Signatures bool
	// Rekey gives, after a full comparison, the key that an inode of the mirror has in the change set.
	Rekey func(path string) (diff.Key, error)
}

// Apply makes the mirror equal to run.Next and keeps what it replaces.
func (s *Store) Apply(ctx context.Context, run Run, opts Options) (*Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := takePlan(run.Changes)
	p.Full = run.Rekey != nil
	if !p.Full {
		if err := s.reconsider(p); err != nil {
			return nil, fmt.Errorf("looking at what earlier runs could not copy: %w", err)
		}
	}
	defer s.forRun(len(p.Inodes))()
	r := &recorder{s: s, plan: p, base: run.Base, next: run.Next, newDirs: map[diff.Key]bool{}, nodes: map[diff.Key]int64{}, dirs: map[string]int64{"": rootNode}}
	for _, read := range []func(context.Context, int) error{r.readXattrs, r.readTimes} {
		if err := read(ctx, opts.workers()); err != nil {
			return nil, err
		}
	}
	ahead := newBuildAhead(opts)
	defer ahead.end()
	if err := ahead.start(ctx, s, run.Next, p, opts); err != nil {
		return nil, err
	}
	// A run with nothing to do is recorded and committed at once. Its manifest comes afterwards, for history must have nothing of a run
	// that the catalog does not know; if it does not come, the next run writes it.
	err := s.transaction("record the run", func() error {
		if err := r.begin(run); err != nil || !p.empty() {
			return err
		}
		return errors.Join(s.replacePending(p, nil), s.commit(r.run, p, signatures{next: run.Next}, nil, nil), opts.at("commit"))
	})
	if err != nil {
		return nil, err
	}
	var res *Result
	if p.empty() {
		if err := opts.at("manifest"); err != nil {
			return nil, err
		}
		if err := s.writeManifest(r.run, nil); err != nil {
			return nil, err
		}
		res, err = s.result(r.run, p, nil)
	} else {
		res, err = s.goOn(ctx, r.run, Recorded, ahead, p, run.Base, run.Next, opts)
	}
	if res != nil {
		res.How, res.Reason = run.How, run.Reason
	}
	return res, err
}

// begin records a run with its rows and its plan, within the caller's transaction.
func (r *recorder) begin(run Run) (err error) {
	s := r.s
	if run.Rekey != nil {
		if err := errors.Join(s.rekey(run.Rekey, run.Links, run.Signatures), s.clearNeedsFull()); err != nil {
			return err
		}
	}
	if err := s.recordLinks(run.Changes); err != nil {
		return err
	}
	if r.run, err = s.newRun(run.ID, Recorded, run.How, run.Reason, run.BaseMark, run.Mark); err != nil {
		return err
	}
	if err := r.record(); err != nil || r.plan.empty() {
		return err
	}
	return storePlan(s.conn, r.run, r.plan)
}

// Resume finishes a run that was cut off, from its recorded plan. next is its new snapshot, base the one that it was compared with,
// nil if that is gone: then nothing makes up for what somebody alters in the mirror.
func (s *Store) Resume(ctx context.Context, run RunInfo, base, next *beneath.Root, opts Options) (*Result, error) {
	p, err := s.loadPlan(run.ID)
	if err != nil {
		return nil, err
	}
	res, err := s.goOn(ctx, run.ID, run.State, nil, p, base, next, opts)
	if res != nil {
		res.How, res.Reason = run.How, run.Reason
	}
	return res, err
}

// goOn does the phases that follow the state. Each is closed by a sync of the mirror's filesystem and then a durable
// mark (small runs have one for the last two); each can be done again from its beginning. ahead is nil after a cut.
func (s *Store) goOn(ctx context.Context, id int64, state string, ahead *buildAhead, p *plan, base, next *beneath.Root, opts Options) (res *Result, err error) {
	x, err := newExecution(ctx, s, id, p, next, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.endSync()) }()
	x.base, x.resumed, x.marked = base, ahead == nil, state
	if ahead != nil {
		x.buildAhead = ahead
	}
	x.sayFailed()
	if err := x.unfinished(); err != nil {
		return nil, err
	}
	if err := x.phases(state); err != nil {
		return nil, err
	}
	if err := x.at("commit"); err != nil {
		return nil, err
	}
	warnings := x.allWarnings()
	x.beginSync()
	space, err := s.spaceOf(ctx, id, x.spaces())
	if err != nil {
		space = 0 // the next prune measures it, and tells what is wrong
	}
	err = s.transaction("commit the run", func() error {
		if x.unmarked {
			if err := s.replacePending(p, x.problems); err != nil {
				return err
			}
		}
		if err := errors.Join(s.commit(id, p, signatures{next, x.signatures}, x.problems, warnings), s.setSpace(id, space), x.keepSums()); err != nil {
			return err
		}
		return x.manifest()
	})
	if err != nil {
		return nil, err
	}
	return s.result(id, p, warnings)
}

// result tells what a run that is done has done.
func (s *Store) result(id int64, p *plan, warnings []string) (*Result, error) {
	problems, err := s.Pending()
	if err != nil {
		return nil, err
	}
	altered, err := s.NeedsFull()
	return &Result{Run: id, Counts: p.counts(), Incomplete: problems, Warnings: warnings, Altered: altered}, err
}

// smallPlan is how many inodes a plan may have to be attached, finished and committed with one sync and one mark, the commit. After a
// cut all of it is done again. Disks take 10 to 100 ms for each sync, and for each mark.
var smallPlan = 50_000

// phases goes on from a state to the end of Finish.
func (x *execution) phases(state string) error {
	for _, ph := range []struct {
		from, to string
		doing    string
		do, mark func() error
	}{
		{Recorded, Saved, "saving what will be overwritten", x.save, x.markSaved},
		{Saved, Patched, "patching large files", x.patch, x.markPatched},
		{Patched, Detached, "taking out what went", x.detach, x.markDetached},
		{Detached, Attached, "putting in what came", x.attach, x.markAttached},
		{Attached, Finished, "setting owners, modes and times", x.finish, x.markFinished},
	} {
		if state != ph.from {
			continue
		}
		x.doing = ph.doing
		err := x.begin(state)
		if err == nil {
			err = ph.do()
		}
		if err == nil {
			err = ph.mark()
		}
		if err != nil {
			return fmt.Errorf("run r%d, %s: %w", x.run, ph.to, err)
		}
		state = ph.to
	}
	return nil
}

// markDetached ends Detach, also for whoever has no catalog any more. In a small run it has no mark where Detach and Attach can be done again in
// any order: the state stays the one before until Attach or the commit has its mark.
func (x *execution) markDetached() error {
	if err := x.noteDetached(); err != nil {
		return err
	}
	if x.apart && len(x.plan.Inodes) <= smallPlan {
		x.beginSync() // of what was built ahead, beside Attach
		return nil
	}
	return x.mark(Detached, nil)
}

// markAttached ends Attach, which has to be marked when there is much to lose by a cut, or something to note.
func (x *execution) markAttached() error {
	lost, err := x.lostHistory()
	if err == nil {
		lost, err = x.recoverGone(lost)
	}
	if err != nil {
		return err
	}
	if x.unmarked = len(x.plan.Inodes) <= smallPlan && len(lost)+len(x.problems) == 0; x.unmarked {
		return nil
	}
	return x.mark(Attached, func() error { return errors.Join(x.notePending(lost), x.keepSums(), x.readBack()) })
}

// markFinished ends Finish. Where Attach was not marked the commit, which is next, marks both.
func (x *execution) markFinished() error {
	if x.unmarked {
		return nil
	}
	return x.mark(Finished, func() error { return errors.Join(x.keepSums(), x.readBack()) })
}

// readBack reads what was built from the disk again, if that is asked for. All of it was synced.
func (x *execution) readBack() error {
	files := x.written
	x.written = nil
	return readBack(x.s.tree, x.next, files, x.at, x.each)
}

// keepSums notes, within the caller's transaction, the checksums of what was built. What was changed in another way has none that is
// known.
func (x *execution) keepSums() error {
	built := x.built.take()
	if x.opts.ReadBack {
		x.written = append(x.written, built...)
	}
	sums := sumsOf(built)
	fresh := make(map[uint64]bool, len(sums))
	for i := range sums {
		sums[i].known = sums[i].known && !x.opts.NoSums
		fresh[sums[i].ino] = true
	}
	for i := range x.plan.Inodes {
		in := &x.plan.Inodes[i]
		if in.What&diff.Data == 0 || in.Ranges == nil || !in.Attr.IsRegular() || in.Attr.Size < minPatched {
			continue
		}
		st, err := x.s.tree.Lstat(in.Paths[0])
		if err == nil && !fresh[st.Ino] {
			sums = append(sums, fileSum{ino: st.Ino})
			if x.opts.ReadBack {
				x.written = append(x.written, builtFile{fileSum{ino: st.Ino}, in.Paths[0]})
			}
		}
		if err := ignoreMissing(err); err != nil {
			return err
		}
	}
	return x.s.setSums(sums)
}

// manifest writes the manifest, within the transaction that commits the run: when that is durable, so is the manifest. Where Attach
// and Finish were not marked this is their sync too.
func (x *execution) manifest() error {
	if err := x.at("manifest"); err != nil {
		return err
	}
	if err := x.s.writeManifest(x.run, nil); err != nil {
		return err
	}
	if err := errors.Join(ignoreMissing(x.s.history_.Unlink(x.history()+"/"+detachedMark)), x.s.forgetBegun(x.run)); err != nil {
		return err
	}
	if err := x.sync(); err != nil {
		return err
	}
	return x.readBack()
}

// sync writes the mirror to its disk.
func (x *execution) sync() error {
	if err := x.at("sync"); err != nil {
		return err
	}
	return errors.Join(x.endSync(), x.syncMirror())
}

func (x *execution) syncMirror() error {
	if err := x.s.tree.SyncFS(); err != nil {
		return fmt.Errorf("writing the mirror to its disk: %w", err)
	}
	return nil
}

// beginSync lets the disk begin with what the next sync will wait for. The kernel tells of an error only once, to this or to that.
func (x *execution) beginSync() {
	before, done := x.syncing, make(chan error, 1)
	go func() {
		var err error
		if before != nil {
			err = <-before
		}
		done <- errors.Join(err, x.syncMirror())
	}()
	x.syncing = done
}

// endSync waits for it.
func (x *execution) endSync() error {
	if x.syncing == nil {
		return nil
	}
	err := <-x.syncing
	x.syncing = nil
	return err
}

// mark makes a phase durable. note, which may be nil, is within the transaction.
func (x *execution) mark(state string, note func() error) error {
	if err := x.sync(); err != nil {
		return err
	}
	if err := x.at("mark"); err != nil {
		return err
	}
	err := x.s.transaction("mark the run "+state, func() error {
		if note != nil {
			if err := note(); err != nil {
				return err
			}
		}
		return x.s.setState(x.run, state)
	})
	if err == nil {
		x.marked = state
	}
	return err
}

// notePending keeps what could not be copied, for the case that this attempt is cut off before its commit.
// lost: see lostHistory.
func (x *execution) notePending(lost []int64) error {
	for _, id := range lost {
		if err := x.s.noContent(id, x.run); err != nil {
			return err
		}
	}
	return x.s.replacePending(x.plan, x.problems)
}

// Pending are the files that the mirror lacks or holds in an old version; diff is to report them again.
func (s *Store) Pending() (out []Problem, err error) {
	err = s.query(`SELECT path, ino, gen, reason FROM pending`, func(row *sqlite.Stmt) error {
		out = append(out, Problem{
			Path: columnBytes(row, 0), Key: diff.Key{Ino: uint64(row.ColumnInt64(1)), Gen: uint64(row.ColumnInt64(2))},
			Err: errors.New(row.ColumnText(3)),
		})
		return nil
	})
	return out, catalogError("read what is to be tried again", err)
}

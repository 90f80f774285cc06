package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/diff"
	"snapdiff/snapshot"
)

// metaHeld is where the store keeps the run that max_deleted holds.
const metaHeld = "held"

// Held is a run that was stopped before it touched the mirror, because it would delete more than max_deleted. Its snapshot
// is kept, so that what is approved is what goes through.
type Held struct {
	ID   int64         // the run's, reserved for it
	Base string        // id of the snapshot that the mirror equalled; "" if there was no restore point
	Mark snapshot.Mark // of the run's own snapshot
	// Deleted of Files names of files would go.
	Deleted, Files int64
	Since          time.Time
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
		return snapshot.Mark{}, hint.With(fmt.Errorf("r%d is not held; r%d is, which would delete %s of %s files", r.opts.Approve, held.ID,
			output.Count(held.Deleted), output.Count(held.Files)), "snapdiff run %s --approve r%d --dry-run shows what it would do", r.job.Name, held.ID)
	}
	r.approved = held
	r.say("r%d was held since %s and is approved", held.ID, held.Since.Local().Format("2006-01-02 15:04:05"))
	return held.Mark, nil
}

// checkDeleted holds a run that would delete more than max_deleted, or more than was approved.
func (r *runner) checkDeleted(ctx context.Context, run *apply.Run) error {
	files, err := r.store.FileNames()
	if err != nil {
		return err
	}
	if !r.job.MaxDeleted.Exceeded(goneNames(run.Changes), files) {
		return nil
	}
	deleted := deletedNames(run.Changes)
	if !r.job.MaxDeleted.Exceeded(deleted, files) || r.approved != nil && deleted <= r.approved.Deleted {
		return nil
	}
	return r.hold(ctx, run, deleted, files)
}

// hold keeps a run for approval. A run that was held before is void now.
func (r *runner) hold(ctx context.Context, run *apply.Run, deleted, files int64) error {
	id, err := r.store.ReserveRun()
	if err != nil {
		return err
	}
	last, _, err := r.store.Last()
	if err != nil {
		return err
	}
	held := Held{ID: id, Mark: run.Mark, Deleted: deleted, Files: files, Since: time.Now()}
	keep := []snapshot.Mark{run.Mark}
	if last != nil {
		held.Base = last.Mark.ID
		keep = append(keep, last.Mark)
	}
	text, err := json.Marshal(held)
	if err != nil {
		return err
	}
	if err := r.store.SetMeta(metaHeld, string(text)); err != nil {
		return err
	}
	tooMany := &TooManyDeleted{Job: r.job.Name, Run: id, Deleted: deleted, Files: files, Limit: r.job.MaxDeleted}
	return errors.Join(tooMany, r.src.Clean(ctx, keep...))
}

// goneNames counts the names of the files that went: the most that deletedNames can give, without its memory.
func goneNames(set *diff.ChangeSet) (n int64) {
	set.Gone.Ascend(func(g diff.Gone) bool {
		if !g.BaseAttr.IsDir() {
			n += int64(len(g.BasePaths))
		}
		return true
	})
	return n
}

// deletedNames counts the names of files that go for good: not those whose file has only moved, and not those that another
// file takes at once, as programs do that save by renaming.
func deletedNames(set *diff.ChangeSet) int64 {
	gone := make(map[diff.Key]bool)
	set.Gone.Ascend(func(g diff.Gone) bool {
		if !g.BaseAttr.IsDir() {
			gone[g.Key] = true
		}
		return true
	})
	type place struct {
		dir  diff.Key
		name string
	}
	went := make(map[place]bool)
	set.Unlinked.Ascend(func(n diff.Name) bool {
		if gone[n.Key] {
			went[place{n.Parent, n.Base()}] = true
		}
		return true
	})
	set.Linked.Ascend(func(n diff.Name) bool {
		if n.Type != unix.S_IFDIR {
			delete(went, place{n.Parent, n.Base()})
		}
		return true
	})
	return int64(len(went))
}

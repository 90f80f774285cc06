package apply

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
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
	// Progress, when set, is told now and then how many files and bytes a first copy has copied.
	Progress func(files, bytes int64)
	// Step, when set, is called before every single change, with its name. An error of it stops everything there, as a
	// kill would. For tests.
	Step func(name string) error
}

// Result is what a run did.
type Result struct {
	Run        int64
	How        string
	Reason     string
	Counts     Counts
	Incomplete []Problem
	Warnings   []string
}

// Run is a change set to apply and the two snapshots that it was found in.
type Run struct {
	Changes    *diff.ChangeSet
	Base, Next *beneath.Root
	Mark       snapshot.Mark // of Next
	How        string        // native, full
	Reason     string        // why not native
	// Rekey gives, after a full comparison, the key that an inode of the mirror has in the change set.
	Rekey func(path string) (diff.Key, error)
}

// Apply makes the mirror equal to run.Next and keeps what it replaces.
func (s *Store) Apply(ctx context.Context, run Run, opts Options) (*Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := newPlan(run.Changes)
	data, err := p.encode()
	if err != nil {
		return nil, fmt.Errorf("recording the plan: %w", err)
	}
	var id int64
	err = s.transaction("record the run", func() error {
		if run.Rekey != nil {
			if err := s.rekey(run.Rekey); err != nil {
				return err
			}
		}
		var err error
		if id, err = s.newRun(Recorded, run.How, run.Reason, run.Mark); err != nil {
			return err
		}
		r := &recorder{s: s, run: id, plan: p, base: run.Base, newDirs: map[diff.Key]bool{}, nodes: map[diff.Key]int64{}}
		if err := r.record(); err != nil {
			return err
		}
		return s.exec(`INSERT INTO plans(run, data) VALUES (?, ?)`, id, data)
	})
	if err != nil {
		return nil, err
	}
	return s.goOn(ctx, id, Recorded, p, run.Next, opts)
}

// Resume finishes a run that was cut off, from its recorded plan. next is its new snapshot.
func (s *Store) Resume(ctx context.Context, run RunInfo, next *beneath.Root, opts Options) (*Result, error) {
	p, err := s.loadPlan(run.ID)
	if err != nil {
		return nil, err
	}
	res, err := s.goOn(ctx, run.ID, run.State, p, next, opts)
	if res != nil {
		res.How, res.Reason = run.How, run.Reason
	}
	return res, err
}

// goOn does the phases that follow the state. Each is closed by a sync of the mirror's filesystem and then a durable
// mark; each can be done again from its beginning.
func (s *Store) goOn(ctx context.Context, id int64, state string, p *plan, next *beneath.Root, opts Options) (*Result, error) {
	x, err := newExecution(ctx, s, id, p, next, opts)
	if err != nil {
		return nil, err
	}
	phases := []struct {
		from, to string
		do       func() error
	}{
		{Recorded, Detached, x.detach},
		{Detached, Attached, x.attach},
		{Attached, Finished, x.finish},
	}
	empty := len(p.Unlinked)+len(p.Linked)+len(p.Inodes) == 0
	for _, ph := range phases {
		if empty {
			break
		}
		if state != ph.from {
			continue
		}
		if err := ph.do(); err != nil {
			return nil, fmt.Errorf("run r%d, %s: %w", id, ph.to, err)
		}
		if err := x.at("sync"); err != nil {
			return nil, err
		}
		if err := s.tree.SyncFS(); err != nil {
			return nil, fmt.Errorf("writing the mirror to its disk: %w", err)
		}
		if err := x.at("mark"); err != nil {
			return nil, err
		}
		if err := s.setState(id, ph.to); err != nil {
			return nil, err
		}
		state = ph.to
	}
	if err := x.at("commit"); err != nil {
		return nil, err
	}
	// What an earlier attempt could not copy is known only if it is tried here: a resumed run attaches anew or has kept it.
	problems, err := s.mergePending(x)
	if err != nil {
		return nil, err
	}
	if err := s.transaction("commit the run", func() error { return s.commit(id, p, problems, x.warnings) }); err != nil {
		return nil, err
	}
	return &Result{Run: id, Counts: p.counts(), Incomplete: problems, Warnings: x.warnings}, nil
}

// mergePending joins what this attempt could not copy with what an attempt that was cut off after Attach had noted.
func (s *Store) mergePending(x *execution) ([]Problem, error) {
	if x.attached {
		return x.problems, nil
	}
	old, err := s.Pending()
	return append(x.problems, old...), err
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

// rekey gives every live node the key that a full comparison found for it. Keys may swap: all leave first.
func (s *Store) rekey(keyOf func(path string) (diff.Key, error)) error {
	type live struct {
		id   int64
		path string
	}
	var all []live
	dirs := map[int64]string{rootNode: ""}
	queue := []int64{rootNode}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		all = append(all, live{dir, dirs[dir]})
		err := s.query(`SELECT id, name FROM nodes WHERE parent = ? AND alive AND type = 16384`, func(row *sqlite.Stmt) error {
			id := row.ColumnInt64(0)
			dirs[id] = join(dirs[dir], columnBytes(row, 1))
			queue = append(queue, id)
			return nil
		}, dir)
		if err != nil {
			return err
		}
	}
	seen := map[int64]bool{}
	err := s.query(`SELECT node, dir, name FROM names`, func(row *sqlite.Stmt) error {
		if id := row.ColumnInt64(0); !seen[id] {
			seen[id] = true
			all = append(all, live{id, join(dirs[row.ColumnInt64(1)], columnBytes(row, 2))})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.exec(`UPDATE nodes SET ino = -1, gen = id WHERE alive`); err != nil {
		return err
	}
	for _, l := range all {
		k, err := keyOf(l.path)
		if err != nil {
			return fmt.Errorf("finding %q again: %w", l.path, err)
		}
		if err := s.exec(`UPDATE nodes SET ino = ?, gen = ? WHERE id = ?`, int64(k.Ino), int64(k.Gen), l.id); err != nil {
			return err
		}
	}
	return nil
}

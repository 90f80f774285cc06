package apply

import (
	"context"
	"errors"

	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// Copy is a first copy: the whole of one snapshot.
type Copy struct {
	Next *beneath.Root
	Keys func(path string, ino uint64) (diff.Key, error)
	Mark snapshot.Mark
}

// FirstCopy copies a whole snapshot into the empty mirror, or goes on with it where it was cut off (same snapshot).
func (s *Store) FirstCopy(ctx context.Context, c Copy, opts Options) (*Result, error) {
	_, open, err := s.Last()
	if err != nil {
		return nil, err
	}
	var run int64
	if open != nil && open.State == Copying && open.Mark.ID == c.Mark.ID {
		run = open.ID
	} else if run, err = s.newRun(Copying, "first", "", c.Mark); err != nil {
		return nil, err
	}
	f := &firstCopy{next: c.Next, mirror: s.tree, keys: c.Keys, marks: catalogMarks{s.conn}, workers: opts.Workers, step: opts.Step, progress: opts.Progress}
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	bad, err := s.Pending()
	if err != nil {
		return nil, err
	}
	counts := Counts{Files: f.counts.Files.Load(), Dirs: f.counts.Dirs.Load(), Bytes: f.counts.Bytes.Load()}
	err = s.transaction("commit the first copy", func() error {
		return errors.Join(s.exec(`DELETE FROM copied`), s.endRun(run, counts, len(bad), nil))
	})
	if err != nil {
		return nil, err
	}
	return &Result{Run: run, How: "first", Counts: counts, Incomplete: bad}, nil
}

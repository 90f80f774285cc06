package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// ErrNotFirst says that the mirror is no place for a first copy, which empties what it has not marked.
var ErrNotFirst = errors.New("a first copy needs an empty mirror and a store without restore points")

// Copy is a first copy: the whole of one snapshot.
type Copy struct {
	Next *beneath.Root
	// Keys tells the key of the inode at a path of the snapshot; it is given the inode number. A nested subvolume's is
	// a diff.PlaceholderKey. Many workers call it at once.
	Keys func(path string, ino uint64) (diff.Key, error)
	Mark snapshot.Mark // of Next
	// Exclude are what is not copied.
	Exclude *diff.Exclude
	// Links: the source needs the link index (see Store.Links); with Signatures, one that is a diff.SignatureIndex.
	Links, Signatures bool
}

// FirstCopy copies a whole snapshot into the empty mirror and commits that as the first restore point. Cut off, cancelled or
// failed, it goes on when it is called again with the same snapshot; with another one it starts over. What single
// files do not let happen is in the result, and kept for later runs (see Store.Pending).
func (s *Store) FirstCopy(ctx context.Context, c Copy, opts Options) (*Result, error) {
	run, err := s.beginCopy(c.Mark)
	if err != nil {
		return nil, err
	}
	if c.Links {
		if err := s.beginLinks(c.Signatures); err != nil {
			return nil, err
		}
	}
	f := &firstCopy{next: c.Next, mirror: s.tree, keys: c.Keys, exclude: c.Exclude, marks: catalogMarks{s.conn, &s.guard, s}, index: c.Links, sign: c.Signatures, noSums: opts.NoSums, workers: opts.Workers, pace: opts.Pace, step: opts.Step, progress: opts.Progress}
	f.built.paths = opts.ReadBack
	if err := f.run(ctx); err != nil {
		return nil, fmt.Errorf("first copy: %w", err)
	}
	if err := f.at("commit"); err != nil {
		return nil, err
	}
	bad, err := s.Pending()
	if err != nil {
		return nil, err
	}
	counts := Counts{Files: f.counts.Files.Load(), Dirs: f.counts.Dirs.Load(), Bytes: f.counts.Bytes.Load()}
	partly, err := s.present(bad)
	if err != nil {
		return nil, err
	}
	err = s.transaction("commit the first copy", func() error {
		return errors.Join(s.exec(`DELETE FROM copied`), s.setFileNames(counts.Files+partly), s.endRun(run, counts, len(bad), nil), s.writeManifest(run, nil),
			s.SetMeta(metaManifests, strconv.Itoa(manifestFormat)))
	})
	if err != nil {
		return nil, err
	}
	return &Result{Run: run, How: "first", Counts: counts, Incomplete: bad}, nil
}

// beginCopy finds the run of a copy that was cut off, or makes a new one.
func (s *Store) beginCopy(mark snapshot.Mark) (int64, error) {
	last, open, err := s.Last()
	switch {
	case err != nil:
		return 0, err
	case last != nil || open != nil && open.State != Copying:
		return 0, fmt.Errorf("%s: %w", s.path, ErrNotFirst)
	case open == nil:
		if err := s.checkEmptyMirror(); err != nil {
			return 0, err
		}
		return s.newRun(0, Copying, "first", "", snapshot.Mark{}, mark)
	case open.Mark.ID == mark.ID:
		return open.ID, nil
	}
	return open.ID, s.copyAnother(open.ID, mark)
}

// copyAnother makes a copy that was cut off one of another snapshot. What was marked says nothing about that one.
func (s *Store) copyAnother(run int64, mark snapshot.Mark) error {
	m, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	return s.transaction("begin the first copy anew", func() error {
		for _, table := range []string{"nodes", "copied", "pending", "links", "signatures"} {
			if err := s.exec(`DELETE FROM ` + table); err != nil {
				return err
			}
		}
		return s.exec(`UPDATE runs SET mark = ?, date = ?, started = ? WHERE id = ?`, string(m), mark.Taken.UnixNano(), time.Now().UnixNano(), run)
	})
}

// checkEmptyMirror refuses to empty a mirror that no first copy has begun to fill.
func (s *Store) checkEmptyMirror() error {
	return s.tree.ReadDir("", func(name string, _ uint8, _ uint64) error {
		return fmt.Errorf("%s/tree holds %q: %w", s.path, name, ErrNotFirst)
	})
}

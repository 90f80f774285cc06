package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/zfs"
)

// ErrDatasetGone says that a snapshot is gone with its whole dataset.
var ErrDatasetGone = errors.New("the dataset was destroyed")

// elsewhere gives the present full name of a child's snapshot whose dataset was renamed to outside of the source; snapshot.ErrGone.
func (s *zfsSource) elsewhere(ctx context.Context, mark snapshot.Mark) (string, error) {
	gone := fmt.Errorf("snapshot %s (%s): %w", mark.ID, mark.Path, snapshot.ErrGone)
	d, err := zfs.ByGUID(ctx, s.dataset, mark.Source)
	if errors.Is(err, zfs.ErrNoDataset) {
		return "", fmt.Errorf("%w: %w", gone, ErrDatasetGone)
	}
	if err != nil {
		return "", err
	}
	all, err := zfs.List(ctx, d)
	for _, h := range all {
		if h.ID == mark.ID {
			return h.Path, nil
		}
	}
	if err == nil {
		err = gone
	}
	return "", err
}

// left are those snapshots of children of the last run that are not below the source any more.
func (s *zfsSource) left(ctx context.Context) (left []snapshot.Mark, err error) {
	for _, m := range s.lastChildren() {
		if below, err := s.isBelow(ctx, m); err != nil {
			return nil, err
		} else if below {
			continue
		}
		_, err := s.elsewhere(ctx, m)
		switch {
		case err == nil:
			left = append(left, m)
		case !errors.Is(err, snapshot.ErrGone):
			return nil, err
		}
	}
	return left, nil
}

// lastChildren are the snapshots of children that the last run had, or was to destroy.
func (s *zfsSource) lastChildren() []snapshot.Mark {
	all := slices.Clone(s.former.Left)
	for _, c := range s.former.Children {
		all = append(all, c.Mark)
	}
	return all
}

// isBelow tells that a snapshot is one of the source or of a dataset below it.
func (s *zfsSource) isBelow(ctx context.Context, mark snapshot.Mark) (bool, error) {
	all, err := s.snapshots(ctx)
	return slices.ContainsFunc(all, func(h zfs.Held) bool { return h.ID == mark.ID }), err
}

// cleanElsewhere destroys those snapshots of ours that are not below the source any more and not kept.
func (s *zfsSource) cleanElsewhere(ctx context.Context, keep []snapshot.Mark, kept map[string]bool) error {
	old := s.lastChildren()
	for _, m := range keep {
		old = append(old, m.Left...)
	}
	var errs []error
	for _, m := range old {
		if below, err := s.isBelow(ctx, m); err != nil {
			return err
		} else if below || kept[m.ID] {
			continue
		}
		kept[m.ID] = true // once is enough
		name, err := s.elsewhere(ctx, m)
		if err == nil {
			err = s.drop(ctx, name)
		}
		if err != nil && !errors.Is(err, snapshot.ErrGone) {
			errs = append(errs, fmt.Errorf("an old snapshot stays: %w", err))
		}
	}
	return errors.Join(errs...)
}

// ReleaseChild implements ChildReleaser.
func (s *zfsSource) ReleaseChild(ctx context.Context, name string, dry bool) ([]Kept, error) {
	if !strings.HasPrefix(name, s.dataset.Name+"/") {
		return nil, hint.With(fmt.Errorf("%s is not a dataset below the source %s", name, s.dataset.Name), "zfs list -r %s", s.dataset.Name)
	}
	s.deep, s.all = true, nil
	all, err := s.Kept(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(k Kept) bool {
		return !strings.HasPrefix(k.Name, name+"@") && !strings.HasPrefix(k.Name, name+"/")
	})
	if len(all) == 0 {
		return nil, hint.With(fmt.Errorf("the job has no snapshots of %s", name), "zfs list -t snapshot -r %s shows those that there are", s.dataset.Name)
	}
	var errs []error
	for _, k := range all {
		if !dry {
			errs = append(errs, s.drop(ctx, k.Name))
		}
	}
	s.all = nil
	return all, errors.Join(errs...)
}

// OpenWithout implements Forgetter: what is known of a child whose snapshot is gone and that next has not are the link index and the mirror.
func (s *zfsSource) OpenWithout(ctx context.Context, base, next snapshot.Mark, mirror *beneath.Root) (*Snapshot, error) {
	open := s.opener(ctx)
	return openWhole(base, func(c snapshot.Child) (part, error) {
		p, err := open(c)
		follows := slices.ContainsFunc(next.Children, func(n snapshot.Child) bool { return n.Number == c.Number })
		if !errors.Is(err, snapshot.ErrGone) || c.Number == 0 || follows {
			return p, err
		}
		root, openErr := mirror.OpenRoot(string(c.Dir))
		if openErr != nil { // somebody took it away
			return p, err
		}
		return part{number: c.Number, dir: string(c.Dir), mark: c.Mark, root: root, lost: true}, nil
	})
}

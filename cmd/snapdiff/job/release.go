package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/snapshot"
)

// Pinned describes our snapshots on the source together: the age of the oldest and, where the filesystem tells, how much would be free
// without them.
type Pinned struct {
	Since time.Time // the oldest; zero when there is none
	Bytes int64     // -1 when not known
	Full  float64   // see source.Kept; -1 for none
	// Hold and GiveUp are what source.Holder says of the base.
	Hold, GiveUp string
}

func pinned(all []source.Kept) Pinned {
	p := Pinned{Full: -1}
	for _, k := range all {
		if p.Since.IsZero() || k.Taken.Before(p.Since) {
			p.Since = k.Taken
		}
		if k.Bytes < 0 {
			p.Bytes = -1
		} else if p.Bytes >= 0 {
			p.Bytes += k.Bytes
		}
		p.Full = max(p.Full, k.Full)
	}
	return p
}

// Exceeded says in what more is pinned than the job allows, "" if in nothing.
func (p Pinned) Exceeded(limit config.Pinned, now time.Time) string {
	switch age := now.Sub(p.Since); {
	case p.Since.IsZero():
	case limit.Age > 0 && age > limit.Age:
		return fmt.Sprintf("our oldest snapshot on the source is %s old, max_pinned is %s", output.Duration(age), output.Duration(limit.Age))
	case limit.Bytes > 0 && p.Bytes > limit.Bytes:
		return fmt.Sprintf("our snapshots pin %s on the source, max_pinned is %s", output.Size(p.Bytes), output.Size(limit.Bytes))
	}
	return ""
}

// NotTold says that the limit is a size and the source does not tell how much is pinned, "" where it does or nothing is.
func (p Pinned) NotTold(limit config.Pinned) string {
	if limit.Bytes == 0 || p.Since.IsZero() || p.Bytes >= 0 {
		return ""
	}
	return fmt.Sprintf("max_pinned is %s, but this source does not tell how much our snapshots pin: it takes an age instead, as \"14d\"", output.Size(limit.Bytes))
}

// PinnedBy looks at our snapshots on the source and, unless base is nil, at the hold on that. The store need not be there.
func PinnedBy(ctx context.Context, j config.Job, base *snapshot.Mark) (Pinned, error) {
	src, err := source.Open(ctx, j)
	if err != nil {
		return Pinned{}, err
	}
	defer src.Close()
	all, err := src.Kept(ctx)
	if err != nil {
		return Pinned{}, err
	}
	p := pinned(all)
	if h, ok := src.(source.Holder); ok && base != nil {
		p.Hold, p.GiveUp, err = h.Held(ctx, *base)
	}
	return p, err
}

// ReleaseOptions say what Release gives up.
type ReleaseOptions struct {
	// Child is the dataset that is to be given up with those below it, as it is to be destroyed; "": all of the job's.
	Child string
	// Dry: nothing is destroyed.
	Dry bool
}

// Release destroys our snapshots on the source, so that they pin nothing, and gives what they were. The next run compares in full; not where
// those of a child were released and it is not there any more. The store need not be there; where it is, nobody may work on it.
func Release(ctx context.Context, j config.Job, o ReleaseOptions) (released []source.Kept, err error) {
	if err := checkRoot(); err != nil {
		return nil, err
	}
	src, err := source.Open(ctx, j)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	store, err := apply.Open(j.Store, apply.CatalogAt(j.Catalog))
	switch {
	case errors.Is(err, apply.ErrLocked):
		return nil, err
	case err == nil: // otherwise it is away or damaged: then nobody works on it
		defer func() { err = errors.Join(err, store.Close()) }()
		if err := former(src, store); err != nil {
			return nil, err
		}
	}
	if o.Child != "" {
		released, err = releaseChild(ctx, src, o)
	} else if released, err = src.Kept(ctx); err == nil && !o.Dry {
		err = src.Clean(ctx)
	}
	if err != nil || o.Dry {
		return released, err
	}
	if store != nil {
		return released, store.SetMeta(metaHeld, "") // its snapshot is gone: it cannot be approved
	}
	return released, nil
}

func releaseChild(ctx context.Context, src source.Source, o ReleaseOptions) ([]source.Kept, error) {
	r, ok := src.(source.ChildReleaser)
	if !ok {
		return nil, hint.With(fmt.Errorf("%s: only jobs of ZFS datasets have snapshots of children that are held", o.Child), "leave out %s to release all of the job's", o.Child)
	}
	return r.ReleaseChild(ctx, o.Child, o.Dry)
}

// LetGo says that our snapshots on the source were destroyed after a run had failed, because they pinned more than max_pinned.
type LetGo struct{ Why string }

// Error says why.
func (e *LetGo) Error() string {
	return "the base was let go: " + e.Why + "; the next run compares in full"
}

// letGo releases our snapshots when a run has failed and they pin more than max_pinned: one that waits for its store or for somebody's
// approval must not fill the source.
func letGo(ctx context.Context, j config.Job, failed error) error {
	if j.MaxPinned == (config.Pinned{}) || errors.Is(failed, apply.ErrLocked) || ctx.Err() != nil {
		return nil
	}
	p, err := PinnedBy(ctx, j, nil)
	if err != nil {
		return nil // the run has said what is wrong with the source
	}
	if why := p.NotTold(j.MaxPinned); why != "" {
		return fmt.Errorf("the base is not let go: %s", why)
	}
	why := p.Exceeded(j.MaxPinned, time.Now())
	if why == "" {
		return nil
	}
	if _, err := Release(ctx, j, ReleaseOptions{}); err != nil {
		return fmt.Errorf("let the base go (%s): %w", why, err)
	}
	return &LetGo{why}
}

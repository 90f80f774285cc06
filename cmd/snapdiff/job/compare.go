package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/diff"
	"snapdiff/snapshot"
)

// compare finds out what differs between the mirror, which equals the snapshot of last, and next. base is to be closed when
// the run is done; it is nil after a full comparison. last is nil when there is an adopted copy and no restore point.
func (r *runner) compare(ctx context.Context, last *apply.RunInfo, next *source.Snapshot) (run *apply.Run, base *source.Snapshot, err error) {
	switch {
	case last == nil:
		reason, err := r.store.NeedsFull()
		if err == nil {
			run, err = r.full(ctx, cmp.Or(reason, fmt.Sprintf("the copy in %s was adopted", r.store.Mirror().Path())), next)
		}
		return run, nil, err
	case r.why != "":
		run, err = r.full(ctx, r.why, next)
		return run, nil, err
	}
	reason, err := r.store.NeedsFull()
	if err == nil && reason == "" {
		base, reason, err = r.comparable(ctx, last.Mark, next.Mark)
	}
	if err != nil {
		return nil, nil, err
	}
	if reason == "" {
		run, err = r.native(ctx, base, next)
		if err == nil {
			err = r.notTooDeep(run)
		}
		if !errors.Is(err, diff.ErrNotNative) {
			if err != nil {
				err = errors.Join(err, base.Close())
			}
			return run, base, err
		}
		base.Close()
		reason = err.Error()
	}
	if r.job.OnLostBase == config.LostBaseStop && r.approved == nil {
		return nil, nil, hint.With(&NoNativeDiff{reason},
			`to compare in full, which reads everything: snapdiff run %s --full`, r.job.Name)
	}
	run, err = r.full(ctx, reason, next)
	return run, nil, err
}

// comparable opens the base, or says why it cannot be compared natively with the new snapshot.
func (r *runner) comparable(ctx context.Context, mark, next snapshot.Mark) (base *source.Snapshot, reason string, err error) {
	base, err = r.src.Open(ctx, mark)
	if f, ok := r.src.(source.Forgetter); ok && errors.Is(err, snapshot.ErrGone) {
		base, err = f.OpenWithout(ctx, mark, next, r.store.Mirror())
	}
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

// native asks the filesystem what changed since the base.
func (r *runner) native(ctx context.Context, base, next *source.Snapshot) (*apply.Run, error) {
	again, leftOut, err := r.again(next)
	if err != nil {
		return nil, err
	}
	opts := r.diffOptions(again)
	opts.LeftOut = leftOut
	changes, err := r.diff(ctx, base, next, opts)
	if err != nil {
		return nil, fmt.Errorf("find what changed: %w", err)
	}
	return &apply.Run{Changes: changes, Base: base.Root, Next: next.Root, BaseMark: base.Mark, Mark: next.Mark, How: "native"}, nil
}

// notTooDeep refuses a native change set after which the mirror would have paths that are longer than it may.
func (r *runner) notTooDeep(run *apply.Run) error {
	deep, err := r.store.MovesTooDeep(run.Changes)
	if err == nil && deep {
		err = fmt.Errorf("a directory was moved to where what is in it lies too deep: %w", diff.ErrNotNative)
	}
	return err
}

func (r *runner) diff(ctx context.Context, base, next *source.Snapshot, opts diff.Options) (set *diff.ChangeSet, err error) {
	if !r.src.NeedsLinks() {
		return r.src.Diff(ctx, base, next, nil, opts)
	}
	links := r.store.Links()
	defer func() { err = errors.Join(err, links.Close()) }()
	return r.src.Diff(ctx, base, next, links, opts)
}

// full compares every name and inode with the mirror.
func (r *runner) full(ctx context.Context, reason string, next *source.Snapshot) (*apply.Run, error) {
	r.say("comparing in full: %s", reason)
	mirror := r.store.Mirror()
	opts := r.fullOptions(r.comparing(ctx, 1))
	sums := r.collectSums(&opts)
	changes, rekey, err := diff.Full(ctx, mirror, next.Root, r.src.Keys(next), opts)
	if err = errors.Join(err, sums()); err != nil {
		return nil, fmt.Errorf("compare in full: %w", err)
	}
	return &apply.Run{Changes: changes, Rekey: rekey, Base: mirror, Next: next.Root, Mark: next.Mark, How: "full", Reason: reason,
		Links: r.src.NeedsLinks(), Signatures: r.src.NeedsSignatures()}, nil
}

// comparing tells how far a full comparison of one share of so many is. What is in use on the source's filesystem is the most
// that there is to read; nil where nobody wants to know.
func (r *runner) comparing(ctx context.Context, shares int) func(names, bytes int64) {
	if r.opts.Progress == nil {
		return nil
	}
	total := usedBytes(ctx, r.src) / int64(max(shares, 1))
	return func(names, bytes int64) {
		r.opts.Progress(apply.Progress{Doing: "comparing", Names: names, Bytes: bytes, OfBytes: max(total, bytes+1)})
	}
}

// adopted tells whether the mirror of a store without any run has something in it: a copy that init --adopt took over.
func (r *runner) adopted() (bool, error) {
	_, cut, err := r.store.Last()
	if err != nil || cut != nil {
		return false, err
	}
	found := false
	err = r.store.Mirror().ReadDir("", func(string, uint8, uint64) error { found = true; return nil })
	return found, err
}

// usedBytes is how much there is to copy at most, 0 if that cannot be told: what is in use on the filesystem, if nothing better is known.
func usedBytes(ctx context.Context, src source.Source) int64 {
	if s, ok := src.(source.Sizer); ok {
		n, _ := s.Used(ctx)
		return n
	}
	dir := src.Dir()
	var st unix.Statfs_t
	if dir == "" || unix.Statfs(dir, &st) != nil {
		return 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/diff"
	"snapdiff/diff/zfsfeed"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/zfs"
)

// zfsSource is a ZFS dataset. Its snapshots are where ZFS keeps them, held under a tag of the job's own.
type zfsSource struct {
	job     config.Job
	dataset zfs.Dataset
	// all are the dataset's snapshots as they were when last asked for, nil: not yet. Each call of the zfs program takes tens of
	// milliseconds, most of a run in which little changed.
	all []zfs.Held
	// deep: the snapshots of the datasets below count too.
	deep   bool
	former snapshot.Mark // see Parent
	base   snapshot.Mark // see Expecter; one of ours, or zero
	not    []Unfollowed  // what Take did not take
	taken  []zfs.Child   // and what it did, below the source
}

// namedZFS opens a dataset by its name. Where there is no ZFS at all nothing is one.
func namedZFS(ctx context.Context, j config.Job) (Source, error) {
	d, err := zfs.Lookup(ctx, j.Source)
	if errors.Is(err, zfs.ErrNoDataset) || errors.Is(err, zfs.ErrNoModule) && !zfs.Installed() {
		return nil, nil
	}
	if err != nil {
		return nil, zfsHint(err, j.Source)
	}
	return &zfsSource{job: j, dataset: d, deep: j.Recursive}, nil
}

// openZFS opens a dataset by its mount point.
func openZFS(ctx context.Context, j config.Job) (Source, error) {
	d, err := zfs.At(ctx, j.Source)
	if err != nil {
		return nil, zfsHint(fmt.Errorf("source: %w", err), j.Source)
	}
	return &zfsSource{job: j, dataset: d, deep: j.Recursive}, nil
}

// zfsHint says what to do about the usual troubles.
func zfsHint(err error, name string) error {
	said := ""
	pool, _, _ := strings.Cut(name, "/")
	var failed *zfs.Error
	if errors.As(err, &failed) {
		said = failed.Stderr
	}
	for _, h := range []struct {
		is   bool
		next string
	}{
		{errors.Is(err, zfs.ErrNoModule), "modprobe zfs, or install OpenZFS"},
		{errors.Is(err, zfs.ErrNoProgram), "install the zfs program (zfsutils-linux)"},
		{errors.Is(err, zfs.ErrNoKey), "zfs load-key " + name},
		{errors.Is(err, zfs.ErrVolume), "name a dataset that is a filesystem: zfs list -t filesystem"},
		{errors.Is(err, zfs.ErrSuspended), "zpool status -x says why; when the devices are back: zpool clear " + pool},
		{errors.Is(err, zfs.ErrNotTop), "name the dataset itself (zfs list), or the directory where it is mounted"},
		{strings.Contains(said, "permission denied"), "run snapdiff as root of the machine itself: what zfs allow gives is not enough to mount snapshots and to own every file"},
		{strings.Contains(said, "read-only") || strings.Contains(said, "readonly"), fmt.Sprintf("the pool is imported read-only: zpool export %s && zpool import %s", pool, pool)},
		{strings.Contains(said, "suspended"), "zpool status -x says why; when the devices are back: zpool clear " + pool},
		{strings.Contains(said, "out of space"), "make room in the pool: zfs list -o space"},
		{strings.Contains(said, "snapshot limit"), "raise it: zfs set snapshot_limit=none DATASET, or destroy old snapshots"},
	} {
		if err != nil && h.is {
			return hint.With(err, "%s", h.next)
		}
	}
	return err
}

func (s *zfsSource) Kind() string      { return "zfs" }
func (s *zfsSource) ID() string        { return s.dataset.GUID }
func (s *zfsSource) Dir() string       { return s.dataset.Dir }
func (s *zfsSource) Exclude() []string { return nil }
func (s *zfsSource) NeedsLinks() bool  { return true }

func (s *zfsSource) NeedsSignatures() bool { return true }
func (s *zfsSource) Close() error          { return nil }

// prefix begins the names of this job's snapshots.
func (s *zfsSource) prefix() string { return zfs.Prefix + prefix(s.job) }

// tag is the name of this job's holds.
func (s *zfsSource) tag() string { return strings.TrimSuffix(s.prefix(), "-") }

// Expect implements Expecter.
func (s *zfsSource) Expect(base snapshot.Mark) {
	if _, short, _ := strings.Cut(base.Path, "@"); strings.HasPrefix(short, s.prefix()) && !base.Recursive {
		s.base = base
	}
}

func (s *zfsSource) Take(ctx context.Context) (snapshot.Mark, error) {
	if err := s.dataset.CheckKey(); err != nil {
		return snapshot.Mark{}, zfsHint(err, s.dataset.Name)
	}
	name := s.prefix() + time.Now().UTC().Format("20060102T150405.000000000Z")
	if s.job.Recursive {
		mark, err := s.takeAll(ctx, name)
		if hint.Of(err) == "" {
			err = zfsHint(err, s.dataset.Name)
		}
		return mark, err
	}
	mark, all, err := zfs.Take(ctx, s.dataset, name, s.tag(), s.base)
	if s.all = all; s.deep { // that was of the dataset alone
		s.all = nil
	}
	if err == nil {
		if mark.Left, err = s.left(ctx); err != nil {
			err = errors.Join(err, s.Drop(context.WithoutCancel(ctx), mark))
		}
	}
	return mark, zfsHint(err, s.dataset.Name)
}

// Foreign holds a snapshot of the dataset that somebody else made. It may be named with or without the dataset.
func (s *zfsSource) Foreign(ctx context.Context, name string) (snapshot.Mark, error) {
	if s.job.Recursive {
		return snapshot.Mark{}, errForeignRecursive(name)
	}
	short := strings.TrimPrefix(name, s.dataset.Name)
	short = strings.TrimPrefix(short, "@")
	if strings.ContainsAny(short, "@/") {
		return snapshot.Mark{}, hint.With(fmt.Errorf("%s is not a snapshot of the source %s", name, s.dataset.Name),
			"zfs list -t snapshot %s shows those that are", s.dataset.Name)
	}
	mark, err := zfs.MarkOf(ctx, s.dataset, short)
	if errors.Is(err, zfs.ErrNoDataset) {
		return mark, hint.With(fmt.Errorf("there is no snapshot %s@%s", s.dataset.Name, short), "zfs list -t snapshot %s shows those that there are", s.dataset.Name)
	}
	if err != nil {
		return mark, err
	}
	mark.Foreign = !strings.HasPrefix(short, s.prefix())
	return mark, zfsHint(zfs.Hold(ctx, mark.Path, s.tag()), s.dataset.Name)
}

// snapshots are all that the dataset has, and those below it where that matters, asked for once.
func (s *zfsSource) snapshots(ctx context.Context) ([]zfs.Held, error) {
	if s.all == nil {
		list := zfs.List
		if s.deep {
			list = zfs.ListAll
		}
		all, err := list(ctx, s.dataset)
		if err != nil {
			return nil, err
		}
		s.all = all
	}
	return s.all, nil
}

// find gives the present full name of a snapshot that the catalog remembers: the one with its GUID; snapshot.ErrGone.
func (s *zfsSource) find(ctx context.Context, mark snapshot.Mark) (string, error) {
	all, err := s.snapshots(ctx)
	if err != nil {
		return "", err
	}
	for _, h := range all {
		if h.ID == mark.ID {
			return h.Path, nil
		}
	}
	if s.deep && mark.Source != s.dataset.GUID {
		return s.elsewhere(ctx, mark)
	}
	return "", fmt.Errorf("snapshot %s (%s): %w", mark.ID, mark.Path, snapshot.ErrGone)
}

func (s *zfsSource) Open(ctx context.Context, mark snapshot.Mark) (*Snapshot, error) {
	snap, err := s.open(ctx, mark)
	if errors.Is(err, fs.ErrNotExist) { // renamed or destroyed since they were listed
		s.all = nil
		return s.open(ctx, mark)
	}
	return snap, err
}

func (s *zfsSource) open(ctx context.Context, mark snapshot.Mark) (*Snapshot, error) {
	if err := s.dataset.CheckKey(); err != nil {
		return nil, zfsHint(err, s.dataset.Name)
	}
	s.withChildrenOf(mark)
	return openWhole(mark, s.opener(ctx))
}

func (s *zfsSource) opener(ctx context.Context) opener {
	return func(c snapshot.Child) (part, error) {
		name, err := s.find(ctx, c.Mark)
		if err != nil {
			return part{}, zfsHint(err, s.dataset.Name)
		}
		c.Mark.Path = name
		root, release, err := zfs.Mount(name)
		return part{number: c.Number, dir: string(c.Dir), mark: c.Mark, root: root, release: release}, zfsHint(err, name)
	}
}

func (s *zfsSource) Drop(ctx context.Context, mark snapshot.Mark) error {
	s.all = nil
	s.withChildrenOf(mark)
	defer func() { s.all = nil }()
	var errs []error
	for _, m := range mark.All() {
		name, err := s.find(ctx, m)
		if err == nil {
			err = s.drop(ctx, name)
		}
		if !errors.Is(err, snapshot.ErrGone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// drop destroys a snapshot of ours, and gives another's back.
func (s *zfsSource) drop(ctx context.Context, name string) error {
	if _, short, _ := strings.Cut(name, "@"); strings.HasPrefix(short, s.prefix()) {
		return zfs.Destroy(ctx, name, s.tag())
	}
	return zfs.Release(ctx, name, s.tag())
}

func (s *zfsSource) Clean(ctx context.Context, keep ...snapshot.Mark) error {
	err := s.clean(ctx, keep)
	if errors.Is(err, zfs.ErrNoDataset) { // as in Open
		s.all = nil
		err = s.clean(ctx, keep)
	}
	s.all = nil
	return err
}

func (s *zfsSource) clean(ctx context.Context, keep []snapshot.Mark) error {
	kept := map[string]bool{}
	for _, m := range keep {
		s.withChildrenOf(m)
		for _, m := range m.All() {
			kept[m.ID] = true
		}
	}
	all, err := s.snapshots(ctx)
	if err != nil {
		return fmt.Errorf("find old snapshots: %w", err)
	}
	var errs []error
	for _, h := range all {
		if kept[h.ID] {
			continue
		}
		if !strings.HasPrefix(h.Name, s.prefix()) {
			if h.Holds == 0 {
				continue
			}
			if ours, err := zfs.HoldsTag(ctx, h.Path, s.tag()); err != nil || !ours {
				errs = append(errs, err)
				continue
			}
		}
		if h.Going { // it is destroyed with its last hold, or with the last clone that somebody made of it
			if h.Holds > 0 {
				errs = append(errs, zfs.Release(ctx, h.Path, s.tag()))
			}
			continue
		}
		if err := s.drop(ctx, h.Path); err != nil {
			errs = append(errs, fmt.Errorf("an old snapshot stays: %w", err))
		}
	}
	return errors.Join(append(errs, s.cleanElsewhere(ctx, keep, kept))...)
}

// Comparable: snapshots that one dataset has are of one line. (Where it was rolled back to an older one, or its snapshots went to a
// clone that was promoted, the base is gone.)
func (s *zfsSource) Comparable(base, next snapshot.Mark) string {
	return cmp.Or(newer(base, next), sameChildren(base, next, newer))
}

func newer(base, next snapshot.Mark) string {
	if base.Source != next.Source { // found all the same where it is in the same pool
		return "the source is another dataset than the one that the last run saw"
	}
	if base.Trans >= next.Trans {
		return fmt.Sprintf("the new snapshot (transaction %d) is not newer than the base (transaction %d)", next.Trans, base.Trans)
	}
	return ""
}

func (s *zfsSource) Diff(ctx context.Context, base, next *Snapshot, links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	if base.Mark.Recursive {
		return s.diffAll(ctx, base, next, links, opts)
	}
	changed, err := s.sent(ctx, base.Mark, next.Mark)
	if err != nil {
		return nil, err
	}
	defer changed.Sent.Close()
	changed.Base, changed.Next = base.Root, next.Root
	return zfsfeed.Diff(ctx, changed.Snapshots, changed.Sent, links, opts)
}

// sent has the changes between two snapshots of one dataset sent.
func (s *zfsSource) sent(ctx context.Context, base, next snapshot.Mark) (c zfsfeed.Changes, err error) {
	var err1, err2 error
	c.BaseGUID, err1 = strconv.ParseUint(base.ID, 10, 64)
	c.NextGUID, err2 = strconv.ParseUint(next.ID, 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return c, fmt.Errorf("GUID of a snapshot: %w", err)
	}
	c.Settled, c.AttrFiles = settled(base), s.attrFiles(next.Source)
	c.Sent, err = zfs.Send(ctx, base.Path, next.Path)
	return c, err
}

// attrFiles tells whether extended attributes of a dataset may become files; true where that is not known.
func (s *zfsSource) attrFiles(guid string) bool {
	if guid == s.dataset.GUID {
		return s.dataset.AttrFiles
	}
	i := slices.IndexFunc(s.taken, func(c zfs.Child) bool { return c.GUID == guid })
	return i < 0 || s.taken[i].AttrFiles
}

// Nested implements Nester.
func (s *zfsSource) Nested() (all []Unfollowed, err error) {
	if s.job.Recursive {
		return s.not, nil
	}
	exclude, err := Excluded(s, s.job)
	if err != nil {
		return nil, err
	}
	paths, err := s.dataset.Mounted()
	for _, path := range paths {
		if !exclude.Match(path) {
			all = append(all, Unfollowed{Path: path})
		}
	}
	return all, err
}

// settled is a time before anything that the snapshot may not have. Of our own we know when we asked for it. Another's creation time
// is that of the transaction's end, which may come late.
func settled(mark snapshot.Mark) time.Time {
	if mark.Foreign {
		return mark.Taken.Add(-time.Hour)
	}
	return mark.Taken.Add(-2 * time.Second)
}

func (s *zfsSource) Keys(snap *Snapshot) func(string, uint64) (diff.Key, error) {
	return keysOfParts(snap, zfsfeed.Keys, func(*beneath.Root) (uint64, error) { return 0, nil }) // it finds that of a top by itself
}

// Check implements Checker.
func (s *zfsSource) Check(ctx context.Context) (missing, warnings []error) {
	if err := s.dataset.CheckKey(); err != nil {
		missing = append(missing, zfsHint(err, s.dataset.Name))
	}
	troubles, err := s.dataset.Troubles(ctx)
	if err != nil {
		missing = append(missing, zfsHint(err, s.dataset.Name))
	}
	for _, t := range troubles {
		err := hint.With(errors.New(t.What), "%s", t.Next)
		if t.Maybe {
			warnings = append(warnings, err)
		} else {
			missing = append(missing, err)
		}
	}
	return missing, warnings
}

// Held implements Holder.
func (s *zfsSource) Held(ctx context.Context, mark snapshot.Mark) (what, next string, err error) {
	name, err := s.find(ctx, mark)
	if errors.Is(err, snapshot.ErrGone) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	held, err := zfs.HoldsTag(ctx, name, s.tag())
	if err != nil || !held {
		return "", "", err
	}
	next = fmt.Sprintf("to give it up: snapdiff release -j %s; the next run then compares in full", s.job.Name)
	if s.job.Recursive {
		next += fmt.Sprintf("; before a dataset below is destroyed: snapdiff release -j %s DATASET", s.job.Name)
	}
	return fmt.Sprintf("the base %s is held: that stops zfs rollback -r and zfs destroy -r", name), next, nil
}

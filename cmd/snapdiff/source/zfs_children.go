package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/diff/zfsfeed"
	"snapdiff/snapshot"
	"snapdiff/snapshot/zfs"
)

// Former implements Parent.
func (s *zfsSource) Former(mark snapshot.Mark) {
	s.former = mark
	s.withChildrenOf(mark)
}

// withChildrenOf makes sure that the snapshots of the datasets below are looked for where a snapshot has such.
func (s *zfsSource) withChildrenOf(mark snapshot.Mark) {
	if mark.Recursive && !s.deep {
		s.deep, s.all = true, nil
	}
}

// takeAll takes snapshots of the source and of the datasets that are mounted below its mount point, but for what is excluded.
func (s *zfsSource) takeAll(ctx context.Context, name string) (snapshot.Mark, error) {
	s.all = nil
	mark, err := s.takeThose(ctx, name)
	if err != nil {
		return mark, err
	}
	if err = mark.Number(s.former); err == nil {
		err = s.withoutHomeless(ctx, &mark)
	}
	if err == nil {
		mark.Left, err = s.left(ctx)
	}
	if err != nil {
		return mark, errors.Join(err, s.Drop(context.WithoutCancel(ctx), mark))
	}
	return mark, nil
}

// takeThose takes snapshots of those that there are. It tries again when one was destroyed meanwhile, as those of containers are all the time.
func (s *zfsSource) takeThose(ctx context.Context, name string) (mark snapshot.Mark, err error) {
	const tries = 20
	for try := 1; ; try++ {
		children, not, err := s.children(ctx)
		if err != nil {
			return mark, err
		}
		s.not, s.taken = not, children
		mark, err = zfs.TakeAll(ctx, s.dataset, children, name, s.tag())
		if !errors.Is(err, zfs.ErrNoDataset) || try == tries {
			return mark, err
		}
	}
}

// children are the datasets to be taken with the source, and those below it that are not. One that the mirror has and that cannot be read now
// must not go from it.
func (s *zfsSource) children(ctx context.Context) (list []zfs.Child, not []Unfollowed, err error) {
	all, err := s.dataset.Children(ctx)
	if err != nil {
		return nil, nil, err
	}
	exclude, err := Excluded(s, s.job)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range all {
		known := slices.ContainsFunc(s.former.Children, func(f snapshot.Child) bool { return f.Mark.Source == c.GUID })
		switch {
		case c.Place != "" && exclude.Match(c.Place), diff.TooDeep(c.Place):
			continue
		case c.Place != "" && c.Locked && known:
			return nil, nil, zfsHint(c.CheckKey(), c.Name)
		case c.Place != "" && c.Locked:
			c.Why = "its key is not loaded"
		}
		if c.Why == "" {
			list = append(list, c)
			continue
		}
		path := c.Place
		if path == "" {
			path = strings.TrimPrefix(c.Name, s.dataset.Name+"/")
		}
		not = append(not, Unfollowed{path, c.Why})
	}
	return list, not, nil
}

// Used implements Sizer.
func (s *zfsSource) Used(ctx context.Context) (bytes int64, err error) {
	sizes, err := zfs.Referenced(ctx, s.dataset, s.job.Recursive)
	if err != nil {
		return 0, err
	}
	bytes = sizes[s.dataset.Name]
	if !s.job.Recursive {
		return bytes, nil
	}
	children, _, err := s.children(ctx)
	for _, c := range children {
		bytes += sizes[c.Name]
	}
	return bytes, err
}

// hasPlace tells whether these parts have a directory for another one at dir. Where the source is not mounted, what is mounted at it has its
// directory elsewhere: there it is enough that nothing else has the name.
func (s *zfsSource) hasPlace(parts []part, dir string) bool {
	isDir := func(dir string) (bool, error) {
		around, rest := partAt(parts, dir)
		st, err := around.root.Lstat(rest)
		return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR, err
	}
	found, err := isDir(dir)
	if s.dataset.Dir == "" && errors.Is(err, fs.ErrNotExist) {
		found, _ = isDir(dir[:max(strings.LastIndexByte(dir, '/'), 0)])
	}
	return found
}

// withoutHomeless gives up the snapshots of children whose place is no directory in the snapshots around them: nobody sees them there.
func (s *zfsSource) withoutHomeless(ctx context.Context, mark *snapshot.Mark) error {
	slices.SortFunc(mark.Children, func(a, b snapshot.Child) int { return strings.Compare(string(a.Dir), string(b.Dir)) })
	snap, err := openParts(*mark, s.opener(ctx))
	if err != nil {
		return err
	}
	var stay []snapshot.Child
	var gone []snapshot.Mark
	shown := snap.parts[:1:1]
	for i, p := range snap.parts[1:] {
		if s.hasPlace(shown, p.dir) {
			shown, stay = append(shown, p), append(stay, mark.Children[i])
			continue
		}
		s.not = append(s.not, Unfollowed{p.dir, "there is no directory for it"})
		gone = append(gone, p.mark)
	}
	mark.Children = stay
	errs := []error{snap.Close()}
	for _, m := range gone {
		errs = append(errs, s.Drop(ctx, m))
	}
	return errors.Join(errs...)
}

// Follows implements Follower.
func (s *zfsSource) Follows(ctx context.Context, _, mounted string) (bool, error) {
	if !s.job.Recursive {
		return false, nil
	}
	children, _, err := s.children(ctx)
	return slices.ContainsFunc(children, func(c zfs.Child) bool { return c.Name == mounted }), err
}

func (s *zfsSource) diffAll(ctx context.Context, base, next *Snapshot, links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	return zfsfeed.DiffAll(ctx, wholeOf(base), wholeOf(next), func(number uint64) (zfsfeed.Changes, error) {
		c, err := s.sent(ctx, base.markOf(number), next.markOf(number))
		if err != nil {
			err = fmt.Errorf("dataset of %s: %w", next.markOf(number).Path, err)
		}
		return c, err
	}, links, opts)
}

// markOf is that of the source or of a child, with its present path.
func (s *Snapshot) markOf(number uint64) snapshot.Mark {
	i := slices.IndexFunc(s.parts, func(p part) bool { return p.number == number })
	return s.parts[i].mark
}

func wholeOf(s *Snapshot) zfsfeed.Whole {
	w := zfsfeed.Whole{Root: s.Root}
	for _, p := range s.parts {
		w.All = append(w.All, zfsfeed.Part{Number: p.number, Dir: p.dir, Root: p.root, Lost: p.lost})
	}
	return w
}

package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// ownDir is the directory at the top of a subvolume that holds our snapshots by default. It stays out of the mirror.
const ownDir = ".snapdiff"

// AlwaysExcluded is excluded in every job of a btrfs subvolume.
const AlwaysExcluded = "/" + ownDir

// btrfsSource is a btrfs subvolume. Its snapshots are directories in the job's place for them.
type btrfsSource struct {
	job    config.Job
	uuid   string
	former snapshot.Mark // see Parent
}

func openBtrfs(_ context.Context, j config.Job) (Source, error) {
	info, err := btrfs.Info(j.Source)
	if errors.Is(err, btrfs.ErrNotSubvolume) {
		return nil, hint.With(fmt.Errorf("source %s is not a btrfs subvolume: %w", j.Source, err),
			"name the top directory of a subvolume (btrfs subvolume list shows them)")
	}
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return &btrfsSource{job: j, uuid: info.UUID.String()}, nil
}

func (s *btrfsSource) Kind() string     { return "btrfs" }
func (s *btrfsSource) ID() string       { return s.uuid }
func (s *btrfsSource) Dir() string      { return s.job.Source }
func (s *btrfsSource) NeedsLinks() bool { return false }

// Exclude gives the places of our snapshots in the source: AlwaysExcluded, and the job's own where that is another one.
func (s *btrfsSource) Exclude() []string {
	all := []string{AlwaysExcluded}
	top, err := filepath.EvalSymlinks(s.job.Source)
	if err != nil {
		return all
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(s.job.Snapshots)) // it itself need not be there yet
	if err != nil {
		return all
	}
	at := filepath.Join(parent, filepath.Base(s.job.Snapshots))
	below, ok := strings.CutPrefix(at, strings.TrimSuffix(top, "/")+"/")
	if own := "/" + diff.EscapePattern(below); ok && own != AlwaysExcluded {
		all = append(all, own)
	}
	return all
}

func (s *btrfsSource) NeedsSignatures() bool { return false }
func (s *btrfsSource) Close() error          { return nil }

// prefix begins the names of this job's snapshots.
func (s *btrfsSource) prefix() string { return btrfs.Prefix + prefix(s.job) }

// newName makes the place for our snapshots, for root alone (they show files that their owners may since have protected),
// and gives a free name in it.
func (s *btrfsSource) newName() (string, error) {
	if err := os.Mkdir(s.job.Snapshots, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the place for snapshots: %w", err)
	}
	return s.prefix() + strings.TrimPrefix(btrfs.Name(time.Now()), btrfs.Prefix), nil
}

func (s *btrfsSource) Take(context.Context) (snapshot.Mark, error) {
	name, err := s.newName()
	if err != nil {
		return snapshot.Mark{}, err
	}
	if s.job.Recursive {
		return s.takeAll(name)
	}
	return btrfs.Create(s.job.Source, s.job.Snapshots, name)
}

// Former implements Parent.
func (s *btrfsSource) Former(mark snapshot.Mark) { s.former = mark }

// takeAll takes a snapshot of the source and of what is nested in it, but for what is excluded and for snapshots: they are the past of
// something, not data of their own. What is in the mirror stays in it, whatever becomes of its read-only flag.
func (s *btrfsSource) takeAll(name string) (snapshot.Mark, error) {
	exclude, err := Excluded(s, s.job)
	if err != nil {
		return snapshot.Mark{}, err
	}
	known := map[string]bool{}
	for _, c := range s.former.Children {
		known[c.Mark.Source] = true
	}
	mark, err := btrfs.CreateAll(s.job.Source, s.job.Snapshots, name, btrfs.Follow{
		Path:      func(path string) bool { return !exclude.Match(path) },
		Subvolume: func(info btrfs.SubvolInfo) bool { return !isPast(info) || known[info.UUID.String()] },
		Longest:   diff.LongestPath,
	})
	if err != nil {
		return mark, err
	}
	if err := mark.Number(s.former); err != nil {
		return mark, errors.Join(err, s.Drop(context.Background(), mark))
	}
	return mark, nil
}

// isPast tells a subvolume that is the past of something: a read-only snapshot, or one that was received.
func isPast(info btrfs.SubvolInfo) bool {
	return info.ReadOnly && (info.ParentUUID != btrfs.UUID{} || info.ReceivedUUID != btrfs.UUID{})
}

// Nested implements Nester. Where nested ones are followed, the comparison tells of the others.
func (s *btrfsSource) Nested() (all []Unfollowed, err error) {
	if s.job.Recursive {
		return nil, nil
	}
	exclude, err := Excluded(s, s.job)
	if err != nil {
		return nil, err
	}
	paths, err := btrfs.Inner(s.job.Source, btrfs.Follow{
		Path:      func(path string) bool { return !exclude.Match(path) },
		Subvolume: func(info btrfs.SubvolInfo) bool { return !isPast(info) },
		Longest:   diff.LongestPath,
	})
	for _, path := range paths {
		all = append(all, Unfollowed{Path: path})
	}
	return all, err
}

// Foreign takes a snapshot of our own of the read-only snapshot at path.
func (s *btrfsSource) Foreign(_ context.Context, path string) (snapshot.Mark, error) {
	if s.job.Recursive {
		return snapshot.Mark{}, errForeignRecursive(path)
	}
	his, err := btrfs.MarkOf(path)
	if err != nil {
		return his, err
	}
	if his.Source != s.uuid {
		return his, hint.With(fmt.Errorf("%s is a snapshot of another subvolume (%s) than the source %s (%s)", path, his.Source, s.job.Source, s.uuid),
			"btrfs subvolume show tells the parent UUID of a snapshot")
	}
	name, err := s.newName()
	if err != nil {
		return his, err
	}
	return btrfs.CreateOf(path, s.job.Snapshots, name)
}

func (s *btrfsSource) Open(_ context.Context, mark snapshot.Mark) (*Snapshot, error) {
	return openWhole(mark, func(c snapshot.Child) (part, error) {
		path, err := btrfs.Find(c.Mark, s.job.Snapshots)
		if err != nil {
			return part{}, err
		}
		root, err := beneath.Open(path)
		return part{number: c.Number, dir: string(c.Dir), mark: c.Mark, root: root}, err
	})
}

func (s *btrfsSource) Drop(_ context.Context, mark snapshot.Mark) error {
	var errs []error
	for _, m := range mark.All() {
		errs = append(errs, btrfs.Destroy(filepath.Dir(m.Path), filepath.Base(m.Path)))
	}
	return errors.Join(errs...)
}

func (s *btrfsSource) Clean(_ context.Context, keep ...snapshot.Mark) error {
	old, err := s.Old(keep...)
	errs := []error{err}
	for _, path := range old {
		// What the process that an earlier run left behind has destroyed meanwhile is not missed.
		if err := DestroyOld(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("an old snapshot stays: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Old gives the paths of all snapshots that Clean would destroy.
func (s *btrfsSource) Old(keep ...snapshot.Mark) (paths []string, err error) {
	kept := map[string]bool{}
	for _, m := range keep {
		for _, m := range m.All() {
			kept[m.ID] = true
		}
	}
	var errs []error
	err = s.ours(func(path string, info btrfs.SubvolInfo) {
		switch {
		case kept[info.UUID.String()]:
		case filepath.IsAbs(path):
			paths = append(paths, path)
		default:
			errs = append(errs, hint.With(fmt.Errorf("%s lies where nothing is mounted", path), "btrfs subvolume delete --subvolid %d %s", info.ID, s.job.Source))
		}
	})
	if err = errors.Join(append(errs, err)...); err != nil {
		err = fmt.Errorf("an old snapshot stays: %w", err)
	}
	return paths, err
}

// DestroyOld destroys a snapshot that Old gave. The kernel drops all names and inodes of it from its caches meanwhile: of a tree that was
// read since (by updatedb, say) a microsecond or two for each.
func DestroyOld(path string) error { return btrfs.Destroy(filepath.Dir(path), filepath.Base(path)) }

func (s *btrfsSource) Comparable(base, next snapshot.Mark) string {
	return cmp.Or(btrfs.Lineage(base, next), sameChildren(base, next, btrfs.Lineage))
}

func (s *btrfsSource) Diff(ctx context.Context, base, next *Snapshot, _ diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	opts.Remounted = base.Mark.Session == "" || base.Mark.Session != next.Mark.Session
	if base.Mark.Recursive {
		return btrfsfeed.DiffAll(ctx, subvolumes(base), subvolumes(next), opts)
	}
	return btrfsfeed.Diff(ctx, base.Root, next.Root, base.Mark.Trans, opts)
}

func subvolumes(s *Snapshot) btrfsfeed.Snapshots {
	all := btrfsfeed.Snapshots{Whole: s.Root}
	for _, p := range s.parts {
		all.All = append(all.All, btrfsfeed.Subvolume{Number: p.number, Dir: p.dir, Root: p.root, Bound: p.mark.Trans})
	}
	return all
}

func (s *btrfsSource) Keys(snap *Snapshot) func(string, uint64) (diff.Key, error) {
	return keysOfParts(snap, btrfsfeed.Keys, func(*beneath.Root) (uint64, error) { return btrfs.FirstInode, nil })
}

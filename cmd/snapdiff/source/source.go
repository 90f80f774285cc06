// Package source is where jobs and filesystems meet: each kind of source that a job can have (a btrfs subvolume, a ZFS
// dataset, a logical volume) is one driver here, made of what snapshot and diff have for it. A driver decides nothing about
// stores.
package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/zfs"
)

// Source is one filesystem that a job protects.
type Source interface {
	// Kind is the name of the driver, as in snapshot.Mark.
	Kind() string
	// ID is the identity of the source; it outlives renames and remounts.
	ID() string
	// Dir is the directory where the source is mounted, "" when it is not.
	Dir() string
	// Exclude are patterns (diff.ParseExclude) of what is not the source's own and stays out of the mirror.
	Exclude() []string
	// NeedsLinks tells that Diff wants the link index, which the store then has to keep.
	NeedsLinks() bool
	// NeedsSignatures tells that it wants a diff.SignatureIndex.
	NeedsSignatures() bool

	// Take takes a read-only snapshot for this job.
	Take(ctx context.Context) (snapshot.Mark, error)
	// Foreign describes a snapshot that somebody else made, named as its filesystem names snapshots, as the new state of
	// the source. What has to be done so that its owner may expire it is done.
	Foreign(ctx context.Context, name string) (snapshot.Mark, error)
	// Open opens a snapshot for reading, mounted privately if need be. snapshot.ErrGone and snapshot.ErrAltered say that it
	// is not what the catalog remembers any more.
	Open(ctx context.Context, mark snapshot.Mark) (*Snapshot, error)
	// Drop destroys one snapshot that Take or Foreign gave; one that is ours only.
	Drop(ctx context.Context, mark snapshot.Mark) error
	// Clean destroys all snapshots of this job but those to keep. What others made stays.
	Clean(ctx context.Context, keep ...snapshot.Mark) error

	// Kept lists the snapshots of this job that pin space on the source, those of others that we hold included, the oldest first. It
	// needs no store.
	Kept(ctx context.Context) ([]Kept, error)

	// Comparable says why the filesystem cannot tell what changed between two snapshots, "" if it can.
	Comparable(base, next snapshot.Mark) string
	// Diff gives what changed between two snapshots; diff.ErrNotNative asks for a full comparison. links is nil unless
	// NeedsLinks.
	Diff(ctx context.Context, base, next *Snapshot, links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error)
	// Keys gives the identity of the inode ino, which path means; diff.ErrNoInode when there is none. It is safe for
	// concurrent use.
	Keys(s *Snapshot) func(path string, ino uint64) (diff.Key, error)

	Close() error
}

// Checker is a Source that knows what would keep a run from working (missing), or from working well (warnings).
type Checker interface {
	Check(ctx context.Context) (missing, warnings []error)
}

// Expecter is a Source that takes a snapshot at less cost when it knows what the snapshot will be compared with.
type Expecter interface {
	// Expect names the base, which will be opened beside what Take gives next.
	Expect(base snapshot.Mark)
}

// Sizer is a Source that knows better than the filesystem where it is mounted how much there is to copy.
type Sizer interface {
	// Used is the most that there is to copy, in bytes.
	Used(ctx context.Context) (int64, error)
}

// Follower is a Source that may take other filesystems with it, wherever they are mounted.
type Follower interface {
	// Follows tells whether the directory at path lies in one of these. It is on a filesystem of the source's kind and disk; mounted is what
	// /proc/self/mountinfo calls it.
	Follows(ctx context.Context, path, mounted string) (bool, error)
}

// ChildReleaser is a Source whose children cannot be destroyed as long as our snapshots of them are there.
type ChildReleaser interface {
	// ReleaseChild gives up our snapshots of one child and those below it, and gives what they were.
	ReleaseChild(ctx context.Context, name string, dry bool) ([]Kept, error)
}

// Holder is a Source that keeps others from destroying its base.
type Holder interface {
	// Held says how others meet the hold on a snapshot, and how to give it up; "" when there is none.
	Held(ctx context.Context, mark snapshot.Mark) (what, next string, err error)
}

// Lingerer is a Source that may take long to destroy a snapshot, and whose snapshots a process of its own can destroy: see DestroyOld.
type Lingerer interface {
	// Old gives what Clean would destroy.
	Old(keep ...snapshot.Mark) (paths []string, err error)
}

// Excluded is what stays out of a job's mirror.
func Excluded(s Source, j config.Job) (*diff.Exclude, error) {
	return diff.ParseExclude(append(s.Exclude(), j.Exclude...))
}

// Nester is a Source below which other filesystems of its kind may be mounted, for which its snapshots have empty directories.
type Nester interface {
	// Nested are those that the last snapshot taken has not, but for what is excluded.
	Nested() ([]Unfollowed, error)
}

// Unfollowed is a filesystem of the source's kind that is not in its snapshots.
type Unfollowed struct {
	// Path is relative to the top of the source; the end of its name where it has none there.
	Path string
	// Why says why it is not; "" where none is.
	Why string
}

// Snapshot is a snapshot that is open for reading.
type Snapshot struct {
	Mark snapshot.Mark
	Root *beneath.Root
	// parts are the source and its children; nil for kinds of sources that can have none.
	parts []part
	// release gives back what opening took: a mount, an activation. May be nil.
	release func() error
	closed  bool
}

// Close closes the snapshot. It may be called on nil, and again.
func (s *Snapshot) Close() error {
	if s == nil || s.closed {
		return nil
	}
	s.closed = true
	err := s.Root.Close()
	for _, p := range s.parts {
		if p.root != s.Root {
			err = errors.Join(err, p.root.Close())
		}
	}
	if s.release != nil {
		err = errors.Join(err, s.release())
	}
	return err
}

// kind is one driver.
type kind struct {
	name string
	// what is the kind in a sentence: "a btrfs subvolume".
	what string
	// magics are the f_type of statfs(2) of a mounted source (linux/magic.h).
	magics []int64
	// named opens a source whose name has no leading slash, nil when there is none of this kind; nil where sources are paths only.
	named func(ctx context.Context, j config.Job) (Source, error)
	open  func(ctx context.Context, j config.Job) (Source, error)
}

// kinds are all drivers.
var kinds = []kind{
	{"btrfs", "a btrfs subvolume", []int64{unix.BTRFS_SUPER_MAGIC}, nil, openBtrfs},
	{"zfs", "a ZFS dataset (its name, or where it is mounted)", []int64{zfs.Magic}, namedZFS, openZFS},
	{"lvm", "ext4 or XFS on a logical volume", []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC}, namedLVM, openLVM},
}

// Open finds out what kind of source a job has and opens it. It changes nothing.
func Open(ctx context.Context, j config.Job) (Source, error) {
	if !filepath.IsAbs(j.Source) {
		return openNamed(ctx, j)
	}
	var st unix.Statfs_t
	err := unix.Statfs(j.Source, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.With(fmt.Errorf("source %s: no such file or directory", j.Source), "mount it, or correct source in the configuration")
	}
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", j.Source, err)
	}
	for _, k := range kinds {
		if slices.Contains(k.magics, st.Type) {
			return k.open(ctx, j)
		}
	}
	return nil, hint.With(fmt.Errorf("source %s is on a filesystem without snapshots (type 0x%x)", j.Source, st.Type), "a source is %s", whats())
}

// openNamed opens a source that is named as its filesystem names it, not by a path.
func openNamed(ctx context.Context, j config.Job) (Source, error) {
	var errs []error
	for _, k := range kinds {
		if k.named == nil {
			continue
		}
		src, err := k.named(ctx, j)
		if src != nil && err == nil {
			return src, nil
		}
		errs = append(errs, err)
	}
	if err := moreThanNoModule(errs); err != nil {
		return nil, fmt.Errorf("source %s: %w", j.Source, err)
	}
	return nil, hint.With(fmt.Errorf("source %s: there is nothing of that name", j.Source), "a source is %s; a path begins with /", whats())
}

// moreThanNoModule joins errors. That ZFS cannot be asked is only worth saying where nobody else knows the name.
func moreThanNoModule(errs []error) error {
	others := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.Is(err, zfs.ErrNoModule) })
	return cmp.Or(errors.Join(others...), errors.Join(errs...))
}

// whats lists what a source may be.
func whats() string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.what)
	}
	return strings.Join(all, ", ")
}

// prefix begins the names of a job's snapshots, after the driver's own prefix. It has the store's path in it: two jobs may
// mirror one source into two stores, and neither may take the other's base for a stray.
func prefix(j config.Job) string {
	sum := sha256.Sum256([]byte(j.Store))
	return j.Name + "-" + hex.EncodeToString(sum[:4]) + "-"
}

package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/diff"
	"snapdiff/diff/inodefeed"
	"snapdiff/snapshot"
	"snapdiff/snapshot/lvm"
)

// lvmSource is a logical volume with ext4 or XFS on it.
type lvmSource struct {
	job config.Job
	*lvm.Source

	base string // UUID of the snapshot that the next one will be compared with; "" where that is not known
	mu   sync.Mutex
	open map[*Snapshot]*lvm.Snapshot
}

// namedLVM opens a volume by its name VG/LV.
func namedLVM(ctx context.Context, j config.Job) (Source, error) {
	if mine, err := lvm.IsVolume(ctx, j.Source); err != nil || !mine {
		return nil, err
	}
	return openLVM(ctx, j)
}

func openLVM(ctx context.Context, j config.Job) (Source, error) {
	if j.Recursive {
		return nil, hint.With(fmt.Errorf("source %s: recursive = true is for btrfs subvolumes and ZFS datasets, a logical volume has no children", j.Source),
			"take recursive out of [jobs.%s], and give each volume a job of its own", j.Name)
	}
	src, err := lvm.OpenSource(ctx, j.Source)
	if errors.Is(err, lvm.ErrNotVolume) && hint.Of(err) != "" {
		return nil, fmt.Errorf("source %w", err)
	}
	if errors.Is(err, lvm.ErrNotVolume) {
		return nil, hint.With(fmt.Errorf("source %w", err),
			"a source with ext4 or XFS is a whole filesystem on a logical volume: name the place where it is mounted, or vg/lv (lvs shows them)")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.With(fmt.Errorf("source: %w", err), "mount it, or correct source in the configuration")
	}
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return &lvmSource{job: j, Source: src, open: map[*Snapshot]*lvm.Snapshot{}}, nil
}

func (s *lvmSource) Kind() string      { return "lvm" }
func (s *lvmSource) ID() string        { return s.UUID() }
func (s *lvmSource) Exclude() []string { return nil }
func (s *lvmSource) NeedsLinks() bool  { return true }

func (s *lvmSource) NeedsSignatures() bool { return false }

// prefix begins the names of this job's snapshots: LVM's names are short, so the tag has the job's.
func (s *lvmSource) prefix() string {
	sum := sha256.Sum256([]byte(s.job.Store))
	return lvm.Prefix + hex.EncodeToString(sum[:4]) + "_"
}

// newSnapshot says how a snapshot taken now is to be made.
func (s *lvmSource) newSnapshot() lvm.New {
	return lvm.New{Beside: s.base, Name: s.prefix() + time.Now().UTC().Format("20060102T150405.000000000Z"), Tag: "snapdiff_job=" + s.job.Name, Percent: s.job.SnapshotSize}
}

// Expect implements Expecter.
func (s *lvmSource) Expect(base snapshot.Mark) { s.base = base.ID }

func (s *lvmSource) Take(ctx context.Context) (snapshot.Mark, error) {
	mark, err := s.Source.Take(ctx, s.newSnapshot())
	return mark, lvmHint(err)
}

func (s *lvmSource) Foreign(ctx context.Context, name string) (snapshot.Mark, error) {
	mark, err := s.Source.TakeOf(ctx, name, s.newSnapshot())
	return mark, lvmHint(err)
}

// lvmHint says what to do about a volume that holds something else.
func lvmHint(err error) error {
	if errors.Is(err, lvm.ErrFilesystem) {
		return hint.With(err, "mount the volume and name its mount point if it holds btrfs; other filesystems cannot be a source")
	}
	return err
}

// Check implements Checker.
func (s *lvmSource) Check(ctx context.Context) (missing, warnings []error) {
	missing, warnings = s.Source.Check(ctx, s.job.SnapshotSize)
	for i, err := range missing {
		missing[i] = lvmHint(err)
	}
	return missing, warnings
}

func (s *lvmSource) Open(ctx context.Context, mark snapshot.Mark) (*Snapshot, error) {
	native, err := s.Source.Open(ctx, mark)
	if err != nil {
		return nil, err
	}
	snap := &Snapshot{Mark: mark, Root: native.Root}
	snap.release = func() error {
		s.mu.Lock()
		delete(s.open, snap)
		s.mu.Unlock()
		return native.Close()
	}
	s.mu.Lock()
	s.open[snap] = native
	s.mu.Unlock()
	return snap, nil
}

// native is the snapshot below one that Open gave.
func (s *lvmSource) native(snap *Snapshot) *lvm.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[snap]
}

func (s *lvmSource) Drop(ctx context.Context, mark snapshot.Mark) error {
	if mark.Foreign {
		return nil
	}
	return s.Remove(ctx, mark.ID)
}

func (s *lvmSource) Clean(ctx context.Context, keep ...snapshot.Mark) error {
	return s.Source.Clean(ctx, s.prefix(), func(uuid string) bool {
		return slices.ContainsFunc(keep, func(m snapshot.Mark) bool { return m.ID == uuid })
	})
}

func (s *lvmSource) Comparable(base, next snapshot.Mark) string {
	if base.Kind != "lvm" || base.Source != next.Source {
		return fmt.Sprintf("the source is another volume (%s) than the one that the last run saw (%s)", next.Source, base.Source)
	}
	return ""
}

// Diff also notes in next's mark which inodes changed while it was taken.
func (s *lvmSource) Diff(ctx context.Context, base, next *Snapshot, links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	changed, err := s.Changed(ctx, s.native(base), s.native(next))
	if errors.Is(err, lvm.ErrUnknown) {
		return nil, fmt.Errorf("%w: %w", diff.ErrNotNative, err)
	}
	if err != nil {
		return nil, fmt.Errorf("find the changed blocks: %w", err)
	}
	set, err := s.compare(ctx, base, next, changed, links, opts)
	if err != nil && ctx.Err() == nil && s.Lost(ctx, s.native(base)) {
		return nil, fmt.Errorf("%w: the base snapshot overflowed while it was read: %w", diff.ErrNotNative, err)
	}
	return set, err
}

func (s *lvmSource) compare(ctx context.Context, base, next *Snapshot, changed lvm.Blocks, links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	from, to := s.side(base), s.side(next)
	var err error
	if from.Carried, err = s.carried(ctx, base, from); err != nil {
		return nil, err
	}
	set, carry, err := inodefeed.Diff(ctx, from, to, changed, links, opts)
	if err != nil {
		return nil, err
	}
	next.Mark.Carry = encodeCarry(carry)
	return set, nil
}

// side is a snapshot as the comparison of inodes takes it.
func (s *lvmSource) side(snap *Snapshot) inodefeed.Side {
	native := s.native(snap)
	return inodefeed.Side{Device: native.Device, Size: native.Size, Root: snap.Root, Taken: snap.Mark.Taken, Boot: lvm.Session(snap.Mark)}
}

// carried are the inodes that changed in the moment in which a base was taken. After a first copy or a full comparison
// nobody has looked for them yet: then all inodes of the base are read.
func (s *lvmSource) carried(ctx context.Context, base *Snapshot, side inodefeed.Side) ([]diff.Key, error) {
	if keys, ok := decodeCarry(base.Mark.Carry); ok {
		return keys, nil
	}
	return inodefeed.Carry(ctx, side)
}

// mostCarried is how many inodes a mark takes: more of them are looked for again.
const mostCarried = 100_000

// carryForm begins what a mark has of them. Marks of earlier versions have a list without it, which lacks swap files: it is as if there were none.
const carryForm = "2:"

// encodeCarry writes inodes into a mark; "" stands for "not known".
func encodeCarry(keys []diff.Key) string {
	if len(keys) > mostCarried {
		return ""
	}
	list := make([][2]uint64, len(keys))
	for i, k := range keys {
		list[i] = [2]uint64{k.Ino, k.Gen}
	}
	text, _ := json.Marshal(list) // of numbers: it cannot fail
	return carryForm + string(text)
}

func decodeCarry(text string) ([]diff.Key, bool) {
	var list [][2]uint64
	if text, ok := strings.CutPrefix(text, carryForm); !ok || json.Unmarshal([]byte(text), &list) != nil {
		return nil, false
	}
	keys := make([]diff.Key, len(list))
	for i, k := range list {
		keys[i] = diff.Key{Ino: k[0], Gen: k[1]}
	}
	return keys, true
}

func (s *lvmSource) Keys(snap *Snapshot) func(string, uint64) (diff.Key, error) {
	return inodefeed.Keys(s.side(snap))
}

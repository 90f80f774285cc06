package lvm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"snapdiff/snapshot"
)

// Prefix begins the name of every snapshot that is ours. Nothing else is listed or destroyed.
const Prefix = "snapdiff_"

// Above these, in percent, no snapshot is taken: a pool or a classic snapshot that fills up harms more than a backup that is
// late.
const (
	FullData     = 95 // of a thin pool's data, or of a classic snapshot
	FullMetadata = 90 // of a thin pool's metadata
)

// ErrFull says that there is too little room to take another snapshot.
var ErrFull = errors.New("there is too little room for a snapshot")

// New says how a snapshot is to be made.
type New struct {
	// Name is its name, which begins with Prefix. LVM allows letters, digits and "+_.-" and about 100 bytes.
	Name string
	// Tag is shown by lvs -o+tags and says whose it is; may be "".
	Tag string
	// Percent of the origin is the size of a classic snapshot.
	Percent int
}

// Take takes a read-only snapshot of the source: a thin one of a thin volume, else a classic one. The kernel writes out and
// freezes a mounted filesystem meanwhile. ErrFull, ErrFilesystem and ErrRecovery say why it refuses.
func (s *Source) Take(ctx context.Context, n New) (mark snapshot.Mark, err error) {
	if !strings.HasPrefix(n.Name, Prefix) {
		return mark, fmt.Errorf("take snapshot %q: names of our snapshots begin with %q", n.Name, Prefix)
	}
	origin, all, err := s.state(ctx)
	if err != nil {
		return mark, err
	}
	if err := room(origin, all, n); err != nil {
		return mark, err
	}
	still, err := frozen(origin)
	if err != nil {
		return mark, err
	}
	taken := time.Now()
	if err := change(ctx, "lvcreate", lvcreate(origin, n)...); err != nil {
		return mark, fmt.Errorf("take a snapshot of %s: %w", origin.Path(), err)
	}
	ctx = context.WithoutCancel(ctx)
	all, err = volumes(ctx, s.vg)
	if err != nil {
		return mark, err
	}
	made, ok := byPath(all, origin.VG+"/"+n.Name)
	if !ok || made.OriginUUID != s.uuid {
		return mark, fmt.Errorf("take a snapshot of %s: %s/%s is not one", origin.Path(), origin.VG, n.Name)
	}
	if mark, err = s.describe(made, taken); err == nil {
		err = s.checkTaken(made, origin, still)
	}
	if err != nil {
		return mark, errors.Join(fmt.Errorf("take a snapshot of %s: %w", origin.Path(), err), s.Remove(ctx, mark.ID))
	}
	return mark, nil
}

// lvcreate is the command line that makes a snapshot. A thin one is not activated by default and not at boot.
func lvcreate(origin Volume, n New) []string {
	args := []string{"-q", "-y", "-s", "-p", "r", "-n", n.Name}
	if n.Tag != "" {
		args = append(args, "--addtag", n.Tag)
	}
	if origin.Thin() {
		args = append(args, "-k", "y", "-a", "y", "-K")
	} else {
		args = append(args, "-l", strconv.Itoa(n.Percent)+"%ORIGIN")
	}
	return append(args, origin.Path())
}

// room refuses to take a snapshot where it would do harm.
func room(origin Volume, all []Volume, n New) error {
	if origin.Thin() {
		pool, ok := byUUID(all, origin.PoolUUID)
		switch {
		case !ok:
			return fmt.Errorf("the thin pool of %s is not there", origin.Path())
		case pool.Health != "" || pool.NeedsCheck:
			return fmt.Errorf("the thin pool %s is not well (%s): see lvs -o+lv_health_status", pool.Path(), pool.Health)
		case pool.Data >= FullData || pool.Metadata >= FullMetadata:
			return fmt.Errorf("%w: the thin pool %s is full to %.1f %% (data) and %.1f %% (metadata); extend it: lvextend -L +SIZE %s, or lvextend --poolmetadatasize +SIZE %[2]s",
				ErrFull, pool.Path(), pool.Data, pool.Metadata, pool.Path())
		}
		return nil
	}
	for _, v := range all {
		if v.OriginUUID == origin.UUID && strings.HasPrefix(v.Name, Prefix) && !v.Invalid && v.Data >= FullData {
			return fmt.Errorf("%w: the snapshot %s that the last run left is full to %.1f %% and would soon be lost; give it more: lvextend -L +SIZE %s",
				ErrFull, v.Path(), v.Data, v.Path())
		}
	}
	if need := origin.Size / 100 * int64(n.Percent); need > origin.Free {
		return fmt.Errorf("%w: %d %% of %s are %d MiB, and %d MiB are free in the volume group: add a disk to it, or set snapshot_size lower",
			ErrFull, n.Percent, origin.Path(), need>>20, origin.Free>>20)
	}
	return nil
}

// describe is the mark of a snapshot that is active.
func (s *Source) describe(v Volume, taken time.Time) (snapshot.Mark, error) {
	mark := snapshot.Mark{Kind: "lvm", Source: s.uuid, ID: v.UUID, Parent: v.OriginUUID, Path: v.Path(), Taken: taken.UTC()}
	start, err := readDirect(v.Device, v.UUID, "", startSize)
	mark.Content = fingerprint(start)
	return mark, err
}

// checkTaken refuses a new snapshot with nothing on it that can be read as it is.
func (s *Source) checkTaken(v, origin Volume, still bool) error {
	start, err := readDirect(v.Device, v.UUID, "", startSize)
	if err != nil {
		return err
	}
	if still { // and was mounted all the while?
		if still, err = frozen(origin); err != nil {
			return err
		}
	}
	return checkClean(v.Device, start, still)
}

func byPath(all []Volume, path string) (Volume, bool) {
	for _, v := range all {
		if v.Path() == path {
			return v, true
		}
	}
	return Volume{}, false
}

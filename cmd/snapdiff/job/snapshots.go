package job

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"snapdiff/snapshot"
	"snapdiff/snapshot/btrfs"
)

// prefix begins the names of this job's snapshots. It has the store's path in it: two jobs may mirror one source into two
// stores, and neither may take the other's base for a stray.
func (r *runner) prefix() string {
	sum := sha256.Sum256([]byte(r.job.Store))
	return btrfs.Prefix + r.job.Name + "-" + hex.EncodeToString(sum[:4]) + "-"
}

// takeSnapshot takes a snapshot of the source.
func (r *runner) takeSnapshot() (snapshot.Mark, error) {
	name := r.prefix() + strings.TrimPrefix(btrfs.Name(time.Now()), btrfs.Prefix)
	mark, err := btrfs.Create(r.job.Source, r.job.Snapshots, name)
	if err != nil {
		return mark, err
	}
	r.say("snapshot %s", mark.Path)
	return mark, nil
}

// dropUnused destroys the snapshot of a run that failed, unless the store needs it to finish that run.
func (r *runner) dropUnused(mark snapshot.Mark, failed error) error {
	if failed == nil {
		return nil
	}
	last, cut, err := r.store.Last()
	if err != nil || cut != nil || last != nil && last.Mark.ID == mark.ID {
		return err
	}
	return btrfs.Destroy(filepath.Dir(mark.Path), filepath.Base(mark.Path))
}

// clean destroys all snapshots of this job but the one that the mirror now equals: the old base, and what cut-off runs left.
func (r *runner) clean(keep snapshot.Mark) error {
	marks, err := btrfs.List(r.job.Source, r.job.Snapshots)
	if err != nil {
		return fmt.Errorf("find old snapshots: %w", err)
	}
	var errs []error
	for _, m := range marks {
		name := filepath.Base(m.Path)
		if m.ID == keep.ID || !strings.HasPrefix(name, r.prefix()) {
			continue
		}
		if err := btrfs.Destroy(r.job.Snapshots, name); err != nil {
			errs = append(errs, fmt.Errorf("the run is done, but an old snapshot stays: %w", err))
		}
	}
	return errors.Join(errs...)
}

package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"

	"snapdiff/snapshot/btrfs"
)

// ours gives all snapshots of this job. Not only those of the subvolume itself: those of foreign snapshots are ours too. It goes on behind one that
// cannot be looked at. The path of one that lies in no mounted directory is that from the top of the filesystem, without a slash before it.
func (s *btrfsSource) ours(yield func(path string, info btrfs.SubvolInfo)) error {
	places, err := btrfs.Places(s.job.Snapshots)
	if err != nil {
		return err
	}
	seen := map[uint64]bool{} // by the numbers of their trees
	var errs []error
	for _, place := range places {
		entries, err := os.ReadDir(place)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), s.prefix()) {
				continue
			}
			path := filepath.Join(place, e.Name())
			info, err := btrfs.Info(path)
			switch {
			case errors.Is(err, btrfs.ErrNotSubvolume) || errors.Is(err, fs.ErrNotExist):
			case err != nil:
				errs = append(errs, err)
			default:
				seen[info.ID] = true
				yield(path, info)
			}
		}
	}
	return errors.Join(append(errs, s.strays(seen, yield))...)
}

// strays gives snapshots of this job that are not in its place for them, because that was another one before. An administrator's copy of one may have its name
// too: ours are snapshots of the source itself or, where they are of what is nested in it, in a directory that is ours.
func (s *btrfsSource) strays(seen map[uint64]bool, yield func(path string, info btrfs.SubvolInfo)) error {
	forest, err := btrfs.ReadForest(s.job.Source)
	if err != nil {
		return err
	}
	defer forest.Close()
	var errs []error
	for _, n := range forest.Named(s.prefix()) {
		if seen[n.ID] {
			continue
		}
		info, err := forest.Info(n)
		if err != nil || !info.ReadOnly || info.ReceivedUUID != (btrfs.UUID{}) {
			errs = append(errs, unlessGone(err))
			continue
		}
		place, err := forest.Place(n)
		if err != nil || info.ParentUUID.String() != s.uuid && !btrfs.IsLane(filepath.Dir(place)) {
			errs = append(errs, unlessGone(err))
			continue
		}
		path, err := mountedAt(s.job.Source, place, info)
		errs = append(errs, err)
		yield(path, info)
	}
	return errors.Join(errs...)
}

func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// mountedAt gives the path of a subvolume of the filesystem of source, place below its top; place itself where no mount shows it.
func mountedAt(source, place string, info btrfs.SubvolInfo) (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("btrfs"))
	if err != nil {
		return place, fmt.Errorf("look what is mounted: %w", err)
	}
	for _, m := range mounts {
		below, ok := strings.CutPrefix("/"+place, strings.TrimSuffix(m.Root, "/")+"/")
		if !ok {
			continue
		}
		path := filepath.Join(m.Mountpoint, below)
		if found, err := btrfs.Info(path); err == nil && found.UUID == info.UUID {
			return path, nil
		}
	}
	return place, nil
}

// Follows implements Follower.
func (s *btrfsSource) Follows(_ context.Context, path, _ string) (bool, error) {
	if !s.job.Recursive {
		return false, nil
	}
	forest, err := btrfs.ReadForest(s.job.Source)
	if err != nil {
		return false, err
	}
	defer forest.Close()
	top, err := btrfs.IDOf(s.job.Source)
	if err != nil {
		return false, err
	}
	id, err := btrfs.IDOf(path)
	return forest.Inside(id, top), err
}

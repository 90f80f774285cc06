package source

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapdiff/snapshot/btrfs"
	"snapdiff/snapshot/zfs"
)

// Kept is a snapshot that pins space on the source.
type Kept struct {
	Name  string
	Taken time.Time
	// Bytes is what would be free without it, -1 where the filesystem does not tell.
	Bytes int64
	// Full is how full that is in which it lives (a classic LVM snapshot's own room, a thin pool), in percent; -1 for neither.
	Full float64
}

func oldestFirst(all []Kept) []Kept {
	slices.SortFunc(all, func(a, b Kept) int { return cmp.Or(a.Taken.Compare(b.Taken), strings.Compare(a.Name, b.Name)) })
	return all
}

// Kept has no sizes: without quotas btrfs counts no space of a snapshot alone.
func (s *btrfsSource) Kept(context.Context) (all []Kept, err error) {
	err = s.ours(func(path string, info btrfs.SubvolInfo) { all = append(all, Kept{path, info.OTime, -1, -1}) })
	if err != nil {
		return nil, fmt.Errorf("find our snapshots: %w", err)
	}
	return oldestFirst(all), nil
}

func (s *zfsSource) Kept(ctx context.Context) (all []Kept, err error) {
	snaps, err := s.snapshots(ctx)
	if err != nil {
		return nil, err
	}
	used, err := zfs.Used(ctx, s.dataset, s.deep)
	if err != nil {
		return nil, err
	}
	for _, h := range snaps {
		if !strings.HasPrefix(h.Name, s.prefix()) {
			if h.Holds == 0 {
				continue
			}
			if ours, err := zfs.HoldsTag(ctx, h.Path, s.tag()); err != nil || !ours {
				continue
			}
		}
		bytes, ok := used[h.Path]
		if !ok {
			bytes = -1
		}
		all = append(all, Kept{h.Path, h.Taken, bytes, -1})
	}
	return oldestFirst(all), nil
}

// Kept: a thin snapshot shares blocks with its origin, and LVM counts none that are its own; how full the pool is says when it matters.
func (s *lvmSource) Kept(ctx context.Context) (all []Kept, err error) {
	ours, err := s.Ours(ctx, s.prefix())
	if err != nil {
		return nil, err
	}
	for _, v := range ours {
		k := Kept{v.Path(), v.Created, -1, v.Data}
		if v.Thin() {
			k.Full, err = s.PoolData(ctx, v)
		} else if v.Data >= 0 {
			k.Bytes = int64(v.Data / 100 * float64(v.Size))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return oldestFirst(all), nil
}

package lvm

import (
	"context"
	"fmt"
	"strings"
)

// Ours lists our snapshots whose names begin so, in no order.
func (s *Source) Ours(ctx context.Context, prefix string) ([]Volume, error) {
	all, err := s.recent(ctx)
	if err != nil {
		return nil, err
	}
	var ours []Volume
	for _, v := range all {
		if strings.HasPrefix(v.Name, Prefix) && strings.HasPrefix(v.Name, prefix) && isSnapshot(v) {
			ours = append(ours, v)
		}
	}
	return ours, nil
}

// PoolData is how full the pool of a thin volume is, in percent, -1 when that is not known.
func (s *Source) PoolData(ctx context.Context, v Volume) (float64, error) {
	all, err := s.recent(ctx)
	if pool, ok := byUUID(all, v.PoolUUID); ok {
		return pool.Data, err
	}
	return -1, err
}

// isSnapshot tells what may be a snapshot: a thin one stays when its origin goes.
func isSnapshot(v Volume) bool { return v.Classic() || v.Thin() }

// Remove destroys one of our snapshots. That it is gone already is fine.
func (s *Source) Remove(ctx context.Context, uuid string) error {
	all, err := s.recent(ctx)
	if err != nil {
		return err
	}
	v, ok := byUUID(all, uuid)
	if !ok {
		return nil
	}
	if !strings.HasPrefix(v.Name, Prefix) || !isSnapshot(v) {
		return fmt.Errorf("destroy %s: not a snapshot of ours, their names begin with %q", v.Path(), Prefix)
	}
	// The name finds it, and its identity is asked for once more.
	if err := change(ctx, "lvremove", "-q", "-y", "-S", "lv_uuid="+uuid, v.Path()); err != nil {
		// What was known of it may be some moments old: somebody else may have removed it meanwhile.
		all, again := s.now(ctx)
		if _, there := byUUID(all, uuid); again != nil || there {
			return err
		}
	}
	s.seen.forget(uuid)
	s.idle.drop(uuid)
	return nil
}

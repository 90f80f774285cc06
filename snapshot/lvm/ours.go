package lvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Ours lists our snapshots whose names begin so, in no order.
func (s *Source) Ours(ctx context.Context, prefix string) ([]Volume, error) {
	all, err := s.known(ctx)
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

// removal is the command that destroys a snapshot. The name finds it, and its identity is asked for once more.
func removal(v Volume) []string {
	return []string{"lvremove", "-q", "-y", "-S", "lv_uuid=" + v.UUID, v.Path()}
}

// Clean destroys our snapshots whose names begin so, but for those to keep, and deactivates the rest: see Close.
func (s *Source) Clean(ctx context.Context, prefix string, keep func(uuid string) bool) error {
	ours, err := s.Ours(ctx, prefix)
	if err != nil {
		return fmt.Errorf("find old snapshots: %w", err)
	}
	ours = slices.DeleteFunc(ours, func(v Volume) bool { return keep(v.UUID) })
	if s.cleanAtOnce(ctx, ours) {
		return nil
	}
	var errs []error
	for _, v := range ours { // one by one tells which of them is the trouble
		if err := s.Remove(ctx, v.UUID); err != nil {
			errs = append(errs, fmt.Errorf("an old snapshot stays: %w", err))
		}
	}
	return errors.Join(errs...)
}

// cleanAtOnce removes snapshots and deactivates the idle ones in one go; false when anything went wrong.
func (s *Source) cleanAtOnce(ctx context.Context, old []Volume) bool {
	if len(old) == 0 {
		return true
	}
	var commands [][]string
	for _, v := range old {
		commands = append(commands, removal(v))
	}
	rest := s.idle.but(old)
	if len(rest) > 0 {
		commands = append(commands, deactivation(rest))
	}
	if s.commands.change(ctx, commands...) != nil {
		return false
	}
	for _, v := range old {
		s.gone(v.UUID)
	}
	s.rests(rest)
	return true
}

// gone notes that a snapshot is not there any more.
func (s *Source) gone(uuid string) {
	s.seen.forget(uuid)
	s.idle.drop(uuid)
}

// Remove destroys one of our snapshots. That it is gone already is fine.
func (s *Source) Remove(ctx context.Context, uuid string) error {
	all, err := s.known(ctx)
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
	if err := s.commands.change(ctx, removal(v)); err != nil {
		// What was known of it may be some moments old: somebody else may have removed it meanwhile.
		all, again := s.now(ctx)
		if _, there := byUUID(all, uuid); again != nil || there {
			return err
		}
	}
	s.gone(uuid)
	return nil
}

package lvm

import (
	"context"
	"slices"
	"sync"
	"time"
)

// report is what lvs said last of the volume group, with what we have done since. Each call of lvs takes a while.
type report struct {
	mu    sync.Mutex
	all   []Volume
	asked time.Time
}

// fresh is how long a report is good for what does not depend on what others do at the same time.
const fresh = 2 * time.Second

// now asks LVM what there is in the volume group.
func (s *Source) now(ctx context.Context) ([]Volume, error) {
	asked := time.Now()
	all, err := s.commands.volumes(ctx, s.vg)
	if err != nil {
		return nil, err
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.all, s.seen.asked = all, asked
	return slices.Clone(all), nil
}

// recent is what there was a moment ago.
func (s *Source) recent(ctx context.Context) ([]Volume, error) {
	s.seen.mu.Lock()
	all, age := slices.Clone(s.seen.all), time.Since(s.seen.asked)
	s.seen.mu.Unlock()
	if age < fresh {
		return all, nil
	}
	return s.now(ctx)
}

// add notes a volume that we made.
func (r *report) add(v Volume) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, v)
}

// known is what there was when somebody asked last, with what we have done since: good enough to find our own snapshots, which
// nobody else makes.
func (s *Source) known(ctx context.Context) ([]Volume, error) {
	s.seen.mu.Lock()
	all, never := slices.Clone(s.seen.all), s.seen.asked.IsZero()
	s.seen.mu.Unlock()
	if never {
		return s.now(ctx)
	}
	return all, nil
}

// update notes what we changed of a volume.
func (r *report) update(uuid string, change func(*Volume)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.all {
		if r.all[i].UUID == uuid {
			change(&r.all[i])
		}
	}
}

// forget notes that we removed a volume.
func (r *report) forget(uuid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(v Volume) bool { return v.UUID == uuid })
}

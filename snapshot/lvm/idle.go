package lvm

import (
	"context"
	"fmt"
	"sync"
)

// idle are volumes that nobody needs active any more. They are deactivated all at once, at the end: by then most of them are
// removed, which deactivates them too, and each command of LVM's takes a while.
type idle struct {
	mu   sync.Mutex
	list map[string]Volume // by UUID
}

func (i *idle) add(v Volume) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.list == nil {
		i.list = map[string]Volume{}
	}
	i.list[v.UUID] = v
}

// drop takes a volume off the list: it is in use again, or gone.
func (i *idle) drop(uuid string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.list, uuid)
}

// Close deactivates the snapshots that were opened and closed. They must have been; the source can be used again.
func (s *Source) Close() error {
	s.idle.mu.Lock()
	defer s.idle.mu.Unlock()
	if len(s.idle.list) == 0 {
		return nil
	}
	args := []string{"-q", "-a", "n"}
	for _, v := range s.idle.list {
		args = append(args, v.Path())
	}
	if err := change(context.Background(), "lvchange", args...); err != nil {
		return fmt.Errorf("deactivate snapshots: %w", err)
	}
	for uuid := range s.idle.list {
		s.seen.update(uuid, func(v *Volume) { v.Active = false })
	}
	s.idle.list = nil
	return nil
}

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

// but gives the list without those that go anyway.
func (i *idle) but(others []Volume) (rest []Volume) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for uuid, v := range i.list {
		if _, ok := byUUID(others, uuid); !ok {
			rest = append(rest, v)
		}
	}
	return rest
}

// deactivation is the command that has the devices of volumes go.
func deactivation(list []Volume) []string {
	command := []string{"lvchange", "-q", "-y", "-a", "n"}
	for _, v := range list {
		command = append(command, v.Path())
	}
	return command
}

// rests notes that volumes were deactivated.
func (s *Source) rests(list []Volume) {
	for _, v := range list {
		s.seen.update(v.UUID, func(v *Volume) { v.Active = false })
		s.idle.drop(v.UUID)
	}
}

// Close deactivates the snapshots that were opened and closed. They must have been; the source can be used again.
func (s *Source) Close() error {
	defer s.commands.end()
	list := s.idle.but(nil)
	if len(list) == 0 {
		return nil
	}
	if err := s.commands.change(context.Background(), deactivation(list)); err != nil {
		return fmt.Errorf("deactivate snapshots: %w", err)
	}
	s.rests(list)
	return nil
}

package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// advice is an error that says what to do next.
type advice struct {
	error
	next string
}

// Unwrap gives the error itself.
func (a advice) Unwrap() error { return a.error }

// Hint is what to do next.
func (a advice) Hint() string { return a.next }

func advise(next, format string, args ...any) error {
	return advice{fmt.Errorf(format, args...), next}
}

// Check tells what would keep a run from working (missing), or from working well (warnings). It changes nothing. percent is
// the size of a classic snapshot.
func (s *Source) Check(ctx context.Context, percent int) (missing, warnings []error) {
	origin, all, err := s.state(ctx)
	if err != nil {
		return []error{err}, nil
	}
	if err := room(origin, all, New{Percent: percent}); err != nil {
		missing = append(missing, err)
	}
	for _, name := range []string{"lvm", "lvcreate", "lvchange", "lvremove"} {
		if _, err := tool(name); err != nil {
			missing = append(missing, err)
		}
	}
	if origin.Thin() {
		if err := checkDelta(ctx); err != nil {
			warnings = append(warnings, fmt.Errorf("each run compares in full: %w", err))
		}
	}
	if !origin.Active {
		return missing, append(warnings, advise("lvchange -a y "+origin.Path(), "the volume %s is not active", origin.Path()))
	}
	start, err := readDirect(origin.Device, origin.UUID, "", startSize)
	if err == nil {
		_, err = filesystem(start)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		missing = append(missing, fmt.Errorf("%s: %w", origin.Path(), err))
	}
	if s.dir == "" {
		warnings = append(warnings, advise("mount it, unless that is meant", "the volume %s is not mounted: each run replays the journal of its snapshot first", origin.Path()))
	}
	return missing, warnings
}

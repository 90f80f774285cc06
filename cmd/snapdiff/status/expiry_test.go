package status

import (
	"testing"
	"time"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
)

func TestNextExpiry(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 11, d, 1, 0, 0, 0, time.Local) }
	var runs []apply.RunInfo
	for d := 2; d <= 6; d++ { // Monday to Friday
		runs = append(runs, apply.RunInfo{ID: int64(d), Date: day(d), State: apply.Done})
	}
	for name, c := range map[string]struct {
		keep *config.Keep
		run  string
		at   time.Time
	}{
		"all":         {nil, "", time.Time{}},
		"last full":   {&config.Keep{Last: 5}, "r2", day(7)},
		"last room":   {&config.Keep{Last: 7}, "r2", day(9)},
		"too late":    {&config.Keep{Last: 1000}, "", time.Time{}},
		"at once":     {&config.Keep{Last: 2}, "r2", day(7)},
		"weekly":      {&config.Keep{Daily: 5, Weekly: 2}, "r3", day(8)},  // r2 stays for the second week
		"hourly":      {&config.Keep{Hourly: 5, Weekly: 2}, "r3", day(8)}, // a run a day is in an hour of its own
		"newest goes": {&config.Keep{Last: 5, Yearly: 1}, "r2", day(7)},
	} {
		var s Job
		s.nextExpiry(c.keep, runs)
		if s.Expires != c.run || (s.ExpiresAt == nil) != c.at.IsZero() || s.ExpiresAt != nil && !s.ExpiresAt.Equal(c.at) {
			t.Errorf("%s: %q at %v, want %q at %v", name, s.Expires, s.ExpiresAt, c.run, c.at)
		}
	}
}

package status

import (
	"context"
	"time"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/snapshot"
)

// patience is how long the source may take to answer: a pool that hangs must not hang the monitoring.
const patience = 5 * time.Second

// pinned asks the source what our snapshots cost there, and whether the base is held. A source that cannot be asked is no problem of the store's: a run will say so.
func (s *Job) pinned(j config.Job, base *snapshot.Mark, now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer := make(chan job.Pinned, 1)
	go func() { // which is left alone where a program that it waits for cannot even be killed
		if p, err := job.PinnedBy(ctx, j, base); err == nil {
			answer <- p
		} else {
			close(answer)
		}
	}()
	select {
	case <-ctx.Done():
	case p, ok := <-answer:
		if !ok || p.Since.IsZero() {
			return
		}
		s.Base, s.Hold, s.GiveUp = &p.Since, p.Hold, p.GiveUp
		if p.Bytes >= 0 {
			s.BaseBytes = &p.Bytes
		}
		if p.Full >= 0 {
			s.BaseFull = &p.Full
		}
		for _, why := range []string{p.Exceeded(j.MaxPinned, now), p.NotTold(j.MaxPinned)} {
			if why != "" {
				s.problem(Warning, "%s", why)
			}
		}
	}
}

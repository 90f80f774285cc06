// Package gentle reads and writes file data so that others who use the machine notice little of it: no faster than a limit, and
// without pushing out of memory what they have there.
package gentle

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Pace limits how many bytes of file data all workers of one run move together in a second. A nil Pace does not limit.
type Pace struct {
	ctx     context.Context // of the run: who waits has to hear that it is over
	limiter *rate.Limiter
	moved   atomic.Int64

	now   func() time.Time
	sleep func(context.Context, time.Duration) error
}

// NewPace makes a Pace for one run. perSecond is in bytes; 0 gives nil, no limit.
func NewPace(ctx context.Context, perSecond int64) *Pace {
	if perSecond <= 0 {
		return nil
	}
	// A tenth of a second's bytes may go at once, so that a disk or a line sees no bursts.
	return &Pace{ctx: ctx, limiter: rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond/10, 1))), now: time.Now, sleep: sleep}
}

// Wait waits until n more bytes may be moved. The error is why the run was stopped.
func (p *Pace) Wait(n int64) error {
	if p == nil {
		return nil
	}
	p.moved.Add(n)
	for n > 0 {
		part := min(n, int64(p.limiter.Burst()))
		now := p.now()
		if err := p.sleep(p.ctx, p.limiter.ReserveN(now, int(part)).DelayFrom(now)); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// Moved is how many bytes went through so far; 0 without a limit.
func (p *Pace) Moved() int64 {
	if p == nil {
		return 0
	}
	return p.moved.Load()
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

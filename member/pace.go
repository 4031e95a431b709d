package member

import (
	"context"
	"sync"
	"time"
)

// pace holds work in the background to a number of bytes a second.
type pace struct {
	rate int64

	mu   sync.Mutex
	free time.Time // when all that was let through so far is paid for
}

// wait returns when n more bytes may pass; false: ctx ended first. What comes
// alone passes at once, however large: the next one pays.
func (p *pace) wait(ctx context.Context, n int64) bool {
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	pause := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	p.mu.Unlock()
	if pause <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

const (
	outcomesMax  = 256 // outcomes in one call: an entry stays small
	reportWait   = 50 * time.Millisecond
	reportWaitTo = 5 * time.Second
)

// pending is a report that is not applied yet.
type pending struct {
	flight *flight
	final  []int // indices of the recipients that it finishes
	report mail.Report
}

// reporter hands reports over, one call at a time: what gathers while a call
// runs goes with the next. A report is kept until it is applied.
type reporter struct {
	to      Reporter
	log     hclog.Logger
	applied func([]*pending)
	wake    chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	queue   []*pending
	closing bool
}

func startReporter(to Reporter, log hclog.Logger, applied func([]*pending)) *reporter {
	r := &reporter{to: to, log: log, applied: applied, wake: make(chan struct{}, 1), done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go r.run()
	return r
}

func (r *reporter) add(p *pending) {
	r.mu.Lock()
	r.queue = append(r.queue, p)
	r.mu.Unlock()
	r.poke()
}

func (r *reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// stop reports what is left, for a bounded time.
func (r *reporter) stop(within time.Duration) {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.poke()
	timer := time.AfterFunc(within, r.cancel)
	<-r.done
	timer.Stop()
	r.cancel()
	r.mu.Lock()
	n := len(r.queue)
	r.mu.Unlock()
	if n > 0 {
		r.log.Warn("stopped with outcomes that were not reported: their messages will be delivered again", "reports", n)
	}
}

func (r *reporter) run() {
	defer close(r.done)
	most, wait := outcomesMax, reportWait
	for {
		batch, closing := r.take(most)
		if len(batch) == 0 {
			if closing {
				return
			}
			select {
			case <-r.wake:
				continue
			case <-r.ctx.Done():
				return
			}
		}
		err := r.report(batch)
		if err == nil {
			r.applied(batch)
			most, wait = min(2*most, outcomesMax), reportWait
			continue
		}
		r.log.Warn("outcomes are not reported yet", "reports", len(batch), "error", err, "again_in", wait)
		most = r.putBack(batch)
		select {
		case <-time.After(wait):
			wait = min(2*wait, reportWaitTo)
		case <-r.ctx.Done():
			return
		}
	}
}

// take removes the first reports with at most so many outcomes, but one.
func (r *reporter) take(most int) ([]*pending, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, outcomes := 0, 0
	for n < len(r.queue) {
		outcomes += len(r.queue[n].report.Outcomes)
		if n > 0 && outcomes > most {
			break
		}
		n++
	}
	batch := r.queue[:n:n]
	r.queue = r.queue[n:]
	return batch, r.closing
}

// putBack keeps a batch that failed, and returns how many outcomes to try
// next. Should one report be the cause, smaller calls bring the others
// through: alone, it goes to the end.
func (r *reporter) putBack(batch []*pending) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(batch) == 1 {
		r.queue = append(r.queue, batch[0])
		return 1
	}
	outcomes := 0
	for _, p := range batch {
		outcomes += len(p.report.Outcomes)
	}
	r.queue = append(batch, r.queue...)
	return max(1, outcomes/2)
}

func (r *reporter) report(batch []*pending) error {
	reports := make([]mail.Report, len(batch))
	for i, p := range batch {
		reports[i] = p.report
	}
	return r.to.Report(r.ctx, reports)
}

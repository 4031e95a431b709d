package cluster

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// flights counts the Raft futures that are not yet answered. A future cannot
// be waited for with a bound, and one that Raft forgets in its shutdown is
// never answered; so each is waited for in a goroutine of its own, and
// Shutdown lets these come home before it stops Raft.
type flights struct {
	mu      sync.Mutex
	n       int
	stopped bool
	idle    chan struct{} // made by stop, closed when n reaches zero
}

// begin reports whether another future may be asked for.
func (f *flights) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return false
	}
	f.n++
	return true
}

func (f *flights) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	if f.n == 0 && f.stopped {
		close(f.idle)
	}
}

// stop lets no future begin any more, and waits for those under way.
func (f *flights) stop(ctx context.Context) error {
	f.mu.Lock()
	if !f.stopped {
		f.stopped = true
		f.idle = make(chan struct{})
		if f.n == 0 {
			close(f.idle)
		}
	}
	idle := f.idle
	f.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await asks Raft for something and waits for the answer as long as ctx lasts.
// Asked for in the goroutine that waits: asking may block too.
func await[F raft.Future](ctx context.Context, n *Node, ask func() F) (F, error) {
	type answer struct {
		future F
		err    error
	}
	var none F
	if !n.futures.begin() {
		return none, raft.ErrRaftShutdown
	}
	home := make(chan answer, 1)
	go func() {
		defer n.futures.end()
		f := ask()
		home <- answer{f, f.Error()}
	}()
	select {
	case a := <-home:
		return a.future, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

package link

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// caller is the asking side of one connection.
type caller struct {
	*pipe
	room  *semaphore.Weighted // places; given back when the answer is here, not when the caller leaves
	ended func()              // called at the end, before what is pending fails

	callMu sync.Mutex
	last   uint64
	calls  map[uint64]*call
	over   bool
}

type call struct {
	places int64
	batch  uint64        // the write that its frame is part of
	done   chan struct{} // closed when f or err is set
	f      frame
	err    error
}

func newCaller(conn net.Conn, ended func()) *caller {
	return &caller{pipe: newPipe(conn), room: semaphore.NewWeighted(inFlight), ended: ended, calls: map[uint64]*call{}}
}

// run serves the connection until it ends, and then ends what is pending.
func (c *caller) run() error {
	err := c.pipe.run(true, c.handle)
	c.ended()
	c.callMu.Lock()
	defer c.callMu.Unlock()
	c.over = true
	for n, p := range c.calls {
		delete(c.calls, n)
		p.err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		if c.sent(p.batch) {
			p.err = fmt.Errorf("%w: connection lost: %w", ErrUnknownOutcome, err)
		}
		c.room.Release(p.places)
		close(p.done)
	}
	return err
}

func (c *caller) handle(f frame) error {
	switch f.kind {
	case framePong:
		return nil
	case frameAnswer, frameReply, frameFailure:
	default:
		return fmt.Errorf("%w: type %d as an answer", errFrame, f.kind)
	}
	c.callMu.Lock()
	defer c.callMu.Unlock()
	p := c.calls[f.call]
	if p == nil {
		return fmt.Errorf("%w: answer to call %d, which is not pending", errFrame, f.call)
	}
	delete(c.calls, f.call)
	c.room.Release(p.places)
	p.f = f
	close(p.done)
	return nil
}

// do makes one call. A caller that leaves early keeps its place until the
// other side has answered: the other side counts it still.
func (c *caller) do(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	p := &call{places: int64(places(len(body))), done: make(chan struct{})}
	if err := c.acquire(ctx, p.places); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	n, err := c.enqueue(ctx, p, kind, body)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		c.send(true, func(b []byte) []byte { return appendFrame(b, frameCancel, n) })
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
	switch {
	case p.err != nil:
		return nil, p.err
	case p.f.kind == frameAnswer:
		return p.f.body, nil
	}
	return nil, readError(p.f)
}

// acquire waits for room on the connection, as long as there is one.
func (c *caller) acquire(ctx context.Context, n int64) error {
	if c.room.TryAcquire(n) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.gone:
			cancel(c.err())
		case <-ctx.Done():
		}
	}()
	if c.room.Acquire(ctx, n) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// enqueue registers the call before its frame can be answered.
func (c *caller) enqueue(ctx context.Context, p *call, kind byte, body []byte) (uint64, error) {
	c.callMu.Lock()
	defer c.callMu.Unlock()
	if c.over || ctx.Err() != nil {
		c.room.Release(p.places)
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return 0, fmt.Errorf("%w: %w", ErrUnreachable, c.err())
	}
	c.last++
	n := c.last
	var head [5]byte
	binary.BigEndian.PutUint32(head[:], timeLeft(ctx))
	head[4] = kind
	batch, err := c.send(true, func(b []byte) []byte { return appendFrame(b, frameRequest, n, head[:], body) })
	if err != nil {
		c.room.Release(p.places)
		return 0, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	p.batch = batch
	c.calls[n] = p
	return n, nil
}

// timeLeft is what the request says of its deadline; clocks are not compared.
func timeLeft(ctx context.Context) uint32 {
	end, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return uint32(min(max(time.Until(end).Milliseconds(), 1), math.MaxUint32))
}

package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	dialTime = 5 * time.Second
	pauseMin = 50 * time.Millisecond
	pauseMax = 2 * time.Second
)

var errClosed = errors.New("link client closed")

// Dialer connects to the member at an address.
type Dialer func(ctx context.Context, addr string) (net.Conn, error)

// Client keeps one connection per address and makes calls over it.
type Client struct {
	dial   Dialer
	logger hclog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex
	peers map[string]*peer
}

// peer is one address. At any time it is connected, being dialled, pausing
// after a failure, or idle.
type peer struct {
	conn    *caller
	dialing chan struct{} // closed when the dial has ended
	err     error         // of the last dial
	pausing bool
	pause   time.Duration // the last one; grows while dials fail
}

// NewClient makes a client.
func NewClient(dial Dialer, logger hclog.Logger) *Client {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Client{dial: dial, logger: logger, ctx: ctx, cancel: cancel, peers: map[string]*peer{}}
}

// Close ends all connections; pending calls fail. It returns when all is over.
func (c *Client) Close() {
	c.mu.Lock()
	c.cancel()
	c.mu.Unlock()
	c.work.Wait()
}

// Call sends a request to the member at addr and waits for its answer. See
// ErrUnreachable and ErrUnknownOutcome for what a failure means. After a dial
// that failed, calls fail at once for a while (50 ms, growing to 2 s), so that
// a caller can turn to another member.
func (c *Client) Call(ctx context.Context, addr string, kind byte, body []byte) ([]byte, error) {
	if len(body) > bodyMax {
		return nil, fmt.Errorf("call %s: %w: %d bytes", addr, ErrTooLarge, len(body))
	}
	conn, err := c.connect(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w: %w", addr, ErrUnreachable, err)
	}
	answer, err := conn.do(ctx, kind, body)
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnknownOutcome) {
		return nil, fmt.Errorf("call %s: %w", addr, err)
	}
	return answer, err
}

// connect gives the connection to addr, dialling if there is none. One dial
// serves all who wait; it does not end with the one who began it.
func (c *Client) connect(ctx context.Context, addr string) (*caller, error) {
	c.mu.Lock()
	p := c.peers[addr]
	if p == nil {
		p = &peer{}
		c.peers[addr] = p
	}
	switch {
	case c.ctx.Err() != nil:
		c.mu.Unlock()
		return nil, errClosed
	case p.conn != nil:
		defer c.mu.Unlock()
		return p.conn, nil
	case p.pausing:
		defer c.mu.Unlock()
		return nil, p.err
	case p.dialing == nil:
		p.dialing = make(chan struct{})
		c.work.Go(func() { c.serve(addr, p) })
	}
	dialing := p.dialing
	c.mu.Unlock()

	select {
	case <-dialing:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.conn == nil {
		return nil, p.err
	}
	return p.conn, nil
}

// serve dials, and lives as long as the connection or the pause.
func (c *Client) serve(addr string, p *peer) {
	ctx, cancel := context.WithTimeout(c.ctx, dialTime)
	conn, err := c.dial(ctx, addr)
	cancel()
	if err != nil {
		c.failed(addr, p, err)
		return
	}
	// The connection is taken out before its pending calls fail, so that one
	// who calls again at once does not get the dead one.
	caller := newCaller(conn, func() { c.settle(p, func() { p.conn = nil }) })
	c.settle(p, func() { p.conn, p.err = caller, net.ErrClosed })
	stop := context.AfterFunc(c.ctx, func() { caller.close(errClosed) })
	defer stop()
	err = caller.run()
	if !caller.alive.Load() {
		// It closes what it accepts: as good as a failed dial.
		c.failed(addr, p, err)
		return
	}
	c.settle(p, func() { p.pause = 0 })
	c.logger.Debug("link connection ended", "address", addr, "reason", err)
}

// failed pauses before the next dial, twice as long as the last time.
func (c *Client) failed(addr string, p *peer, err error) {
	c.logger.Debug("link connection failed", "address", addr, "error", err)
	c.settle(p, func() {
		p.err, p.pausing = err, true
		p.pause = min(max(2*p.pause, pauseMin), pauseMax)
	})
	t := time.NewTimer(p.pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	}
	c.settle(p, func() { p.pausing = false })
}

// settle changes the state of a peer and lets those go on who wait for its
// dial.
func (c *Client) settle(p *peer, change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	if p.dialing != nil {
		close(p.dialing)
		p.dialing = nil
	}
}

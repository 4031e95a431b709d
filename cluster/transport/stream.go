package transport

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"mailraft/cluster/port"
)

// helloTime bounds the exchange of hellos on an accepted connection.
const helloTime = 5 * time.Second

// stream is the raft.StreamLayer: the port's Raft connections, after both
// sides have said hello.
type stream struct {
	net.Listener
	port   *port.Port
	addr   address
	hello  Hello
	logger hclog.Logger
	ready  chan net.Conn
	quit   chan struct{}
	work   sync.WaitGroup

	mu     sync.Mutex
	in     map[*inbound]struct{}
	closed bool
}

func newStream(p *port.Port, advertise string, logger hclog.Logger) *stream {
	return &stream{
		port: p, addr: address(advertise), logger: logger,
		ready: make(chan net.Conn), quit: make(chan struct{}),
		in: map[*inbound]struct{}{},
	}
}

func (s *stream) start() {
	s.Listener = s.port.Listener(port.Raft)
	s.work.Go(s.accept)
}

// accept lets each connection say hello in a goroutine of its own, so that a
// slow one keeps nobody waiting.
func (s *stream) accept() {
	for {
		conn, err := s.Listener.Accept()
		if err != nil {
			return // the port's listeners fail only when they are closed
		}
		c := &inbound{Conn: conn, s: s}
		if !s.keep(c) {
			conn.Close()
			return
		}
		s.work.Go(func() { s.admit(c) })
	}
}

func (s *stream) admit(c *inbound) {
	if s.hello != nil {
		c.SetDeadline(time.Now().Add(helloTime))
		if err := hearHello(c.Conn, s.hello); err != nil {
			s.logger.Warn("raft connection refused", "remote", c.RemoteAddr(), "error", err)
			c.Close()
			return
		}
		c.SetDeadline(time.Time{})
	}
	select {
	case s.ready <- c:
	case <-s.quit:
		c.Close()
	}
}

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.quit:
		return nil, net.ErrClosed
	}
}

// Addr is what Raft calls this member in its RPCs.
func (s *stream) Addr() net.Addr { return s.addr }

// Dial implements raft.StreamLayer.
func (s *stream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := s.port.Dial(ctx, string(to), port.Raft)
	if err != nil || s.hello == nil {
		return conn, err
	}
	conn.SetDeadline(time.Now().Add(timeout))
	if err := sayHello(conn, s.hello); err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// Close implements net.Listener.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.quit)
	return s.Listener.Close()
}

// closeAll closes what was accepted, and waits for those who say hello.
func (s *stream) closeAll() {
	s.mu.Lock()
	var in []*inbound
	for c := range s.in {
		in = append(in, c)
	}
	s.mu.Unlock()
	for _, c := range in {
		c.Close()
	}
	s.work.Wait()
}

func (s *stream) keep(c *inbound) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.in[c] = struct{}{}
	}
	return !s.closed
}

// inbound is an accepted connection that is in the stream's books.
type inbound struct {
	net.Conn
	s *stream
}

func (c *inbound) Close() error {
	c.s.mu.Lock()
	delete(c.s.in, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// address is the advertised address as a net.Addr: a name may be in it, and it
// may differ from where the port listens.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"mailraft/deliver/mx"
	"mailraft/directory"
)

const messagesMax = 100 // by one connection, unless configured

// Transport delivers by LMTP and SMTP; it implements deliver.Transport. Fill
// in the fields before the first delivery.
type Transport struct {
	Host        string                                                            // how we greet
	TLS         *tls.Config                                                       // roots, client certificate; nil for the system's roots
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil: from Source
	Source      []netip.Addr                                                      // our side of connections: one of each family at most
	Hop         func(addr string) directory.NextHop                               // what holds at an address; nil: defaults
	Credential  func(name string) (Credential, error)                             // asked at each login; nil: there is none
	Times       Times
	MessagesMax int          // by one connection; 0: 100
	MX          *mx.Resolver // for next hops that are found by MX records; nil: there are none
	MXPort      string       // where their hosts listen; empty: 25
	HostMax     int          // connections to one of them; 0: 20

	mu     sync.Mutex
	idle   map[target][]*session
	closed bool
	hosts  hosts
}

func (t *Transport) dialer(ctx context.Context, network, addr string) (net.Conn, error) {
	if t.Dial != nil {
		return t.Dial(ctx, network, addr)
	}
	d := net.Dialer{Control: t.bind}
	return d.DialContext(ctx, network, addr)
}

// bind gives a socket our address of its family, where there is one.
func (t *Transport) bind(network, _ string, c syscall.RawConn) error {
	for _, a := range t.Source {
		var to syscall.Sockaddr
		switch {
		case network == "tcp4" && a.Is4():
			to = &syscall.SockaddrInet4{Addr: a.As4()}
		case network == "tcp6" && a.Is6():
			to = &syscall.SockaddrInet6{Addr: a.As16()}
		default:
			continue
		}
		var bound error
		if err := c.Control(func(fd uintptr) { bound = syscall.Bind(int(fd), to) }); err != nil {
			return err
		}
		if bound != nil {
			return fmt.Errorf("source address %s: %w", a, bound)
		}
	}
	return nil
}

// take returns an idle session, the one used last, or nil.
func (t *Transport) take(to target) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	for list := t.idle[to]; len(list) > 0; list = t.idle[to] {
		s := list[len(list)-1]
		t.remain(to, slices.Delete(list, len(list)-1, len(list)))
		if s.timer.Stop() {
			return s
		}
	}
	return nil
}

// remain keeps what is left of a list. An address without sessions is
// forgotten: MX records name more of them than would be good to remember. The
// caller holds mu.
func (t *Transport) remain(to target, list []*session) {
	if len(list) == 0 {
		delete(t.idle, to)
		return
	}
	t.idle[to] = list
}

// put keeps a session whose transaction is over for the next message.
func (t *Transport) put(s *session) {
	t.mu.Lock()
	keep := !t.closed && s.used < cmp.Or(t.MessagesMax, messagesMax)
	if keep {
		if t.idle == nil {
			t.idle = make(map[target][]*session)
		}
		t.idle[s.target] = append(t.idle[s.target], s)
		s.timer = time.AfterFunc(s.times.Idle, func() { t.expire(s) })
	}
	t.mu.Unlock()
	if !keep {
		s.quit()
	}
}

func (t *Transport) expire(s *session) {
	t.mu.Lock()
	t.remain(s.target, slices.DeleteFunc(t.idle[s.target], func(x *session) bool { return x == s }))
	t.mu.Unlock()
	s.quit()
}

// Close ends the idle connections. Deliveries that are running end theirs.
func (t *Transport) Close() {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.closed = nil, true
	t.mu.Unlock()
	for _, list := range idle {
		for _, s := range list {
			if s.timer.Stop() {
				s.quit()
			}
		}
	}
}

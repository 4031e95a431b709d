package remote

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

const (
	idleTime    = 30 * time.Second // a connection is kept for the next message
	messagesMax = 100              // by one connection
)

// Transport delivers by LMTP and SMTP; it implements deliver.Transport. Fill
// in the fields before the first delivery.
type Transport struct {
	Host string                                                            // how we greet
	TLS  *tls.Config                                                       // roots, client certificate; nil for the system's roots
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer

	mu     sync.Mutex
	idle   map[target][]*session
	closed bool
}

func (t *Transport) dialer(ctx context.Context, network, addr string) (net.Conn, error) {
	if t.Dial != nil {
		return t.Dial(ctx, network, addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// take returns an idle session, the one used last, or nil.
func (t *Transport) take(to target) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	for list := t.idle[to]; len(list) > 0; list = t.idle[to] {
		s := list[len(list)-1]
		t.idle[to] = list[:len(list)-1]
		if s.timer.Stop() {
			return s
		}
	}
	return nil
}

// put keeps a session whose transaction is over for the next message.
func (t *Transport) put(s *session) {
	t.mu.Lock()
	keep := !t.closed && s.used < messagesMax
	if keep {
		if t.idle == nil {
			t.idle = make(map[target][]*session)
		}
		t.idle[s.target] = append(t.idle[s.target], s)
		s.timer = time.AfterFunc(idleTime, func() { t.expire(s) })
	}
	t.mu.Unlock()
	if !keep {
		s.quit()
	}
}

func (t *Transport) expire(s *session) {
	t.mu.Lock()
	list := t.idle[s.target]
	for i := range list {
		if list[i] == s {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if t.idle[s.target] = list; len(list) == 0 {
		delete(t.idle, s.target)
	}
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

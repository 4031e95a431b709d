package replica

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"mailraft/mail"
)

// link is the way to one peer: the connection for uploads, dialled again
// whenever it ends, and the idle connections for pulls.
type link struct {
	r    *Replica
	id   mail.MemberID
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	addr    string
	sess    *session      // nil while there is no connection
	changed chan struct{} // closed when sess changes
	idle    []idleConn
}

func newLink(r *Replica, id mail.MemberID) *link {
	l := &link{r: r, id: id, changed: make(chan struct{})}
	l.ctx, l.stop = context.WithCancel(r.ctx)
	return l
}

// move sets the address for the next time it is dialled.
func (l *link) move(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr = addr
}

func (l *link) session() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sess
}

// wait returns the session as soon as there is one.
func (l *link) wait(ctx context.Context) (*session, error) {
	for {
		l.mu.Lock()
		s, changed := l.sess, l.changed
		l.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.ctx.Done():
			return nil, ErrClosed
		}
	}
}

func (l *link) set(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sess = s
	close(l.changed)
	l.changed = make(chan struct{})
}

// run dials and dials again until the link is stopped.
func (l *link) run() {
	defer l.prune()
	pause := l.r.BackoffLeast
	for l.ctx.Err() == nil {
		conn, dec, err := l.dial(l.ctx, roleUpload)
		if err == nil {
			s := newSession(l, conn, dec)
			l.set(s)
			l.r.log.Info("content connection open", "peer", l.id)
			begun := time.Now()
			err = s.run(l.ctx)
			l.set(nil)
			if time.Since(begun) > l.r.Silence {
				pause = l.r.BackoffLeast
			}
		}
		if l.ctx.Err() != nil {
			return
		}
		l.r.count.redials.Add(1)
		l.r.log.Warn("no content connection", "peer", l.id, "error", err, "again", pause)
		// Jitter, so that members that lost each other at once do not meet in step.
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-l.ctx.Done():
		}
		pause = min(2*pause, l.r.BackoffMost)
	}
}

// dial connects and exchanges hellos. The peer must be the one that is meant.
func (l *link) dial(ctx context.Context, role byte) (net.Conn, *decoder, error) {
	l.mu.Lock()
	addr := l.addr
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.r.Silence)
	defer cancel()
	raw, err := l.r.Dial(ctx, addr)
	if err != nil {
		return nil, nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	conn := &rolling{Conn: raw, read: l.r.Silence, write: l.r.Silence}
	answerSize := 4 << 10
	if role == rolePull {
		answerSize = frameMax
	}
	dec := newDecoder(conn, answerSize)
	h := hello{version: version, role: role, from: l.r.Self, to: l.id}
	if _, err = conn.Write(h.frame().append(nil)); err == nil {
		h, err = dec.hello()
	}
	switch {
	case err != nil:
	case h.version != version:
		err = fmt.Errorf("%w: version %d there, %d here", ErrProtocol, h.version, version)
	case h.from != l.id || h.to != l.r.Self || h.role != role:
		err = fmt.Errorf("%w: member %s answers at %s", ErrProtocol, h.from, addr)
	case !l.r.proven(raw, l.id):
		err = fmt.Errorf("%w: %s is not who it says", ErrProtocol, addr)
	case !stop():
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("greet %s: %w", addr, err)
	}
	return conn, dec, nil
}

// proven compares what a hello said with what the connection's certificate says.
func (r *Replica) proven(c net.Conn, id mail.MemberID) bool {
	if r.PeerOf == nil {
		return true
	}
	got, ok := r.PeerOf(c)
	return ok && got == id
}

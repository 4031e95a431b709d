package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"mailraft/cluster/pki"
)

// Handler answers one request. Its context ends when the caller has gone, the
// caller's deadline is over, the connection is lost or the server stops. A
// *mail.Reply that it returns as an error reaches the caller as one; any other
// error as its text.
type Handler func(ctx context.Context, peer pki.Identity, kind byte, body []byte) ([]byte, error)

// Serve answers the requests of every connection that l accepts, each in a
// goroutine of its own, until ctx ends or l fails. It returns when the last
// handler has.
func Serve(ctx context.Context, l net.Listener, h Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept link connection: %w", err)
		}
		wg.Go(func() { serveConn(ctx, conn, h) })
	}
}

// session is the answering side of one connection.
type session struct {
	*pipe
	ctx  context.Context
	peer pki.Identity
	h    Handler
	wg   sync.WaitGroup

	callMu sync.Mutex
	calls  map[uint64]context.CancelFunc
	used   int // places
}

func serveConn(ctx context.Context, conn net.Conn, h Handler) {
	ctx, cancel := context.WithCancel(ctx)
	s := &session{pipe: newPipe(conn), ctx: ctx, h: h, calls: map[uint64]context.CancelFunc{}}
	if p, ok := conn.(interface{ Peer() pki.Identity }); ok {
		s.peer = p.Peer()
	}
	stop := context.AfterFunc(ctx, func() { s.close(net.ErrClosed) })
	s.run(false, s.handle)
	stop()
	cancel()
	s.wg.Wait()
}

func (s *session) handle(f frame) error {
	switch f.kind {
	case framePing:
		_, err := s.send(true, func(b []byte) []byte { return appendFrame(b, framePong, 0) })
		return err
	case frameCancel:
		s.callMu.Lock()
		if cancel := s.calls[f.call]; cancel != nil {
			cancel()
		}
		s.callMu.Unlock()
		return nil
	case frameRequest:
		if len(f.body) < 5 {
			return fmt.Errorf("%w: request of %d bytes", errFrame, len(f.body))
		}
		return s.start(f)
	}
	return fmt.Errorf("%w: type %d from a caller", errFrame, f.kind)
}

// start runs the handler. A caller that has more under way than it may is
// broken, and is cut off: it was told the bound by the same code.
func (s *session) start(f frame) error {
	ctx, cancel := withTimeLeft(s.ctx, binary.BigEndian.Uint32(f.body))
	kind, body := f.body[4], f.body[5:]
	n := places(len(body))
	s.callMu.Lock()
	_, twice := s.calls[f.call]
	if twice || s.used+n > inFlight {
		s.callMu.Unlock()
		cancel()
		return fmt.Errorf("%w: too many calls at once, or a number used twice", errFrame)
	}
	s.calls[f.call] = cancel
	s.used += n
	s.callMu.Unlock()
	s.wg.Go(func() {
		answer, err := s.h(ctx, s.peer, kind, body)
		cancel()
		s.callMu.Lock()
		delete(s.calls, f.call)
		s.used -= n
		s.callMu.Unlock()
		s.answer(f.call, answer, err)
	})
	return nil
}

func withTimeLeft(ctx context.Context, left uint32) (context.Context, context.CancelFunc) {
	if left == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(left)*time.Millisecond)
}

func (s *session) answer(call uint64, answer []byte, err error) {
	if err == nil && len(answer) > bodyMax {
		err = fmt.Errorf("answer of %d bytes is too large", len(answer))
	}
	// A failure to send is the end of the connection, which the caller sees.
	s.send(false, func(b []byte) []byte {
		if err != nil {
			return appendError(b, call, err)
		}
		return appendFrame(b, frameAnswer, call, answer)
	})
}

package smtpd

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

// hostile is a client that says first, and then again and again the same, at
// its pace, and reads nothing. It takes no goroutine of its own, and no
// descriptor.
type hostile struct {
	from  net.IP
	again string
	every time.Duration // 0: never

	mu       sync.Mutex
	pending  string
	next     time.Time
	deadline time.Time
	moved    chan struct{} // closed when the deadline is
	closed   bool
}

func (h *hostile) Read(p []byte) (int, error) {
	for {
		h.mu.Lock()
		now := time.Now()
		if h.pending == "" && h.every > 0 && !now.Before(h.next) {
			h.pending, h.next = h.again, now.Add(h.every)
		}
		n := copy(p, h.pending)
		h.pending = h.pending[n:]
		closed, late, moved := h.closed, !h.deadline.IsZero() && !now.Before(h.deadline), h.moved
		wake := h.deadline
		if h.every > 0 && h.next.Before(wake) {
			wake = h.next
		}
		h.mu.Unlock()
		switch {
		case closed:
			return 0, net.ErrClosed
		case n > 0:
			return n, nil
		case late:
			return 0, os.ErrDeadlineExceeded
		}
		timer := time.NewTimer(time.Until(wake))
		select {
		case <-timer.C:
		case <-moved:
		}
		timer.Stop()
	}
}

func (h *hostile) SetReadDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadline = t
	close(h.moved)
	h.moved = make(chan struct{})
	return nil
}

func (h *hostile) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	return h.SetReadDeadline(time.Time{})
}

func (h *hostile) Write(p []byte) (int, error)      { return len(p), nil }
func (h *hostile) SetWriteDeadline(time.Time) error { return nil }
func (h *hostile) SetDeadline(t time.Time) error    { return h.SetReadDeadline(t) }
func (h *hostile) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (h *hostile) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: h.from, Port: 1025} }

// Ten thousand hostile clients at once, from as many addresses: some are
// silent, some send a byte now and then, some commands for ever, some a header
// line for ever. What they take is bounded, and none of them stays.
func TestHostileSessions(t *testing.T) {
	const sessions = 10_000
	kinds := []hostile{
		{},
		{again: "N", every: 20 * time.Second},
		{again: "NOOP\r\n", every: 10 * time.Second},
		{pending: hello + envelope + "DATA\r\nSubject: ", again: strings.Repeat("x", 4000), every: 30 * time.Second},
	}
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(&queue{})
		cfg.Queue = sink{}
		cfg.SizeMax = func() int64 { return 1 << 30 }
		cfg.Limits.Sessions, cfg.Limits.EarlyTalkers = sessions, true
		s := New(cfg)
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		served := make(chan error)
		go func() { served <- s.Serve(l, Listener{}) }()
		before := inUse()
		for i := range sessions {
			h := &hostile{from: net.IPv4(10, 1, byte(i>>8), byte(i)), moved: make(chan struct{})}
			h.pending, h.again, h.every = kinds[i%len(kinds)].pending, kinds[i%len(kinds)].again, kinds[i%len(kinds)].every
			l.conns <- h
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := s.Counts().Open; n != sessions {
			t.Errorf("%d sessions are open", n)
		}
		took := (inUse() - before) / sessions
		t.Logf("%d bytes for a session, by the average", took)
		if took > 48<<10 { // a quarter has a body's buffer of 64 KiB
			t.Errorf("%d bytes for a session", took)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := s.Counts().Open; n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		s.Close()
		<-served
	})
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// sink is a queue that keeps nothing.
type sink struct{}

func (sink) Begin(context.Context) (Upload, error)                    { return sink{}, nil }
func (sink) Write(p []byte) (int, error)                              { return len(p), nil }
func (sink) Commit(context.Context, mail.Submission) (mail.ID, error) { return mail.ID{}, nil }
func (sink) Abort()                                                   {}

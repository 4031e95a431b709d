package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/cluster/pki"
	"mailraft/mail"
)

// wire is a listener without a network, so that tests run in virtual time.
type wire struct {
	ready chan net.Conn
	done  chan struct{}
	once  sync.Once
	dials atomic.Int32
	wrap  func(net.Conn) net.Conn // the dialling end
	fail  atomic.Bool
}

func newWire() *wire {
	return &wire{ready: make(chan net.Conn), done: make(chan struct{}), wrap: func(c net.Conn) net.Conn { return c }}
}

type named struct{ net.Conn }

func (named) Peer() pki.Identity { return pki.Identity{Name: "m2"} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.ready:
		return named{c}, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}
func (w *wire) Close() error   { w.once.Do(func() { close(w.done) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wire) dial(ctx context.Context, _ string) (net.Conn, error) {
	w.dials.Add(1)
	if w.fail.Load() {
		return nil, errors.New("no route")
	}
	a, b := net.Pipe()
	select {
	case w.ready <- b:
		return w.wrap(a), nil
	case <-w.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// boundary runs a server and a client around f, in virtual time.
func boundary(t *testing.T, h Handler, f func(t *testing.T, w *wire, c *Client)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, w, h) }()
		c := NewClient(w.dial, nil)
		f(t, w, c)
		c.Close()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func echo(_ context.Context, peer pki.Identity, kind byte, body []byte) ([]byte, error) {
	return fmt.Appendf(nil, "%s %d %s", peer.Name, kind, body), nil
}

func TestCall(t *testing.T) {
	boundary(t, echo, func(t *testing.T, w *wire, c *Client) {
		for i := range 3 {
			got, err := c.Call(t.Context(), "a", byte(i), []byte("hello"))
			if want := fmt.Sprintf("m2 %d hello", i); err != nil || string(got) != want {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if n := w.dials.Load(); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

func TestManyCallsAtOnce(t *testing.T) {
	boundary(t, echo, func(t *testing.T, w *wire, c *Client) {
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() {
				body := fmt.Appendf(nil, "%d%s", i, strings.Repeat("x", i*31%9_000))
				got, err := c.Call(t.Context(), "a", 1, body)
				if want := "m2 1 " + string(body); err != nil || string(got) != want {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		wg.Wait()
	})
}

type counted struct {
	net.Conn
	writes *atomic.Int32
}

func (c counted) Write(b []byte) (int, error) { c.writes.Add(1); return c.Conn.Write(b) }

func TestFramesOfManyCallsLeaveTogether(t *testing.T) {
	var writes atomic.Int32
	hold := make(chan struct{})
	h := func(ctx context.Context, p pki.Identity, k byte, b []byte) ([]byte, error) { <-hold; return nil, nil }
	synctest.Test(t, func(t *testing.T) {
		hold = make(chan struct{})
		w := newWire()
		started := make(chan struct{})
		w.wrap = func(c net.Conn) net.Conn { return counted{slow{c, started}, &writes} }
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, w, h) }()
		c := NewClient(w.dial, nil)
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() { c.Call(t.Context(), "a", 1, []byte("x")) })
		}
		synctest.Wait() // the first write is held; all calls are queued
		close(started)
		synctest.Wait()
		if n := writes.Load(); n > 2 {
			t.Errorf("500 calls took %d writes", n)
		}
		close(hold)
		wg.Wait()
		c.Close()
		cancel()
		<-served
	})
}

type slow struct {
	net.Conn
	start chan struct{}
}

func (s slow) Write(b []byte) (int, error) { <-s.start; return s.Conn.Write(b) }

func TestErrorsSurviveTheWire(t *testing.T) {
	long := strings.Repeat("é", 5000)
	h := func(_ context.Context, _ pki.Identity, kind byte, _ []byte) ([]byte, error) {
		switch kind {
		case 1:
			return nil, fmt.Errorf("while accepting: %w", mail.Replyf(451, "4.4.0", "too few holders"))
		case 2:
			return nil, errors.New("disk gone")
		case 3:
			return make([]byte, bodyMax+1), nil
		case 4:
			return nil, errors.New(long)
		case 5:
			return nil, &mail.Reply{}
		}
		return make([]byte, bodyMax), nil
	}
	boundary(t, h, func(t *testing.T, w *wire, c *Client) {
		_, err := c.Call(t.Context(), "a", 1, nil)
		var r *mail.Reply
		if !errors.As(err, &r) || *r != (mail.Reply{Code: 451, Enhanced: "4.4.0", Text: "too few holders"}) {
			t.Errorf("reply: %v", err)
		}
		var e Error
		if _, err := c.Call(t.Context(), "a", 2, nil); !errors.As(err, &e) || e != "disk gone" {
			t.Errorf("failure: %v", err)
		}
		if _, err := c.Call(t.Context(), "a", 3, nil); !errors.As(err, &e) || !strings.Contains(err.Error(), "too large") {
			t.Errorf("large answer: %v", err)
		}
		if _, err := c.Call(t.Context(), "a", 4, nil); !errors.As(err, &e) || len(e) > textMax+3 {
			t.Errorf("long text: %d bytes", len(e))
		}
		if _, err := c.Call(t.Context(), "a", 5, nil); !errors.As(err, &r) || *r != (mail.Reply{}) {
			t.Errorf("empty reply: %v", err)
		}
		if b, err := c.Call(t.Context(), "a", 6, make([]byte, bodyMax)); err != nil || len(b) != bodyMax {
			t.Errorf("largest: %d bytes, %v", len(b), err)
		}
		if _, err := c.Call(t.Context(), "a", 6, make([]byte, bodyMax+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
	})
}

func TestSlowHandlerBlocksNobody(t *testing.T) {
	h := func(ctx context.Context, p pki.Identity, kind byte, body []byte) ([]byte, error) {
		if kind == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return body, nil
	}
	boundary(t, h, func(t *testing.T, w *wire, c *Client) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range inFlight - 1 {
			wg.Go(func() {
				if _, err := c.Call(ctx, "a", 1, nil); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
					t.Errorf("slow: %v", err)
				}
			})
		}
		synctest.Wait()
		if _, err := c.Call(t.Context(), "a", 2, nil); err != nil {
			t.Errorf("fast: %v", err)
		}
		cancel()
		wg.Wait()
	})
}

// The caller waits for room; the other side is never given more than it takes.
func TestInFlightIsBounded(t *testing.T) {
	var now, most atomic.Int32
	h := func(ctx context.Context, p pki.Identity, kind byte, body []byte) ([]byte, error) {
		for n := now.Add(1); ; {
			if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		defer now.Add(-1)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return nil, nil
	}
	boundary(t, h, func(t *testing.T, w *wire, c *Client) {
		var wg sync.WaitGroup
		for range 3 * inFlight {
			wg.Go(func() {
				if _, err := c.Call(t.Context(), "a", 1, nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		// One that cannot get a place has sent nothing.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := c.Call(ctx, "a", 1, nil); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a place: %v", err)
		}
		cancel()
		wg.Wait()
		if n := most.Load(); n != inFlight {
			t.Errorf("%d at once", n)
		}
	})
}

func TestDeadlineAndCancelAreCarried(t *testing.T) {
	ended := make(chan error, 1)
	h := func(ctx context.Context, _ pki.Identity, kind byte, _ []byte) ([]byte, error) {
		if _, ok := ctx.Deadline(); ok != (kind == 1) {
			t.Errorf("kind %d: deadline %v", kind, ok)
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		ended = make(chan error, 1)
		w := newWire()
		sctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(sctx, w, h) }()
		c := NewClient(w.dial, nil)

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		_, err := c.Call(ctx, "a", 1, nil)
		cancel()
		if err == nil {
			t.Error("no error at the deadline")
		}
		if err := <-ended; err == nil {
			t.Error("handler not ended")
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if _, err := c.Call(ctx, "a", 2, nil); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("handler ended with %v", err)
		}
		c.Close()
		stop()
		<-served
	})
}

// cable is a connection whose cable can be pulled: nothing arrives, nothing
// fails.
type cable struct {
	net.Conn
	pulled *atomic.Bool
}

func (c cable) Write(b []byte) (int, error) {
	if c.pulled.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func TestSilentPeerIsNoticedOnBothSides(t *testing.T) {
	ended := make(chan error, 1)
	synctest.Test(t, func(t *testing.T) {
		var pulled atomic.Bool
		ended = make(chan error, 1)
		h := func(ctx context.Context, _ pki.Identity, _ byte, _ []byte) ([]byte, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}
		w := newWire()
		w.wrap = func(c net.Conn) net.Conn { return cable{c, &pulled} }
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, w, h) }()
		c := NewClient(w.dial, nil)
		failed := make(chan error, 1)
		go func() { _, err := c.Call(t.Context(), "a", 1, nil); failed <- err }()
		time.Sleep(time.Hour) // a long call is no silence
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
		pulled.Store(true)
		start := time.Now()
		if err := <-failed; !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, errSilent) && !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
		<-ended
		if took := time.Since(start); took > 7*time.Second {
			t.Errorf("noticed after %v", took)
		}
		c.Close()
		stop()
		<-served
	})
}

// stuck is a peer that was stopped: it accepts, reads nothing, says nothing.
func TestStoppedPeerFailsCallsOfBothKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		go func() {
			c, err := w.Accept()
			if err == nil {
				<-w.done
				c.Close()
			}
		}()
		c := NewClient(w.dial, nil)
		errs := make(chan error, 2)
		call := func() { _, err := c.Call(t.Context(), "a", 1, []byte("x")); errs <- err }
		go call()
		synctest.Wait() // its frame is in the write that hangs
		go call()       // this one's is queued behind it
		a, b := <-errs, <-errs
		if errors.Is(b, ErrUnknownOutcome) {
			a, b = b, a
		}
		if !errors.Is(a, ErrUnknownOutcome) || !errors.Is(b, ErrUnreachable) {
			t.Errorf("got %v and %v", a, b)
		}
		w.Close()
		c.Close()
	})
}

func TestRedialAndBackoff(t *testing.T) {
	boundary(t, echo, func(t *testing.T, w *wire, c *Client) {
		w.fail.Store(true)
		for range 1000 {
			if _, err := c.Call(t.Context(), "a", 1, nil); !errors.Is(err, ErrUnreachable) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := w.dials.Load(); n > 12 {
			t.Errorf("%d dials in 10 s", n)
		}
		w.fail.Store(false)
		time.Sleep(pauseMax)
		if _, err := c.Call(t.Context(), "a", 1, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestConnectionLostIsReplaced(t *testing.T) {
	var last atomic.Pointer[net.Conn]
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		w.wrap = func(c net.Conn) net.Conn { last.Store(&c); return c }
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, w, echo) }()
		c := NewClient(w.dial, nil)
		for i := range 5 {
			if _, err := c.Call(t.Context(), "a", 1, nil); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			(*last.Load()).Close()
			synctest.Wait()
		}
		if n := w.dials.Load(); n != 5 {
			t.Errorf("%d dials", n)
		}
		c.Close()
		stop()
		<-served
	})
}

// A peer that accepts and closes is dialled no more often than one that is not
// there.
func TestPeerThatClosesAtOnceIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		go func() {
			for {
				c, err := w.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		c := NewClient(w.dial, nil)
		for range 1000 {
			if _, err := c.Call(t.Context(), "a", 1, nil); err == nil {
				t.Fatal("no error")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := w.dials.Load(); n > 12 {
			t.Errorf("%d dials in 10 s", n)
		}
		w.Close()
		c.Close()
	})
}

func TestCallAfterClose(t *testing.T) {
	c := NewClient(newWire().dial, nil)
	c.Close()
	if _, err := c.Call(context.Background(), "a", 1, nil); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
}

func TestCloseFailsPendingCalls(t *testing.T) {
	h := func(ctx context.Context, _ pki.Identity, _ byte, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, nil
	}
	boundary(t, h, func(t *testing.T, w *wire, c *Client) {
		failed := make(chan error, 1)
		go func() { _, err := c.Call(t.Context(), "a", 1, nil); failed <- err }()
		synctest.Wait()
		c.Close()
		if err := <-failed; !errors.Is(err, ErrUnknownOutcome) {
			t.Error(err)
		}
	})
}

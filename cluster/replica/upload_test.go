package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

func TestAllMembersGetTheSameBytes(t *testing.T) {
	first, next := smallSize-headMax, largeSize-headMax
	sizes := []int{0, 1, 1000, first - 1, first, first + 1, first + next, first + next + 1, 1 << 20}
	for _, size := range sizes {
		for _, piece := range []int{997, 32 << 10} {
			t.Run(fmt.Sprint(size, "/", piece), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					h := newHouse(t, 3, nil)
					synctest.Wait()
					id, b := newID(), body(size)
					c, u, holders, err := put(h.r[0], id, b, piece)
					if err != nil || len(holders) < 2 || c.Size != int64(size) {
						t.Fatal(c, holders, err)
					}
					synctest.Wait()
					if got := u.Holders(); !slices.Equal(got, []mail.MemberID{1, 2, 3}) {
						t.Fatal("holders in the end:", got)
					}
					h.check(id, b)
					h.honest(id, u.Holders())
					for i, d := range h.disks {
						if k := d.has[id]; k.Content != c || d.writers() != 0 {
							t.Error(i, k.Content, d.writers())
						}
					}
				})
			})
		}
	}
}

func TestContentStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore(t)
		defer s.Close()
		h := newHouse(t, 3, nil)
		defer h.close()
		p := h.peers[2]
		h.mu.Lock()
		h.peers = h.peers[:2] // the third is replaced by one with the real store
		h.mu.Unlock()
		h.r[2].Close()
		r := New(Config{Self: p.ID, Disk: OnStore(s), Dial: h.net.dial("c"), Peers: func() []Peer { return h.others(2) }})
		defer r.Close()
		go r.Serve(&pipeListener{way: h.net.ways["c"], done: make(chan struct{})})
		h.mu.Lock()
		h.peers = append(h.peers, p)
		h.mu.Unlock()
		time.Sleep(10 * time.Second)
		for _, size := range []int{0, 3000, 75_000, 1_000_000} {
			in, out := newID(), newID()
			_, u, _, err := put(h.r[0], in, body(size), 10_000)
			if err != nil {
				t.Fatal(err)
			}
			c, v, _, err := put(r, out, body(size), 10_000)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if len(u.Holders()) != 3 || len(v.Holders()) != 3 {
				t.Fatal(u.Holders(), v.Holders())
			}
			h.check(out, body(size))
			if got, ok := s.Stat(out); !ok || got != c {
				t.Fatal(got, ok)
			}
			rd, err := OnStore(s).Open(in)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(rd); err != nil || string(b) != string(body(size)) {
				t.Fatal(len(b), err)
			}
			rd.Close()
		}
		if _, err := OnStore(s).Open(newID()); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestSlowPeerIsLeftOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil, func(c *Config) { c.QueueSize, c.ShareSize = 1<<20, 256<<10 })
		synctest.Wait()
		gate := make(chan struct{})
		h.disks[2].set(func() { h.disks[2].gate = gate })
		id, b := newID(), body(3<<20)
		_, u, holders, err := put(h.r[0], id, b, 50_000)
		if err != nil || !slices.Equal(holders, []mail.MemberID{1, 2}) {
			t.Fatal(holders, err)
		}
		s := h.r[0].Stats()
		if s.LeftOut != 1 || s.Peers[1].QueuedBytes > 1<<20 {
			t.Errorf("%+v", s)
		}
		close(gate)
		synctest.Wait()
		if len(u.Holders()) != 2 || h.disks[2].writers() != 0 {
			t.Error("the slow one was told nothing", u.Holders(), h.disks[2].writers())
		}
		h.check(id, b)
		// Afterwards it takes part again.
		_, u, _, err = put(h.r[0], newID(), b, 50_000)
		synctest.Wait()
		if err != nil || len(u.Holders()) != 3 {
			t.Error(u.Holders(), err)
		}
	})
}

// Peers of the same speed are both behind a fast client; neither is left out.
func TestFastClientLosesNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := func(_, _ string, c net.Conn) (net.Conn, error) { return &slowConn{c, time.Millisecond}, nil }
		h := newHouse(t, 3, slow, func(c *Config) { c.QueueSize, c.ShareSize = 1<<20, 256<<10 })
		time.Sleep(time.Second)
		_, u, _, err := put(h.r[0], newID(), body(3<<20), 50_000)
		time.Sleep(10 * time.Second)
		if err != nil || len(u.Holders()) != 3 || h.r[0].Stats().Waits == 0 {
			t.Error(u.Holders(), err, h.r[0].Stats())
		}
	})
}

type slowConn struct {
	net.Conn
	d time.Duration
}

func (c *slowConn) Write(p []byte) (int, error) {
	time.Sleep(c.d)
	return c.Conn.Write(p)
}

func TestNeededPeerHoldsTheClientBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, unplug("b"), func(c *Config) { c.QueueSize, c.ShareSize = 1<<20, 256<<10 })
		synctest.Wait()
		gate := make(chan struct{})
		h.disks[2].set(func() { h.disks[2].gate = gate })
		id, b := newID(), body(3<<20)
		done := make(chan error)
		go func() {
			_, _, _, err := put(h.r[0], id, b, 50_000)
			done <- err
		}()
		time.Sleep(3 * time.Second)
		select {
		case err := <-done:
			t.Fatal("did not wait", err)
		default:
		}
		close(gate)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		h.check(id, b)
	})
}

func TestWriteGivesUpWithoutMajority(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, unplug("b", "c"))
		synctest.Wait()
		begun := time.Now()
		_, u, _, err := put(h.r[0], newID(), body(1<<20), 50_000)
		var e *NoMajority
		if !errors.Is(err, ErrNoMajority) || !errors.As(err, &e) || len(e.Missing) != 2 || e.Missing[0].Name != "b" {
			t.Fatal(err)
		}
		if d := time.Since(begun); d != 30*time.Second {
			t.Error("waited", d)
		}
		if _, again := u.Write([]byte("x")); !errors.Is(again, ErrNoMajority) {
			t.Error(again)
		}
		if _, _, err := u.Close(t.Context(), 0); !errors.Is(err, ErrNoMajority) {
			t.Error(err)
		}
		u.Abort()
		if h.disks[0].writers() != 0 {
			t.Error("the own copy stayed open")
		}
	})
}

func TestCloseNamesTheMissing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, unplug("b", "c"))
		synctest.Wait()
		c, u, holders, err := put(h.r[0], newID(), body(100), 100)
		var e *NoMajority
		if !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) || len(e.Missing) != 2 {
			t.Fatal(err)
		}
		if c.Size != 100 || !slices.Equal(holders, []mail.MemberID{1}) || !slices.Equal(e.Holders, holders) {
			t.Error(c, holders, e)
		}
		if want := "no majority of the voters has the content; missing: b (not connected), c (not connected)"; e.Error() != want {
			t.Error(e)
		}
		u.Abort()
	})
}

func TestFullDisks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		synctest.Wait()
		for _, size := range []int{100, 500_000} {
			h.disks[1].set(func() { h.disks[1].full = true })
			h.disks[2].set(func() { h.disks[2].full = false })
			_, _, holders, err := put(h.r[0], newID(), body(size), 1000)
			if err != nil || !slices.Equal(holders, []mail.MemberID{1, 3}) {
				t.Fatal(holders, err)
			}
			h.disks[2].set(func() { h.disks[2].full = true })
			begun := time.Now()
			_, _, _, err = put(h.r[0], newID(), body(size), 1000)
			if !errors.Is(err, ErrNoMajority) || time.Since(begun) != 0 {
				t.Error(err, time.Since(begun))
			}
		}
		h.disks[0].set(func() { h.disks[0].full = true })
		if _, err := h.r[0].Begin(newID()); !errors.Is(err, ErrFull) {
			t.Error(err)
		}
	})
}

func TestOwnDiskFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		synctest.Wait()
		broken := errors.New("broken")
		h.disks[0].set(func() { h.disks[0].failing = broken })
		if _, _, _, err := put(h.r[0], newID(), body(100), 100); !errors.Is(err, broken) || errors.Is(err, ErrNoMajority) {
			t.Error(err)
		}
	})
}

func TestAbort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		synctest.Wait()
		id := newID()
		u, err := h.r[0].Begin(id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.r[0].Begin(id); !errors.Is(err, ErrExists) {
			t.Error("begun twice", err)
		}
		u.Write(body(200_000))
		synctest.Wait()
		if h.disks[1].writers() != 1 {
			t.Fatal("nothing came while the client sent")
		}
		u.Abort()
		u.Abort()
		synctest.Wait()
		for i, d := range h.disks {
			if d.writers() != 0 {
				t.Error(i, "still open")
			}
		}
		if _, _, _, err := put(h.r[0], id, body(10), 10); err != nil {
			t.Error("the id is not free again", err)
		}
		synctest.Wait()
		if s := h.r[1].Stats(); s.Receiving != 0 {
			t.Error(s)
		}
	})
}

func TestFrozenPeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stop := make(chan struct{})
		freeze := func(from, to string, c net.Conn) (net.Conn, error) {
			if to != "c" {
				return c, nil
			}
			return &frozenConn{Conn: c, after: stop}, nil
		}
		h := newHouse(t, 3, freeze)
		time.Sleep(time.Second)
		close(stop)
		id, b := newID(), body(20<<20)
		begun := time.Now()
		_, _, holders, err := put(h.r[0], id, b, 50_000)
		if err != nil || !slices.Equal(holders, []mail.MemberID{1, 2}) || time.Since(begun) != 0 {
			t.Fatal(holders, err, time.Since(begun))
		}
		if !h.r[0].Stats().Peers[1].Connected {
			t.Error("noticed too soon")
		}
		time.Sleep(7 * time.Second)
		if s := h.r[0].Stats(); s.Peers[1].Connected || !s.Peers[0].Connected {
			t.Errorf("%+v", s.Peers)
		}
	})
}

// frozenConn takes and gives nothing once after is closed, until it is closed
// or a deadline is over: a peer that was stopped.
type frozenConn struct {
	net.Conn
	after chan struct{}
}

func (c *frozenConn) frozen() bool {
	select {
	case <-c.after:
		return true
	default:
		return false
	}
}

func (c *frozenConn) Write(p []byte) (int, error) {
	if !c.frozen() {
		return c.Conn.Write(p)
	}
	return len(p), nil // the kernel's buffers are patient
}

func (c *frozenConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.frozen() {
			return n, err
		}
	}
}

func TestQuietConnectionStays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		time.Sleep(time.Hour)
		for _, r := range h.r {
			if s := r.Stats(); s.Redials > 3 || !s.Peers[0].Connected || !s.Peers[1].Connected {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestPeerWithStuckDiskLooksFrozen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		synctest.Wait()
		gate := make(chan struct{})
		h.disks[2].set(func() { h.disks[2].gate = gate })
		if _, _, _, err := put(h.r[0], newID(), body(100), 100); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Second)
		if s := h.r[0].Stats(); s.Redials == 0 {
			t.Errorf("%+v", s)
		}
		close(gate)
		time.Sleep(10 * time.Second)
		if s := h.r[0].Stats(); !s.Peers[1].Connected {
			t.Errorf("%+v", s)
		}
	})
}

func TestVoters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 5, nil)
		synctest.Wait()
		h.vote(3, false)
		h.vote(4, false)
		h.disks[1].set(func() { h.disks[1].full = true })
		h.disks[2].set(func() { h.disks[2].full = true })
		// Two learners and this member: three of five have it, but one of three voters.
		if _, u, _, err := put(h.r[0], newID(), body(100), 100); !errors.Is(err, ErrNoMajority) {
			t.Error(err)
		} else if synctest.Wait(); len(u.Holders()) != 3 {
			t.Error(u.Holders())
		}
		// The voters of the moment of Close count, not those of Begin.
		u, err := h.r[0].Begin(newID())
		if err != nil {
			t.Fatal(err)
		}
		u.Write(body(1000))
		h.vote(1, false)
		h.vote(2, false)
		h.vote(3, true)
		if _, holders, err := u.Close(t.Context(), 5); err != nil || !slices.Contains(holders, 4) {
			t.Error(holders, err)
		}
	})
}

func TestSingleMember(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 1, nil)
		if _, _, holders, err := put(h.r[0], newID(), body(500_000), 9999); err != nil || len(holders) != 1 {
			t.Error(holders, err)
		}
	})
}

func TestExtraWish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		want := mail.MemberID(3)
		h := newHouse(t, 3, nil, func(c *Config) {
			c.Extra = func(hs []mail.MemberID) bool { return slices.Contains(hs, want) }
		})
		synctest.Wait()
		h.disks[2].set(func() { h.disks[2].commits = make(chan struct{}) })
		begun := time.Now()
		_, _, holders, err := put(h.r[0], newID(), body(100), 100)
		if err != nil || len(holders) != 2 || time.Since(begun) != 2*time.Second {
			t.Error(holders, err, time.Since(begun))
		}
		go func() { time.Sleep(time.Second); h.disks[2].commits <- struct{}{}; h.disks[2].commits <- struct{}{} }()
		begun = time.Now()
		_, _, holders, err = put(h.r[0], newID(), body(100), 100)
		if err != nil || len(holders) != 3 || time.Since(begun) != time.Second {
			t.Error(holders, err, time.Since(begun))
		}
	})
}

func TestMemoryStaysBounded(t *testing.T) {
	h := newHouse(t, 3, nil)
	for _, d := range h.disks {
		d.discard = true
	}
	waitConnected(t, h.r...)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	u, err := h.r[0].Begin(newID())
	if err != nil {
		t.Fatal(err)
	}
	piece, peak := body(32<<10), uint64(0)
	for i := range 150 << 20 / len(piece) {
		if _, err := u.Write(piece); err != nil {
			t.Fatal(err)
		}
		if i%256 == 0 {
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
	}
	if _, _, err := u.Close(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if grown := int64(peak) - int64(before.HeapAlloc); grown > 24<<20 {
		t.Errorf("the heap grew by %d KB", grown>>10)
	}
}

func waitConnected(t testing.TB, rs ...*Replica) {
	for _, r := range rs {
		for _, p := range r.Peers() {
			if _, err := r.link(p).wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"mailraft/mail"
)

// keep puts a content on a member's disk, without any upload.
func (h *house) keep(i int, b []byte) mail.Content {
	c := mail.Content{ID: newID(), Size: int64(len(b)), Sum: xxhash.Sum64(b), NotAfter: 77}
	h.keepAs(i, c, b)
	return c
}

func (h *house) keepAs(i int, c mail.Content, b []byte) {
	h.disks[i].set(func() { h.disks[i].has[c.ID] = kept{c, b} })
}

// idle counts what a keeps for pulls from b.
func (h *house) idle() int {
	l := h.r[0].link(h.peers[1])
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.idle)
}

func TestPull(t *testing.T) {
	first := largeSize - headMax
	for _, size := range []int{0, 1, first - 1, first, first + 1, 3 * first, 1 << 20} {
		bubble(t, func(t *testing.T) {
			h := newHouse(t, 3, nil)
			synctest.Wait()
			b := body(size)
			c := h.keep(2, b)
			for range 2 { // the second time it is there
				if err := h.r[0].Pull(t.Context(), c); err != nil {
					t.Fatal(size, err)
				}
			}
			h.check(c.ID, b)
			if got, _ := h.disks[0].Stat(c.ID); got != c {
				t.Error(got)
			}
			d := h.keep(1, b)
			want := d
			want.NotAfter = 0 // taken from the peer's copy
			if err := h.r[0].Pull(t.Context(), want); err != nil {
				t.Fatal(size, err)
			}
			if got, _ := h.disks[0].Stat(d.ID); got != d || h.disks[0].writers() != 0 {
				t.Error(got)
			}
		})
	}
}

func TestPullGoesToTheNextPeer(t *testing.T) {
	b := body(300_000)
	cases := map[string]func(h *house, c mail.Content){
		"not there":      func(h *house, c mail.Content) {},
		"damaged":        func(h *house, c mail.Content) { h.keepAs(1, c, b); h.disks[1].damaged = true },
		"other bytes":    func(h *house, c mail.Content) { h.keepAs(1, c, body(299_999)) },
		"more bytes":     func(h *house, c mail.Content) { h.keepAs(1, c, body(700_000)) },
		"says otherwise": func(h *house, c mail.Content) { d := c; d.Sum++; h.keepAs(1, d, b) },
		"not connected":  func(h *house, c mail.Content) { h.r[1].Close() },
	}
	for name, prepare := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHouse(t, 3, nil)
				synctest.Wait()
				var told sync.Map
				h.r[1].Damaged = func(id mail.ContentID, err error) { told.Store(id, err) }
				c := h.keep(2, b)
				prepare(h, c)
				for range 8 { // the order is drawn
					if err := h.r[0].Pull(t.Context(), c); err != nil {
						t.Fatal(err)
					}
					h.disks[0].mu.Lock()
					if !bytes.Equal(h.disks[0].has[c.ID].data, b) {
						t.Error("wrong bytes committed")
					}
					delete(h.disks[0].has, c.ID)
					h.disks[0].mu.Unlock()
				}
				if n := h.disks[0].writers(); n != 0 {
					t.Error(n, "writers left open")
				}
				if _, ok := told.Load(c.ID); ok != (name == "damaged") {
					t.Error("damage told:", ok)
				}
			})
		})
	}
}

func TestPullFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		synctest.Wait()
		if err := h.r[0].Pull(t.Context(), mail.Content{ID: newID()}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		c := h.keep(1, body(100_000))
		h.disks[1].damaged = true
		if err := h.r[0].Pull(t.Context(), c); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		h.disks[1].damaged = false
		h.disks[0].full = true
		if err := h.r[0].Pull(t.Context(), c); !errors.Is(err, ErrFull) {
			t.Error(err)
		}
		h.disks[0].full = false
		broken := errors.New("broken")
		h.disks[0].failing = broken
		if err := h.r[0].Pull(t.Context(), c); !errors.Is(err, broken) {
			t.Error(err)
		}
		h.disks[0].failing = nil
		h.keepAs(0, mail.Content{ID: c.ID, Size: 1}, []byte{1})
		if err := h.r[0].Pull(t.Context(), c); !errors.Is(err, ErrExists) {
			t.Error(err)
		}
		if s := h.r[0].Stats(); s.Pulls != 5 || s.PullsFailed != 5 || h.disks[0].writers() != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Many that want the same content share one transfer; one that gives up takes
// nothing from the others, and the last one ends it.
func TestPullIsShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 2, nil)
		synctest.Wait()
		c := h.keep(1, body(100_000))
		gate := make(chan struct{})
		h.disks[0].set(func() { h.disks[0].gate = gate })
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := h.r[0].Pull(context.Background(), c); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := h.r[0].Pull(ctx, c); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		if n := h.disks[1].opens.Load(); n != 1 {
			t.Error("read", n, "times")
		}
	})
}

func TestPullIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := func(_, _ string, c net.Conn) (net.Conn, error) { return &slowConn{c, time.Hour}, nil }
		h := newHouse(t, 2, nil)
		synctest.Wait()
		h.net.setHook(slow)
		c := h.keep(1, body(100))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.r[0].Pull(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		h.net.setHook(nil)
		time.Sleep(2 * time.Hour)
		if err := h.r[0].Pull(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}

// A member may be told of a content by its entry before the upload has come
// to its end here: the pull waits for that one.
func TestPullWaitsForTheUpload(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		synctest.Wait()
		u, err := h.r[0].Begin(newID())
		if err != nil {
			t.Fatal(err)
		}
		b := body(100_000)
		u.Write(b)
		synctest.Wait()
		pulled := make(chan error)
		go func() {
			pulled <- h.r[2].Pull(context.Background(), mail.Content{ID: u.id, Size: int64(len(b)), Sum: xxhash.Sum64(b)})
		}()
		synctest.Wait()
		if _, _, err := u.Close(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		if err := <-pulled; err != nil {
			t.Error(err)
		}
		if n := h.disks[0].opens.Load() + h.disks[1].opens.Load(); n != 0 {
			t.Error("asked a peer")
		}
	})
}

func TestPullsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 2, nil, func(c *Config) { c.PullsMax = 3 })
		synctest.Wait()
		gate := make(chan struct{})
		h.disks[0].set(func() { h.disks[0].gate = gate })
		var wg sync.WaitGroup
		for range 20 {
			c := h.keep(1, body(1000))
			wg.Go(func() {
				if err := h.r[0].Pull(context.Background(), c); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := h.disks[0].writers(); n != 3 {
			t.Error(n, "at once")
		}
		close(gate)
		wg.Wait()
		if n := h.idle(); n != 3 {
			t.Error(n, "connections kept")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := h.idle(); n != 0 {
			t.Error(n, "connections kept for ever")
		}
	})
}

// A transfer cut at any byte commits nothing wrong; an idle connection that
// died is not an answer.
func TestPullCutAnywhere(t *testing.T) {
	b := body(150_000)
	for at := 0; at < 151_000; at += 3001 {
		bubble(t, func(t *testing.T) {
			h := newHouse(t, 2, nil)
			synctest.Wait()
			h.net.setHook(once(func(c net.Conn) net.Conn { return &cutConn{Conn: c, write: -1, read: at} }))
			c := h.keep(1, b)
			if err := h.r[0].Pull(t.Context(), c); err == nil || errors.Is(err, ErrNotFound) {
				t.Fatal(at, err)
			}
			if h.check(c.ID, b); h.disks[0].writers() != 0 {
				t.Error("left open")
			}
			if err := h.r[0].Pull(t.Context(), c); err != nil {
				t.Fatal(at, err)
			}
			h.check(c.ID, b)
			for _, i := range h.r[0].link(h.peers[1]).idle {
				i.conn.Close()
			}
			if err := h.r[0].Pull(t.Context(), h.keep(1, b)); err != nil {
				t.Fatal(at, err)
			}
		})
	}
}

func TestPullFromStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore(t)
		defer s.Close()
		h := newHouse(t, 2, nil)
		synctest.Wait()
		r := New(Config{Self: 1, Disk: OnStore(s), Dial: h.net.dial("a"), Peers: func() []Peer { return h.others(0) }})
		defer r.Close()
		for _, size := range []int{0, 100, 700_000} {
			b := body(size)
			c := h.keep(1, b)
			if err := r.Pull(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			rd, err := OnStore(s).Open(c.ID)
			if err != nil || rd.Content() != c {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(rd); err != nil || !bytes.Equal(got, b) {
				t.Error(len(got), err)
			}
			rd.Close()
		}
	})
}

func TestClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		synctest.Wait()
		u, err := h.r[0].Begin(newID())
		if err != nil {
			t.Fatal(err)
		}
		h.disks[0].commits = make(chan struct{})
		go func() { time.Sleep(time.Second); h.r[0].Close() }()
		_, _, err = u.Close(context.Background(), 1)
		if !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNoMajority) {
			t.Error(err)
		}
		h.disks[0].commits <- struct{}{}
		if _, err := h.r[0].Begin(newID()); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := h.r[0].Pull(context.Background(), mail.Content{}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		h.r[0].Close()
	})
}

func ExampleNoMajority() {
	fmt.Println(&NoMajority{Missing: []Missing{{ID: 2, Name: "b.example.com", Why: ErrFull}}})
	// Output: no majority of the voters has the content; missing: b.example.com (too little free space for content)
}

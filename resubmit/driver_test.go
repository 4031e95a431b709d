package resubmit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// requests are a state with resubmit requests in memory.
type requests struct {
	mu      sync.Mutex
	start   time.Time
	rate    int
	list    map[uint64]*request
	took    time.Duration // of a commit
	fail    error         // of Advance
	flight  int           // calls at once
	level   Level
	log     []string
	sizes   []int
	pieces  int
	deliver bool // what is made is delivered at once
}

// request is one, and what it has to send.
type request struct {
	Request
	left    int // deliveries that the walk has before it
	skip    int // of which so many, the first ones, are left out
	wakes   int // or are waiting mail
	made    int
	refused bool
	done    time.Time
}

func newRequests() *requests {
	return &requests{start: time.Now(), rate: 2000, list: map[uint64]*request{}, took: 5 * time.Millisecond, deliver: true}
}

func (r *requests) add(id uint64, left int, change ...func(*request)) *request {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := &request{Request: Request{ID: id, Ready: true}, left: left}
	for _, c := range change {
		c(q)
	}
	r.list[id] = q
	return q
}

// drive runs a Driver for as long as the term lasts.
func (r *requests) drive(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	d := NewDriver(func() (Level, string) { r.mu.Lock(); defer r.mu.Unlock(); return r.level, "disk" }, hclog.NewNullLogger())
	work.Go(func() { d.Run(ctx, r) })
	end = func() { cancel(); work.Wait() }
	t.Cleanup(end)
	return end
}

// Open implements Requests.
func (r *requests) Open() (list []Request, rate int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.list {
		if q.left > 0 {
			list = append(list, q.Request)
		}
	}
	return list, r.rate
}

// Advance implements Requests.
func (r *requests) Advance(ctx context.Context, id uint64, rows int) (Piece, error) {
	r.mu.Lock()
	r.flight++
	if r.flight > 1 {
		panic("two pieces at once")
	}
	r.pieces++
	r.mu.Unlock()
	time.Sleep(r.took)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flight--
	q := r.list[id]
	switch {
	case ctx.Err() != nil:
		return Piece{}, ctx.Err()
	case r.fail != nil:
		return Piece{}, r.fail
	case q == nil || q.refused || q.Suspended:
		return Piece{}, mail.Replyf(550, "5.1.0", "there is no open request %d", id)
	case rows < 1 || rows > pieceRows:
		panic(rows)
	}
	r.sizes = append(r.sizes, rows)
	seen := min(rows, q.left)
	if q.Waking {
		seen = min(seen, q.wakes)
	}
	skipped := min(seen, q.skip)
	q.skip -= skipped
	q.left -= seen
	q.made += seen - skipped
	if q.wakes -= skipped; q.wakes <= 0 {
		q.Waking = false
	}
	if !r.deliver {
		q.Pending += seen - skipped
	}
	if q.left == 0 {
		q.done = time.Now()
	}
	return Piece{Made: seen - skipped, More: q.left > 0}, nil
}

// Suspend implements Requests.
func (r *requests) Suspend(_ context.Context, id uint64, on bool, reason string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.list[id]
	r.log = append(r.log, strings.TrimSpace(fmt.Sprintf("%s %d %t %s", time.Since(r.start).Truncate(time.Second), id, on, reason)))
	q.Suspended, q.Auto = on, on
	return nil
}

func (r *requests) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *requests) made(id uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[id].made
}

// within fails unless n is about want: a twentieth and a burst off at most.
func within(t *testing.T, what string, n, want, burst int) {
	t.Helper()
	if n < want-want/20-burst || n > want+want/20+burst {
		t.Errorf("%s: %d, want about %d", what, n, want)
	}
}

func TestRates(t *testing.T) {
	for _, c := range []struct {
		all, own  int
		seconds   int
		want      int
		rowsAbove int // mean size of a piece
	}{
		{2000, 0, 10, 20_000, 32}, {2000, 100, 10, 1000, 4}, {100, 2000, 10, 1000, 4}, {1, 0, 60, 60, 0}, {2000, 3, 20, 60, 0}, {1_000_000, 0, 2, 25_600, 60},
	} {
		t.Run(fmt.Sprintf("%d/s, own %d/s", c.all, c.own), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRequests()
				r.rate = c.all
				q := r.add(1, 1_000_000, func(q *request) { q.Rate = c.own })
				end := r.drive(t)
				rest(time.Duration(c.seconds) * time.Second)
				end()
				within(t, "made", q.made, c.want, max(c.all, 1)/5+pieceRows)
				if mean := len(r.sizes); q.made/mean < c.rowsAbove {
					t.Errorf("%d messages in %d pieces", q.made, mean)
				}
			})
		})
	}
}

// What is left out costs nothing of the rate.
func TestSkippedIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRequests()
		q := r.add(1, 10_010, func(q *request) { q.Rate, q.skip = 1, 10_000 })
		end := r.drive(t)
		rest(3 * time.Second)
		if q.skip != 0 {
			t.Errorf("after three seconds %d are still to be left out", q.skip)
		}
		end()
	})
}

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRequests()
		r.rate = 1000
		ids := []uint64{7, 3, 5, 9}
		for _, id := range ids {
			r.add(id, 1000, func(q *request) { q.Activation = id >= 7 })
		}
		r.add(11, 1000, func(q *request) { q.Ready = false })
		r.add(13, 1000, func(q *request) { q.Suspended = true })
		end := r.drive(t)
		rest(10 * time.Second)
		end()
		slices.SortFunc(ids, func(a, b uint64) int { return r.list[a].done.Compare(r.list[b].done) })
		if !slices.Equal(ids, []uint64{7, 9, 3, 5}) || r.list[3].left != 0 {
			t.Errorf("order %v", ids)
		}
		if r.list[11].made != 0 || r.list[13].made != 0 {
			t.Error("what has nothing to do, or is suspended, was moved on")
		}
	})
}

// A request whose messages are not delivered waits; others go on.
func TestPendingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRequests()
		r.deliver = false
		r.add(1, 5000)
		r.add(3, 5000)
		r.drive(t)
		rest(10 * time.Second)
		if a, b := r.made(1), r.made(3); a > pendingMax || a < pendingMax-2*pieceRows || b > pendingMax || b < pendingMax-2*pieceRows {
			t.Errorf("made %d and %d", a, b)
		}
		r.set(func() { r.list[1].Pending = 0 })
		rest(10 * time.Second)
		if a := r.made(1); a < 2*pendingMax-4*pieceRows {
			t.Errorf("after they were delivered: %d", a)
		}
	})
}

func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRequests()
		r.rate = 100
		r.add(1, 100_000)
		r.add(2, 1000, func(q *request) { q.Suspended = true }) // by an operator
		r.drive(t)
		rest(20*time.Second + 100*time.Millisecond)
		before := r.made(1)
		within(t, "before", before, 2000, 100)
		r.set(func() { r.level = Medium })
		waking := r.add(4, 1000, func(q *request) { q.Waking, q.skip, q.wakes = true, 500, 500 })
		rest(time.Minute)
		within(t, "under pressure", r.made(1), before, 10)
		r.set(func() {
			if waking.left != 500 || waking.made != 0 || !waking.Auto {
				t.Errorf("waiting mail was not woken under pressure, or more was done: %+v", waking)
			}
			delete(r.list, 4)
		})
		r.set(func() { r.level = High })
		rest(time.Minute)
		r.set(func() { r.level = Normal })
		rest(10 * time.Second)
		within(t, "afterwards", r.made(1), before+1000, 100)
		r.set(func() {
			if got := strings.Join(r.log, ", "); got != "20s 1 true disk, 20s 4 true disk, 2m20s 1 false disk" {
				t.Errorf("suspended: %s", got)
			}
		})
	})
}

// A new leader goes on where the old one ended, with what was suspended too:
// but not before it can have heard that somebody is still hard pressed.
func TestDriverOfNewLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRequests()
		r.rate = 100
		r.add(1, 5000)
		r.add(2, 5000, func(q *request) { q.Suspended, q.Auto = true, true })
		end := r.drive(t)
		rest(9 * time.Second)
		end()
		rest(10 * time.Second)
		made := r.made(1)
		within(t, "by the first", made, 900, 100)
		r.drive(t)
		rest(9 * time.Second)
		within(t, "by the second", r.made(1), made+900, 100)
		r.set(func() {
			if len(r.log) != 0 {
				t.Errorf("resumed: %v", r.log)
			}
		})
		rest(5 * time.Second)
		r.set(func() {
			if got := strings.Join(r.log, ", "); got != "29s 2 false disk" {
				t.Errorf("resumed: %s", got)
			}
		})
	})
}

func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRequests()
		r.fail = errors.New("no quorum")
		r.add(1, 1000)
		r.drive(t)
		rest(time.Minute)
		r.set(func() {
			if r.pieces < 10 || r.pieces > 25 {
				t.Errorf("tried %d times in a minute", r.pieces)
			}
			r.fail = nil
		})
		rest(6 * time.Second)
		if n := r.made(1); n != 1000 {
			t.Errorf("made %d", n)
		}
		r.add(2, 1000, func(q *request) { q.refused = true })
		r.add(3, 1000)
		rest(10 * time.Second)
		if n := r.made(3); n != 1000 {
			t.Errorf("one that is refused holds up others: %d", n)
		}
	})
}

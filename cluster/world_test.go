package cluster

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"mailraft/cluster/link"
	"mailraft/cluster/pki"
	"mailraft/mail"
)

// world is a boundary in one process and in virtual time: stores in memory, a
// network that can be cut and slowed, and a clock of its own for each member.
type world struct {
	t    *testing.T
	span time.Duration

	mu    sync.Mutex
	rng   *rand.Rand
	slow  time.Duration   // longest delay of a message, one way
	cuts  map[[2]int]bool // one way, from and to
	hosts []*host
	tasks sync.WaitGroup
}

// host is one member's machine: what is left when its node is stopped.
type host struct {
	w       *world
	i       int
	id      mail.MemberID
	addr    string
	clock   *hostClock
	machine *toy
	disk    *raft.InmemStore
	snaps   *raft.InmemSnapshotStore
	node    *Node // nil while stopped; guarded by world.mu
	trans   *raft.InmemTransport
	fatal   []error
	stuck   time.Duration // how long a transfer of leadership hangs
	started func()        // called with each new node, if set
}

// hostClock is a machine's clocks: boot time may run fast or slow, the wall
// clock may be wrong.
type hostClock struct {
	mu    sync.Mutex
	start time.Time
	rate  float64
	wrong time.Duration
}

func (c *hostClock) Boot() time.Duration {
	return time.Duration(float64(time.Since(c.start)) * c.rate)
}

func (c *hostClock) Wall() mail.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return mail.At(time.Now().Add(c.wrong))
}

func (c *hostClock) set(wrong time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = wrong
}

// inWorld runs a test in a world of n voters with the default takeover span.
func inWorld(t *testing.T, n int, seed uint64, test func(*world)) {
	t.Helper()
	inWorldOf(t, n, seed, 30*time.Second, test)
}

func inWorldOf(t *testing.T, n int, seed uint64, span time.Duration, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, span: span, rng: rand.New(rand.NewPCG(seed, 1)), cuts: map[[2]int]bool{}}
		var servers []raft.Server
		for i := range n {
			h := &host{
				w: w, i: i, id: mail.MemberID(i + 1), addr: fmt.Sprintf("host%d", i),
				clock:   &hostClock{start: time.Now().Add(-time.Duration(i+1) * time.Hour), rate: 1 + 0.01*float64(i-1)},
				machine: newToy(), disk: raft.NewInmemStore(), snaps: raft.NewInmemSnapshotStore(),
			}
			w.hosts = append(w.hosts, h)
			servers = append(servers, raft.Server{ID: raft.ServerID(h.id.String()), Address: raft.ServerAddress(h.addr)})
		}
		for _, h := range w.hosts {
			h.start()
		}
		if err := w.hosts[0].node.Bootstrap(w.bound(time.Minute), servers); err != nil {
			t.Fatal(err)
		}
		test(w)
		w.heal()
		for _, h := range w.hosts {
			h.stop()
		}
		w.tasks.Wait()
		for _, h := range w.hosts {
			for _, err := range h.fatal {
				t.Errorf("host %d: %v", h.i, err)
			}
			if h.machine.backs > 0 {
				t.Errorf("host %d: time went back in %d entries", h.i, h.machine.backs)
			}
		}
	})
}

// bound is a context that ends after d of virtual time.
func (w *world) bound(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.t.Cleanup(cancel)
	return ctx
}

func (h *host) start() {
	_, h.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(h.addr), 2*time.Second)
	n, err := Start(Config{
		ID: h.id, Name: h.addr, Addr: h.addr,
		Machine: h.machine, Log: h.disk, Stable: h.disk, Snapshots: h.snaps,
		Transport: &slowTransport{h.trans, h}, Link: h, Logger: hclog.NewNullLogger(),
		Term:        func(term uint64) []byte { return toyEntry(kindTerm, term) },
		Down:        h.machine.isDown,
		Span:        func() time.Duration { return h.w.span },
		LongestSpan: func() time.Duration { return h.w.span },
		Complete:    func() (uint64, uint64) { index, _ := h.machine.Applied(); return index, index },
		Fatal:       func(err error) { h.fatal = append(h.fatal, err) },
		Clock:       h.clock,
	})
	if err != nil {
		h.w.t.Fatal(err)
	}
	h.w.mu.Lock()
	h.node = n
	for _, peer := range h.w.hosts {
		if peer != h && peer.node != nil {
			h.trans.Connect(raft.ServerAddress(peer.addr), peer.trans)
			peer.trans.Connect(raft.ServerAddress(h.addr), h.trans)
		}
	}
	h.w.mu.Unlock()
	if h.started != nil {
		h.started()
	}
}

// stop ends the node; the host keeps its disk and its machine.
func (h *host) stop() {
	h.w.mu.Lock()
	n := h.node
	h.node = nil
	for _, peer := range h.w.hosts {
		if n != nil && peer != h {
			peer.trans.Disconnect(raft.ServerAddress(h.addr))
		}
	}
	h.w.mu.Unlock()
	if n == nil {
		return
	}
	if err := n.Shutdown(h.w.bound(time.Minute)); err != nil {
		h.w.t.Errorf("host %d: %v", h.i, err)
	}
}

// leader waits for a ready leader among hosts that are not in except.
func (w *world) leader(except ...*host) *host {
	w.t.Helper()
	for range 600 {
	hosts:
		for _, h := range w.hosts {
			for _, x := range except {
				if x == h {
					continue hosts
				}
			}
			if n := w.node(h.i); n != nil && n.IsLeader() {
				return h
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatal("no leader within a minute")
	return nil
}

func (w *world) node(i int) *Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts[i].node
}

func (w *world) isolate(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.hosts {
		w.cuts[[2]int{i, h.i}], w.cuts[[2]int{h.i, i}] = true, true
	}
}

func (w *world) slowTo(longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow = longest
}

func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cuts)
	w.slow = 0
}

// travel takes a message from one host to another; false if it is lost.
func (w *world) travel(from, to int) bool {
	w.mu.Lock()
	var d time.Duration
	if w.slow > 0 {
		d = rand.N(w.slow) >> w.rng.IntN(6) // mostly short
	}
	w.mu.Unlock()
	time.Sleep(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.cuts[[2]int{from, to}]
}

func (w *world) at(addr string) *host {
	for _, h := range w.hosts {
		if h.addr == addr {
			return h
		}
	}
	return nil
}

// Call implements Caller.
func (h *host) Call(ctx context.Context, addr string, kind byte, body []byte) ([]byte, error) {
	type answer struct {
		body []byte
		err  error
	}
	home := make(chan answer, 1)
	to := h.w.at(addr)
	h.w.tasks.Go(func() {
		if !h.w.travel(h.i, to.i) {
			home <- answer{nil, link.ErrUnreachable}
			return
		}
		n := h.w.node(to.i)
		if n == nil {
			home <- answer{nil, link.ErrUnreachable}
			return
		}
		peer := pki.Identity{Role: pki.RoleMember, Member: h.id}
		var a answer
		switch kind {
		case KindPropose:
			a.body, a.err = n.HandlePropose(context.Background(), peer, body)
		case KindLease:
			a.body, a.err = n.HandleLease(context.Background(), peer, body)
		}
		if !h.w.travel(to.i, h.i) {
			a = answer{nil, link.ErrUnknownOutcome}
		}
		home <- a
	})
	select {
	case a := <-home:
		return a.body, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", link.ErrUnknownOutcome, ctx.Err())
	}
}

// slowTransport is Raft's network in the world.
type slowTransport struct {
	*raft.InmemTransport
	h *host
}

func (s *slowTransport) through(target raft.ServerAddress, rpc func() error) error {
	to := s.h.w.at(string(target))
	if !s.h.w.travel(s.h.i, to.i) {
		return link.ErrUnreachable
	}
	err := rpc()
	if !s.h.w.travel(to.i, s.h.i) {
		return link.ErrUnknownOutcome
	}
	return err
}

func (s *slowTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return s.through(to, func() error { return s.InmemTransport.AppendEntries(id, to, req, resp) })
}

func (s *slowTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return s.through(to, func() error { return s.InmemTransport.RequestVote(id, to, req, resp) })
}

func (s *slowTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return s.through(to, func() error { return s.InmemTransport.RequestPreVote(id, to, req, resp) })
}

func (s *slowTransport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	time.Sleep(s.h.stuck)
	return s.through(to, func() error { return s.InmemTransport.TimeoutNow(id, to, req, resp) })
}

func (s *slowTransport) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return link.ErrUnreachable // the toy machine has none
}

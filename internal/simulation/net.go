package simulation

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"mailraft/cluster/link"
	"mailraft/cluster/pki"
	"mailraft/mail"

	"github.com/hashicorp/raft"
)

// network is the wires between machines. Machines are counted from 0; the
// mailbox server and the clients lie behind the last one.
type network struct {
	mu      sync.Mutex
	rng     *rand.Rand
	slow    time.Duration   // longest delay of a message, one way
	cuts    map[[2]int]bool // one way, from and to
	changed chan struct{}   // closed when cuts change
	conns   map[*conn]struct{}
	tasks   sync.WaitGroup // requests on their way
}

func newNetwork(seed int64) *network {
	return &network{rng: rand.New(rand.NewPCG(uint64(seed), 0)), cuts: map[[2]int]bool{}, changed: make(chan struct{}), conns: map[*conn]struct{}{}}
}

// delay draws the time of one message: mostly short, sometimes as long as the
// network is slow.
func (n *network) delay() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := time.Duration(50+n.rng.IntN(450)) * time.Microsecond
	if n.slow > 0 {
		d += time.Duration(n.rng.Int64N(int64(n.slow))) >> n.rng.IntN(8)
	}
	return d
}

func (n *network) isCut(from, to int) (bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[[2]int{from, to}], n.changed
}

// travel takes a message from one machine to another; false if it is lost.
func (n *network) travel(from, to int) bool {
	time.Sleep(n.delay())
	cut, _ := n.isCut(from, to)
	return !cut
}

// cut changes wires, one way each.
func (n *network) cut(is bool, ways ...[2]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range ways {
		n.cuts[w] = is
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *network) slowTo(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow = d
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	n.slow = 0
	close(n.changed)
	n.changed = make(chan struct{})
}

// breakConns resets connections between two machines, as a packet filter that
// forgets them does. to below zero is all of from's.
func (n *network) breakConns(from, to int) {
	n.mu.Lock()
	var all []*conn
	for c := range n.conns {
		if c.from == from && (to < 0 || c.to == to) || c.to == from && (to < 0 || c.from == to) {
			all = append(all, c)
		}
	}
	n.mu.Unlock()
	for _, c := range all {
		c.reset()
	}
}

// Call implements cluster.Caller for one process.
func (p *process) Call(ctx context.Context, addr string, kind byte, body []byte) ([]byte, error) {
	type answer struct {
		body []byte
		err  error
	}
	home := make(chan answer, 1)
	w, from := p.machine.world, p.machine
	to := w.at(addr)
	w.net.tasks.Go(func() {
		if !w.net.travel(from.i, to.i) {
			home <- answer{nil, link.ErrUnreachable}
			return
		}
		there := to.process()
		if there == nil || p.dead() || !there.enter() {
			home <- answer{nil, link.ErrUnreachable}
			return
		}
		defer there.leave()
		if !there.knows(p.id) {
			home <- answer{nil, link.ErrUnreachable}
			return
		}
		var a answer
		a.body, a.err = there.engine.Handle(there.ctx, pki.Identity{Role: pki.RoleMember, Member: p.id}, kind, body)
		if !w.net.travel(to.i, from.i) || there.dead() || p.dead() {
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

// knows reports whether a process lets a member in: its certificate would be
// refused if it was replaced or removed.
func (p *process) knows(id mail.MemberID) bool {
	if !p.enter() {
		return false
	}
	defer p.leave()
	if p.engine.State().Settings().Member(id) != nil {
		return true
	}
	v := p.engine.State().View()
	defer v.Close()
	_, was := v.Former(id)
	return !was
}

// raftNet is Raft's network as one process sees it.
type raftNet struct {
	*raft.InmemTransport
	p *process
}

func (r *raftNet) through(id raft.ServerID, target raft.ServerAddress, rpc func(*raft.InmemTransport) error) error {
	w, from := r.p.machine.world, r.p.machine
	to := w.at(string(target))
	if !w.net.travel(from.i, to.i) {
		return link.ErrUnreachable
	}
	there := to.process()
	if there == nil || r.p.dead() || raft.ServerID(there.id.String()) != id || !there.knows(r.p.id) {
		return link.ErrUnreachable
	}
	r.Connect(target, there.trans)
	err := rpc(r.InmemTransport)
	if !w.net.travel(to.i, from.i) || there.dead() || r.p.dead() {
		return link.ErrUnknownOutcome
	}
	return err
}

func (r *raftNet) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return r.through(id, to, func(t *raft.InmemTransport) error { return t.AppendEntries(id, to, req, resp) })
}

func (r *raftNet) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return r.through(id, to, func(t *raft.InmemTransport) error { return t.RequestVote(id, to, req, resp) })
}

func (r *raftNet) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return r.through(id, to, func(t *raft.InmemTransport) error { return t.RequestPreVote(id, to, req, resp) })
}

func (r *raftNet) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return r.through(id, to, func(t *raft.InmemTransport) error { return t.TimeoutNow(id, to, req, resp) })
}

func (r *raftNet) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	err := r.through(id, to, func(t *raft.InmemTransport) error { return t.InstallSnapshot(id, to, req, resp, data) })
	if err == nil && resp.Success {
		r.p.machine.world.count.snapshots.Add(1)
	}
	return err
}

package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/cluster/port/porttest"
)

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

func open(t *testing.T, b *porttest.Boundary, n int, options ...Option) raft.Transport {
	t.Helper()
	p := b.Open(n)
	tr, err := New(p, p.Addr().String(), nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.(io.Closer).Close() })
	return tr
}

func TestPreVoteAndCloseAreKept(t *testing.T) {
	tr := open(t, porttest.New(t, "mail-a"), 1)
	if _, ok := tr.(raft.WithPreVote); !ok {
		t.Error("no WithPreVote: Raft would silently do without")
	}
	if _, ok := tr.(raft.WithClose); !ok {
		t.Error("no WithClose")
	}
	if _, err := tr.AppendEntriesPipeline("x", "127.0.0.1:1"); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("pipelining: %v", err)
	}
}

func TestAdvertisedAddressIsUsed(t *testing.T) {
	p := porttest.New(t, "mail-a").Open(1)
	tr, err := New(p, "m1.example:7946", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.(io.Closer).Close()
	if tr.LocalAddr() != "m1.example:7946" {
		t.Error(tr.LocalAddr())
	}
	if _, err := New(p, "", nil); err == nil {
		t.Error("no address, no error")
	}
}

// #695: a heartbeat must come through Consumer like any other RPC.
func TestHeartbeatsTakeNoFastPath(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one, two := open(t, b, 1), open(t, b, 2)
	one.SetHeartbeatHandler(func(rpc raft.RPC) {
		t.Error("the fast path was taken")
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	heartbeat := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("2"), Addr: []byte(two.LocalAddr())},
		Term:      7,
	}
	done := make(chan error, 1)
	go func() {
		var resp raft.AppendEntriesResponse
		err := two.AppendEntries("1", one.LocalAddr(), heartbeat, &resp)
		if err == nil && resp.Term != 9 {
			err = fmt.Errorf("answer %+v", resp)
		}
		done <- err
	}()
	select {
	case rpc := <-one.Consumer():
		if req := rpc.Command.(*raft.AppendEntriesRequest); req.Term != 7 {
			t.Errorf("got %+v", req)
		}
		rpc.Respond(&raft.AppendEntriesResponse{Term: 9}, nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
	case err := <-done:
		t.Fatalf("answered without the consumer: %v", err)
	}
}

// fsm remembers what it applied.
type fsm struct {
	mu   sync.Mutex
	more *sync.Cond
	seen map[string]bool
}

func newFSM() *fsm {
	f := &fsm{seen: map[string]bool{}}
	f.more = sync.NewCond(&f.mu)
	return f
}

func (f *fsm) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[string(l.Data)] = true
	f.more.Broadcast()
	return nil
}

func (f *fsm) waitFor(data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.seen[data] {
		f.more.Wait()
	}
}
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("none") }
func (f *fsm) Restore(io.ReadCloser) error         { return nil }

// flaky is a log in memory that refuses appends when told to.
type flaky struct {
	*raft.InmemStore
	fail   atomic.Bool
	failed chan struct{}
}

func (s *flaky) StoreLogs(l []*raft.Log) error {
	if s.fail.Swap(false) {
		s.failed <- struct{}{}
		return errors.New("injected")
	}
	return s.InmemStore.StoreLogs(l)
}
func (s *flaky) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

type node struct {
	*raft.Raft
	store *flaky
	fsm   *fsm
}

// start runs three Raft nodes over real ports, and gives the leader first.
func start(t *testing.T) []*node {
	t.Helper()
	b := porttest.New(t, "mail-a")
	var nodes []*node
	var trans []raft.Transport
	var conf raft.Configuration
	for i := range 3 {
		tr := open(t, b, i+1)
		trans = append(trans, tr)
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: tr.LocalAddr()})
	}
	leaders := make(chan raft.Observation, 64)
	for i, tr := range trans {
		c := raft.DefaultConfig()
		c.LocalID, c.Logger = conf.Servers[i].ID, hclog.NewNullLogger()
		n := &node{
			store: &flaky{InmemStore: raft.NewInmemStore(), failed: make(chan struct{}, 1)},
			fsm:   newFSM(),
		}
		snaps := raft.NewInmemSnapshotStore()
		if err := raft.BootstrapCluster(c, n.store, n.store, snaps, tr, conf); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(c, n.fsm, n.store, n.store, snaps, tr)
		if err != nil {
			t.Fatal(err)
		}
		n.Raft = r
		t.Cleanup(func() { r.Shutdown().Error() })
		r.RegisterObserver(raft.NewObserver(leaders, false, func(o *raft.Observation) bool {
			s, ok := o.Data.(raft.RaftState)
			return ok && s == raft.Leader
		}))
		nodes = append(nodes, n)
	}
	for {
		for i, n := range nodes {
			if n.State() == raft.Leader {
				nodes[0], nodes[i] = nodes[i], nodes[0]
				return nodes
			}
		}
		select {
		case <-leaders:
		case <-t.Context().Done():
			t.Fatal("no leader")
		}
	}
}

// apply proposes on whoever is the leader until it is committed.
func apply(t *testing.T, nodes []*node, data string) {
	t.Helper()
	for {
		for _, n := range nodes {
			if n.Apply([]byte(data), 10*time.Second).Error() == nil {
				return
			}
		}
		select {
		case <-time.After(10 * time.Millisecond): // between two leaders
		case <-t.Context().Done():
			t.Fatal("not committed")
		}
	}
}

func TestThreeNodesElectAndReplicate(t *testing.T) {
	nodes := start(t)
	for i := range 50 {
		apply(t, nodes, fmt.Sprint("entry ", i))
	}
	big := strings.Repeat("x", 300_000)
	apply(t, nodes, big)
	for _, n := range nodes {
		n.fsm.waitFor("entry 0")
		n.fsm.waitFor("entry 49")
		n.fsm.waitFor(big)
	}
}

// #612: a follower whose log refuses an append, again and again, under load,
// still gets everything afterwards. With MaxRPCsInFlight 2 it does not.
func TestFollowerThatFailsAnAppendDoesNotWedge(t *testing.T) {
	nodes := start(t)
	follower := nodes[1]
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				apply(t, nodes, "load")
			}
		})
	}
	for i := range 6 {
		// Once it has caught up, a leader that may would pipeline to it.
		mark := fmt.Sprint("mark ", i)
		apply(t, nodes, mark)
		follower.fsm.waitFor(mark)
		follower.store.fail.Store(true)
		<-follower.store.failed
	}
	apply(t, nodes, "the last")
	follower.fsm.waitFor("the last")
	cancel()
	load.Wait()
}

func TestCloseEndsConnectionsOfBothKinds(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one, two := open(t, b, 1), open(t, b, 2)
	vote := func() error {
		var resp raft.RequestVoteResponse
		return two.RequestVote("1", one.LocalAddr(), &raft.RequestVoteRequest{Term: 1}, &resp)
	}
	answer := func() {
		rpc := <-one.Consumer()
		rpc.Respond(&raft.RequestVoteResponse{}, nil)
	}
	go answer()
	if err := vote(); err != nil {
		t.Fatal(err)
	}
	if err := one.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	if err := vote(); err == nil {
		t.Error("answered after close")
	}
	if err := one.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
}

// generation is a hello with one number in it.
type generation struct {
	own  byte
	seen chan string
}

func (g *generation) Hello(pki.Identity) []byte { return []byte{g.own} }

func (g *generation) Check(peer pki.Identity, hello []byte) error {
	select {
	case g.seen <- peer.Name:
	default:
	}
	if !bytes.Equal(hello, g.Hello(peer)) {
		return errors.New("a member of an old generation must join anew")
	}
	return nil
}

func TestHello(t *testing.T) {
	for _, same := range []bool{true, false} {
		b := porttest.New(t, "mail-a")
		g1 := &generation{own: 1, seen: make(chan string, 1)}
		g2 := &generation{own: 1, seen: make(chan string, 1)}
		if !same {
			g2.own = 2
		}
		one, two := open(t, b, 1, WithHello(g1)), open(t, b, 2, WithHello(g2))
		done := make(chan error, 1)
		go func() {
			var resp raft.RequestVoteResponse
			done <- two.RequestVote("1", one.LocalAddr(), &raft.RequestVoteRequest{Term: 1}, &resp)
		}()
		if same {
			rpc := <-one.Consumer()
			rpc.Respond(&raft.RequestVoteResponse{}, nil)
		}
		err := <-done
		if same && err != nil || !same && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "join anew")) {
			t.Errorf("same %v: %v", same, err)
		}
		if name := <-g1.seen; name != "m2" {
			t.Errorf("checked %q", name)
		}
		if name := <-g2.seen; name != "m1" { // also where it was refused: it may learn why
			t.Errorf("the dialling side checked %q", name)
		}
	}
}

// The dialling side refuses too: here the listening side takes everybody.
func TestHelloIsCheckedByTheDiallingSide(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() {
		readHello(b)
		b.Write([]byte{0})
		writeHello(b, []byte{9})
	}()
	if err := sayHello(a, &generation{own: 1}); err == nil || errors.Is(err, ErrRefused) {
		t.Fatalf("got %v", err)
	}
}

func TestHelloIsBounded(t *testing.T) {
	if _, err := readHello(bytes.NewReader([]byte{0xff, 0xff})); err == nil || strings.Contains(err.Error(), "EOF") {
		t.Errorf("read: %v", err)
	}
	if err := writeHello(io.Discard, make([]byte, helloMax+1)); err == nil {
		t.Error("written")
	}
}

// A member that speaks garbage on a Raft connection loses that connection.
func TestGarbageEndsTheConnection(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one := open(t, b, 1)
	c, err := b.Open(2).Dial(context.Background(), string(one.LocalAddr()), port.Raft)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(bytes.Repeat([]byte{0xee}, 100))
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Log(err) // a reset is as good as an end
	}
}

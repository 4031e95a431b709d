package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
	"mailraft/store/content"
)

// memory is a Disk that keeps everything in memory and can be made to fail.
type memory struct {
	mu      sync.Mutex
	has     map[mail.ContentID]kept
	open    int
	full    bool
	damaged bool          // a read fails halfway
	gate    chan struct{} // if set, a Write waits until it is closed
	commits chan struct{} // if set, a Commit waits for one element
	failing error         // of Commit
	opens   atomic.Int64
	discard bool // count and sum only
}

type kept struct {
	mail.Content
	data []byte
}

func newMemory() *memory { return &memory{has: map[mail.ContentID]kept{}} }

func (m *memory) Create(id mail.ContentID) (Sink, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return nil, fmt.Errorf("disk of the test: %w", ErrFull)
	}
	if _, ok := m.has[id]; ok {
		return nil, ErrExists
	}
	m.open++
	return &memorySink{m: m, id: id, sum: xxhash.New()}, nil
}

func (m *memory) Stat(id mail.ContentID) (mail.Content, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.has[id]
	return k.Content, ok
}

func (m *memory) Open(id mail.ContentID) (Reader, error) {
	m.opens.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.has[id]
	if !ok {
		return nil, ErrNotFound
	}
	r := &memoryReader{Reader: bytes.NewReader(k.data), c: k.Content}
	if m.damaged {
		r.Reader = io.MultiReader(bytes.NewReader(k.data[:len(k.data)/2]), bad{})
	}
	return r, nil
}

func (m *memory) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) writers() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

type bad struct{}

func (bad) Read([]byte) (int, error) { return 0, fmt.Errorf("record 7: %w", ErrDamaged) }

type memoryReader struct {
	io.Reader
	c mail.Content
}

func (r *memoryReader) Content() mail.Content { return r.c }
func (r *memoryReader) Close() error          { return nil }

type memorySink struct {
	m    *memory
	id   mail.ContentID
	sum  *xxhash.Digest
	size int64
	data []byte
}

func (s *memorySink) Write(p []byte) (int, error) {
	s.m.mu.Lock()
	gate := s.m.gate
	s.m.mu.Unlock()
	if gate != nil {
		<-gate
	}
	s.size += int64(len(p))
	if !s.m.discard {
		s.data = append(s.data, p...)
	}
	return s.sum.Write(p)
}

func (s *memorySink) Size() int64 { return s.size }
func (s *memorySink) Sum() uint64 { return s.sum.Sum64() }

func (s *memorySink) Commit(notAfter mail.Time, done func(error)) {
	go func() {
		if s.m.commits != nil {
			<-s.m.commits
		}
		s.m.mu.Lock()
		s.m.open--
		err := s.m.failing
		if err == nil {
			c := mail.Content{ID: s.id, Size: s.size, Sum: s.sum.Sum64(), NotAfter: notAfter}
			s.m.has[s.id] = kept{c, s.data}
		}
		s.m.mu.Unlock()
		done(err)
	}()
}

func (s *memorySink) Abort() { s.m.set(func() { s.m.open-- }) }

// pipes is a network of net.Pipe for one test. The hook may wrap what a member
// dials, or refuse.
type pipes struct {
	mu   sync.Mutex
	ways map[string]chan net.Conn
	hook func(from, to string, c net.Conn) (net.Conn, error)
}

var errUnplugged = errors.New("unplugged")

func (p *pipes) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		p.mu.Lock()
		way, hook := p.ways[to], p.hook
		p.mu.Unlock()
		if way == nil {
			return nil, errUnplugged
		}
		near, far := net.Pipe()
		var c net.Conn = near
		if hook != nil {
			var err error
			if c, err = hook(from, to, near); err != nil {
				return nil, err
			}
		}
		select {
		case way <- far:
			return c, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// setHook takes effect for connections made from now on.
func (p *pipes) setHook(h func(from, to string, c net.Conn) (net.Conn, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = h
}

func unplug(names ...string) func(from, to string, c net.Conn) (net.Conn, error) {
	return func(from, to string, c net.Conn) (net.Conn, error) {
		for _, n := range names {
			if from == n || to == n {
				return nil, errUnplugged
			}
		}
		return c, nil
	}
}

type pipeListener struct {
	way  chan net.Conn
	once sync.Once
	done chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.way:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// house is a few members in one process, named a, b, c, …
type house struct {
	t     testing.TB
	net   *pipes
	disks []*memory
	peers []Peer
	r     []*Replica
	mu    sync.Mutex
}

type option func(*Config)

func newHouse(t testing.TB, n int, hook func(from, to string, c net.Conn) (net.Conn, error), opts ...option) *house {
	h := &house{t: t, net: &pipes{ways: map[string]chan net.Conn{}, hook: hook}}
	for i := range n {
		name := string(rune('a' + i))
		h.net.ways[name] = make(chan net.Conn)
		h.peers = append(h.peers, Peer{ID: mail.MemberID(i + 1), Name: name, Addr: name, Voter: true})
	}
	for i := range n {
		m := newMemory()
		c := Config{Self: h.peers[i].ID, Disk: m, Dial: h.net.dial(h.peers[i].Name), Peers: func() []Peer { return h.others(i) }}
		for _, o := range opts {
			o(&c)
		}
		h.disks = append(h.disks, m)
		r := New(c)
		h.r = append(h.r, r)
		go r.Serve(&pipeListener{way: h.net.ways[h.peers[i].Name], done: make(chan struct{})})
	}
	t.Cleanup(h.close)
	return h
}

func (h *house) close() {
	for _, r := range h.r {
		r.Close()
	}
}

func (h *house) others(i int) []Peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ps []Peer
	for j, p := range h.peers {
		if j != i {
			ps = append(ps, p)
		}
	}
	return ps
}

func (h *house) vote(i int, voter bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peers[i].Voter = voter
}

// check fails the test when any member has other bytes than want under id.
func (h *house) check(id mail.ContentID, want []byte) {
	h.t.Helper()
	for i, d := range h.disks {
		d.mu.Lock()
		if k, ok := d.has[id]; ok && !bytes.Equal(k.data, want) {
			h.t.Errorf("member %d committed wrong bytes", i)
		}
		d.mu.Unlock()
	}
}

// honest fails the test when a holder does not hold.
func (h *house) honest(id mail.ContentID, holders []mail.MemberID) {
	h.t.Helper()
	for _, m := range holders {
		if _, ok := h.disks[m-1].Stat(id); !ok {
			h.t.Errorf("%s is a holder and has nothing", m)
		}
	}
}

var ids atomic.Uint64

func newID() (id mail.ContentID) {
	n := ids.Add(1)
	for i := range 8 {
		id[15-i] = byte(n >> (8 * i))
	}
	return id
}

func body(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	r.Read(b)
	return b
}

// put uploads b in writes of at most piece bytes.
func put(r *Replica, id mail.ContentID, b []byte, piece int) (mail.Content, *Upload, []mail.MemberID, error) {
	u, err := r.Begin(id)
	if err != nil {
		return mail.Content{}, nil, nil, err
	}
	for len(b) > 0 {
		n := min(piece, len(b))
		if _, err := u.Write(b[:n]); err != nil {
			return mail.Content{}, u, nil, err
		}
		b = b[n:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20e9)
	defer cancel()
	c, holders, err := u.Close(ctx, 1000)
	return c, u, holders, err
}

// bubble runs f in virtual time. That it ends proves that no goroutine is left.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func newStore(t testing.TB) *content.Store {
	s, err := content.Open(content.Options{FS: vfs.NewMem(), Dir: "content", Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

package replica

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// Peer is another member.
type Peer struct {
	ID    mail.MemberID
	Name  string
	Addr  string
	Voter bool
}

// Config is what a Replica is given. Zero sizes and times mean the defaults.
type Config struct {
	Self   mail.MemberID
	Disk   Disk
	Peers  func() []Peer // all other members, by the state
	Dial   func(ctx context.Context, addr string) (net.Conn, error)
	Logger hclog.Logger

	// PeerOf tells who the other end proved to be; nil: its hello is believed.
	PeerOf func(net.Conn) (mail.MemberID, bool)
	// Need tells how many of the voters, this member among them, must have a
	// content; nil is a majority. It takes less only where redundancy is
	// switched off by a parameter.
	Need func(voters int) int
	// Enough is a further condition on who has it, besides their number: while
	// the voters are being changed the peers of the old and of the new set are
	// voters here, and the holders must be a majority of each. nil: none.
	Enough func(holders []mail.MemberID) bool
	// Extra is one more wish for the holders (another site). Close waits for it
	// up to ExtraWait after the majority is there, then does without.
	Extra     func(holders []mail.MemberID) bool
	ExtraWait time.Duration // 2 s
	// Damaged is told when the own copy turned out damaged while a peer read it.
	Damaged func(mail.ContentID, error)

	QueueSize    int64         // bytes queued per peer, 8 MiB
	ShareSize    int64         // of these for one upload, 1 MiB
	Grace        time.Duration // what one upload waits in all for peers that it does not need, 500 ms
	WriteWait    time.Duration // longest wait of one Write for a majority to keep up, 30 s
	Silence      time.Duration // a peer that is not heard of, or takes nothing, for so long is gone, 5 s
	OpenMax      int           // uploads from peers open at once, 1,024; half of it per connection
	PullsMax     int           // pulls at once, 8
	ConnectsMax  int           // connections from peers at once, 256
	InFlightMax  int           // uploads per peer that wait for an answer, 8,192
	CommitsMax   int           // commits per connection that wait for the disk, 1,024
	BackoffLeast time.Duration // first pause before dialling again, 50 ms
	BackoffMost  time.Duration // 3 s
}

func (c *Config) defaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if c.QueueSize == 0 {
		c.QueueSize = 8 << 20
	}
	if c.ShareSize == 0 {
		c.ShareSize = 1 << 20
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Need == nil {
		c.Need = func(voters int) int { return voters/2 + 1 }
	}
	if c.Enough == nil {
		c.Enough = func([]mail.MemberID) bool { return true }
	}
	wait(&c.ExtraWait, 2*time.Second)
	wait(&c.Grace, 500*time.Millisecond)
	wait(&c.WriteWait, 30*time.Second)
	wait(&c.Silence, 5*time.Second)
	wait(&c.BackoffLeast, 50*time.Millisecond)
	wait(&c.BackoffMost, 3*time.Second)
	set(&c.OpenMax, 1024)
	set(&c.PullsMax, 8)
	set(&c.ConnectsMax, 256)
	set(&c.InFlightMax, 8192)
	set(&c.CommitsMax, 1024)
}

// ErrClosed reports a Replica that was closed.
var ErrClosed = errors.New("replication closed")

// Replica is one member's part in content replication.
type Replica struct {
	Config
	log   hclog.Logger
	ctx   context.Context
	stop  context.CancelCauseFunc
	wg    sync.WaitGroup
	count counters

	mu      sync.Mutex
	closed  bool
	links   map[mail.MemberID]*link
	claims  map[mail.ContentID]*claim
	flights map[mail.ContentID]*flight
	conns   int // accepted connections
	opened  int // uploads from peers that are open

	pulls chan struct{} // one element per running pull
}

// New starts to connect to the peers. Nothing is received before Serve.
func New(c Config) *Replica {
	c.defaults()
	r := &Replica{Config: c, log: c.Logger,
		links:   map[mail.MemberID]*link{},
		claims:  map[mail.ContentID]*claim{},
		flights: map[mail.ContentID]*flight{},
		pulls:   make(chan struct{}, c.PullsMax),
	}
	r.ctx, r.stop = context.WithCancelCause(context.Background())
	r.follow(r.Peers())
	r.goes(r.watch)
	return r
}

// Close ends all connections and waits for everything that was started here.
// Uploads and pulls that are under way fail with ErrClosed.
func (r *Replica) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop(ErrClosed)
	r.wg.Wait()
}

// goes runs f until Close at the latest; false when that has begun.
func (r *Replica) goes(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Go(f)
	return true
}

// watch keeps the links equal to the members, also while nothing is uploaded:
// a new member is connected before the first upload wants it.
func (r *Replica) watch() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
			for _, l := range r.follow(r.Peers()) {
				l.prune()
			}
		}
	}
}

// follow opens links to new peers, closes those of members that are gone, and
// returns the present ones.
func (r *Replica) follow(peers []Peer) []*link {
	r.mu.Lock()
	defer r.mu.Unlock()
	links := make([]*link, 0, len(peers))
	for _, p := range peers {
		links = append(links, r.linkLocked(p))
	}
	for id, l := range r.links {
		if !slices.ContainsFunc(peers, func(p Peer) bool { return p.ID == id }) {
			l.stop()
			delete(r.links, id)
		}
	}
	return links
}

func (r *Replica) link(p Peer) *link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.linkLocked(p)
}

func (r *Replica) linkLocked(p Peer) *link {
	l := r.links[p.ID]
	if l == nil {
		l = newLink(r, p.ID)
		l.move(p.Addr)
		if r.closed {
			l.stop()
			return l
		}
		r.links[p.ID] = l
		r.wg.Go(l.run)
	}
	l.move(p.Addr)
	return l
}

// claim makes this member write a content once at a time, whoever brings it.
// It is also why Stat can be believed: while a commit is on its way its id is
// claimed.
type claim struct {
	free chan struct{} // made by the first one that waits
}

// take claims id. If somebody else has it, it returns what is closed when that
// is over.
func (r *Replica) take(id mail.ContentID) (wait <-chan struct{}, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.claims[id]
	if c == nil {
		r.claims[id] = &claim{}
		return nil, true
	}
	if c.free == nil {
		c.free = make(chan struct{})
	}
	return c.free, false
}

func (r *Replica) give(id mail.ContentID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.claims[id]; c != nil && c.free != nil {
		close(c.free)
	}
	delete(r.claims, id)
}

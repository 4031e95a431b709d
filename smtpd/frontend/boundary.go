package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/cluster/link"
	"mailraft/cluster/port"
	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/handover"

	"github.com/hashicorp/go-hclog"
)

const (
	pollEvery = time.Second
	pollTime  = 2 * time.Second
	// silentTime is how long a member may not answer before it is given nothing
	// any more, and what is under way with it is cut.
	silentTime = 5 * time.Second
)

// dialer connects to a member at an address, for a protocol of its cluster port.
type dialer func(ctx context.Context, addr, proto string) (net.Conn, error)

// boundary is one that mail is handed over to: its members, and how they are.
type boundary struct {
	BoundaryConfig
	hostname string
	site     string
	log      hclog.Logger
	id       *identity
	dial     dialer
	close    func()
	link     *link.Client

	mu     sync.Mutex
	peers  map[string]*peer // by address of the cluster port
	stops  map[string]context.CancelFunc
	routes map[string]time.Time // recipients that were found here
	size   atomic.Int64         // message-size-max, as a member said last
	work   sync.WaitGroup
}

func openBoundary(c BoundaryConfig, fe *Config, log hclog.Logger) (*boundary, error) {
	id, err := readIdentity(c.Dir)
	if err != nil {
		return nil, err
	}
	p, err := port.Dialer(port.Config{Credentials: id.load, Logger: log.Named("port")})
	if err != nil {
		return nil, err
	}
	b := newBoundary(c, fe, id, p.Dial, log)
	b.close = func() { p.Close() }
	return b, nil
}

// newBoundary knows no member yet. dial connects to one, by address and
// protocol.
func newBoundary(c BoundaryConfig, fe *Config, id *identity, dial dialer, log hclog.Logger) *boundary {
	b := &boundary{BoundaryConfig: c, hostname: fe.Hostname, site: fe.Site, log: log, id: id, dial: dial, close: func() {},
		peers: map[string]*peer{}, stops: map[string]context.CancelFunc{}, routes: map[string]time.Time{}}
	b.link = link.NewClient(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, addr, port.Front) }, log.Named("link"))
	return b
}

// run keeps in touch with the members until ctx ends, and then lets go of
// everything.
func (b *boundary) run(ctx context.Context) {
	b.meet(ctx, b.seeds())
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			b.discover(ctx)
			b.tidy()
			if err := b.keepCertificate(ctx); err != nil {
				b.log.Warn("the certificate is not renewed yet", "ends", b.id.load().Cert.Leaf.NotAfter, "error", err)
			}
		case <-ctx.Done():
		}
	}
	b.work.Wait()
	b.link.Close()
	b.mu.Lock()
	for _, p := range b.peers {
		p.drop()
	}
	b.mu.Unlock()
	b.close()
}

// seeds are the addresses to begin with.
func (b *boundary) seeds() []string {
	if b.Only || len(b.id.Members) == 0 {
		return b.Members
	}
	return append(slices.Clone(b.Members), b.id.Members...)
}

// meet begins to ask the members at these addresses.
func (b *boundary) meet(ctx context.Context, addrs []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, addr := range addrs {
		if b.peers[addr] != nil {
			continue
		}
		p := newPeer(b, addr)
		peerCtx, stop := context.WithCancel(ctx)
		b.peers[addr], b.stops[addr] = p, stop
		b.work.Go(func() { b.ask(peerCtx, p) })
	}
}

// ask asks a member how it is, again and again.
func (b *boundary) ask(ctx context.Context, p *peer) {
	for ctx.Err() == nil {
		began := time.Now()
		s, err := call[handover.State](ctx, b, p, handover.KindState, nil, pollTime)
		if ctx.Err() != nil {
			return
		}
		p.saw(s, err, time.Now())
		if err == nil {
			b.size.Store(s.SizeMax)
		}
		select {
		case <-time.After(max(pollEvery-time.Since(began), pollEvery/4)):
		case <-ctx.Done():
		}
	}
}

// discover meets the members that those who answer know of, and forgets who is
// none any more. Where nobody is left it begins anew.
func (b *boundary) discover(ctx context.Context) {
	if b.Only {
		return
	}
	known := map[string]bool{}
	for _, p := range b.list() {
		p.mu.Lock()
		if p.err == nil {
			for _, m := range p.state.Members {
				known[m.Address] = true
			}
		}
		p.mu.Unlock()
	}
	if len(known) == 0 {
		b.meet(ctx, b.seeds())
		return
	}
	var addrs []string
	for addr := range known {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	b.meet(ctx, addrs)
	b.mu.Lock()
	for addr, p := range b.peers {
		if !known[addr] {
			b.stops[addr]()
			delete(b.peers, addr)
			delete(b.stops, addr)
			p.drop()
		}
	}
	b.mu.Unlock()
	b.id.remember(addrs, b.log)
}

// drop lets go of a member; what is under way goes on.
func (p *peer) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.closeIdle(0)
}

// tidy closes streams that nobody needed for a while.
func (b *boundary) tidy() {
	for _, p := range b.list() {
		p.mu.Lock()
		p.closeIdle(streamIdle)
		p.mu.Unlock()
	}
}

// list are the members, by address.
func (b *boundary) list() []*peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []*peer
	for _, p := range b.peers {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *peer) int { return strings.Compare(a.addr, b.addr) })
	return list
}

// choose picks a member that takes mail: of the front end's own site if there
// is one, and of two drawn by lot the one that has less to do. The error is the
// client's answer.
func (b *boundary) choose(but []*peer) (*peer, error) {
	var near, far []*peer
	var reasons []string
	now := time.Now()
	for _, p := range b.list() {
		switch err := p.ready(now); {
		case err != nil:
			reasons = append(reasons, p.name()+" "+reason(err))
		case slices.Contains(but, p):
		case b.site != "" && p.site() == b.site:
			near = append(near, p)
		default:
			far = append(far, p)
		}
	}
	if len(near) > 0 {
		far = near
	}
	switch len(far) {
	case 0:
		return nil, b.nobody(reasons)
	case 1:
		return far[0], nil
	}
	i := rand.IntN(len(far))
	j := (i + 1 + rand.IntN(len(far)-1)) % len(far)
	if far[j].load() < far[i].load() {
		return far[j], nil
	}
	return far[i], nil
}

// nobody is what a client is told when no member takes its mail.
func (b *boundary) nobody(reasons []string) *mail.Reply {
	b.log.Debug("no member takes mail", "reasons", reasons)
	return reply.NoMember.Reply()
}

// reason is why a member takes no mail, in a few words.
func reason(err error) string {
	if r := (*mail.Reply)(nil); errors.As(err, &r) {
		return fmt.Sprintf("says %q", r.Text)
	}
	return err.Error()
}

func (p *peer) name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.Member != "" {
		return p.state.Member
	}
	return p.addr
}

func (p *peer) site() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Site
}

// call asks a member something.
func call[A any](ctx context.Context, b *boundary, p *peer, kind byte, question any, within time.Duration) (a A, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return a, err
	}
	answer, err := b.link.Call(ctx, p.addr, kind, body)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return a, fmt.Errorf("read the answer of %s: %w", p.addr, err)
	}
	return a, nil
}

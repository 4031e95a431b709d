package limit

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ClientsMax bounds the networks that one Limiter remembers. One takes some 450
// bytes.
const ClientsMax = 50_000

// Limiter holds each network to a rate.
//
// A network that was not seen for so long that its bucket is full again is
// forgotten: it would be treated as new either way. Above ClientsMax the one
// that was seen longest ago goes too. Whoever has that many networks to come
// from gains nothing by it: each had a full bucket to begin with.
type Limiter struct {
	rate Rate

	mu      sync.Mutex
	clients map[netip.Prefix]*list.Element
	seen    *list.List // of *client, latest first
}

type client struct {
	network netip.Prefix
	bucket  *rate.Limiter
	last    time.Time
}

// New makes a Limiter; one of no rate allows everything and remembers nothing.
func New(r Rate) *Limiter {
	return &Limiter{rate: r, clients: map[netip.Prefix]*list.Element{}, seen: list.New()}
}

// Allow takes one from the network's bucket, if there is one.
func (l *Limiter) Allow(network netip.Prefix, now time.Time) bool {
	if l.rate.None() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.client(network)
	c.last = now
	l.forget(now)
	return c.bucket.AllowN(now, 1)
}

// client finds or makes a network's bucket, and puts it first.
func (l *Limiter) client(network netip.Prefix) *client {
	if e := l.clients[network]; e != nil {
		l.seen.MoveToFront(e)
		return e.Value.(*client)
	}
	every := l.rate.Per / time.Duration(l.rate.Count)
	c := &client{network: network, bucket: rate.NewLimiter(rate.Every(max(every, 1)), l.rate.Count)}
	l.clients[network] = l.seen.PushFront(c)
	return c
}

// forget lets go of what has rested, and of the last above ClientsMax.
func (l *Limiter) forget(now time.Time) {
	for e := l.seen.Back(); e != nil; e = l.seen.Back() {
		c := e.Value.(*client)
		if len(l.clients) <= ClientsMax && now.Sub(c.last) < l.rate.Per {
			return
		}
		l.seen.Remove(e)
		delete(l.clients, c.network)
	}
}

// Len is how many networks are remembered.
func (l *Limiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.clients)
}

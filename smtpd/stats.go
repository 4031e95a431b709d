package smtpd

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Reject names a kind of refusal. The stage is the command in lower case, or
// connect, idle, message, other.
type Reject struct {
	Stage string
	Code  int
}

// Counts is what a server has counted since it was made.
type Counts struct {
	Open         int   // connections now, those of front ends not counted
	FrontEnds    int   // connections of front ends now
	Transactions int   // open now
	Connections  int64 // let in
	Sessions     int64 // that said EHLO or HELO
	Received     int64 // messages
	Discarded    int64 // answered 250, and not kept: a milter wanted it
	Bytes        int64 // of those
	Rejects      map[Reject]int64
	Auth         map[string]int64 // authentications by result: ok, denied, away, limited
	ProxyErrors  int64            // connections of proxies without a header that can be read
	Limited      map[string]int64 // refusals by a limit, by its name
	Commit       Histogram        // end of message to the queue's answer
}

// Histogram counts durations by upper bound; the last count is of those above
// all bounds.
type Histogram struct {
	Bounds []float64 // seconds
	Counts []int64   // one more than Bounds, not cumulative
	Sum    float64   // seconds
	Total  int64
}

type stats struct {
	connections, sessions, received, discarded, bytes, proxyErrors atomic.Int64

	open, frontEnds atomic.Int64 // transactions, connections

	commit histogram

	mu      sync.Mutex
	rejects map[Reject]int64
	auths   map[string]int64
	limited map[string]int64
}

// Results of an authentication.
const (
	authOk      = "ok"
	authDenied  = "denied"
	authAway    = "away"
	authLimited = "limited"
)

func (s *stats) auth(result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.auths == nil {
		s.auths = map[string]int64{}
	}
	s.auths[result]++
}

var commitBounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

type histogram struct {
	counts [len(commitBounds) + 1]atomic.Int64
	nanos  atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(commitBounds) && d.Seconds() > commitBounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.nanos.Add(int64(d))
}

func (h *histogram) snapshot() Histogram {
	out := Histogram{Bounds: commitBounds[:], Sum: time.Duration(h.nanos.Load()).Seconds()}
	for i := range h.counts {
		n := h.counts[i].Load()
		out.Counts = append(out.Counts, n)
		out.Total += n
	}
	return out
}

func (s *stats) refused(stage string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rejects == nil {
		s.rejects = map[Reject]int64{}
	}
	s.rejects[Reject{stage, code}]++
}

func (s *stats) limit(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limited == nil {
		s.limited = map[string]int64{}
	}
	s.limited[name]++
}

// Counts is a snapshot for metrics.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	return Counts{
		Open:         open,
		FrontEnds:    int(s.stats.frontEnds.Load()),
		Transactions: int(s.stats.open.Load()),
		Connections:  s.stats.connections.Load(),
		Sessions:     s.stats.sessions.Load(),
		Received:     s.stats.received.Load(),
		Discarded:    s.stats.discarded.Load(),
		Bytes:        s.stats.bytes.Load(),
		Rejects:      maps.Clone(s.stats.rejects),
		Auth:         maps.Clone(s.stats.auths),
		ProxyErrors:  s.stats.proxyErrors.Load(),
		Limited:      maps.Clone(s.stats.limited),
		Commit:       s.stats.commit.snapshot(),
	}
}

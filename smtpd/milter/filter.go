package milter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Policy says what becomes of mail that a filter should have seen, and did not:
// it could not be reached, took too long, went away in the middle, or said what
// cannot be. There is none that refuses for good: being away is temporary.
type Policy int

// The policies.
const (
	Tempfail   Policy = iota // 451; 421 where the filter is away for longer
	Accept                   // as if there were no such filter
	Quarantine               // accepted, and set aside
)

var policies = []string{"tempfail", "accept", "quarantine"}

// String is the policy in lower case.
func (p Policy) String() string { return policies[p] }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Policy) UnmarshalText(b []byte) error {
	i := slices.Index(policies, string(b))
	if i < 0 {
		return fmt.Errorf("%q is none of tempfail, accept and quarantine", b)
	}
	*p = Policy(i)
	return nil
}

// Config describes a filter. Zero times and numbers are the defaults.
type Config struct {
	Name     string
	Address  string        // inet:HOST:PORT or unix:/PATH
	Connect  time.Duration // to reach it and to negotiate; 30s
	Command  time.Duration // to answer a command of the envelope; 30s
	Content  time.Duration // to answer a piece of the message, or its end; 5m
	WhenAway Policy
	SizeMax  int64 // larger messages are not shown to it; 0: all are
	OpenMax  int   // connections at once; 0 is 200

	Logger hclog.Logger
	Dial   func(ctx context.Context, network, address string) (net.Conn, error) // nil is a net.Dialer's
}

// Filter is one filter program, shared by all sessions.
type Filter struct {
	cfg              Config
	log              hclog.Logger
	network, address string
	slots            chan struct{}

	mu     sync.Mutex
	seen   time.Time // last good answer
	since  time.Time // it is away; zero: it is not
	failed time.Time // last failure to reach it
	err    error
	counts counts
}

type counts struct {
	verdicts map[string]int64
	messages int64
	took     time.Duration
}

// New makes a filter. Nothing is opened yet.
func New(cfg Config) (*Filter, error) {
	network, address, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&cfg.Connect, 30 * time.Second}, {&cfg.Command, 30 * time.Second}, {&cfg.Content, 5 * time.Minute}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if cfg.OpenMax == 0 {
		cfg.OpenMax = 200
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	return &Filter{cfg: cfg, log: cfg.Logger.With("milter", cfg.Name), network: network, address: address,
		slots: make(chan struct{}, cfg.OpenMax), counts: counts{verdicts: map[string]int64{}}}, nil
}

// Name is what the configuration calls it.
func (f *Filter) Name() string { return f.cfg.Name }

// parseAddress reads the form that Postfix has for milters.
func parseAddress(s string) (network, address string, err error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case kind == "unix" && strings.HasPrefix(rest, "/"):
		return "unix", rest, nil
	case kind == "inet":
		if host, port, err := net.SplitHostPort(rest); err == nil && host != "" && port != "" {
			return "tcp", rest, nil
		}
	}
	return "", "", fmt.Errorf("%q: want inet:HOST:PORT or unix:/PATH", s)
}

// holdOff is how long a filter that could not be reached is taken to be away
// without being asked: else each session would wait for it anew.
const holdOff = 2 * time.Second

var (
	errBusy = errors.New("all its connections are in use")
	errHeld = errors.New("it could not be reached a moment ago")
)

// open makes a connection. The slot it holds is given back by release.
func (f *Filter) open(ctx context.Context) (*conn, error) {
	f.mu.Lock()
	held := !f.failed.IsZero() && time.Since(f.failed) < holdOff
	f.mu.Unlock()
	if held {
		return nil, errHeld
	}
	wait := time.NewTimer(f.cfg.Connect)
	defer wait.Stop()
	select {
	case f.slots <- struct{}{}:
	case <-wait.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := f.dial(ctx)
	if err != nil {
		<-f.slots
		return nil, err
	}
	return c, nil
}

func (f *Filter) dial(ctx context.Context) (*conn, error) {
	limited, cancel := context.WithTimeout(ctx, f.cfg.Connect)
	defer cancel()
	nc, err := f.cfg.Dial(limited, f.network, f.address)
	var c *conn
	if err == nil {
		c, err = newConn(ctx, nc, f.cfg.Connect)
	}
	f.mu.Lock()
	f.failed = time.Time{}
	if err != nil && ctx.Err() == nil {
		f.failed = time.Now()
	}
	f.mu.Unlock()
	return c, err
}

func (f *Filter) release() { <-f.slots }

// Probe asks a filter that nobody has heard of for a while whether it is there.
func (f *Filter) Probe(ctx context.Context, quiet time.Duration) {
	f.mu.Lock()
	fresh := f.since.IsZero() && time.Since(f.seen) < quiet
	f.mu.Unlock()
	if fresh {
		return
	}
	c, err := f.dial(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		f.away(err)
		return
	}
	f.answered()
	c.quit()
}

// answered: it is there.
func (f *Filter) answered() {
	f.mu.Lock()
	was, since := f.err, f.since
	f.seen, f.since, f.err = time.Now(), time.Time{}, nil
	f.mu.Unlock()
	if was != nil {
		f.log.Info("a milter is back", "away", time.Since(since).Round(time.Second))
	}
}

// away notes a failure; the first one is worth a line in the log.
func (f *Filter) away(err error) {
	f.mu.Lock()
	first := f.since.IsZero()
	if f.err = err; first {
		f.since = time.Now()
	}
	f.mu.Unlock()
	if first {
		f.log.Warn("a milter is away", "address", f.cfg.Address, "when_away", f.cfg.WhenAway.String(), "error", err)
	}
}

// awayLong: a filter that is away for longer has not merely been started anew.
const awayLong = 10 * time.Second

func (f *Filter) awayFor() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() {
		return 0
	}
	return time.Since(f.since)
}

// count notes what was decided about a message, or a recipient.
func (f *Filter) count(verdict string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.verdicts[verdict]++
}

func (f *Filter) took(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.messages++
	f.counts.took += d
}

// State is a filter as views and metrics show it.
type State struct {
	Name, Address string
	WhenAway      Policy
	Away          bool
	Since         time.Time // it is away since
	Error         string    // why
	Open          int       // connections
	Verdicts      map[string]int64
	Messages      int64         // shown to it, to their end or until it had decided
	Took          time.Duration // waiting for its answers, over all of those
}

// State is a snapshot.
func (f *Filter) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := State{Name: f.cfg.Name, Address: f.cfg.Address, WhenAway: f.cfg.WhenAway, Away: !f.since.IsZero(), Since: f.since, Open: len(f.slots),
		Verdicts: maps.Clone(f.counts.verdicts), Messages: f.counts.messages, Took: f.counts.took}
	if f.err != nil {
		s.Error = f.err.Error()
	}
	return s
}

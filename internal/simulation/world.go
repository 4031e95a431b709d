package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/deliver"
	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Options say which boundary is simulated.
type Options struct {
	Seed    int64
	Members int
	Clients int
	Length  time.Duration // how long things are broken
	Span    time.Duration // shadow-resubmit-time-span; 0: by the seed
	Dir     string        // for snapshots on their way in
	Log     hclog.Logger
	// Event is told what is done to the boundary; nil: nobody.
	Event func(at time.Duration, text string)
	// Without takes a guard away, to see that its absence is noticed: "lease"
	// or "sync".
	Without string
	Only    string // the one fault that is done, again and again; "": all, as chance has it
}

// world is a boundary with everything around it.
type world struct {
	Options
	log      hclog.Logger
	began    time.Time
	dir      string
	span     time.Duration
	machines []*machine
	hold     time.Duration // safety-net-hold-time
	// shortLogs: who was away for a few seconds gets a snapshot.
	shortLogs bool
	net       *network
	mailbox   *mailbox
	ledger    *ledger
	referee   referee
	lastID    atomic.Int64 // of a member
	count     counts
	tasks     sync.WaitGroup
	ops       operator

	mu         sync.Mutex
	rng        *rand.Rand
	violations []string
	ahead      time.Duration // how far a majority's clocks ever were
}

func newWorld(o Options) *world {
	if o.Log == nil {
		o.Log = hclog.NewNullLogger()
	}
	w := &world{Options: o, log: o.Log, began: time.Now(), dir: o.Dir, net: newNetwork(o.Seed + 1), mailbox: newMailbox(), ledger: newLedger(),
		rng: rand.New(rand.NewPCG(uint64(o.Seed+2), 0))}
	w.referee = referee{w}
	w.ops = operator{world: w, rng: rand.New(rand.NewPCG(uint64(o.Seed+3), 0))}
	w.hold, w.shortLogs = 2*days, o.Seed%3 != 0
	if o.Seed%5 == 1 {
		w.hold = time.Minute
	}
	w.span = o.Span
	if w.span == 0 {
		w.span = []time.Duration{6, 10, 30}[w.number(3)] * time.Second
	}
	for i := range o.Members {
		w.machines = append(w.machines, &machine{world: w, i: i, id: mail.MemberID(i + 1), name: fmt.Sprintf("m%d", i+1),
			clock: &clock{start: w.began.Add(-time.Duration(i+1) * time.Hour), rate: 1 + 0.005*float64(i%3-1)},
			disk:  newDisk(o.Seed + 10 + int64(i))})
	}
	w.lastID.Store(int64(len(w.machines)))
	return w
}

// outside is where the mailbox server and the clients are.
func (w *world) outside() int { return len(w.machines) }

func (w *world) at(addr string) *machine {
	for _, m := range w.machines {
		if m.name == addr {
			return m
		}
	}
	panic("nobody has the address " + addr)
}

func (w *world) number(below int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(below)
}

// chance is true once in so many times.
func (w *world) chance(in int) bool { return w.number(in) == 0 }

// wait draws how long a step of a delivery takes: a few milliseconds, now and
// then far longer than a lease.
func (w *world) wait() time.Duration {
	d := time.Duration(1+w.number(20)) * time.Millisecond
	rare := 100
	if w.Without != "" {
		rare = 10 // what the guard is for happens more often
	}
	if w.chance(rare) {
		d = time.Duration(w.number(int(2 * w.span)))
	}
	return d
}

func (w *world) violate(format string, a ...any) {
	text := fmt.Sprintf("%v: %s", time.Since(w.began).Round(time.Millisecond), fmt.Sprintf(format, a...))
	w.mu.Lock()
	if len(w.violations) < violationsMax {
		w.violations = append(w.violations, text)
	}
	w.mu.Unlock()
	w.event("VIOLATION %s", text)
}

const violationsMax = 20

func (w *world) event(format string, a ...any) {
	if w.Event != nil {
		w.Event(time.Since(w.began), fmt.Sprintf(format, a...))
	}
}

// lease is what a process delivers under.
func (w *world) lease(own deliver.Lease) deliver.Lease {
	if w.Without == "lease" {
		return always{own}
	}
	return own
}

// always is a lease that is never over.
type always struct{ deliver.Lease }

func (always) Valid() bool { return true }
func (always) Run() uint64 { return 1 }

var errSlow = errors.New("it took too long")

// until waits for something that must come to be.
func (w *world) until(what string, limit time.Duration, is func() bool) error {
	for end := time.Now().Add(limit); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w", what, errSlow)
		}
	}
	return nil
}

// propose carries a command out on some member.
func (w *world) propose(k fsm.Kind, body any) (a fsm.Answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, leased := range []bool{true, false} {
		for _, m := range w.machines {
			p := m.process()
			if p == nil || !p.enter() {
				continue
			}
			defer p.leave()
			if leased && !p.engine.Node().Lease().Valid() {
				continue
			}
			if a, err = p.engine.Propose(ctx, k, body); err == nil && a.Refused != nil {
				err = a.Refused
			}
			return a, err
		}
	}
	return a, errors.New("no member runs")
}

// expiration is so long that no message is given up before the end, though
// clocks jump by days.
const expiration = 30 * days

// found makes the boundary: the first member, then the others with a token.
func (w *world) found() error {
	first := w.machines[0]
	if err := first.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := first.process().engine.Node().Bootstrap(ctx, []raft.Server{{ID: raft.ServerID(first.id.String()), Address: raft.ServerAddress(first.name)}})
	if err != nil {
		return err
	}
	token := [32]byte{1}
	db := fsm.DatabaseChange{Op: "add", Name: "DB1", Copies: []fsm.Copy{{Name: "a", Addr: "lmtp://mailbox:24"}}}
	domain := directory.Domain{Name: "example.test", Kind: directory.Accepted, AnyMailbox: true, Database: "DB1"}
	steps := []func() error{
		w.step(fsm.KindFound, fsm.Found{Boundary: "simulated", Name: "simulated", First: first.row(), Set: map[string]string{
			"min-voters": fmt.Sprint(len(w.machines)), "safety-net-hold-time": mail.FormatDuration(w.hold), "message-expiration-timeout": mail.FormatDuration(expiration), "commit-timeout": "10s",
			"shadow-heartbeat-frequency": "2s", "shadow-resubmit-time-span": mail.FormatDuration(w.span)}}),
		w.step(fsm.KindDatabase, db),
		w.step(fsm.KindDirectory, fsm.Directory{Domains: []directory.Domain{domain}}),
		w.step(fsm.KindToken, fsm.TokenAdd{Hash: token, Role: "member", Until: mail.At(time.Now().Add(time.Hour)), Uses: len(w.machines)}),
	}
	for _, m := range w.machines[1:] {
		steps = append(steps, w.step(fsm.KindMemberAdd, fsm.MemberAdd{Member: m.row(), Token: token}), m.start)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("found the boundary: %w", err)
		}
	}
	return w.until("all members take mail", 2*time.Minute, w.ready)
}

func (w *world) step(k fsm.Kind, body any) func() error {
	return func() error { _, err := w.propose(k, body); return err }
}

func (m *machine) row() fsm.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fsm.Member{ID: m.id, Name: m.name, Addr: m.name, Site: fmt.Sprint("site", m.i%2), Host: m.name + ".example.test"}
}

// ready reports that every member runs and may take mail.
func (w *world) ready() bool {
	for _, m := range w.machines {
		p := m.process()
		if p == nil || !p.enter() {
			return false
		}
		err := p.engine.Ready()
		p.leave()
		if err != nil {
			return false
		}
	}
	return true
}

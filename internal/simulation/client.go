package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"mailraft/mail"

	"github.com/cespare/xxhash/v2"
)

// ledger is what the clients know.
type ledger struct {
	mu   sync.Mutex
	subs map[string]*submission // by Message-ID, another for each attempt
}

// submission is one attempt to hand a message in.
type submission struct {
	message int    // the same for all attempts
	field   string // Message-ID
	sum     uint64
	rcpts   []string
	word    word
	id      mail.ID // acked
}

// word is what a client was told.
type word int

const (
	unknown word = iota // nothing, or 421: it may have been accepted
	acked
	refused
)

func newLedger() *ledger { return &ledger{subs: map[string]*submission{}} }

func (l *ledger) add(s *submission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs[s.field] = s
}

func (l *ledger) told(s *submission, what word, id mail.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.word, s.id = what, id
}

func (l *ledger) sum(field string) (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.subs[field]
	if !ok {
		return 0, false
	}
	return s.sum, true
}

// all is a copy of the record.
func (l *ledger) all() map[string]submission {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]submission, len(l.subs))
	for k, s := range l.subs {
		all[k] = *s
	}
	return all
}

// client hands in one message after the other, each until it is acknowledged.
func (w *world) client(n int, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(uint64(w.Seed*100+int64(n)), 0))
	chacha := rand.NewChaCha8([32]byte{byte(n), byte(w.Seed), byte(w.Seed >> 8)})
	for seq := 0; ; seq++ {
		body := make([]byte, bodySize(rng))
		chacha.Read(body)
		message, rcpts := n*1_000_000+seq, recipients(rng)
		for attempt := 1; ; attempt++ {
			m := w.machines[rng.IntN(len(w.machines))]
			s := &submission{message: message, field: fmt.Sprintf("<%d.%d@simulation>", message, attempt), sum: xxhash.Sum64(body), rcpts: rcpts}
			if w.submit(m, s, body) {
				break
			}
			if rest(stop, time.Duration(50+rng.IntN(500))*time.Millisecond) {
				return
			}
		}
		if rest(stop, time.Duration(20+rng.IntN(400))*time.Millisecond) {
			return
		}
	}
}

// recipients are one or two; now and then the mailbox server refuses one.
func recipients(rng *rand.Rand) (all []string) {
	for i := range 1 + rng.IntN(3)/2 {
		all = append(all, fmt.Sprintf("user%d@example.test", i))
	}
	if rng.IntN(12) == 0 {
		all[rng.IntN(len(all))] = refusedMailbox
	}
	return all
}

// bodySize is mostly small; some are of several records.
func bodySize(rng *rand.Rand) int {
	switch rng.IntN(60) {
	case 0:
		return 280<<10 + rng.IntN(300<<10)
	case 1, 2, 3:
		return 20<<10 + rng.IntN(50<<10)
	}
	return 200 + rng.IntN(6<<10)
}

func rest(stop <-chan struct{}, d time.Duration) (stopped bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-stop:
		return true
	case <-t.C:
		return false
	}
}

// submit is one SMTP session with one message; true: it was acknowledged.
func (w *world) submit(m *machine, s *submission, body []byte) bool {
	p := m.process()
	if p == nil || !w.net.travel(w.outside(), m.i) || !p.enter() {
		return false
	}
	defer p.leave()
	if p.engine.Ready() != nil {
		return false
	}
	w.ledger.add(s)
	id, err := p.take(s, body)
	var r *mail.Reply
	switch {
	case err == nil && !p.dead() && w.net.travel(m.i, w.outside()) && !w.chance(300):
		w.ledger.told(s, acked, id)
		w.count.acked.Add(1)
		return true
	case !p.dead() && errors.As(err, &r) && r.Code != 421:
		w.ledger.told(s, refused, id)
		w.count.refused.Add(1)
	}
	return false
}

// take does what a session of smtpd does.
func (p *process) take(s *submission, body []byte) (mail.ID, error) {
	u, err := p.engine.Begin(p.ctx)
	if err != nil {
		return mail.ID{}, err
	}
	for piece := 64 << 10; len(body) > 0; body = body[min(piece, len(body)):] {
		if _, err := u.Write(body[:min(piece, len(body))]); err != nil {
			u.Abort()
			return mail.ID{}, err
		}
		p.machine.world.pause(p.ctx)
	}
	env := mail.Envelope{ReversePath: "sender@example.test", Recipients: s.rcpts}
	return u.Commit(p.ctx, mail.Submission{Envelope: env, Trace: mail.Trace{By: p.machine.name}, Fields: mail.Fields{MessageID: s.field}})
}

// pause is a client's time between two writes.
func (w *world) pause(ctx context.Context) { rest(ctx.Done(), w.net.delay()) }

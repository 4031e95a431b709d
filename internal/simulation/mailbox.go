package simulation

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"mailraft/deliver"
	"mailraft/deliver/dsn"
	"mailraft/fsm"
	"mailraft/mail"

	"github.com/cespare/xxhash/v2"
)

// mailbox is the mailbox server: it takes what is handed to it and remembers.
type mailbox struct {
	mu      sync.Mutex
	taken   map[target][]delivery
	refused map[target]mail.Time             // first, by the state machine time of who was told so
	notices map[mail.ID]map[mail.ID]struct{} // non-delivery reports that were taken, by what they are about
}

// refusedMailbox is a mailbox that is not there.
const refusedMailbox = "nobody@example.test"

// target is one recipient of one message of the boundary.
type target struct {
	id        mail.ID
	recipient int
}

// delivery is one time that the mailbox server took a message.
type delivery struct {
	by        *process
	at        time.Time
	clock     mail.Time // state machine time of who delivered it
	uncertain bool      // its answer was lost
}

func newMailbox() *mailbox {
	return &mailbox{taken: map[target][]delivery{}, refused: map[target]mail.Time{}, notices: map[mail.ID]map[mail.ID]struct{}{}}
}

// no is when a recipient was refused first; zero: never.
func (b *mailbox) no(t target) mail.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused[t]
}

func (b *mailbox) noticesOf(id mail.ID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.notices[id])
}

func (b *mailbox) of(t target) []delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.taken[t])
}

// Deliver implements deliver.Transport: the way from one process to the
// mailbox server, and the referee of what goes over it.
func (p *process) Deliver(ctx context.Context, a *deliver.Attempt) []deliver.Answer {
	w := p.machine.world
	w.referee.begins(p, a)
	if !w.net.travel(p.machine.i, w.outside()) {
		return answers(a, 451, "4.4.1", true)
	}
	if err := w.read(a); err != nil {
		w.event("%s cannot read %s: %v", p.machine.name, a.ID, err)
		return answers(a, 451, "4.3.0", false)
	}
	if w.chance(100) {
		return answers(a, 451, "4.2.0", false)
	}
	p.sleep(ctx, w.wait())
	if a.Final() != nil {
		return make([]deliver.Answer, len(a.Recipients))
	}
	w.referee.hands(p, a)
	_, now := p.engine.State().Applied()
	p.sleep(ctx, w.wait()/4)
	if p.dead() && w.chance(2) || !w.net.travel(p.machine.i, w.outside()) {
		return answers(a, 451, "4.4.2", true) // the final dot never came there
	}
	uncertain := p.dead() || w.chance(200) || !w.net.travel(w.outside(), p.machine.i)
	w.mailbox.take(p, a, now, uncertain)
	if uncertain {
		all := answers(a, 451, "4.4.2", false)
		for i := range all {
			all[i].Uncertain = true
		}
		return all
	}
	all := answers(a, 250, "2.0.0", false)
	for i, r := range a.Recipients {
		if r.Address == refusedMailbox {
			all[i].Reply = mail.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such mailbox"}
		}
	}
	return all
}

// Probe implements deliver.Prober: the mailbox server answers whoever reaches it.
func (p *process) Probe(ctx context.Context, _ string) error {
	w := p.machine.world
	p.sleep(ctx, w.wait()/4)
	if p.dead() || !w.net.travel(p.machine.i, w.outside()) || !w.net.travel(w.outside(), p.machine.i) {
		return errors.New("no answer")
	}
	return ctx.Err()
}

func answers(a *deliver.Attempt, code int, enhanced string, down bool) []deliver.Answer {
	all := make([]deliver.Answer, len(a.Recipients))
	for i := range all {
		all[i] = deliver.Answer{Reply: mail.Reply{Code: code, Enhanced: enhanced, Text: "said the mailbox server"}, Remote: "mailbox", Down: down}
	}
	return all
}

// sleep passes time, until the process ends.
func (p *process) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-p.gone:
	}
}

// read reads the content as a delivery does; bytes that are not those that
// were sent are a violation, an error is not.
func (w *world) read(a *deliver.Attempt) error {
	r, err := a.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	sum := xxhash.New()
	if _, err := io.Copy(sum, r); err != nil {
		return err
	}
	if want, ok := w.ledger.sum(a.Fields.MessageID); !ok && a.ReversePath != "" || ok && want != sum.Sum64() {
		w.violate("%s: the content of %s is not what was sent", a.ID, a.Fields.MessageID)
	}
	return nil
}

func (b *mailbox) take(p *process, a *deliver.Attempt, now mail.Time, uncertain bool) {
	w := p.machine.world
	b.mu.Lock()
	defer b.mu.Unlock()
	origin := p.origin(a.ID)
	for _, r := range a.Recipients {
		t := target{a.ID, r.Index}
		if r.Address == refusedMailbox {
			if b.refused[t] == 0 {
				b.refused[t] = now
			}
			continue
		}
		// Where a clock has jumped a sender is told of a delay, and then of a failure.
		if !origin.IsZero() && a.Fields.Subject != dsn.DelayedSubject {
			if b.notices[origin] == nil {
				b.notices[origin] = map[mail.ID]struct{}{}
			}
			b.notices[origin][a.ID] = struct{}{}
			w.count.notices.Add(1)
		}
		if before := b.taken[t]; len(before) > 0 {
			w.count.window(before[len(before)-1], p)
		} else {
			w.count.delivered.Add(1)
		}
		b.taken[t] = append(b.taken[t], delivery{p, time.Now(), now, uncertain})
	}
}

// referee sees every delivery at its beginning and before its final dot.
type referee struct{ w *world }

// begins: nothing is delivered that the member's own state says is finished.
func (r referee) begins(p *process, a *deliver.Attempt) {
	v := p.engine.State().View()
	defer v.Close()
	m, ok := v.Message(a.ID)
	if !ok {
		r.w.violate("%s delivers %s, which its own state does not have", p.machine.name, a.ID)
		return
	}
	for _, rc := range a.Recipients {
		if s := m.Recipients[rc.Index].State; s != fsm.Pending {
			r.w.violate("%s delivers %s to recipient %d, which its own state says is %v", p.machine.name, a.ID, rc.Index, s)
		}
	}
}

// hands: who hands over owns the message in every member's state, however far
// it is. A change of owner waits for the lease to be over.
func (r referee) hands(p *process, a *deliver.Attempt) {
	if p.dead() {
		return
	}
	for _, other := range r.w.machines {
		q := other.process()
		if q == nil || !q.enter() {
			continue
		}
		owner, at := q.owner(a.ID)
		q.leave()
		if own, mine := p.owner(a.ID); owner != 0 && owner != p.id && at >= mine {
			r.w.violate("%s hands over %s, which is %v's at index %d (its own state is at %d, with %v)", p.machine.name, a.ID, owner, at, mine, own)
		}
	}
}

// origin is what a non-delivery report is about.
func (p *process) origin(id mail.ID) mail.ID {
	v := p.engine.State().View()
	defer v.Close()
	if m, ok := v.Message(id); ok {
		return m.Origin
	}
	return mail.ID{}
}

func (p *process) owner(id mail.ID) (mail.MemberID, uint64) {
	v := p.engine.State().View()
	defer v.Close()
	at := v.Tables.Applied().Index
	m, ok := v.Message(id)
	if !ok {
		return 0, at
	}
	return m.Primary, at
}

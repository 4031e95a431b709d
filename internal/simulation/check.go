package simulation

import (
	"io"
	"time"

	"mailraft/fsm"
	"mailraft/mail"

	"github.com/cespare/xxhash/v2"
)

// inside runs f for every process that runs.
func (w *world) inside(f func(*process)) {
	for _, m := range w.machines {
		if p := m.process(); p != nil && p.enter() {
			f(p)
			p.leave()
		}
	}
}

// watch looks all the time whether anybody has a lease who is down in some
// member's state, and whether time is where clocks can have taken it.
func (w *world) watch(stop <-chan struct{}) {
	was := map[mail.MemberID]bool{}
	for !rest(stop, 50*time.Millisecond) {
		is := w.watchLeases()
		for id, down := range is {
			if down && !was[id] {
				w.count.takeovers.Add(1)
			}
		}
		was = is
		w.watchTime()
	}
}

func (w *world) watchLeases() map[mail.MemberID]bool {
	down := func() map[mail.MemberID]bool {
		var newest uint64
		is := map[mail.MemberID]bool{}
		w.inside(func(p *process) {
			v := p.engine.State().View()
			defer v.Close()
			if at := v.Tables.Applied().Index; at >= newest {
				newest = at
				for m := range v.Members() {
					is[m.ID] = !m.Up
				}
			}
		})
		return is
	}
	before := down()
	w.inside(func(p *process) {
		// Read on both sides of the lease: a member that comes up between is no offender.
		if id := p.id; before[id] && !p.dead() && p.engine.Node().Lease().Valid() && down()[id] {
			w.violate("%s has a lease, and is down", p.machine.name)
		}
	})
	return before
}

// aheadMax is how far state machine time may be ahead of what a majority's
// clocks ever showed: they agree within five seconds, and boot-time clocks run
// half a hundredth apart.
const aheadMax = 10 * time.Second

func (w *world) watchTime() {
	w.mu.Lock()
	limit := mail.At(time.Now().Add(w.ahead + aheadMax))
	w.mu.Unlock()
	w.inside(func(p *process) {
		if _, now := p.engine.State().Applied(); now > limit {
			w.violate("%s: state machine time is %v ahead of what a majority's clocks ever were", p.machine.name, now.Sub(limit))
		}
	})
}

// compare marks the log now and then, and compares the hashes of the states.
func (w *world) compare(stop <-chan struct{}) {
	for !rest(stop, 5*time.Second) {
		if a, err := w.propose(fsm.KindMark, fsm.Mark{}); err == nil {
			rest(stop, 2*time.Second)
			w.compareAt(a.Index)
		}
	}
}

// compareAt returns how many members have the same state at a mark.
func (w *world) compareAt(index uint64) (n int) {
	var first [32]byte
	w.inside(func(p *process) {
		_, wait, ok := p.engine.State().HashAt(index)
		if !ok {
			return // started since, or not there yet
		}
		<-wait
		sum, _, _ := p.engine.State().HashAt(index)
		if n++; n == 1 {
			first = sum
		} else if sum != first {
			w.violate("%s has another state than another member at index %d", p.machine.name, index)
		}
	})
	if n > 1 {
		w.count.marks.Add(1)
	}
	return n
}

// settleTime is how long a healed boundary may take to be whole again.
const settleTime = 2 * time.Minute

// check asks, once everything is repaired, whether the promises were kept.
func (w *world) check() {
	ready := func() bool {
		for _, m := range w.machines {
			w.restart(m) // one may have stopped since, for what was done to it before
		}
		return w.ready()
	}
	for _, must := range []struct {
		what string
		is   func() bool
	}{{"all members take mail", ready}, {"all due mail is delivered", w.idle}} {
		if err := w.until(must.what, settleTime, must.is); err != nil {
			w.violate("after healing: %v", err)
			w.inside(func(p *process) { w.event("%s: %v", p.machine.name, p.engine.Node().Stats()) })
			return
		}
	}
	if !w.whole() {
		return
	}
	w.inside(w.accounts)
	w.outlive()
}

// idle reports that nothing waits that could be delivered now, and that
// everybody is where the furthest is.
func (w *world) idle() bool {
	idle := true
	var at []uint64
	w.inside(func(p *process) {
		v := p.engine.State().View()
		defer v.Close()
		at = append(at, v.Tables.Applied().Index)
		now := v.Tables.Applied().Time
		for m := range v.Messages(mail.ID{}) {
			for i := range m.Recipients {
				if r := &m.Recipients[i]; r.State == fsm.Pending && r.Next <= now {
					idle = false
				}
			}
			if _, ok := p.engine.Content().Stat(m.Content.ID); !ok {
				idle = false // refill
			}
		}
	})
	return idle && len(at) == len(w.machines)
}

// whole: all members have the same state, and all content that it names.
func (w *world) whole() bool {
	a, err := w.propose(fsm.KindMark, fsm.Mark{})
	if err != nil {
		w.violate("after healing: mark: %v", err)
		return false
	}
	all := func() bool {
		reached := 0
		w.inside(func(p *process) {
			if at, _ := p.engine.State().Applied(); at >= a.Index {
				reached++
			}
		})
		return reached == len(w.machines)
	}
	if err := w.until("all members apply the last entry", settleTime, all); err != nil {
		w.violate("after healing: %v", err)
		return false
	}
	if n := w.compareAt(a.Index); n < len(w.machines) {
		w.violate("after healing: only %d members have a hash of their state", n)
	}
	return true
}

// accounts compares one member's state, content, the mailboxes and what the
// clients know.
func (w *world) accounts(p *process) {
	v := p.engine.State().View()
	defer v.Close()
	now := v.Tables.Applied().Time
	hold := v.Params().SafetyNetHoldTime
	subs := w.ledger.all()
	rows := map[string]*fsm.Message{}
	for m := range v.Messages(mail.ID{}) {
		if !m.Origin.IsZero() {
			w.checkContent(p, m, m.Content.Sum)
			w.checkRecipients(p, m)
			continue
		}
		field := m.Fields.MessageID
		s, ok := subs[field]
		switch {
		case !ok:
			w.violate("%s: nobody sent %s with %s", p.machine.name, m.ID, field)
			continue
		case rows[field] != nil:
			w.violate("%s: %s was accepted twice", p.machine.name, field)
		case s.word == refused && w.jumped():
			// The answer was forgotten within one attempt, because the hour for which
			// it is remembered was over at once.
			if p.machine.i == 0 {
				w.count.duplicate("its client was told 451 when time had jumped")
			}
		case s.word == refused:
			w.violate("%s: %s was accepted though its client was told that it was not", p.machine.name, field)
		}
		rows[field] = m
		w.checkContent(p, m, s.sum)
		w.checkRecipients(p, m)
	}
	for field, s := range subs {
		if m := rows[field]; s.word == acked && (m == nil || m.ID != s.id) && !w.outlived(s, now, hold) {
			w.violate("%s: %s was acknowledged as %s, and is neither there nor delivered so long ago", p.machine.name, field, s.id)
		}
	}
	if p.machine.i == 0 {
		w.countTwice(subs, rows)
	}
}

// jumped reports that state machine time may have jumped by an hour or more.
func (w *world) jumped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ahead >= time.Hour
}

// outlived: all recipients have it, for longer than the hold time.
func (w *world) outlived(s submission, now mail.Time, hold time.Duration) bool {
	for i := range s.rcpts {
		t := target{s.id, i}
		done := w.mailbox.no(t)
		if ds := w.mailbox.of(t); len(ds) > 0 {
			done = ds[0].clock
		}
		if done == 0 || now < done.Add(hold) {
			return false
		}
	}
	return true
}

// countTwice counts messages that were accepted more often than acknowledged:
// their clients could not know.
func (w *world) countTwice(subs map[string]submission, rows map[string]*fsm.Message) {
	accepted := map[int]int{}
	for field := range rows {
		accepted[subs[field].message]++
	}
	for _, n := range accepted {
		for range n - 1 {
			w.count.duplicate("its client was told nothing, or 421")
		}
	}
}

func (w *world) checkContent(p *process, m *fsm.Message, want uint64) {
	r, err := p.engine.Content().Open(m.Content.ID)
	if err != nil {
		w.violate("%s lacks the content of %s: %v", p.machine.name, m.ID, err)
		return
	}
	defer r.Close()
	sum := xxhash.New()
	n, err := io.Copy(sum, r)
	if err != nil || n != m.Content.Size || sum.Sum64() != m.Content.Sum || want != m.Content.Sum {
		w.violate("%s has other content for %s than was sent: %v", p.machine.name, m.ID, err)
	}
}

// reportTime is how long the outcome of a delivery may be under way.
const reportTime = 30 * time.Second

// checkRecipients: what the state says is delivered, the mailbox server has,
// and the other way round; who failed was refused, and the sender was told once.
func (w *world) checkRecipients(p *process, m *fsm.Message) {
	for i := range m.Recipients {
		r := &m.Recipients[i]
		ds := w.mailbox.of(target{m.ID, i})
		switch {
		case r.State == fsm.Failed && w.mailbox.no(target{m.ID, i}) != 0:
			if n := w.mailbox.noticesOf(m.ID); n != 1 {
				w.violate("%s: %s to recipient %d was refused, and the sender has %d reports", p.machine.name, m.ID, i, n)
			}
		case r.State == fsm.Delivered && len(ds) == 0:
			w.violate("%s: %s to recipient %d counts as delivered, and is not", p.machine.name, m.ID, i)
		case r.State == fsm.Pending && len(ds) > 0 && !ds[len(ds)-1].uncertain && time.Since(ds[len(ds)-1].at) > reportTime:
			w.violate("%s: %s to recipient %d was delivered, and still waits", p.machine.name, m.ID, i)
		case r.State != fsm.Delivered && r.State != fsm.Pending:
			w.violate("%s: %s to recipient %d is %v: %v", p.machine.name, m.ID, i, r.State, r.Reply)
		}
	}
}

// outlive lets the hold time and every not-after pass, and looks whether
// anything is left.
func (w *world) outlive() {
	// A member that was started again writes to a new segment: what it had is
	// all in sealed ones, and can be swept.
	for _, m := range w.machines {
		m.stop()
		w.restart(m)
	}
	// Mail that waited for a further attempt is delivered after the first jump;
	// a shadow that was never acknowledged has its end after the second.
	for _, jump := range []time.Duration{4 * days, expiration + 4*days} {
		for _, m := range w.machines {
			m.clock.set(w.ahead + jump)
		}
		w.noteClocks()
		then := mail.At(time.Now().Add(w.ahead - time.Hour))
		is := func() bool { return w.later(then) && w.idle() }
		if err := w.until("all mail is delivered", settleTime, is); err != nil {
			w.violate("after the hold time: %v", err)
		}
	}
	gone := func() bool {
		left := 0
		w.inside(func(p *process) { left += w.left(p, nil) })
		return left == 0
	}
	if err := w.until("content that nobody wants is gone", 5*time.Minute, gone); err != nil {
		w.inside(func(p *process) {
			w.left(p, func(c mail.Content, why string) { w.violate("%s still has content %s: %s", p.machine.name, c.ID, why) })
		})
	}
}

// later reports that state machine time is past a moment everywhere.
func (w *world) later(then mail.Time) bool {
	late := true
	w.inside(func(p *process) {
		if _, now := p.engine.State().Applied(); now < then {
			late = false
		}
	})
	return late
}

// left counts the contents that a member has without need.
func (w *world) left(p *process, tell func(mail.Content, string)) (n int) {
	v := p.engine.State().View()
	defer v.Close()
	for m := range v.Messages(mail.ID{}) {
		if m.Finished != 0 && max(m.Finished, m.PrimaryEnd).Add(v.Params().SafetyNetHoldTime+time.Minute) < v.Tables.Applied().Time {
			n++
			if tell != nil {
				tell(m.Content, "the row "+m.ID.String()+" has outlived its hold time")
			}
		}
	}
	_, now := p.engine.State().Applied()
	for c := range p.engine.Content().Contents {
		if _, ok := v.HasContent(c.ID); !ok && now > c.NotAfter {
			n++
			if tell != nil {
				tell(c, "no row names it, and none can")
			}
		}
	}
	return n
}

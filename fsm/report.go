package fsm

import (
	"fmt"
	"time"

	"mailraft/mail"
)

// report applies the outcomes of a member's deliveries, message by message.
// Items of the answer is nil where a report was taken; a reply says why its
// failures and their DSN were not.
func (t *tx) report(c Report) Answer {
	reporter, _ := t.Member(c.Member)
	a := Answer{Items: make([]*mail.Reply, len(c.Reports))}
	for i, r := range c.Reports {
		if e := t.open(r.ID); e != nil {
			a.Items[i] = t.reportOne(e, r, reporter)
		}
	}
	return a
}

// reportOne applies one report. Only the owner's word counts for failures and
// deferrals, and only while it is up: a member that was taken over may still
// say what it has delivered, however late (SPEC 3, ARCHITECTURE argument 4).
func (t *tx) reportOne(e *edit, r mail.Report, reporter Member) *mail.Reply {
	owner := reporter.Up && e.Primary == reporter.ID
	failing, refusal := false, (*mail.Reply)(nil)
	for _, o := range r.Outcomes {
		failing = failing || t.fails(e.Message, o)
	}
	if failing && owner && r.DSN != nil {
		_, refusal = t.admissible(*r.DSN)
	}
	for _, o := range r.Outcomes {
		if o.Recipient < 0 || o.Recipient >= len(e.Recipients) {
			continue
		}
		if o.Result == mail.Delivered || o.Result == mail.Relayed {
			t.delivered(e.Message, o, reporter.ID)
		} else if owner && refusal == nil {
			t.notDelivered(e.Message, o, reporter.ID)
		} else if owner && t.fails(e.Message, o) {
			e.Recipients[o.Recipient].Next = t.now().Add(refusedPause)
		}
	}
	if failing && owner && r.DSN != nil && refusal == nil {
		t.addDSN(e.Message, *r.DSN)
	}
	t.finish(e.Message)
	t.save(e)
	return refusal
}

// refusedPause is when a recipient is tried again whose retirement was refused
// because its DSN was.
const refusedPause = 10 * time.Second

// fails reports whether the outcome would retire its recipient undelivered.
func (t *tx) fails(m *Message, o mail.Outcome) bool {
	return (o.Result == mail.Failed || o.Result == mail.Expired) &&
		o.Recipient >= 0 && o.Recipient < len(m.Recipients) && m.Recipients[o.Recipient].State == Pending
}

// delivered applies a Delivered or Relayed outcome. It is monotonic: said
// under the present activation it stands whatever was said before. Under an
// older one it is history, and the recipient is delivered to the new copy.
func (t *tx) delivered(m *Message, o mail.Outcome, by mail.MemberID) {
	r := &m.Recipients[o.Recipient]
	if r.State == Delivered || r.State == Relayed {
		return
	}
	ev := Event{Kind: EventDeliver, At: t.now(), Member: by, Recipient: r.Address, Text: where(o)}
	if r.Database != "" {
		if d, ok := t.Database(r.Database); ok && o.Activation < d.Activation {
			ev.Kind = EventStale
			m.note(ev)
			r.Next = t.now()
			return
		}
	}
	r.State = Delivered
	if o.Result == mail.Relayed || r.Database == "" {
		r.State, ev.Kind = Relayed, EventSend
	} else if o.Duplicate {
		ev.Kind = EventDuplicate
	}
	m.note(ev)
	t.settle(r, o)
	if !m.Active() { // a late word about a recipient that had been given up
		m.Finished = t.now()
	}
}

// notDelivered applies an owner's Deferred, Failed or Expired outcome.
func (t *tx) notDelivered(m *Message, o mail.Outcome, by mail.MemberID) {
	r := &m.Recipients[o.Recipient]
	if r.State != Pending {
		return
	}
	ev := Event{Kind: EventFail, At: t.now(), Member: by, Recipient: r.Address, Text: where(o)}
	switch o.Result {
	case mail.Deferred:
		ev.Kind = EventDefer
		m.note(ev)
		r.Attempts++
		r.Next, r.Reply, r.Remote = max(o.Next, t.now()), &o.Reply, o.Remote
		return
	case mail.Expired:
		r.State = Expired
	default:
		r.State = Failed
	}
	m.note(ev)
	t.settle(r, o)
}

func (t *tx) settle(r *Recipient, o mail.Outcome) {
	r.Attempts++
	r.Done, r.Next, r.Reply, r.Remote = t.now(), 0, &o.Reply, o.Remote
	r.Copy, r.Activation = o.Copy, o.Activation
}

func where(o mail.Outcome) string {
	if o.Remote == "" {
		return o.Reply.String()
	}
	return fmt.Sprintf("%s: %s", o.Remote, o.Reply.String())
}

// addDSN queues a non-delivery report in the entry that retired the recipient.
// Its submission id makes a repeated report harmless.
func (t *tx) addDSN(m *Message, s mail.Submission) {
	if _, ok := t.answered(s.Content.ID); ok {
		return
	}
	shadow := t.chooseShadow(s.Primary, s.Content.ID, func(mb Member) bool {
		for _, h := range s.Holders {
			if h == mb.ID {
				return true
			}
		}
		return false
	})
	id := t.enqueue(s, shadow, false, m.ID)
	t.remember(s.Content.ID, Answer{ID: id})
	m.note(Event{Kind: EventDSN, At: t.now(), Member: s.Primary, Text: id.String()})
}

// finish moves a message whose recipients are all finished from the active
// queue into the Primary Safety Net. The discard status for its shadow server
// is an index key of the finished row, so it is queued in the same commit.
func (t *tx) finish(m *Message) {
	if !m.Active() || m.Expanding {
		return
	}
	for i := range m.Recipients {
		if m.Recipients[i].State == Pending {
			return
		}
	}
	m.Finished = t.now()
	m.Held, m.Waiting, m.Suspended, m.Marked = false, false, false, false
}

// discard applies a shadow server's acknowledgement: its shadow messages move
// into the Shadow Safety Net.
func (t *tx) discard(c Discard) Answer {
	n := 0
	for _, id := range c.IDs {
		e := t.open(id)
		if e == nil || e.Active() || e.Acked || e.Shadow != c.Member {
			continue
		}
		e.Acked = true
		e.note(Event{Kind: EventDiscard, At: t.now(), Member: c.Member})
		t.save(e)
		n++
	}
	return Answer{Count: n}
}

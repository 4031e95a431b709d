package fsm

import (
	"fmt"
	"slices"
	"time"

	"mailraft/mail"
)

// report applies the outcomes of a member's deliveries, message by message.
// Items of the answer is nil where a report was taken; a reply says why its
// failures and their DSN were not.
func (t *tx) report(c Report) Answer {
	a := Answer{Items: make([]*mail.Reply, len(c.Reports))}
	for i, r := range c.Reports {
		if e := t.open(r.ID); e != nil {
			a.Items[i] = t.reportOne(e, r, c.Member)
		}
	}
	return a
}

// reportOne applies one report. Only the owner's word counts for failures and
// deferrals, and only while it is up: a member that was taken over may still
// say what it has delivered, however late.
func (t *tx) reportOne(e *edit, r mail.Report, by mail.MemberID) *mail.Reply {
	m, ok := t.Member(by)
	owner := ok && m.Up && e.Primary == by
	var bounce admission
	var refusal *mail.Reply
	if owner {
		t.judge(e.Message, r, by)
	}
	retires := owner && slices.ContainsFunc(r.Outcomes, func(o mail.Outcome) bool { return fails(e.Message, o) })
	if retires {
		bounce, refusal = t.admitFailures(e.Message, r)
	}
	for _, o := range r.Outcomes {
		if o.Recipient < 0 || o.Recipient >= len(e.Recipients) {
			continue
		}
		switch {
		case o.Result == mail.Delivered || o.Result == mail.Relayed:
			t.delivered(e.Message, o, by)
		case !owner:
		case o.Result == mail.Deferred:
			t.deferred(e.Message, o, by)
		case !fails(e.Message, o):
		case refusal == nil:
			t.failed(e.Message, o, by)
		default:
			e.Recipients[o.Recipient].Next = t.now().Add(refusedPause)
		}
	}
	if retires && refusal == nil && r.DSN != nil && !e.silent() {
		t.addDSN(e.Message, *r.DSN, bounce)
	}
	if owner && len(r.Told) > 0 {
		if not := t.told(e.Message, r); refusal == nil {
			refusal = not
		}
	}
	t.finish(e.Message)
	t.save(e)
	return refusal
}

// refusedPause is when a recipient is tried again whose retirement was refused.
const refusedPause = 10 * time.Second

// fails reports whether the outcome would retire its recipient undelivered.
func fails(m *Message, o mail.Outcome) bool {
	return (o.Result == mail.Failed || o.Result == mail.Expired) &&
		o.Recipient >= 0 && o.Recipient < len(m.Recipients) && m.Recipients[o.Recipient].State == Pending
}

// admitFailures says whether the recipients that the report gives up may be
// retired now: all of them, and with the DSN that tells of them, or none.
// Whether a DSN is due at all is for the owner to say; none is made about a
// message that is one, nor about a resubmission.
func (t *tx) admitFailures(m *Message, r mail.Report) (a admission, refusal *mail.Reply) {
	for _, o := range r.Outcomes {
		if fails(m, o) && !m.Recipients[o.Recipient].Returned && t.stale(m.Recipients[o.Recipient].Database, o) {
			return a, mail.Replyf(451, "4.3.0", "said by a copy that is not the active one any more")
		}
	}
	if r.DSN == nil || m.silent() {
		return a, nil
	}
	for _, o := range r.Outcomes {
		if (o.Result == mail.Failed || o.Result == mail.Expired) && !fails(m, o) {
			return a, mail.Replyf(451, "4.3.0", "the DSN speaks of a recipient that is finished already")
		}
	}
	return t.admitNotice(*r.DSN)
}

// admitNotice is admit for a report to a sender.
func (t *tx) admitNotice(s mail.Submission) (a admission, refusal *mail.Reply) {
	if s.Envelope.ReversePath != "" {
		return a, mail.Replyf(451, "4.3.0", "the DSN has a reverse-path: it could be answered by another")
	}
	if _, ok := t.answered(s.Content.ID); ok {
		return a, mail.Replyf(451, "4.3.0", "the submission of the DSN was answered before")
	}
	return t.admit(s)
}

// stale reports an outcome of an attempt at a copy that is not active any more.
func (t *tx) stale(database string, o mail.Outcome) bool {
	d, ok := t.Database(database)
	return database != "" && ok && o.Activation < d.Activation
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
	if t.stale(r.Database, o) {
		ev.Kind = EventStale
		m.note(ev)
		if r.State == Pending {
			r.Next = t.now()
		}
		return
	}
	switch { // by what the recipient is: a mailbox's delivery is resubmittable
	case r.Database == "":
		r.State, ev.Kind = Relayed, EventSend
	case o.Duplicate:
		r.State, ev.Kind = Delivered, EventDuplicate
	default:
		r.State = Delivered
	}
	r.Duplicate = o.Duplicate && m.Request != 0
	if !m.silent() && !o.Passed && m.Asked(r).Notify.Wants(mail.NotifySuccess) {
		r.Owes |= mail.NotifySuccess
	}
	m.note(ev)
	t.settle(r, o)
	t.overtaken(m, r)
	if !m.Active() { // a late word about a recipient that had been given up
		m.Finished = t.now()
	}
}

// deferMax bounds how long an attempt may be put off: nobody but the owner's
// next attempt gives a recipient up, so it must come.
const deferMax = day

// deferred applies an owner's Deferred outcome.
func (t *tx) deferred(m *Message, o mail.Outcome, by mail.MemberID) {
	r := &m.Recipients[o.Recipient]
	if r.State != Pending {
		return
	}
	if r.Returned { // the sender cannot be told yet; or it is late, of an attempt before
		r.Next = min(max(o.Next, t.now()), t.now().Add(refusedPause))
		return
	}
	kind := EventDefer
	if m.Request != 0 {
		kind = EventResubmitDefer
	}
	m.note(Event{Kind: kind, At: t.now(), Member: by, Recipient: r.Address, Text: where(o)})
	if t.stale(r.Database, o) { // it says nothing of the copy that is active now
		r.Next = t.now()
		return
	}
	r.Attempts++
	r.Next = min(max(o.Next, t.now()), t.now().Add(deferMax))
	r.Reply, r.Remote = &o.Reply, o.Remote
}

// failed applies an owner's Failed or Expired outcome, which was admitted.
func (t *tx) failed(m *Message, o mail.Outcome, by mail.MemberID) {
	r := &m.Recipients[o.Recipient]
	kind := EventFail
	r.State = Failed
	if o.Result == mail.Expired {
		r.State = Expired
	}
	if m.Request != 0 {
		r.State, kind = Undelivered, EventResubmitFail
	}
	m.note(Event{Kind: kind, At: t.now(), Member: by, Recipient: r.Address, Text: where(o)})
	t.settle(r, o)
}

func (t *tx) settle(r *Recipient, o mail.Outcome) {
	r.Attempts++
	r.Owes &^= mail.NotifyDelay // there is better to tell, or worse
	r.Done, r.Next, r.Reply, r.Remote = t.now(), 0, &o.Reply, o.Remote
	r.Copy, r.Activation = o.Copy, o.Activation
}

func where(o mail.Outcome) string {
	if o.Remote == "" {
		return o.Reply.String()
	}
	return fmt.Sprintf("%s: %s", o.Remote, o.Reply.String())
}

// addDSN queues a non-delivery report in the entry that retires the recipient.
func (t *tx) addDSN(m *Message, s mail.Submission, a admission) {
	id := t.enqueue(s, a, m.ID)
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
	m.trust()
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

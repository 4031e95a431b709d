package fsm

import (
	"slices"

	"mailraft/directory"
	"mailraft/mail"
)

// What a sender asked to be told and is no failure (RFC 3461 §5.2) is owed to
// him from the entry that makes it true. The message is in a queue of its own
// then, whatever else it waits for, and its owner writes the report. So nothing
// waits for a report, none is lost with a member, and none is made twice: the
// entry that brings it pays the debt, or is refused.

// NoticeQueue is the destination of messages whose senders are owed a report.
const NoticeQueue = "notice"

func (m *Message) owes() bool {
	return len(m.Expanded) > 0 || slices.ContainsFunc(m.Recipients, func(r Recipient) bool { return r.Owes != 0 })
}

// forgive drops what the sender is owed.
func (m *Message) forgive() {
	m.Expanded = nil
	for i := range m.Recipients {
		m.Recipients[i].Owes = 0
	}
}

// oweExpansions notes the groups of whose expansion the sender wants to hear
// (RFC 3461 §5.2.7.3 (c)).
func (m *Message) oweExpansions(rest []directory.GroupRef) {
	if m.silent() {
		return
	}
	for i, text := range m.Envelope.Recipients {
		if n := m.Envelope.Ask(i).Notify; n.Wants(mail.NotifySuccess) &&
			(slices.ContainsFunc(rest, func(g directory.GroupRef) bool { return g.Original == text }) ||
				slices.ContainsFunc(m.Recipients, func(r Recipient) bool { return len(r.Via) > 0 && r.Asked == i+1 })) {
			m.Expanded = append(m.Expanded, i)
		}
	}
}

// Delays says that messages have waited for delay-notification-timeout: their
// senders are owed a word, once for each recipient, unless they asked not to be
// told (RFC 3461 §5.2.5).
type Delays struct {
	IDs []mail.ID `cbor:"1,keyasint"`
}

// delays applies Delays.
func (t *tx) delays(c Delays) Answer {
	n := 0
	for _, id := range c.IDs {
		if e := t.open(id); e != nil && e.oweDelays(t.now().Add(-t.Params().DelayNotificationTimeout)) {
			t.save(e)
			n++
		}
	}
	return Answer{Count: n}
}

// oweDelays reports whether somebody is to be told now. Before is when a
// message must have been accepted to be delayed.
func (m *Message) oweDelays(before mail.Time) (owed bool) {
	if !m.Active() || m.silent() || m.Accepted > before {
		return false
	}
	for i := range m.Recipients {
		if r := &m.Recipients[i]; r.State == Pending && !r.Delayed && m.Asked(r).Notify.Wants(mail.NotifyDelay) {
			r.Delayed, owed = true, true
			r.Owes |= mail.NotifyDelay
		}
	}
	return owed
}

// LateFor reports whether Delays would do something for the message.
func (m *Message) LateFor(p *Params, now mail.Time) bool {
	c := *m
	c.Recipients = slices.Clone(m.Recipients)
	return c.oweDelays(now.Add(-p.DelayNotificationTimeout))
}

// told applies what the owner of a message has told its sender.
func (t *tx) told(m *Message, r mail.Report) *mail.Reply {
	for _, x := range r.Told {
		if !m.owesThis(x) {
			return mail.Replyf(451, "4.3.0", "the sender is not owed that any more")
		}
	}
	var adm admission
	if r.Notice != nil {
		var refusal *mail.Reply
		if adm, refusal = t.admitNotice(*r.Notice); refusal != nil {
			return refusal
		}
	}
	for _, x := range r.Told {
		if x.Event == 0 {
			m.Expanded = slices.DeleteFunc(m.Expanded, func(i int) bool { return i == x.Recipient })
		} else {
			m.Recipients[x.Recipient].Owes &^= x.Event
		}
	}
	if r.Notice != nil {
		t.addDSN(m, *r.Notice, adm)
	}
	return nil
}

func (m *Message) owesThis(x mail.Told) bool {
	if x.Event == 0 {
		return slices.Contains(m.Expanded, x.Recipient)
	}
	return x.Recipient >= 0 && x.Recipient < len(m.Recipients) && m.Recipients[x.Recipient].Owes&x.Event == x.Event
}

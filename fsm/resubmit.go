package fsm

import (
	"slices"

	"mailraft/directory"
	"mailraft/mail"
)

// resubmit makes a message of what was chosen: a new primary message that
// refers to the stored content. It carries no more than it needs to be
// delivered and to be sent again itself.
func (t *tx) resubmit(r *requestEdit, c choice) {
	e := t.create(c.m.Content)
	e.Envelope = mail.Envelope{ReversePath: c.m.Envelope.ReversePath, Recipients: c.envelope, EightBit: c.m.Envelope.EightBit, UTF8: c.m.Envelope.UTF8}
	e.Trace, e.Fields, e.Overlay = c.m.Trace, c.m.Fields, c.m.Overlay
	e.Request, e.Origin, e.Recategorized, e.Recipients = r.ID, c.origin, c.recategorized, c.to
	e.Primary, e.GivenUp = c.by.id, c.m.GivenUp
	has := func(m Member) bool { return m.has(c.m) }
	e.Shadow = t.chooseShadow(e.Primary, c.m.Content.ID, has)
	s := t.Settings()
	for i := range s.Members {
		if m := &s.Members[i]; m.Retired == 0 && m.has(c.m) {
			e.Holders = append(e.Holders, m.ID)
		}
	}
	e.Marked = !s.Boundary.Quorum(func(id mail.MemberID) bool { return slices.Contains(e.Holders, id) })
	e.note(Event{Kind: EventResubmit, At: t.now(), Member: e.Primary}) // request and origin are fields of the row
	t.noteShadow(e.Message)
	if len(c.rest) > 0 {
		t.beginExpansion(e.Message, c.rest)
		for k := range c.prior.to { // nor in later pieces; keys of their own, in no order
			t.set(tab(tabSeen).id(e.ID).text(k), nil)
		}
	}
	t.save(e)
}

// wanted are those of the next piece of a resubmission's groups that its
// request is about. Who had it before was noted as seen.
func (t *tx) wanted(m *Message, now []directory.Resolved) []directory.Resolved {
	r := t.request(m.Request)
	if r == nil {
		return nil // forgotten: it ended long ago
	}
	now = slices.DeleteFunc(now, func(x directory.Resolved) bool { return !r.wants(x) })
	if len(now) > 0 {
		r.served(m.Primary, true, len(now))
	}
	return now
}

// count takes what was chosen into the counts of a request. What comes of the
// message that is made for it, save counts.
func (r *Request) count(c choice) {
	r.Counts.skip(c)
	r.Counts.Matched += len(c.kept)
	for _, i := range c.asked {
		at := c.m.Recipients[i].Done
		if r.First == 0 || at < r.First {
			r.First = at
		}
		r.Last = max(r.Last, at)
		if c.by.gap && slices.Contains(c.kept, i) {
			r.gap(at, c.by.behalf)
		}
	}
	if n := len(c.to); n > 0 {
		r.served(c.by.id, c.by.behalf != 0, n)
	}
}

func (n *RequestCounts) skip(c choice) {
	n.Matched += c.already + c.moved + c.gone
	n.Already += c.already
	n.Moved += c.moved
	n.Gone += c.gone
	n.Outside += c.outside
}

// gap notes a delivery that nobody has any more: one interval for each member
// whose Safety Net it was.
func (r *Request) gap(at mail.Time, member mail.MemberID) {
	for i := range r.Gaps {
		if g := &r.Gaps[i]; g.Member == member && g.Count > 0 {
			g.Start, g.End, g.Count = min(g.Start, at), max(g.End, at+1), g.Count+1
			return
		}
	}
	r.Gaps = append(r.Gaps, RequestGap{Start: at, End: at + 1, Member: member, Count: 1})
}

func (r *Request) served(by mail.MemberID, shadow bool, n int) {
	for i := range r.ServedBy {
		if s := &r.ServedBy[i]; s.Member == by && s.Shadow == shadow {
			s.Count += n
			return
		}
	}
	r.ServedBy = append(r.ServedBy, RequestServer{Member: by, Shadow: shadow, Count: n})
}

// sums is what the row of a resubmission adds to the counts of its request.
type sums struct {
	messages, expanding, sent, delivered, duplicates, failed int
	bytes                                                    int64
}

func (m *Message) sums() (s sums) {
	if m.Request == 0 {
		return s
	}
	if m.Expanding {
		s.expanding = 1
	}
	if len(m.Recipients) > 0 {
		s.messages, s.bytes, s.sent = 1, m.Content.Size, len(m.Recipients)
	}
	for i := range m.Recipients {
		switch rc := &m.Recipients[i]; rc.State {
		case Pending:
		case Delivered:
			s.delivered++
			if rc.Duplicate {
				s.duplicates++
			}
		default:
			s.failed++
		}
	}
	return s
}

// tally moves the counts of a request by how a row of it has changed.
func (t *tx) tally(m *Message, before sums) {
	now := m.sums()
	if now == before {
		return
	}
	if r := t.request(m.Request); r != nil {
		c := &r.Counts
		r.Expanding += now.expanding - before.expanding
		c.Messages += now.messages - before.messages
		c.Bytes += now.bytes - before.bytes
		c.Sent += now.sent - before.sent
		c.Delivered += now.delivered - before.delivered
		c.Duplicates += now.duplicates - before.duplicates
		c.Failed += now.failed - before.failed
	}
}

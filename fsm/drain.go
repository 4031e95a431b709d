package fsm

import (
	"slices"

	"mailraft/mail"
)

// Drain begins or ends the draining of a member.
type Drain struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	Stop   bool          `cbor:"2,keyasint,omitempty"` // undrain
	By     string        `cbor:"3,keyasint,omitempty"`
	Reason string        `cbor:"4,keyasint,omitempty"`
}

// HandOver gives away messages of a member that is being drained. Only the
// owner proposes it, for messages that it is not delivering and starts no more.
type HandOver struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	IDs    []mail.ID     `cbor:"2,keyasint,omitempty"`
	// After is Member.Handed as the owner saw it. Each HandOver counts it up, so
	// one whose outcome the owner did not learn is void once another applied:
	// only then may the owner deliver again what the first one named.
	After uint64 `cbor:"3,keyasint,omitempty"`
}

// drain applies Drain. Draining twice goes on where it was; ending it also
// calls off a removal that waited for it.
func (t *tx) drain(c Drain) Answer {
	m, ok := t.Member(c.Member)
	switch {
	case !ok:
		return refuse(550, "5.1.0", "there is no member %s", c.Member)
	case m.Retired != 0:
		return refuse(550, "5.5.0", "%s was removed", m.Name)
	case m.Draining != c.Stop:
		return Answer{}
	}
	if c.Stop {
		m.Draining, m.Leaving, m.Drained, m.Left, m.Found, m.Walk = false, false, 0, 0, 0, nil
		m.By, m.Reason = "", ""
		m.Handed++
	} else {
		m.By, m.Reason = c.By, c.Reason
		t.beginDrain(&m)
	}
	t.put(tab(tabMember).mem(m.ID), m)
	return Answer{Count: 1}
}

func (t *tx) beginDrain(m *Member) {
	if !m.Draining {
		m.Draining, m.Drained, m.Left, m.Found, m.Walk = true, 0, 0, 0, nil
		m.Handed++
	}
}

// handOverOwn applies HandOver. What nobody else who is up has the content of
// stays: its owner finishes it.
func (t *tx) handOverOwn(c HandOver) Answer {
	m, ok := t.Member(c.Member)
	switch {
	case !ok || !m.Up || !m.Draining:
		return refuse(450, "4.3.2", "%s is not being drained", c.Member)
	case c.After != m.Handed:
		return refuse(450, "4.3.2", "the state has moved on from %d to %d", c.After, m.Handed)
	}
	m.Handed++
	t.put(tab(tabMember).mem(m.ID), m)
	n := 0
	for _, id := range c.IDs {
		e := t.open(id)
		if e == nil || !e.Active() || e.Primary != m.ID || t.heir(e.Message, m.ID) == 0 {
			continue
		}
		t.handOver(e.Message, m.ID)
		t.save(e)
		n++
	}
	return Answer{Count: n}
}

// walk looks at one piece of all messages, in order of id, and relieves the
// member of what it has of each. The pass after the last row that still named
// the member finds none; until then there will be another pass.
func (t *tx) walk(m *Member, rows int) Answer {
	low := tab(tabMessage)
	if m.Walk != nil {
		low = append(low.bytes(m.Walk), 0)
	}
	looked, n, last := 0, 0, true
	var named []mail.ID
	for k, b := range t.Scan(low, tab(tabMessage).end()) {
		var msg Message
		t.decode(k, b, &msg)
		if msg.Primary == m.ID || msg.Shadow == m.ID {
			named = append(named, msg.ID)
		}
		m.Walk = slices.Clone(k[2:])
		if looked++; looked == piece(rows) {
			last = false
			break
		}
	}
	for _, id := range named {
		e := t.open(id)
		t.relieve(e.Message, m)
		if e.Primary == m.ID || e.Shadow == m.ID {
			m.Found++
		} else {
			n++
		}
		t.save(e)
	}
	if last {
		t.passed(m)
	}
	return Answer{Count: n, More: !last}
}

// passed ends a pass of walk.
func (t *tx) passed(m *Member) {
	m.Left, m.Found, m.Walk = m.Found, 0, nil
	if m.Left > 0 {
		return
	}
	if m.Phase == PhaseHolders {
		m.Phase = PhaseDone
	}
	if m.Draining {
		m.Drained = t.now()
	}
}

// relieve takes from a member, as far as that is possible now, what it has of
// a message. Its active messages a member that is up hands over itself.
func (t *tx) relieve(msg *Message, m *Member) {
	if !msg.Active() {
		t.rehold(msg, m)
		return
	}
	if msg.Primary == m.ID && !m.Up {
		t.handOver(msg, m.ID)
	}
	if msg.Shadow == m.ID && (!m.Up || t.shadowFor(msg) != 0 || t.nowhere(msg)) {
		t.reshadow(msg)
	}
}

// rehold gives Safety Net entries of the member's a new holder: one that takes
// such things and has the content. While another member may come to have it,
// the entry waits; if there is none, the other holder is left alone with it.
func (t *tx) rehold(msg *Message, m *Member) {
	if msg.Shadow == m.ID && (!m.Up || msg.Acked || msg.PrimaryEnd != 0) {
		switch s := t.holder(msg, msg.Primary, true); {
		case s != 0:
			msg.Shadow = s
			msg.note(Event{Kind: EventHolder, At: t.now(), Member: s, Text: "Shadow Safety Net, from " + m.ID.String()})
		case msg.PrimaryEnd == 0 && !t.mayCome(msg, m.ID):
			msg.Shadow, msg.Acked = 0, false
		}
	}
	if msg.Primary != m.ID {
		return
	}
	p := t.holder(msg, msg.Shadow, msg.PrimaryEnd == 0)
	if p == 0 && msg.PrimaryEnd == 0 && msg.Shadow != 0 && msg.Shadow != m.ID && !t.mayCome(msg, m.ID) {
		p, msg.Shadow, msg.Acked = msg.Shadow, 0, false
	}
	if p != 0 {
		if m.Retired != 0 && msg.LostBy == 0 {
			msg.LostBy = m.ID // its Primary Safety Net went with it: another only holds the entry
		}
		msg.Primary = p
		msg.note(Event{Kind: EventHolder, At: t.now(), Member: p, Text: "Primary Safety Net, from " + m.ID.String()})
	}
}

// holder picks a member to hold an entry beside the other holder. What no
// member has the content of anybody may hold: it waits for that there.
func (t *tx) holder(msg *Message, other mail.MemberID, content bool) mail.MemberID {
	content = content && !t.nowhere(msg)
	return t.pick(other, msg.Content.ID, false, func(m Member) bool { return !content || m.has(msg) })
}

// mayCome reports whether a third member is there that could hold the entry
// one day.
func (t *tx) mayCome(msg *Message, gone mail.MemberID) bool {
	for m := range t.Members() {
		if m.ID != gone && m.ID != msg.Primary && m.ID != msg.Shadow && m.Retired == 0 && !m.Draining {
			return true
		}
	}
	return false
}

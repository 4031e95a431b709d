package fsm

import (
	"bytes"
	"slices"

	"mailraft/mail"
)

// memberDown applies MemberDown: the leader has granted the member no lease
// for so long that its last one is over. From here until MemberUp nothing but
// what it has delivered is taken from it; Takeover hands over its messages.
func (t *tx) memberDown(c MemberChange) Answer {
	m, ok := t.Member(c.Member)
	if !ok {
		return refuse(550, "5.1.0", "there is no member %s", c.Member)
	}
	if c.Term != t.at.Term {
		// Another leader may have granted it leases since this was decided.
		return refuse(450, "4.3.2", "decided in term %d, and this is term %d", c.Term, t.at.Term)
	}
	if !m.Up {
		return Answer{}
	}
	m.Up, m.Since, m.Phase, m.Cursor = false, t.now(), PhasePrimaries, nil
	t.put(tab(tabMember).mem(m.ID), m)
	return Answer{Count: 1}
}

// memberUp applies MemberUp. A takeover once begun runs to its end first, so
// that the member, which does nothing before its state includes this entry,
// knows everything that it no longer owns.
func (t *tx) memberUp(c MemberChange) Answer {
	m, ok := t.Member(c.Member)
	switch {
	case !ok:
		return refuse(550, "5.1.0", "there is no member %s", c.Member)
	case m.Retired != 0:
		return refuse(550, "5.5.0", "%s is no member any more", m.Name)
	case m.Phase != PhaseDone:
		return refuse(450, "4.3.2", "the takeover of its messages is not finished")
	}
	if !m.Up {
		m.Up, m.Since = true, t.now()
	}
	if c.Addr != "" {
		m.Addr, m.SMTP, m.Host, m.Site = c.Addr, c.SMTP, c.Host, c.Site
	}
	t.put(tab(tabMember).mem(m.ID), m)
	return Answer{Count: 1}
}

// takeover applies one piece of handing over what a member that is down owned
// and shadowed, and of what one that is drained or retired holds. Cursors in
// its row say how far the pieces have come, so any leader goes on from where
// the last one was.
func (t *tx) takeover(c MemberChange) (a Answer) {
	m, ok := t.Member(c.Member)
	switch {
	case !ok:
		return Answer{}
	case !m.Up && (m.Phase == PhasePrimaries || m.Phase == PhaseShadows):
		a = t.inherit(&m, c.Rows)
	case m.Phase == PhaseHolders, m.Draining && m.Drained == 0 && m.Retired == 0:
		a = t.walk(&m, c.Rows)
	default:
		return Answer{}
	}
	t.put(tab(tabMember).mem(m.ID), m)
	t.forget(m)
	return a
}

// inherit is one piece of the first two phases, each along an index.
func (t *tx) inherit(m *Member, rows int) Answer {
	table := byte(tabOwner)
	if m.Phase == PhaseShadows {
		table = tabShadow
	}
	base := tab(table).mem(m.ID)
	low := base
	if m.Cursor != nil {
		low = append(slices.Clone(m.Cursor), 0)
	}
	keys, last := t.pieceOf(low, base.end(), rows)
	for _, k := range keys {
		m.Cursor = k
		e := t.open(lastID(k))
		if e == nil {
			continue
		}
		if m.Phase == PhasePrimaries {
			t.handOver(e.Message, m.ID)
		} else {
			t.reshadow(e.Message)
		}
		t.save(e)
	}
	if last {
		m.Cursor = nil
		switch {
		case m.Phase == PhasePrimaries:
			m.Phase = PhaseShadows
		case m.Retired != 0:
			m.Phase = PhaseHolders
		default:
			m.Phase = PhaseDone
		}
	}
	return Answer{Count: len(keys), More: m.Phase == PhasePrimaries || m.Phase == PhaseShadows}
}

// pieceOf reads the index keys of one piece; last: none are left behind them.
func (t *tx) pieceOf(low, high key, rows int) (keys []key, last bool) {
	for k := range t.Scan(low, high) {
		if keys = append(keys, slices.Clone(k)); len(keys) == piece(rows) {
			return keys, false
		}
	}
	return keys, true
}

// handOver gives an active message of a member that is down another owner: its
// shadow server if that is up, else any member that is up and has the content.
// If there is none the message stays its owner's, and waits.
func (t *tx) handOver(m *Message, from mail.MemberID) {
	heir := t.heir(m, from)
	if heir == 0 {
		m.Waiting = true
		return
	}
	m.Waiting = false
	m.Primary = heir
	m.note(Event{Kind: EventTakeover, At: t.now(), Member: heir, Text: "from " + from.String()})
	if m.Shadow == heir || m.Shadow == 0 {
		m.Shadow = 0
		t.reshadow(m)
	}
	for i := range m.Recipients {
		if r := &m.Recipients[i]; r.State == Pending {
			r.Next = t.now()
		}
	}
}

// heir is who an active message of from goes to; zero: nobody who is up has
// its content. A draining member inherits nothing if there is another. From one
// that leaves, what no member has the content of goes to anybody: there it waits.
func (t *tx) heir(m *Message, from mail.MemberID) mail.MemberID {
	owner, _ := t.Member(from)
	anybody := (owner.Draining || owner.Retired != 0) && t.nowhere(m)
	has := func(mb Member) bool { return anybody || mb.has(m) }
	s, ok := t.Member(m.Shadow)
	if ok && s.Takes() && has(s) {
		return s.ID
	}
	var up []mail.MemberID
	for mb := range t.Members() {
		if mb.Takes() && mb.ID != from && has(mb) {
			up = append(up, mb.ID)
		}
	}
	switch {
	case len(up) > 0:
		return up[int(m.ID[len(m.ID)-3])%len(up)]
	case ok && s.Up && s.Retired == 0 && has(s) && !owner.Up:
		return s.ID
	}
	return 0
}

// reshadow gives an active message a shadow server that is up and has the
// content; without one it has none, and Protect will see to it.
func (t *tx) reshadow(m *Message) {
	was := m.Shadow
	m.Shadow = t.shadowFor(m)
	if m.Shadow != was || m.Shadow == 0 {
		t.noteShadow(m)
	}
}

func (t *tx) shadowFor(m *Message) mail.MemberID {
	return t.chooseShadow(m.Primary, m.Content.ID, func(mb Member) bool { return mb.has(m) })
}

// protect applies one piece of giving active messages what they lack: a
// shadow, an owner who is up, copies on a majority. It walks the index in
// turns; the cursor is in the boundary's row.
func (t *tx) protect(c Limit) Answer {
	b, ok := t.Boundary()
	if !ok {
		return Answer{}
	}
	low := tab(tabNeed)
	if b.Protect != nil {
		low = append(slices.Clone(b.Protect), 0)
	}
	keys, last := t.pieceOf(low, tab(tabNeed).end(), c.Rows)
	n := 0
	for _, k := range keys {
		b.Protect = k
		e := t.open(lastID(k))
		if e == nil {
			continue
		}
		before, _ := enc.Marshal(e.Message)
		t.mend(e.Message, b)
		if after, _ := enc.Marshal(e.Message); !bytes.Equal(before, after) {
			t.save(e)
			n++
		}
	}
	if last {
		b.Protect = nil
	}
	t.put(tab(tabBoundary), b)
	return Answer{Count: n, More: b.Protect != nil}
}

func (t *tx) mend(m *Message, b Boundary) {
	if m.Waiting {
		if owner, _ := t.Member(m.Primary); owner.Up {
			m.Waiting = false
		} else {
			t.handOver(m, m.Primary)
		}
	}
	if m.Shadow == 0 && !m.Waiting {
		if s := t.shadowFor(m); s != 0 {
			m.Shadow = s
			t.noteShadow(m)
		}
	}
	if m.Marked {
		m.Marked = !b.Quorum(func(id mail.MemberID) bool {
			mb, ok := t.Member(id)
			return ok && mb.has(m)
		})
	}
}

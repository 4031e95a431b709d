package fsm

import (
	"mailraft/directory"
	"mailraft/mail"
)

// releasePieces is how many pieces of an expansion one entry releases.
const releasePieces = 8

// beginExpansion keeps the groups that are too large for one entry, at the
// versions that they have now, and remembers who was reached already.
func (t *tx) beginExpansion(m *Message, rest []directory.GroupRef) {
	m.Rest, m.Expanding = rest, true
	t.pin(m, rest)
	for i := range m.Recipients {
		t.see(m.ID, &m.Recipients[i])
	}
}

// expand applies Expand: the next piece of recipients becomes a message of its
// own that refers to the same content and is held back; when no group is left,
// the pieces are released, a few in each entry, and with the last of them the
// message itself. Any leader goes on from any piece.
func (t *tx) expand(c Expand) Answer {
	e := t.open(c.ID)
	if e == nil || !e.Expanding {
		return Answer{}
	}
	if len(e.Rest) > 0 {
		t.expandPiece(e)
	} else if t.release(e.Message) {
		e.Expanding = false
		t.unpin(e.Message)
		k := tab(tabSeen).id(e.ID)
		t.deleteRange(k, k.end())
		t.finish(e.Message)
	}
	t.save(e)
	return Answer{Count: 1, More: e.Expanding}
}

func (t *tx) expandPiece(e *edit) {
	seen := func(k string) bool {
		_, ok := t.Get(tab(tabSeen).id(e.ID).text(k))
		return ok
	}
	now, left := directory.Expand(t.Tables, e.Rest, recipientsPerRow, seen)
	t.pin(e.Message, left)
	e.Rest = left
	if e.Request != 0 {
		now = t.wanted(e.Message, now)
	}
	if len(now) == 0 {
		return
	}
	p := t.create(e.Content)
	p.Envelope = e.Envelope
	p.Trace, p.Fields, p.Overlay, p.Accepted = e.Trace, e.Fields, e.Overlay, e.Accepted
	p.Primary, p.Shadow, p.Holders, p.Marked, p.Waiting, p.GivenUp = e.Primary, e.Shadow, e.Holders, e.Marked, e.Waiting, e.GivenUp
	p.Parent, p.Held, p.Request, p.Origin = e.ID, true, e.Request, e.Origin
	kind := EventReceive
	if p.Request != 0 {
		kind = EventResubmit
	}
	p.note(Event{Kind: kind, At: t.now(), Member: e.Primary, Text: "piece of " + e.ID.String()})
	t.addRecipients(p.Message, now)
	p.Envelope.Recipients, p.Envelope.Asked = nil, p.askedAgain()
	for i := range p.Recipients {
		t.see(e.ID, &p.Recipients[i])
	}
	t.save(p)
}

// release lets some pieces be delivered; true: that was the last of them. What
// an operator did to the message meanwhile holds for its pieces too.
func (t *tx) release(parent *Message) bool {
	var ids []mail.ID
	for id := range t.ids(tab(tabChild).id(parent.ID)) {
		if ids = append(ids, id); len(ids) > releasePieces {
			break
		}
	}
	for _, id := range ids[:min(len(ids), releasePieces)] {
		if p := t.open(id); p != nil {
			p.Held, p.Suspended, p.Quarantine = false, p.Suspended || parent.Suspended, parent.Quarantine
			if parent.Deleted != nil {
				t.deletePending(p.Message, parent.Deleted)
			}
			if parent.Returned != nil {
				t.bounce(p.Message, parent.Returned)
			}
			t.finish(p.Message)
			t.save(p)
		}
	}
	return len(ids) <= releasePieces
}

func (t *tx) see(parent mail.ID, r *Recipient) {
	k := directory.Resolved{Address: r.Address, Kind: directory.ToMailbox}
	if r.NextHop != "" {
		k.Kind = directory.ToRelay
	}
	t.set(tab(tabSeen).id(parent).text(k.Key()), nil)
}

// pin holds the versions of groups that refs newly speak of.
func (t *tx) pin(m *Message, refs []directory.GroupRef) {
	held := map[directory.GroupRef]bool{}
	for _, g := range m.Groups {
		held[g] = true
	}
	for _, g := range refs {
		p := directory.GroupRef{Address: g.Address, Version: g.Version}
		if !g.Expanded() && !held[p] && t.refGroup(g.Address, g.Version, 1) {
			held[p] = true
			m.Groups = append(m.Groups, p)
		}
	}
}

func (t *tx) unpin(m *Message) {
	for _, g := range m.Groups {
		t.refGroup(g.Address, g.Version, -1)
	}
	m.Groups = nil
}

// refGroup counts who holds a version of a group; it goes with the last.
// False: there is no such version.
func (t *tx) refGroup(address string, version uint64, by int) bool {
	k := tab(tabDirectory).byte('g').str(address).u64(version)
	var row groupRow
	if !t.get(k, &row) {
		return false
	}
	if row.Refs += by; row.Refs > 0 {
		t.put(k, row)
	} else {
		t.delete(k)
	}
	return true
}

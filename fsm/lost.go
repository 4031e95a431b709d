package fsm

import (
	"iter"
	"slices"

	"mailraft/mail"
)

// ContentLost gives up the content of messages: an operator has seen that no
// member that is left has it, or all members have said so to one that lacks it.
// The messages stay, and wait for it; but nobody
// counts as having it by being complete up to their index, and nobody has to
// find it to be complete.
//
// With Found it is the reverse: a member has the content of these after all.
type ContentLost struct {
	IDs    []mail.ID     `cbor:"1,keyasint"`
	Found  mail.MemberID `cbor:"2,keyasint,omitempty"`
	By     string        `cbor:"3,keyasint,omitempty"`
	Reason string        `cbor:"4,keyasint,omitempty"`
}

// lostMax bounds the messages of one ContentLost.
const lostMax = 1000

// contentLost applies ContentLost.
func (t *tx) contentLost(c ContentLost) Answer {
	if len(c.IDs) > lostMax {
		return refuse(501, "5.5.4", "%d messages at once; at most %d", len(c.IDs), lostMax)
	}
	if c.Found != 0 {
		return t.contentFound(c)
	}
	n := 0
	for _, id := range c.IDs {
		e := t.open(id)
		if e == nil || e.Lost() {
			continue
		}
		e.GivenUp, e.Holders = true, nil
		e.note(Event{Kind: EventAdmin, At: t.now(), Text: "its content was given up for lost: " + c.Reason})
		t.save(e)
		n++
	}
	return Answer{Count: n}
}

// contentFound notes a member that has the content of messages for which it was
// given up. Protect sees to an owner for those that wait.
func (t *tx) contentFound(c ContentLost) Answer {
	if m, ok := t.Member(c.Found); !ok || m.Retired != 0 {
		return refuse(550, "5.1.0", "there is no member %s", c.Found)
	}
	n := 0
	for _, id := range c.IDs {
		e := t.open(id)
		if e == nil || !e.GivenUp || slices.Contains(e.Holders, c.Found) {
			continue
		}
		e.Holders = append(e.Holders, c.Found)
		t.save(e)
		n++
	}
	return Answer{Count: n}
}

// WaitsForContent reports whether nobody who is up can deliver the message, for
// want of its content.
func (m *Message) WaitsForContent() bool {
	return m.Waiting || m.Active() && m.lacked()
}

// lacked reports that the content was given up, and that its owner has not said
// that it has it since: a try could only fail, and the last of them would
// bounce the message.
func (m *Message) lacked() bool { return m.GivenUp && !slices.Contains(m.Holders, m.Primary) }

// Lost reports that the content was given up, and that nobody has it since.
func (m *Message) Lost() bool { return m.GivenUp && len(m.Holders) == 0 }

// nowhere reports that the content was given up, and that no member that is up
// has said that it has it since.
func (t Tables) nowhere(m *Message) bool {
	return m.GivenUp && !slices.ContainsFunc(m.Holders, func(id mail.MemberID) bool {
		h, ok := t.Member(id)
		return ok && h.Up && h.Retired == 0
	})
}

// Lost walks the messages whose content was given up, by id.
func (t Tables) Lost() iter.Seq[*Message] { return t.indexed(tab(tabLost)) }

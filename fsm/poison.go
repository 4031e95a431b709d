package fsm

import "mailraft/mail"

// faultsMax is how often in a row the handling of a message may break something
// before it is set aside: once may be another's doing.
const faultsMax = 2

// Poison says since when a message is set aside, and for what. It is in no
// queue, does not expire, and waits for an operator: resume, bounce or remove.
type Poison struct {
	At   mail.Time `cbor:"1,keyasint" json:"at"`
	Text string    `cbor:"2,keyasint" json:"text"`
}

// CrashMark names a process: the member, and how often it had been started.
type CrashMark struct {
	Member mail.MemberID `cbor:"1,keyasint,omitempty"`
	Starts uint64        `cbor:"2,keyasint,omitempty"`
}

// Crashes is what a member says after its process died: these messages were in
// hand. Any of them may have been the cause, and so each is handled alone from
// now on (Suspect). Of those that were handled alone already, only the last one
// begun is blamed.
type Crashes struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	Starts uint64        `cbor:"2,keyasint"` // of the process that died
	IDs    []mail.ID     `cbor:"3,keyasint"`
	Last   mail.ID       `cbor:"4,keyasint,omitempty"` // the suspect that was begun last
}

// Suspect reports whether the message is to be handled with nothing else beside
// it that is suspect: should the process die again, it was this one.
func (m *Message) Suspect() bool { return m.Faults > 0 }

// crashes applies Crashes. Said twice it counts once.
func (t *tx) crashes(c Crashes) Answer {
	n := 0
	for _, id := range c.IDs {
		e := t.open(id)
		if e == nil || !e.Active() && !e.owes() || e.Crash == (CrashMark{c.Member, c.Starts}) {
			continue
		}
		e.Crash = CrashMark{c.Member, c.Starts}
		if e.Faults == 0 || id == c.Last {
			t.fault(e.Message, c.Member, "the process died while it had this message in hand")
		}
		t.save(e)
		n++
	}
	return Answer{Count: n}
}

// fault counts one against the message.
func (t *tx) fault(m *Message, by mail.MemberID, text string) {
	m.Faults++
	if m.Faults < faultsMax || m.Poison != nil {
		return
	}
	m.note(Event{Kind: EventPoison, At: t.now(), Member: by, Text: text})
	if m.Active() {
		m.Poison = &Poison{At: t.now(), Text: short(text)}
		return
	}
	m.forgive() // nothing is left of it but a report that cannot be made
	m.trust()
}

// trust forgets what was held against the message.
func (m *Message) trust() { m.Faults, m.Poison = 0, nil }

// judge counts a report: an outcome that tells of a fault of ours, or none that
// does. A report that is said again is not counted again.
func (t *tx) judge(m *Message, r mail.Report, by mail.MemberID) {
	for _, o := range r.Outcomes {
		if o.Recipient < 0 || o.Recipient >= len(m.Recipients) {
			continue
		}
		rc := &m.Recipients[o.Recipient]
		switch {
		case !o.Fault:
			m.Faults = 0
			return
		case rc.State == Pending && !t.said(rc, o):
			t.fault(m, by, o.Reply.String())
			return
		}
	}
}

// said reports whether a deferral is the one that was applied last.
func (t *tx) said(r *Recipient, o mail.Outcome) bool {
	return r.Attempts > 0 && r.Reply != nil && *r.Reply == o.Reply && r.Next == o.Next
}

package fsm

import "mailraft/mail"

// What the sender asked for (RFC 3461) stays where it was said, in the
// envelope, and each recipient of the row names its part: a group of a thousand
// does not keep one ORCPT a thousand times.

// askedOf is which of Envelope.Asked is about an envelope recipient, counted
// from 1. An address that was said twice has what was said first.
func (m *Message) askedOf() map[string]int {
	if len(m.Envelope.Asked) == 0 {
		return nil
	}
	asked := make(map[string]int, len(m.Envelope.Recipients))
	for i, text := range m.Envelope.Recipients {
		if _, again := asked[text]; !again && !m.Envelope.Ask(i).IsZero() {
			asked[text] = i + 1
		}
	}
	return asked
}

// askedAgain is what of Envelope.Asked the recipients of a piece need, under
// the numbers that it has in the message as accepted.
func (m *Message) askedAgain() []mail.Asked {
	most := 0
	for i := range m.Recipients {
		most = max(most, m.Recipients[i].Asked)
	}
	if most == 0 {
		return nil
	}
	asked := make([]mail.Asked, most)
	for i := range m.Recipients {
		if n := m.Recipients[i].Asked; n > 0 {
			asked[n-1] = m.Envelope.Ask(n - 1)
		}
	}
	return asked
}

package mail

import (
	"strings"
	"time"
)

// Received is the trace field of RFC 5321 §4.4 for the message id that was
// accepted at the given state machine time, folded, with its CRLF. The "for"
// clause is written for one recipient only, so that nobody learns of another.
func (t Trace) Received(id ID, at Time, recipients []string) []byte {
	var b strings.Builder
	b.WriteString("Received: from ")
	b.WriteString(word(t.Helo, "unknown"))
	b.WriteString(" (")
	if t.Name != "" {
		b.WriteString(word(t.Name, ""))
		b.WriteByte(' ')
	}
	b.WriteString("[" + word(t.Address, "unknown") + "])\r\n\tby ")
	b.WriteString(word(t.By, "localhost"))
	b.WriteString(" with " + word(t.Protocol, "SMTP") + " id " + id.String())
	if len(recipients) == 1 {
		b.WriteString("\r\n\tfor <" + recipients[0] + ">")
	}
	b.WriteString(";\r\n\t" + at.Std().Format(time.RFC1123Z) + "\r\n")
	return []byte(b.String())
}

// word keeps what may stand unquoted in a trace field: a client's HELO cannot
// end the line, open a comment or add a clause.
func word(s, none string) string {
	if len(s) > domainMax {
		s = s[:domainMax]
	}
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>;"\`, r) {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return none
	}
	return s
}

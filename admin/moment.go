package admin

import (
	"fmt"
	"time"

	"mailraft/mail"
)

// Moment is a point in time as people name it: in RFC 3339, or by how long ago
// it was, as 2h or 1d12h. What is ago is ago by the state machine's clock, at
// the member that answers. The zero Moment is none.
type Moment struct {
	at    mail.Time
	ago   time.Duration
	isAgo bool // "0" is now, and no zero Moment
}

// ParseMoment reads a moment; empty text is none.
func ParseMoment(text string) (m Moment, err error) {
	return m, m.UnmarshalText([]byte(text))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Moment) UnmarshalText(text []byte) error {
	*m = Moment{}
	if len(text) == 0 {
		return nil
	}
	if d, err := mail.ParseDuration(string(text)); err == nil {
		m.ago, m.isAgo = d, true
		return nil
	}
	if err := m.at.UnmarshalText(text); err != nil {
		return fmt.Errorf("time %q: want RFC 3339, as 2026-03-01T12:00:00Z, or how long ago, as 2h or 1d12h", text)
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler: what UnmarshalText reads.
func (m Moment) MarshalText() ([]byte, error) {
	if m.isAgo {
		return []byte(mail.FormatDuration(m.ago)), nil
	}
	return m.at.MarshalText()
}

// IsZero reports that no moment is named.
func (m Moment) IsZero() bool { return m == Moment{} }

// Relative reports that the moment depends on when it is looked at.
func (m Moment) Relative() bool { return m.isAgo }

// Of is the moment, seen from now.
func (m Moment) Of(now mail.Time) mail.Time {
	if m.isAgo {
		return max(now.Add(-m.ago), 1) // 0 would be no time
	}
	return m.at
}

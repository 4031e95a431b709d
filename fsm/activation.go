package fsm

import (
	"fmt"

	"mailraft/mail"
)

// Start is where the mail begins that a copy must be sent when it is
// activated, and why there.
type Start struct {
	At      mail.Time `json:"start"`
	Through mail.Time `json:"data_through,omitzero"` // up to when the copy is known to be complete; zero: nothing is known
	Lacks   bool      `json:"lacks,omitempty"`       // it is before the beginning of what is held
	Text    string    `json:"text"`                  // the sum, in words
}

// Since is where the mail begins that a copy of the database lacks if it is
// activated now. through is what the operator says that the copy is complete
// up to; zero: what is known of it.
func (t Tables) Since(d Database, name string, through, now mail.Time) (s Start) {
	p, held := t.Params(), t.HeldSince(now)
	c := d.copy(name)
	if c == nil {
		c = &Copy{Name: name}
	}
	word := "data-through"
	if s.Through = through; through == 0 {
		s.Through = c.DataThrough
		if seen := t.healthOf(d, name).Seen; c.Live && seen > s.Through {
			s.Through, word = seen, "seen healthy"
		}
	}
	if s.Through == 0 {
		s.At, s.Text = held, fmt.Sprintf("nothing is known of copy %s: from the beginning of what is held", name)
		return s
	}
	s.Through = min(s.Through, now) // a clock elsewhere may be ahead
	s.At = max(s.Through.Add(-c.Lag.Std()-p.slack(*c)), 0)
	s.Text = fmt.Sprintf("%s %s − lag %s − slack %s", word, s.Through, mail.FormatDuration(c.Lag.Std()), mail.FormatDuration(p.slack(*c)))
	if s.Lacks = max(s.At, t.Settings().Boundary.Created) < held; s.Lacks {
		s.Text += fmt.Sprintf(", but only what was delivered since %s is held", held)
	}
	return s
}

package fsm

import (
	"fmt"

	"mailraft/mail"
)

// Activate makes another copy of a database the active one, and in the same
// entry the resubmit request for what that copy lacks.
type Activate struct {
	Database string    `cbor:"1,keyasint"`
	Copy     string    `cbor:"2,keyasint"`
	Through  mail.Time `cbor:"3,keyasint,omitempty"` // the copy is complete up to; zero: what is known of it counts
	// From and Activation are what is replaced, as the proposer saw it.
	From       string `cbor:"4,keyasint"`
	Activation uint64 `cbor:"5,keyasint"`
	Auto       bool   `cbor:"6,keyasint,omitempty"` // decided by the Active Manager
	Term       uint64 `cbor:"7,keyasint,omitempty"` // Auto: whose leader decided it
	Reason     string `cbor:"8,keyasint,omitempty"`
	By         string `cbor:"9,keyasint,omitempty"`
}

// activate applies Activate. Answer.Text says which request sends what.
func (t *tx) activate(c Activate) Answer {
	d, ok := t.Database(c.Database)
	if !ok {
		return refuse(550, "5.1.0", "there is no database %q", c.Database)
	}
	if r := t.checkActivation(d, c); r != nil {
		return Answer{Refused: r}
	}
	start := t.Since(d, c.Copy, c.Through, t.now())
	t.deactivate(&d, c.Copy)
	r := t.activationRequest(d, start, c)
	x := d.copy(c.Copy)
	// What the request begins with is what the copy is sure to hold, until more
	// of it is sent: see deactivate.
	x.DataThrough = min(r.Start.Add(x.Lag.Std()+t.Params().slack(*x)), t.now())
	d.Active, d.Activation, d.Since, d.Request, d.Lacks = x.Name, r.Activation, t.now(), r.ID, 0
	t.putDatabase(d)
	if r.Start < start.At {
		start.Text += ", and what an activation before has not sent"
	}
	e := HistoryEvent{Kind: HistoryActivate, Copy: x.Name, From: c.From, Activation: d.Activation, Request: r.ID, By: c.By, Reason: c.Reason, Text: start.Text}
	if c.Auto {
		e.Kind = HistoryFailover
	}
	t.note(d, e)
	return Answer{Count: 1, Text: fmt.Sprintf("request %s sends what was delivered since %s: %s", r.Name(), r.Start, start.Text)}
}

// checkActivation refuses what was decided of another state than this.
func (t *tx) checkActivation(d Database, c Activate) *mail.Reply {
	x := d.copy(c.Copy)
	switch {
	case x == nil:
		return d.noCopy(c.Copy)
	case c.From != d.Active || c.Activation != d.Activation:
		return mail.Replyf(450, "4.3.2", "copy %s of %s is the active one, by activation %d since %s, not copy %s by activation %d",
			d.Active, d.Name, d.Activation, d.Since, c.From, c.Activation)
	case c.Through < 0:
		return mail.Replyf(501, "5.5.4", "copy %s of %s: a negative time", c.Copy, d.Name)
	case c.Copy == d.Active && (c.Through == 0 || c.Auto):
		return mail.Replyf(550, "5.5.0", "copy %s of %s is the active one; if it was restored, say up to when it is complete: --data-through TIME", c.Copy, d.Name)
	case !c.Auto:
		return t.checkThrough(d.Name, c.Copy, c.Through)
	case c.Term != t.at.Term:
		return mail.Replyf(450, "4.3.2", "decided in term %d, and this is term %d", c.Term, t.at.Term)
	case c.Through != 0:
		return mail.Replyf(501, "5.5.4", "only an operator says what a copy holds as it is activated")
	case t.Settings().Boundary.Restored.Suspended():
		return mail.Replyf(450, "4.3.2", "the boundary was restored from a backup, and its mail is not delivered yet: nothing is activated automatically")
	case d.Suspended != nil || x.Suspended != nil:
		return mail.Replyf(450, "4.3.2", "automatic activation of copy %s of %s is suspended", c.Copy, d.Name)
	case !t.healthOf(d, c.Copy).Healthy:
		return mail.Replyf(450, "4.3.2", "copy %s of %s was not seen healthy", c.Copy, d.Name)
	case t.healthOf(d, d.Active).Healthy:
		return mail.Replyf(450, "4.3.2", "copy %s of %s, the active one, is healthy", d.Active, d.Name)
	}
	return nil
}

// deactivate keeps what the active copy is complete up to as another is
// activated: up to now, but for what its request has not sent. It still holds
// what it did when it was activated.
func (t *tx) deactivate(d *Database, next string) {
	c := d.ActiveCopy()
	if c == nil || c.Name == next {
		return
	}
	c.DataThrough = max(c.DataThrough, t.completeTo(*d))
}

// completeTo is what a copy that is the same as the active one is complete up
// to: what the active one was still to be sent, such a copy lacks too.
func (t *tx) completeTo(d Database) mail.Time {
	through := t.now()
	if from, ok := t.unsentFrom(d.Name); ok {
		through = min(through, from)
	}
	if d.Lacks != 0 {
		through = min(through, d.Lacks)
	}
	return through
}

// lack notes, as the request of the present activation of a database ends,
// what the active copy was to have and did not get.
func (t *tx) lack(r *requestEdit) {
	d, ok := t.Database(r.Database)
	if ok && r.Parent == 0 && r.Activation == d.Activation && r.unfinished(t.gapOf(r.Request)) {
		d.Lacks = t.unsent(r.Request, t.gapOf(r.Request))
		t.putDatabase(d)
	}
}

// activationRequest makes the request for what the copy lacks. It takes over
// what earlier activations' requests have not sent: that was not delivered to
// the copy either, or nobody knows.
func (t *tx) activationRequest(d Database, start Start, c Activate) Request {
	r := Request{Database: d.Name, Activation: d.Activation + 1, Start: start.At, End: t.now() + 1, Reason: c.Reason, By: c.By}
	if g, ok := t.notHeld(r, t.now()); ok {
		r.Gaps = append(r.Gaps, g)
	}
	t.takeOverRequests(&r)
	return t.addRequest(r)
}

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
		if live := t.healthOf(d, name).Through; c.Live && live > s.Through {
			s.Through, word = live, "seen healthy"
		}
	}
	if s.Through == 0 {
		s.At, s.Text = held, fmt.Sprintf("nothing is known of copy %s: from the beginning of what is held, %s", name, held)
		return s
	}
	s.Through = min(s.Through, now)                        // a clock elsewhere may be ahead
	s.At = max(s.Through.Add(-c.Lag.Std()-p.slack(*c)), 1) // zero would be no time
	s.Text = fmt.Sprintf("%s %s − lag %s − slack %s", word, s.Through, mail.FormatDuration(c.Lag.Std()), mail.FormatDuration(p.slack(*c)))
	if s.Lacks = max(s.At, t.Settings().Boundary.Created) < held; s.Lacks {
		s.Text += fmt.Sprintf(", but only what was delivered since %s is held", held)
	}
	return s
}

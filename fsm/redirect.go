package fsm

import (
	"slices"

	"mailraft/directory"
	"mailraft/mail"
)

// redirectedMax bounds the recipients of a message that is redirected again and
// again: those that it had stay in the row.
const redirectedMax = 4 * recipientsPerRow

// bounceAll has the owner give a message up, with a report to its sender. What
// is being delivered comes to its end first, and may still be delivered.
func (t *tx) bounceAll(e *edit, c MessageChange) bool {
	if e.Request != 0 {
		return false // nobody is told of a resubmission
	}
	reply := mail.Replyf(550, "5.7.1", "returned%s", by(c))
	if e.Expanding {
		e.Rest, e.Returned = nil, reply // release bounces the pieces that are made already
	}
	e.trust()
	return t.bounce(e.Message, reply) || e.Expanding
}

// bounce puts what is pending into the queue of what cannot be delivered.
func (t *tx) bounce(m *Message, reply *mail.Reply) (done bool) {
	for i := range m.Recipients {
		if r := &m.Recipients[i]; r.State == Pending && !r.Returned {
			r.Returned, r.Reply, r.Remote, r.Next = true, reply, "", t.now()
			done = true
		}
	}
	return done
}

// checkRedirect says why nothing can be redirected to there.
func (t *tx) checkRedirect(c MessageChange) *mail.Reply {
	if (c.Database == "") == (c.To == "") {
		return mail.Replyf(501, "5.5.4", "redirect: to a database or to an address")
	}
	if _, ok := t.Database(c.Database); c.Database != "" && !ok {
		return mail.Replyf(550, "5.1.0", "there is no database %q", c.Database)
	}
	if c.To == "" {
		return nil
	}
	_, refusal := t.Redirection(c.To)
	return refusal
}

// Redirection is where mail that is redirected to an address goes: one mailbox,
// or one recipient elsewhere.
func (t Tables) Redirection(address string) (directory.Resolved, *mail.Reply) {
	to, rest := directory.Resolve(t, []string{address}, true, 1)
	switch {
	case len(rest) > 0 || len(to) != 1 || len(to[0].Via) > 0:
		return directory.Resolved{}, mail.Replyf(501, "5.5.4", "redirect to %s: it is a group; want one mailbox or outside recipient", address)
	case to[0].Kind == directory.Failed:
		return directory.Resolved{}, to[0].Reply
	}
	return to[0], nil
}

// Redirectable reports whether a pending recipient can be redirected: to a
// database only who has a mailbox, in another one.
func (r *Recipient) Redirectable(database string) bool {
	return r.State == Pending && !r.Returned && (database == "" || r.Database != "" && !sameName(r.Database, database))
}

// redirect gives each pending recipient another one in its place. The first
// stays in the row with what is known of it: a delivery to it that is under way
// still says so, and nobody takes it for the other's.
func (t *tx) redirect(e *edit, c MessageChange) bool {
	if e.Request != 0 || e.Expanding {
		return false // who gets a resubmission is for its request to say; who is in a group is not known yet
	}
	var from []int
	for i := range e.Recipients {
		if e.Recipients[i].Redirectable(c.Database) {
			from = append(from, i)
		}
	}
	if len(from) == 0 || len(e.Recipients)+len(from) > redirectedMax {
		return false
	}
	for _, i := range from {
		r := &e.Recipients[i]
		to := Recipient{Address: r.Address, Original: r.Original, Database: c.Database, Next: t.now(), Via: r.Via, Asked: r.Asked, Delayed: r.Delayed}
		if to.Original == "" {
			to.Original = r.Address
		}
		if d, ok := t.Database(c.Database); ok {
			to.Database = d.Name
		} else {
			x, _ := t.Redirection(c.To)
			to.Address, to.Database, to.NextHop = x.Address, x.Database, x.NextHop
		}
		n := t.successor(e.Message, to, c.To != "")
		r = &e.Recipients[i]
		r.State, r.Done, r.Next, r.Owes, r.To = Redirected, t.now(), 0, 0, n+1
		r.Reply = mail.Replyf(250, "2.1.5", "redirected to %s in %s%s", e.Recipients[n].Address, e.Recipients[n].Destination(), by(c))
		if len(from) <= 20 {
			e.note(Event{Kind: EventRedirected, At: t.now(), Recipient: r.Address, Text: e.Recipients[n].Address + " in " + e.Recipients[n].Destination()})
		}
	}
	return true
}

// successor is the index of the recipient in another's place. To an address
// that several are redirected to the message goes once.
func (t *tx) successor(m *Message, to Recipient, shared bool) int {
	if n := slices.IndexFunc(m.Recipients, func(r Recipient) bool {
		return shared && r.State == Pending && r.Address == to.Address && r.Destination() == to.Destination()
	}); n >= 0 {
		return n
	}
	m.Recipients = append(m.Recipients, to)
	return len(m.Recipients) - 1
}

// After are the recipients that the n-th takes the place of.
func (m *Message) After(n int) (from []int) {
	for i := range m.Recipients {
		if m.Recipients[i].To == n+1 {
			from = append(from, i)
		}
	}
	return from
}

// overtaken is about a recipient that was delivered after it was redirected: if
// that holds for all that another one stands for, that one is not needed.
func (t *tx) overtaken(m *Message, r *Recipient) {
	n := r.To - 1
	if n < 0 || n >= len(m.Recipients) || m.Recipients[n].State != Pending {
		return
	}
	for _, i := range m.After(n) {
		if s := m.Recipients[i].State; s != Delivered && s != Relayed {
			return
		}
	}
	to := &m.Recipients[n]
	to.State, to.Done, to.Next, to.Owes = Deleted, t.now(), 0, 0
	to.Reply = mail.Replyf(250, "2.1.5", "delivered before it could be redirected")
}

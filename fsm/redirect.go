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
		e.nameRest()
		e.Rest, e.Returned = nil, reply // release bounces the pieces that are made already
	}
	e.trust()
	return t.bounce(e.Message, reply) || e.Expanding
}

// nameRest makes recipients of the groups that will not be expanded any further:
// their sender is told of them, since nobody knows who would have been in them.
func (m *Message) nameRest() {
	asked := m.askedOf()
	for _, g := range m.Rest {
		if !g.Expanded() && !slices.ContainsFunc(m.Recipients, func(r Recipient) bool { return r.Address == g.Original }) {
			m.Recipients = append(m.Recipients, Recipient{Address: g.Original, Asked: asked[g.Original]})
		}
	}
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

// Redirection is where a redirect leads: to a database, without an address, or
// to one mailbox or one recipient elsewhere.
func (t Tables) Redirection(c MessageChange) (to directory.Resolved, refusal *mail.Reply) {
	if (c.Database == "") == (c.To == "") {
		return to, mail.Replyf(501, "5.5.4", "redirect: to a database or to an address")
	}
	if c.To == "" {
		d, ok := t.Database(c.Database)
		if !ok {
			return to, mail.Replyf(550, "5.1.0", "there is no database %q", c.Database)
		}
		return directory.Resolved{Kind: directory.ToMailbox, Database: d.Name}, nil
	}
	now, rest := directory.Resolve(t, []string{c.To}, true, 1)
	switch {
	case len(rest) > 0 || len(now) != 1 || len(now[0].Via) > 0:
		return to, mail.Replyf(501, "5.5.4", "redirect to %s: it is a group; want one mailbox or outside recipient", c.To)
	case now[0].Kind == directory.Failed:
		return to, now[0].Reply
	}
	return now[0], nil
}

// Redirectable reports whether a pending recipient can be redirected: to a
// database only who has a mailbox, in another one; to an address who is not to
// be delivered there anyway.
func (r *Recipient) Redirectable(to directory.Resolved) bool {
	switch {
	case r.State != Pending || r.Returned:
		return false
	case to.Address == "":
		return r.Database != "" && !sameName(r.Database, to.Database)
	}
	return !r.leadsTo(to)
}

func (r *Recipient) leadsTo(to directory.Resolved) bool {
	return r.State == Pending && !r.Returned && r.Address == to.Address && sameName(r.Database, to.Database) && r.NextHop == to.NextHop
}

// redirect gives each pending recipient another one in its place. The first
// stays in the row with what is known of it: a delivery to it that is under way
// still says so, and nobody takes it for the other's.
func (t *tx) redirect(e *edit, c MessageChange) bool {
	if e.Request != 0 || e.Expanding {
		return false // who gets a resubmission is for its request to say; who is in a group is not known yet
	}
	where, _ := t.Redirection(c) // was checked for all
	var from []int
	for i := range e.Recipients {
		if e.Recipients[i].Redirectable(where) {
			from = append(from, i)
		}
	}
	if len(from) == 0 || len(e.Recipients)+len(from) > redirectedMax {
		return false
	}
	for _, i := range from {
		n, own := t.successor(e.Message, i, where)
		r, to := &e.Recipients[i], &e.Recipients[n]
		if !own {
			r.To = n + 1
		}
		r.State, r.Done, r.Next, r.Owes = Redirected, t.now(), 0, 0
		r.Reply = mail.Replyf(250, "2.1.5", "redirected to %s in %s%s", to.Address, to.Destination(), by(c))
		if len(from) <= 20 {
			e.note(Event{Kind: EventRedirected, At: t.now(), Recipient: r.Address, Text: to.Address + " in " + to.Destination()})
		}
	}
	return true
}

// successor is the recipient in the i-th one's place. To an address that several
// are redirected to the message goes once. Own: the recipient was there already
// in its own right, and stands for nobody else.
func (t *tx) successor(m *Message, i int, where directory.Resolved) (n int, own bool) {
	n = slices.IndexFunc(m.Recipients, func(r Recipient) bool { return where.Address != "" && r.leadsTo(where) })
	if n >= 0 {
		return n, len(m.After(n)) == 0
	}
	r := &m.Recipients[i]
	to := Recipient{Address: r.Address, Original: r.Original, Database: where.Database, NextHop: where.NextHop,
		Next: t.now(), Via: r.Via, Asked: r.Asked, Delayed: r.Delayed}
	if to.Original == "" {
		to.Original = r.Address
	}
	if where.Address != "" {
		to.Address = where.Address
	}
	m.Recipients = append(m.Recipients, to)
	return len(m.Recipients) - 1, false
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

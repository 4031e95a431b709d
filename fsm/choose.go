package fsm

import (
	"cmp"
	"slices"

	"mailraft/directory"
	"mailraft/mail"
)

// walker decides for one request what becomes of the deliveries that it asks
// for, from tables that it only reads: the same for what is done and for what
// is only planned.
type walker struct {
	Tables
	r        *Request
	now      mail.Time
	to       directory.Resolved // where r.ResubmitTo leads
	original bool               // from a shadow: to whom the envelope leads now
	patient  bool               // wait for who is up and may still fetch the content
	resolved int                // recipients, by categorizing again

	// Of a plan: what would be in the tables by now. By origin and recipient,
	// who was sent to; by origin, the envelope recipients categorized again.
	made        map[string]bool
	categorized map[mail.ID][]string
}

func (t Tables) walker(r *Request, now mail.Time) (w *walker, refusal *mail.Reply) {
	s := t.Settings()
	w = &walker{Tables: t, r: r, now: now, original: s.Params.ShadowResubmitRecipients == "original", patient: true}
	if r.ResubmitTo != "" {
		w.to, refusal = t.resubmitTo(r.ResubmitTo)
	}
	return w, refusal
}

// choice is what is to be done about deliveries of one message.
type choice struct {
	m     *Message
	asked []int // recipients that the request asks for
	kept  []int // of these, those that are not left out
	by    server

	// The message to be made: nobody in it and no groups, none.
	origin        mail.ID
	envelope      []string
	to            []Recipient
	rest          []directory.GroupRef // still to be expanded
	recategorized bool
	prior         prior

	already, moved, gone, outside int // left out
}

// server says who sends deliveries again.
type server struct {
	id      mail.MemberID // the primary server of the message to be made
	behalf  mail.MemberID // not zero: from a Shadow Safety Net, for this member's Primary
	wait    mail.MemberID // not zero: when this one can
	content bool          // wait: it may have the content, and nobody else
	gap     bool          // nobody has it
}

// decide looks at a message that the walk found. to are recipients, nil is all.
func (w *walker) decide(m *Message, to []int) (c choice) {
	c.m, c.origin = m, origin(m)
	if to == nil {
		for i := range m.Recipients {
			to = append(to, i)
		}
	}
	for _, i := range to {
		if w.r.asks(m, i) {
			c.asked = append(c.asked, i)
		}
	}
	if len(c.asked) == 0 {
		return c
	}
	c.by, c.prior = w.server(m), w.prior(c.origin)
	switch {
	case w.r.ResubmitTo != "":
		w.divert(&c)
	case c.by.wait != 0 && w.original:
		c.kept = c.asked // who it goes to depends on who will serve it
		return c
	case c.by.behalf != 0 && w.original:
		w.recategorize(&c)
	default:
		w.again(&c)
	}
	if len(c.to) == 0 && len(c.rest) == 0 {
		c.by.wait, c.by.gap = 0, false // for nothing
	}
	if c.by.gap {
		c.to, c.rest = nil, nil
	}
	return c
}

// origin is the message as it was accepted, of a resubmission or of a piece of
// a large group.
func origin(m *Message) mail.ID {
	switch {
	case m.Request != 0:
		return m.Origin
	case !m.Parent.IsZero():
		return m.Parent
	default:
		return m.ID
	}
}

// server is who serves a message. Its Primary Safety Net comes first; where
// that is lost, let go, or away for too long, a Shadow Safety Net.
func (w *walker) server(m *Message) server {
	s := w.Settings()
	p := s.Member(m.Primary)
	if m.LostBy != 0 || m.PrimaryEnd != 0 || p == nil || p.Retired != 0 || slices.Contains(w.r.Unresponsive, m.Primary) {
		return w.fromShadow(m)
	}
	if p.Up {
		if id := w.holder(m, m.Primary, m.Shadow); id != 0 {
			return server{id: id}
		}
		return w.missing(m, 0)
	}
	if w.now < p.Since.Add(s.Params.UnresponsivePrimaryTimeout) {
		return server{wait: p.ID}
	}
	return w.fromShadow(m)
}

func (w *walker) fromShadow(m *Message) server {
	behalf := m.LostBy
	if behalf == 0 {
		behalf = m.Primary
	}
	if id := w.holder(m, m.Shadow, m.Primary); id != 0 {
		return server{id: id, behalf: behalf}
	}
	return w.missing(m, behalf)
}

// holder is a member that is up and has the content: one of those named first
// if it can be, else another. One that is to be drained, or that the request
// does not want asked, serves only if there is no other.
func (w *walker) holder(m *Message, first ...mail.MemberID) mail.MemberID {
	s := w.Settings()
	avoid := func(mb *Member) bool { return slices.Contains(w.r.Unresponsive, mb.ID) }
	for _, id := range first {
		if mb := s.Member(id); mb != nil && mb.Takes() && mb.has(m) && !avoid(mb) {
			return id
		}
	}
	var best, last []mail.MemberID
	for i := range s.Members {
		switch mb := &s.Members[i]; {
		case !mb.Up || mb.Retired != 0 || mb.Drained != 0 || !mb.has(m):
		case mb.Takes() && !avoid(mb):
			best = append(best, mb.ID)
		default:
			last = append(last, mb.ID)
		}
	}
	if len(best) == 0 {
		best = last
	}
	if len(best) == 0 {
		return 0
	}
	return best[int(m.Content.ID[len(m.Content.ID)-1])%len(best)]
}

// missing is what to do when nobody who is up has the content: wait for a
// member that is down, then for one that may still fetch it. If there is no
// such member, or its content was given up, it is gone.
func (w *walker) missing(m *Message, behalf mail.MemberID) server {
	s := w.Settings()
	var known, down, filling mail.MemberID
	for i := range s.Members {
		switch mb := &s.Members[i]; {
		case mb.Retired != 0, m.Lost():
		case !mb.Up && mb.has(m) && known == 0:
			known = mb.ID
		case !mb.Up && down == 0:
			down = mb.ID
		case mb.Up && filling == 0:
			filling = mb.ID
		}
	}
	for _, id := range []mail.MemberID{known, down, filling} {
		if id != 0 && (id != filling || w.patient) {
			return server{behalf: behalf, wait: id, content: true}
		}
	}
	if behalf == 0 {
		behalf = m.Primary
	}
	return server{behalf: behalf, gap: true}
}

// prior is to whom a message was sent again before: true by this request, or
// lately enough that the present copy has it, or will have.
type prior struct {
	to            map[string]bool // by addressKey
	recategorized []string        // envelope recipients that this request has categorized again
}

func (w *walker) prior(origin mail.ID) (p prior) {
	for m := range w.Resubmissions(origin) {
		own := m.Request == w.r.ID || slices.Contains(w.r.Children, m.Request)
		if own && m.Recategorized {
			p.recategorized = append(p.recategorized, m.Envelope.Recipients...)
		}
		for i := range m.Recipients {
			rc := &m.Recipients[i]
			if own || !w.r.Again && w.current(rc) {
				if p.to == nil {
					p.to = map[string]bool{}
				}
				p.to[addressKey(rc.Address)] = true
			}
		}
	}
	p.recategorized = append(p.recategorized, w.categorized[origin]...)
	return p
}

// current reports whether the copy that is active now has the resubmission, or
// will have it.
func (w *walker) current(rc *Recipient) bool {
	if rc.State == Pending {
		return true
	}
	d, ok := w.Database(rc.Database)
	activation := d.Activation
	if sameName(d.Name, w.r.Database) { // what an activation is planned to ask for goes to another copy
		activation = max(activation, w.r.Activation)
	}
	return rc.State == Delivered && ok && rc.Activation == activation
}

func (w *walker) had(c *choice, address string) bool {
	if c.prior.to == nil && w.made == nil {
		return false
	}
	k := addressKey(address)
	return c.prior.to[k] || w.made[string(c.origin[:])+k]
}

// again sends to those who had it.
func (w *walker) again(c *choice) {
	for _, i := range c.asked {
		rc := &c.m.Recipients[i]
		home, ok := directory.Home(w, rc.Address)
		switch {
		case !ok:
			c.gone++
			continue
		case !sameName(home, rc.Database):
			c.moved++
			continue
		case w.had(c, rc.Address), slices.Contains(c.prior.recategorized, cmp.Or(rc.Original, rc.Address)):
			c.already++
			continue
		}
		c.kept = append(c.kept, i)
		c.add(Recipient{Address: rc.Address, Original: rc.Original, Database: home, Via: rc.Via}, w.now) // home: its name of now
	}
}

func (c *choice) add(rc Recipient, now mail.Time) {
	rc.Next, rc.Resubmitted = now, true
	c.to = append(c.to, rc)
	if e := cmp.Or(rc.Original, rc.Address); !slices.Contains(c.envelope, e) {
		c.envelope = append(c.envelope, e)
	}
}

// divert sends one message of each origin to the mailbox that the request names.
func (w *walker) divert(c *choice) {
	if w.had(c, w.to.Address) {
		c.already = len(c.asked)
		return
	}
	c.kept = c.asked
	rc := Recipient{Address: w.to.Address, Database: w.to.Database}
	if w.to.Original != w.to.Address {
		rc.Original = w.to.Original
	}
	c.add(rc, w.now)
}

// recategorize sends to those to whom the envelope, as it was accepted, leads
// now: once for each request, however many deliveries came of it. A group that
// is too large for one entry goes on like that of any message.
func (w *walker) recategorize(c *choice) {
	envelope := slices.DeleteFunc(w.accepted(c), func(a string) bool { return slices.Contains(c.prior.recategorized, a) })
	if len(envelope) == 0 {
		c.already = len(c.asked)
		return
	}
	c.kept, c.recategorized = c.asked, true
	var now []directory.Resolved
	now, c.rest = directory.Resolve(w, envelope, true, recipientsPerRow) // outside ones are counted, and left out
	w.resolved += len(now)
	for _, x := range now {
		if x.Kind == directory.ToRelay {
			c.outside++
		}
		if w.r.wants(x) && !w.had(c, x.Address) {
			c.add(resubmitted(x), w.now)
		}
	}
	c.envelope = envelope
}

// accepted is the envelope as the message was accepted with; of a piece whose
// message is gone, what is known of it.
func (w *walker) accepted(c *choice) []string {
	if e := c.m.Envelope.Recipients; len(e) > 0 {
		return slices.Clone(e)
	}
	if p, ok := w.Message(c.m.Parent); ok {
		return slices.Clone(p.Envelope.Recipients)
	}
	var known []string
	for _, i := range c.asked {
		rc := &c.m.Recipients[i]
		if a := cmp.Or(rc.Original, rc.Address); !slices.Contains(known, a) {
			known = append(known, a)
		}
	}
	return known
}

// wants reports whether a recipient that an envelope leads to now is one of
// those that the request is about.
func (r *Request) wants(x directory.Resolved) bool {
	return x.Kind == directory.ToMailbox && (r.Database == "" || sameName(r.Database, x.Database)) &&
		(r.Recipient == "" || r.Recipient == addressKey(x.Address) || r.Recipient == addressKey(x.Original))
}

func resubmitted(x directory.Resolved) Recipient {
	rc := Recipient{Address: x.Address, Database: x.Database, Via: x.Via, Resubmitted: true}
	if x.Original != x.Address {
		rc.Original = x.Original
	}
	return rc
}

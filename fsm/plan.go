package fsm

import (
	"slices"
	"time"

	"mailraft/directory"
	"mailraft/mail"
)

// Plan is what a request would come to if it were made and sent at one moment,
// with the members that are up then. Its requests have no numbers.
type Plan struct {
	Request Request   // with counts, gaps, servers, and who would be waited for
	Shadows []Request // its shadow requests
	Rate    int       // messages per second that it may have
}

// Messages is how many would be made.
func (p *Plan) Messages() (n int) {
	n = p.Request.Counts.Messages
	for _, s := range p.Shadows {
		n += s.Counts.Messages
	}
	return n
}

// Time is how long sending would take at the rate.
func (p *Plan) Time() time.Duration {
	return time.Duration(p.Messages()) * time.Second / time.Duration(max(p.Rate, 1))
}

// planRows is how many deliveries are looked at between two looks at stop.
const planRows = 500

// Plan says what RequestAdd would come to now. It decides as Advance does, and
// changes nothing. stop ends it early, with what it has by then.
func (t Tables) Plan(c RequestAdd, now mail.Time, stop func() bool) (Plan, *mail.Reply) {
	r, refusal := t.requestOf(c, now)
	if refusal != nil {
		return Plan{}, refusal
	}
	if g, ok := t.notHeld(r, now); ok {
		r.Gaps = append(r.Gaps, g)
	}
	return t.PlanOf(r, now, stop)
}

// PlanActivation is the plan of the request that activating another copy of the
// database would make: see Since for its start. It takes over what those of
// earlier activations have not sent.
func (t Tables) PlanActivation(d Database, start, now mail.Time, stop func() bool) (Plan, *mail.Reply) {
	r := Request{Database: d.Name, Activation: d.Activation + 1, Start: start, End: now + 1}
	if g, ok := t.notHeld(r, now); ok {
		r.Gaps = append(r.Gaps, g)
	}
	for old := range t.OpenRequests() {
		gaps := slices.Clone(old.Gaps)
		for _, id := range old.Children {
			c, _ := t.Request(id)
			gaps = append(gaps, c.Gaps...)
		}
		if gap := firstKnown(gaps); old.activates(d.Name) && old.unfinished(gap) {
			t.takeOver(&r, &old, t.unsent(&old, gap), now)
		}
	}
	return t.PlanOf(r, now, stop)
}

// PlanOf is Plan of a request that is complete but for its number: of one that
// an activation would make.
func (t Tables) PlanOf(r Request, now mail.Time, stop func() bool) (Plan, *mail.Reply) {
	w, refusal := t.walker(&r, now)
	if refusal != nil {
		return Plan{}, refusal
	}
	w.made, w.categorized = map[string]bool{}, map[mail.ID][]string{}
	r.Created, r.State = now, RequestRunning
	p := Plan{Rate: t.Params().ResubmitRate}
	if r.Rate != 0 {
		p.Rate = min(p.Rate, r.Rate)
	}
	for _, s := range t.lostParts(r, now) {
		p.Shadows = append(p.Shadows, r.shadow(s))
	}
	for !r.Walked && !stop() {
		for _, f := range t.find(&r, planRows) {
			if m, ok := t.Message(f.id); ok {
				p.take(w, w.decide(m, f.to))
			}
		}
	}
	p.Request = r
	return p, nil
}

// take counts what Advance would do.
func (p *Plan) take(w *walker, c choice) {
	r := w.r
	switch {
	case len(c.asked) == 0:
		return
	case c.by.wait != 0:
		r.Counts.skip(c)
		r.wait(c, w.now)
		return
	case c.by.behalf != 0:
		r = p.shadowFor(r, c)
	}
	r.count(c)
	w.remember(c.origin, c.to)
	pieces := [][]Recipient{c.to}
	for rest := c.rest; len(rest) > 0; {
		var now []directory.Resolved
		now, rest = directory.Expand(w, rest, recipientsPerRow, func(k string) bool { return c.prior.to[k] || w.made[string(c.origin[:])+k] })
		more := choice{origin: c.origin}
		for _, x := range now {
			if w.r.wants(x) {
				more.add(resubmitted(x), w.now)
			}
		}
		pieces = append(pieces, more.to)
		r.served(c.by.id, true, len(more.to))
		w.remember(c.origin, more.to)
	}
	if c.recategorized && len(c.to)+len(c.rest) > 0 {
		w.categorized[c.origin] = append(w.categorized[c.origin], c.envelope...)
	}
	for _, to := range pieces {
		if len(to) > 0 {
			r.Counts.Messages++
			r.Counts.Sent += len(to)
			r.Counts.Bytes += c.m.Content.Size
		}
	}
}

// remember keeps in mind what is not in the tables.
func (w *walker) remember(origin mail.ID, to []Recipient) {
	for i := range to {
		w.made[string(origin[:])+addressKey(to[i].Address)] = true
	}
}

func (p *Plan) shadowFor(r *Request, c choice) *Request {
	i := slices.IndexFunc(p.Shadows, func(s Request) bool { return s.Behalf == c.by.behalf })
	if i < 0 {
		i = len(p.Shadows)
		p.Shadows = append(p.Shadows, r.shadow(lostPart{c.by.behalf, r.Start, r.End}))
	}
	return &p.Shadows[i]
}

package fsm

import (
	"slices"

	"mailraft/mail"
)

// Advance sends the next piece of a resubmit request, its shadow requests
// included. Any leader goes on from any piece.
type Advance struct {
	Request uint64 `cbor:"1,keyasint"`
	Rows    int    `cbor:"2,keyasint"` // deliveries to look at
}

// Bounds of one Advance, whatever it asks for. The last message may go beyond.
const (
	messagesMax = 200  // made
	resolvedMax = 2000 // recipients that are categorized again
)

// advance applies Advance. First the mail that waits for the database is to be
// tried at once; then comes what was left for a member that can serve by now,
// then the walk. Answer.Count is how many messages were made.
func (t *tx) advance(c Advance) Answer {
	r := t.request(c.Request)
	if r == nil {
		return refuse(550, "5.1.0", "there is no resubmit request %d", c.Request)
	}
	if !t.advances(r.Request, t.now()) {
		return Answer{}
	}
	if r.Wake != nil {
		t.wake(r, piece(c.Rows))
		return Answer{More: t.advances(r.Request, t.now())}
	}
	w, refusal := t.walker(r.Request, t.now())
	if refusal != nil {
		t.endRequest(r, RequestFailed, refusal.String(), "")
		return Answer{}
	}
	if i := t.ready(r.Request, t.now()); i >= 0 {
		t.goBack(r, w, r.Waiting[i], piece(c.Rows))
	} else {
		t.goOn(r, w, piece(c.Rows))
	}
	return Answer{Count: t.made, More: t.advances(r.Request, t.now())}
}

// Advances reports whether Advance would do something for the request at the
// given time. It does nothing for a shadow request: the one that it belongs to
// does its work.
func (t Tables) Advances(r *Request, now mail.Time) bool { return t.advances(r, now) }

func (t Tables) advances(r *Request, now mail.Time) bool {
	return r.Open() && r.State != RequestSuspended && r.Parent == 0 && (r.Wake != nil || !r.Walked || t.ready(r, now) >= 0)
}

// wake lets mail that waits for the database of an activation be tried at once:
// it may have been put off because the other copy did not answer. What is
// deferred again meanwhile may be met again, but only further on.
func (t *tx) wake(r *requestEdit, rows int) {
	var ids []mail.ID
	for _, m := range t.Settings().Members {
		for _, queue := range []string{"db/", "resubmit/"} {
			base := tab(tabDue).mem(m.ID).str(queue + r.Database)
			low := slices.Clone(base).time(t.now() + 1)
			if at := append(slices.Clone(r.Wake), 0); slices.Compare(at, low) > 0 {
				low = at
			}
			for k := range t.Scan(low, base.end()) {
				if len(ids) == rows {
					t.wakeAll(r, ids)
					return
				}
				ids, r.Wake = append(ids, lastID(k)), slices.Clone(k)
			}
		}
	}
	t.wakeAll(r, ids)
	r.Wake = nil
}

func (t *tx) wakeAll(r *requestEdit, ids []mail.ID) {
	for _, id := range ids {
		e := t.open(id)
		if e == nil {
			continue
		}
		for i := range e.Recipients {
			if rc := &e.Recipients[i]; rc.State == Pending && sameName(rc.Database, r.Database) {
				rc.Next = t.now()
			}
		}
		t.save(e)
	}
}

// ready is the first of what waits that can be served now; -1: none. A primary
// server is up again, was given up, or has been away for
// unresponsive-primary-timeout; or who alone may have a content is there. One
// that is up and has it not is given that time to fetch it.
func (t Tables) ready(r *Request, now mail.Time) int {
	s := t.Settings()
	timeout := s.Params.UnresponsivePrimaryTimeout
	return slices.IndexFunc(r.Waiting, func(w RequestWait) bool {
		m := s.Member(w.Member)
		switch {
		case m == nil || m.Retired != 0:
			return true
		case !w.Content:
			return m.Up || now >= m.Since.Add(timeout)
		default:
			return m.Up && now >= max(w.Since, m.Since).Add(timeout) || t.servesLeft(r, w, s)
		}
	})
}

// servesLeft reports whether somebody has the content of the first of what
// waits for a member: that one, or another that has come back before it.
func (t Tables) servesLeft(r *Request, w RequestWait, s *Settings) bool {
	base := leftKey(r.ID, w)
	for k := range t.Scan(base, base.end()) {
		msg, ok := t.Message(deliveryOf(k).ID)
		return !ok || slices.ContainsFunc(s.Members, func(m Member) bool { return m.Takes() && m.has(msg) })
	}
	return true
}

// leftKey begins the keys of what a request has left for a member.
func leftKey(request uint64, w RequestWait) key {
	k := tab(tabLeft).u64(request).mem(w.Member)
	if w.Content {
		return k.byte(1)
	}
	return k.byte(0)
}

// goOn is a piece of the walk.
func (t *tx) goOn(r *requestEdit, w *walker, rows int) {
	for rows > 0 && !r.Walked && t.made < messagesMax && w.resolved < resolvedMax {
		n := min(rows, messagesMax)
		if w.original {
			n = 1 // what comes of one may be all that an entry does
		}
		for _, f := range t.find(r.Request, n) {
			t.serve(r, w, f)
		}
		rows -= n
	}
}

// goBack is a piece of what was left for a member.
func (t *tx) goBack(r *requestEdit, w *walker, wait RequestWait, rows int) {
	base := leftKey(r.ID, wait)
	if w.original {
		rows = min(rows, 8)
	}
	keys, _ := t.pieceOf(base, base.end(), min(rows, messagesMax))
	var fs []match
	for _, k := range keys {
		t.delete(k)
		fs = gather(fs, deliveryOf(k))
	}
	i := slices.Index(r.Waiting, wait)
	if r.Waiting[i].Count -= len(keys); r.Waiting[i].Count <= 0 {
		r.Waiting = slices.Delete(r.Waiting, i, i+1)
	}
	if m := t.Settings().Member(wait.Member); wait.Content && m != nil && m.Up {
		w.patient = t.now() < max(wait.Since, m.Since).Add(t.Params().UnresponsivePrimaryTimeout)
	}
	for _, f := range fs {
		t.serve(r, w, f)
	}
}

// serve decides about one message and does it.
func (t *tx) serve(r *requestEdit, w *walker, f match) {
	m, ok := t.Message(f.id)
	if !ok {
		return
	}
	c := w.decide(m, f.to)
	if len(c.asked) == 0 {
		return
	}
	if c.by.wait != 0 {
		t.leave(r, c)
		return
	}
	to := r
	if c.by.behalf != 0 {
		to = t.shadowRequestFor(r, c)
	}
	to.count(c)
	if len(c.to) > 0 || len(c.rest) > 0 {
		t.resubmit(to, c)
	}
}

// leave notes deliveries that only a member that is not there can serve.
func (t *tx) leave(r *requestEdit, c choice) {
	r.Counts.skip(c)
	w := r.wait(c, t.now())
	for _, i := range c.kept {
		t.set(leftKey(r.ID, w).bytes(c.m.deliveryTail(i)), nil)
	}
}

// wait counts what is left for a member.
func (r *Request) wait(c choice, now mail.Time) RequestWait {
	i := slices.IndexFunc(r.Waiting, func(w RequestWait) bool { return w.Member == c.by.wait && w.Content == c.by.content })
	if i < 0 {
		i = len(r.Waiting)
		r.Waiting = append(r.Waiting, RequestWait{Member: c.by.wait, Since: now, Content: c.by.content})
	}
	r.Waiting[i].Count += len(c.kept)
	return r.Waiting[i]
}

// shadowRequestFor is the shadow request of r that a row served from a Shadow
// Safety Net is counted in.
func (t *tx) shadowRequestFor(r *requestEdit, c choice) *requestEdit {
	for _, id := range r.Children {
		if s := t.request(id); s != nil && s.Behalf == c.by.behalf {
			for _, i := range c.asked { // of a lost one more may be held than it was known to cover
				s.Start, s.End = min(s.Start, c.m.Recipients[i].Done), max(s.End, c.m.Recipients[i].Done+1)
			}
			return s
		}
	}
	return t.shadowRequest(r, lostPart{c.by.behalf, r.Start, r.End})
}

package fsm

import (
	"encoding/binary"
	"time"

	"mailraft/mail"
)

// expire applies Expire: it removes what the Safety Net has held long enough,
// oldest first, at most c.Rows rows, and old answers to submissions. Hold
// times are counted from the delivery of each recipient, so one that is still
// deferred holds nothing up. What an open resubmit request needs is parked for
// it, and comes back when it is done; requests that ended long ago go too.
func (t *tx) expire(c Limit) Answer {
	limit := piece(c.Rows)
	unpinned := t.unpinRows(limit)
	due := t.overdue(limit)
	n, pinning := 0, t.pinning()
	for i, id := range due {
		if i > 0 && id == due[i-1] {
			continue
		}
		if e := t.open(id); e != nil {
			t.expireOne(e, pinning)
			n++
		}
	}
	forgot, retained := t.forgetSubmissions(limit), t.retainRequests(limit)
	return Answer{Count: n, More: forgot || retained || unpinned || len(due) == limit}
}

// overdue are at most limit messages of which something was held long enough,
// one of them perhaps more than once in a row. While all is held there are none.
func (t *tx) overdue(limit int) (due []mail.ID) {
	if _, kept := t.keeps(t.now()); kept || t.holding() {
		return nil
	}
	for k := range t.Scan(tab(tabExpiry), tab(tabExpiry).time(t.ago(t.Params().SafetyNetHoldTime))) {
		if due = append(due, lastID(k)); len(due) == limit {
			break
		}
	}
	return due
}

// Expirable reports whether Expire at the given time would find something.
func (t Tables) Expirable(now mail.Time) bool {
	first := func(table byte, age time.Duration) bool {
		for k := range t.Scan(tab(table), tab(table).end()) {
			return mail.Time(binary.BigEndian.Uint64(k[2:])) < now.Add(-age)
		}
		return false
	}
	p := t.Params()
	_, holding := t.Held(now)
	_, kept := t.keeps(now)
	return !holding && !kept && first(tabExpiry, p.SafetyNetHoldTime) || first(tabSubmitted, submissionLife+time.Minute) ||
		first(tabRequestEnded, p.RequestRetention) || len(t.releasable()) > 0
}

func (t *tx) expireOne(e *edit, pinning []*requestEdit) {
	if e.Pinned = t.pinnedBy(e.Message, pinning); e.Pinned != 0 {
		t.save(e)
		return
	}
	p := t.Params()
	cut := t.ago(p.SafetyNetHoldTime)
	for i := range e.Recipients {
		// While only the shadow is left, its deliveries stay until it goes.
		if r := &e.Recipients[i]; r.held() && r.Done < cut && e.PrimaryEnd == 0 {
			r.Gone = true
		}
	}
	switch {
	case e.Active() || max(e.Finished, e.PrimaryEnd) >= cut:
	case e.Shadow != 0 && !e.Acked && e.PrimaryEnd == 0:
		// The Primary Safety Net lets go. The shadow was never acknowledged: it
		// stays for message-expiration-timeout more.
		e.note(Event{Kind: EventExpire, At: t.now(), Member: e.Primary})
		e.PrimaryEnd = e.Finished.Add(p.MessageExpirationTimeout)
		for i := range e.Recipients {
			e.Recipients[i].Gone = false // the shadow can still be resubmitted
		}
	default:
		t.drop(e)
		return
	}
	t.save(e)
}

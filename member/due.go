package member

import (
	"slices"
	"strings"
	"time"

	"mailraft/deliver"
	"mailraft/fsm"
	"mailraft/mail"
)

// due is the way out: the due work of this member, as deliver asks for it.
type due struct {
	*Engine
	last string // the destination that the last query ended with, for want of places
}

// Changed implements deliver.Queue.
func (d *due) Changed() <-chan struct{} { return d.fsm.Changed() }

// Due implements deliver.Queue. Destinations are seen by one seek each, so one
// with ten thousand messages waiting does not slow down another. They take
// turns: where the places ran out the next query goes on, since else the first
// by name would have them all. Resubmissions come last.
func (d *due) Due(now mail.Time, room func(deliver.Destination) int, taken func(mail.ID, deliver.Destination) bool, limit int) ([]deliver.Job, mail.Time, error) {
	v := d.fsm.View()
	defer v.Close()
	q := dueQuery{v: v, self: d.id.ID, hand: d.hand, now: now, taken: taken, params: v.Params()}
	q.retry = q.params.Schedule()
	stopped := suspended(v)
	keys := turn(slices.Collect(v.Destinations(d.id.ID)), d.last)
	d.last = ""
	for _, key := range keys {
		to, ok := destination(v, key)
		if !ok || stopped[key] || stopped[""] && key != deliver.NoticeKey || to.Yields && stopped["db/"+to.Database] {
			continue
		}
		if q.take(to, min(room(to), limit-len(q.jobs))); len(q.jobs) >= limit {
			d.last = key
			break
		}
	}
	return q.jobs, q.next, nil
}

// turn puts the sorted keys in the order of their turn: those after last first;
// resubmissions stay at the end.
func turn(keys []string, last string) []string {
	fresh := len(keys)
	if i := slices.IndexFunc(keys, func(k string) bool { return strings.HasPrefix(k, "resubmit/") }); i >= 0 {
		fresh = i
	}
	n, found := slices.BinarySearch(keys[:fresh], last)
	if found {
		n++
	}
	return slices.Concat(keys[n:fresh], keys[:n], keys[fresh:])
}

// Current implements deliver.Queue.
func (d *due) Current(to deliver.Destination) bool {
	v := d.fsm.View()
	defer v.Close()
	now, ok := destination(v, to.Key)
	return ok && now == to
}

func suspended(v *fsm.View) map[string]bool {
	keys := map[string]bool{}
	for s := range v.Suspensions() {
		keys[s.Key] = true
	}
	return keys
}

// destination resolves a queue key as of now; not ok: nothing can be delivered
// there until somebody changes the state, and the mail waits. Resubmissions go
// where the mail for their database goes.
func destination(v *fsm.View, key string) (deliver.Destination, bool) {
	to := deliver.Destination{Key: key}
	name, ok := strings.CutPrefix(key, "db/")
	if !ok {
		name, to.Yields = strings.CutPrefix(key, "resubmit/")
	}
	if ok || to.Yields {
		d, ok := v.Database(name)
		if !ok || d.ActiveCopy() == nil {
			return to, false
		}
		to.Addr, to.Database, to.Copy, to.Activation = d.ActiveCopy().Addr, d.Name, d.Active, d.Activation
		return to, true
	}
	to.Addr, _ = strings.CutPrefix(key, "relay/")
	if key == "fail" || key == deliver.NoticeKey {
		to.Addr = ""
	}
	return to, true
}

type dueQuery struct {
	v      *fsm.View
	self   mail.MemberID
	hand   *hand
	now    mail.Time
	taken  func(mail.ID, deliver.Destination) bool
	params fsm.Params
	retry  []time.Duration
	jobs   []deliver.Job
	next   mail.Time
}

// take collects up to n jobs for a destination.
func (q *dueQuery) take(to deliver.Destination, n int) {
	for w := range q.v.Due(q.self, to.Key) {
		if w.Next > q.now {
			if q.next == 0 || w.Next < q.next {
				q.next = w.Next
			}
			return
		}
		if n <= 0 {
			return
		}
		if q.taken(w.ID, to) || q.hand.waits(w.ID) {
			continue
		}
		if m, ok := q.v.Message(w.ID); ok {
			j := q.job(m, to)
			if to.Key == deliver.NoticeKey {
				j.Tell = tellings(m)
			}
			q.jobs = append(q.jobs, j)
			n--
		}
	}
}

func (q *dueQuery) job(m *fsm.Message, to deliver.Destination) deliver.Job {
	j := deliver.Job{ID: m.ID, Content: m.Content, ReversePath: m.Envelope.ReversePath, EightBit: m.Envelope.EightBit, UTF8: m.Envelope.UTF8,
		EnvelopeID: m.Envelope.EnvelopeID, Return: m.Envelope.Return, Trace: m.Trace, Fields: m.Fields, Overlay: m.Overlay,
		Accepted: m.Accepted, Expires: m.Accepted.Add(q.params.MessageExpirationTimeout),
		Retry: q.retry, Destination: to, Bounce: m.Bounce(), Suspect: m.Suspect(), All: m.Envelope.Recipients}
	if m.Request != 0 {
		j.Quiet, j.Origin, j.Header = true, m.Origin, m.Marks()
	}
	after := map[int][]int{}
	for i := range m.Recipients {
		if n := m.Recipients[i].To; n > 0 {
			after[n-1] = append(after[n-1], i)
		}
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.State != fsm.Pending || r.Next > q.now || r.Destination() != to.Key {
			continue
		}
		dr := deliver.Recipient{Index: i, Address: r.Address, Original: r.Original, Attempts: r.Attempts, Asked: m.Asked(r), After: after[i]}
		if to.Key == "fail" && r.Reply != nil {
			dr.Refused = *r.Reply
		}
		j.Recipients = append(j.Recipients, dr)
	}
	return j
}

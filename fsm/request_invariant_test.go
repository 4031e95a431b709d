package fsm

import (
	"testing"

	"mailraft/mail"
)

// checkRequests: an index finds each request by whether it is open, its shadow
// requests belong to it, and it has the number of none to come.
func checkRequests(t Tables, bad func(string, ...any)) {
	b, _ := t.Boundary()
	want := map[string]bool{}
	for r := range t.Requests(0) {
		for _, k := range r.indexes() {
			want[string(k)] = true
		}
		p, ok := t.Request(r.Parent)
		switch {
		case r.ID > b.Requests || r.ID == 0:
			bad("request %d: the last number given is %d", r.ID, b.Requests)
		case r.Open() == (r.Ended != 0):
			bad("request %d: %s, and ended at %v", r.ID, r.State, r.Ended)
		case r.Parent != 0 && r.Open() && (!ok || !p.Open()):
			bad("request %d: open, and request %d that it belongs to is not", r.ID, r.Parent)
		case r.Auto && r.State != RequestSuspended:
			bad("request %d: suspended by pressure, and %s", r.ID, r.State)
		}
	}
	for _, table := range []byte{tabRequestOpen, tabRequestEnded} {
		for k := range t.Scan(tab(table), tab(table).end()) {
			if !want[string(k)] {
				bad("index key %q without a request that makes it", k)
			}
			delete(want, string(k))
		}
	}
	for k := range want {
		bad("index key %q of a request is missing", k)
	}
	checkResubmissions(t, bad)
	checkLeft(t, bad)
}

// checkResubmissions: nobody gets one origin twice by one request, and counts
// say what the rows say as long as they are there.
func checkResubmissions(t Tables, bad func(string, ...any)) {
	type counted struct{ pending, sent, expanding int }
	rows := map[uint64]*counted{}
	type delivery struct {
		root    uint64
		origin  mail.ID
		address string
	}
	once := map[delivery]mail.ID{}
	for m := range t.Messages(mail.ID{}) {
		if m.Pinned != 0 {
			if r, ok := t.Request(m.Pinned); (!ok || !r.pins()) && !t.Expirable(t.Applied().Time) {
				bad("%s: kept for request %d, which needs it no more, and nobody will come by", m.ID, m.Pinned)
			}
		}
		for i := range m.Recipients {
			if rc := &m.Recipients[i]; rc.Resubmitted != (m.Request != 0) || m.Request != 0 && rc.Database == "" || rc.State == Undelivered && m.Request == 0 {
				bad("%s: recipient %d of request %d: %+v", m.ID, i, m.Request, *rc)
			}
		}
		if m.Request == 0 {
			continue
		}
		r, _ := t.Request(m.Request)
		root := m.Request
		if r.Parent != 0 {
			root = r.Parent
		}
		n := rows[m.Request]
		if n == nil {
			n = &counted{}
			rows[m.Request] = n
		}
		if m.Expanding {
			n.expanding++
		}
		n.sent += len(m.Recipients)
		for i := range m.Recipients {
			if m.Recipients[i].State == Pending {
				n.pending++
			}
			k := delivery{root, m.Origin, m.Recipients[i].Address}
			if other, ok := once[k]; ok {
				bad("%s and %s are the same origin to the same recipient by request %d", other, m.ID, root)
			}
			once[k] = m.ID
		}
	}
	for r := range t.Requests(0) {
		n := rows[r.ID]
		if n == nil {
			n = &counted{}
		}
		if n.pending != r.Counts.Pending() || n.expanding != r.Expanding || n.sent > r.Counts.Sent {
			bad("request %d counts %+v and %d being expanded, and rows say %+v", r.ID, r.Counts, r.Expanding, *n)
		}
		if c := r.Counts; c.Delivered < c.Duplicates || c.Pending() < 0 || c.Matched < c.Already+c.Moved+c.Gone {
			bad("request %d counts %+v", r.ID, c)
		}
	}
}

// A rule about requests that is broken is found.
func TestRequestInvariantsSeeDamage(t *testing.T) {
	for name, damage := range map[string]func(*tx, *edit){
		"sent twice": func(t *tx, e *edit) {
			x := t.create(e.Content)
			x.Request, x.Origin, x.Primary, x.Recipients = e.Request, e.Origin, m1, e.Recipients
			t.save(x)
		},
		"not counted":          func(t *tx, e *edit) { t.request(1).Counts.Sent++ },
		"waiting for nothing":  func(t *tx, e *edit) { t.request(1).Waiting = []RequestWait{{Member: m1, Count: 1}} },
		"left and not counted": func(t *tx, e *edit) { t.set(leftKey(1, RequestWait{Member: m1}).bytes(e.deliveryTail(0)), nil) },
		"ended and open":       func(t *tx, e *edit) { t.request(1).Ended = t.now() },
		"not found as open":    func(t *tx, e *edit) { t.delete(tab(tabRequestOpen).u64(1)) },
		"in the queue of fresh mail": func(t *tx, e *edit) {
			e.Recipients[0].Resubmitted = false
			t.save(e)
		},
	} {
		m := newMachine(t)
		m.boundary()
		id := m.must(KindAccept, Accept{Submission: m.submission(1, m1, m1, m2)}).ID
		m.must(KindReport, reportOf(m1, id))
		m.must(KindRequestAdd, RequestAdd{Database: "DB1"})
		m.must(KindAdvance, Advance{Request: 1, Rows: 9})
		m.check()
		x := m.f.begin()
		for again := range m.again(id) {
			damage(x, x.open(again))
		}
		for _, id := range x.requestIDs() {
			x.saveRequest(x.requests[id])
		}
		m.f.commit(x)
		v := m.f.View()
		if invariants(v.Tables) == nil {
			t.Errorf("%s: not seen", name)
		}
		v.Close()
	}
}

// again are the resubmissions of a message.
func (m *machine) again(origin mail.ID) map[mail.ID]bool {
	v := m.f.View()
	defer v.Close()
	ids := map[mail.ID]bool{}
	for id := range v.ids(tab(tabOrigin).id(origin)) {
		ids[id] = true
	}
	return ids
}

// checkLeft: what waits for a member is counted, belongs to an open request,
// and is still held.
func checkLeft(t Tables, bad func(string, ...any)) {
	n := 0
	m, ok := &Message{}, false
	for r := range t.Requests(0) {
		for _, w := range r.Waiting {
			left := 0
			for k := range t.Scan(leftKey(r.ID, w), leftKey(r.ID, w).end()) {
				left++
				d := deliveryOf(k)
				if m.ID != d.ID { // a large row is decoded once
					m, ok = t.Message(d.ID)
				}
				if !ok || !m.Recipients[d.Recipient].held() {
					bad("request %d has left %s recipient %d, which is not held any more", r.ID, d.ID, d.Recipient)
				}
			}
			if left != w.Count || left == 0 || !r.Open() || r.Parent != 0 {
				bad("request %d, %s: waits for %s with %d, and %d are left", r.ID, r.State, w.Member, w.Count, left)
			}
			n += left
		}
	}
	for range t.Scan(tab(tabLeft), tab(tabLeft).end()) {
		n--
	}
	if n != 0 {
		bad("%d deliveries are left that no request counts", -n)
	}
}

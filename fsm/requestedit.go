package fsm

import (
	"bytes"
	"slices"
)

// requestEdit is a request that this entry changes, as it was found.
type requestEdit struct {
	*Request
	before []key
	row    []byte // empty: it is new
}

// request returns a request to be read or changed; nil if there is none. All
// who ask within an entry share one, which is written at its end: a thousand
// outcomes of one request are one write.
func (t *tx) request(id uint64) *requestEdit {
	if e, ok := t.requests[id]; ok {
		return e
	}
	k := tab(tabRequest).u64(id)
	b, ok := t.Get(k)
	if !ok {
		return nil
	}
	r := new(Request)
	t.decode(k, b, r)
	return t.share(&requestEdit{r, r.indexes(), b})
}

func (t *tx) share(e *requestEdit) *requestEdit {
	if t.requests == nil {
		t.requests = map[uint64]*requestEdit{}
	}
	t.requests[e.ID] = e
	return e
}

// newRequest gives a request the next number.
func (t *tx) newRequest(r Request) *requestEdit {
	b, _ := t.Boundary()
	b.Requests++
	t.put(tab(tabBoundary), b)
	r.ID = b.Requests
	return t.share(&requestEdit{Request: &r})
}

func (t *tx) dropRequest(id uint64) {
	if r := t.request(id); r != nil {
		for _, k := range r.before {
			t.delete(k)
		}
		t.delete(tab(tabRequest).u64(id))
		delete(t.requests, id)
	}
}

// openRequests are those not ended, by number.
func (t *tx) openRequests() (rs []*requestEdit) {
	ids := slices.Concat(slices.Collect(t.openIDs()), t.requestIDs())
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if r := t.request(id); r != nil && r.Open() {
			rs = append(rs, r)
		}
	}
	return rs
}

// requestIDs are the numbers of the requests that this entry has asked for.
func (t *tx) requestIDs() (ids []uint64) {
	for id := range t.requests { // sorted below
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// saveRequests writes the requests that the entry has changed, and ends those
// that it completes: a request is complete after its shadow requests.
func (t *tx) saveRequests() {
	for _, id := range t.requestIDs() {
		r := t.requests[id]
		if r.Parent != 0 {
			r = t.request(r.Parent)
		}
		if r == nil {
			continue // the shadow request outlived it in the list
		}
		for _, c := range r.Children {
			if s := t.request(c); s != nil && r.Walked {
				t.settleRequest(s)
			}
		}
		t.settleRequest(r)
	}
	for _, id := range t.requestIDs() {
		t.saveRequest(t.requests[id])
	}
	clear(t.requests)
}

func (t *tx) saveRequest(r *requestEdit) {
	b, err := enc.Marshal(r.Request)
	if err != nil {
		t.fatal(err)
		return
	}
	if bytes.Equal(b, r.row) {
		return
	}
	after := r.indexes()
	for _, k := range r.before {
		if !hasKey(after, k) {
			t.delete(k)
		}
	}
	for _, k := range after {
		if !hasKey(r.before, k) {
			t.set(k, nil)
		}
	}
	t.set(tab(tabRequest).u64(r.ID), b)
}

package fsm

import (
	"encoding/binary"
	"slices"

	"mailraft/mail"
)

// What an open request still has to send must not expire under it. Nobody goes
// through the rows for that when a request is made: Expire meets them one by
// one, and parks those that are asked for. A parked row has one index key
// instead of those by which it expires, until the request needs it no more.

// pinning are the requests that rows may be kept for.
func (t *tx) pinning() (rs []*requestEdit) {
	for _, r := range t.openRequests() {
		if r.Parent == 0 && r.pins() {
			rs = append(rs, r)
		}
	}
	return rs
}

// pinnedBy is the request of these for which a row is kept beyond its hold
// time; zero: there is none.
func (t *tx) pinnedBy(m *Message, rs []*requestEdit) uint64 {
	for _, r := range rs {
		if t.needs(r, m) {
			return r.ID
		}
	}
	return 0
}

// pins reports whether there may be something that the request has to send.
func (r *Request) pins() bool { return r.Open() && (!r.Walked || len(r.Waiting) > 0) }

// needs reports whether the request may still send what the row is of, or has
// to know that it did.
func (t *tx) needs(r *requestEdit, m *Message) bool {
	if m.Request == r.ID || m.Request != 0 && slices.Contains(r.Children, m.Request) {
		return true
	}
	for i := range m.Recipients {
		if r.asks(m, i) && (r.unseen(m, i) || t.left(r.Request, m, i)) {
			return true
		}
	}
	return false
}

// left reports whether a delivery waits for a member.
func (t *tx) left(r *Request, m *Message, i int) bool {
	return slices.ContainsFunc(r.Waiting, func(w RequestWait) bool {
		return t.has(leftKey(r.ID, w).bytes(m.deliveryTail(i)))
	})
}

// unpinRows gives up to limit rows back to Expire, that no request needs any
// more; true: there may be more.
func (t *tx) unpinRows(limit int) bool {
	var ids []mail.ID
	for _, id := range t.releasable() {
		base := tab(tabPinned).u64(id)
		keys, _ := t.pieceOf(base, base.end(), limit-len(ids))
		for _, k := range keys {
			ids = append(ids, lastID(k))
		}
		if len(ids) >= limit {
			break
		}
	}
	for _, id := range ids {
		if e := t.open(id); e != nil {
			e.Pinned = 0
			t.save(e)
		}
	}
	return len(ids) >= limit
}

// releasable are the requests for which rows are parked and that need them no
// more.
func (t Tables) releasable() (ids []uint64) {
	low := tab(tabPinned)
	for {
		var id uint64
		found := false
		for k := range t.Scan(low, tab(tabPinned).end()) {
			id, found = binary.BigEndian.Uint64(k[2:]), true
			break
		}
		if !found {
			return ids
		}
		if r, ok := t.Request(id); !ok || !r.pins() {
			ids = append(ids, id)
		}
		low = tab(tabPinned).u64(id).end()
	}
}

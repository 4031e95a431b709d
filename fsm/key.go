package fsm

import (
	"encoding/binary"
	"slices"

	"mailraft/mail"

	"github.com/cespare/xxhash/v2"
)

// Tables of replicated rows: 'r', the letter, then the key. Times and ids are
// big endian, so key order is time order.
const (
	tabApplied    = 'a' // one row
	tabBoundary   = 'b' // one row
	tabContent    = 'c' // content id
	tabDiscard    = 'd' // index: shadow server, id: discard statuses not yet acknowledged
	tabExpiry     = 'e' // index: time, id: when something of the row has been held long enough, less the hold time
	tabFormer     = 'f' // queue database id: members that are none any more
	tabMember     = 'g' // queue database id
	tabLost       = 'h' // index: id: messages whose content was given up
	tabMessageID  = 'i' // index: hash of the Message-ID, id
	tabQueueStop  = 'j' // destination: suspended
	tabToken      = 'k' // hash
	tabChild      = 'l' // index: parent, id: pieces not yet released
	tabMessage    = 'm' // id
	tabSafetyNet  = 'n' // index: database, delivery time, id, recipient: resubmittable deliveries
	tabOwner      = 'o' // index: primary server, id: active messages
	tabParam      = 'p' // name
	tabDue        = 'q' // index: primary server, destination, next attempt, id
	tabSubmission = 's' // content id
	tabSubmitted  = 't' // index: time, content id
	tabShadow     = 'u' // index: shadow server, id: shadows of active messages
	tabSeen       = 'v' // parent, address: recipients of an expansion so far
	tabNeed       = 'w' // index: id: active messages that lack a shadow, copies or an owner who is up
	tabExpand     = 'x' // index: id: expansions under way
	tabDatabase   = 'y' // name
	tabDirectory  = 'z' // 'd' domain, 'm' mailbox, 'g' group and version, 'G' current version of a group, 'n' next hop

	tabRequest      = 'R' // number
	tabRequestOpen  = 'A' // index: number: requests that are not ended
	tabRequestEnded = 'E' // index: time, number: those that are
	tabParked       = 'Z' // index: destination, id: active messages that are in no queue of due work for it
	tabOrigin       = 'B' // index: origin, id: resubmissions
	tabPinned       = 'P' // index: request, id: what is held for it beyond the hold time
	tabLeft         = 'S' // request, member, database, delivery time, id, recipient: deliveries left until the member can serve
	tabHistory      = 'D' // name: what happened to a database
	tabHealth       = 'H' // name: what is known of the health of a database's copies
	tabFrontend     = 'F' // name: front ends that are let in
)

// Replicated rows lie in [ReplicatedLow, ReplicatedHigh).
var (
	ReplicatedLow  = []byte("r")
	ReplicatedHigh = []byte("s")
)

// key builds a key of a table.
type key []byte

func tab(t byte) key                  { return append(make(key, 0, 64), 'r', t) }
func (k key) id(id mail.ID) key       { return append(k, id[:]...) }
func (k key) bytes(b []byte) key      { return append(k, b...) }
func (k key) u64(v uint64) key        { return binary.BigEndian.AppendUint64(k, v) }
func (k key) time(t mail.Time) key    { return k.u64(uint64(t)) }
func (k key) str(s string) key        { return append(append(k, s...), 0) }
func (k key) text(s string) key       { return append(k, s...) }
func (k key) byte(b byte) key         { return append(k, b) }
func (k key) u16(v int) key           { return binary.BigEndian.AppendUint16(k, uint16(v)) }
func (k key) mem(m mail.MemberID) key { return k.u64(uint64(m)) }

// end is the first key that does not begin with k.
func (k key) end() key {
	e := slices.Clone(k)
	for i := len(e) - 1; i >= 0; i-- {
		if e[i]++; e[i] != 0 {
			return e[:i+1]
		}
	}
	return nil
}

// lastU64 reads the number that a key ends with.
func lastU64(k []byte) uint64 { return binary.BigEndian.Uint64(k[len(k)-8:]) }

// lastID reads the id that a key ends with.
func lastID(k []byte) mail.ID { return mail.ID(k[len(k)-len(mail.ID{}):]) }

func messageIDHash(s string) uint64 { return xxhash.Sum64String(s) }

// indexes are the index keys of a row: a pure function of it, in order. Who
// changes a row never thinks of indexes; save compares before and after.
func (m *Message) indexes() []key {
	var ks []key
	if m.Active() {
		ks = append(ks, tab(tabOwner).mem(m.Primary).id(m.ID))
		if m.Shadow != 0 {
			ks = append(ks, tab(tabShadow).mem(m.Shadow).id(m.ID))
		}
		if m.Shadow == 0 || m.Marked || m.Waiting {
			ks = append(ks, tab(tabNeed).id(m.ID))
		}
		if m.Expanding {
			ks = append(ks, tab(tabExpand).id(m.ID))
		}
		if m.Held {
			ks = append(ks, tab(tabChild).id(m.Parent).id(m.ID))
		}
		ks = append(ks, m.due()...)
	} else {
		if m.Shadow != 0 && !m.Acked && m.PrimaryEnd == 0 {
			ks = append(ks, tab(tabDiscard).mem(m.Shadow).id(m.ID))
		}
		if m.Pinned == 0 {
			ks = append(ks, tab(tabExpiry).time(max(m.Finished, m.PrimaryEnd)).id(m.ID))
		}
	}
	if m.Pinned != 0 {
		ks = append(ks, tab(tabPinned).u64(m.Pinned).id(m.ID))
	}
	if m.GivenUp {
		ks = append(ks, tab(tabLost).id(m.ID))
	}
	if m.Fields.MessageID != "" {
		ks = append(ks, tab(tabMessageID).u64(messageIDHash(m.Fields.MessageID)).id(m.ID))
	}
	if m.owes() && m.Poison == nil {
		ks = append(ks, tab(tabDue).mem(m.Primary).str(NoticeQueue).time(0).id(m.ID))
	}
	if m.Request != 0 {
		ks = append(ks, tab(tabOrigin).id(m.Origin).id(m.ID))
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.held() {
			ks = append(ks, m.delivery(i))
			if m.PrimaryEnd == 0 && m.Pinned == 0 { // else they stay as long as the row
				ks = append(ks, tab(tabExpiry).time(r.Done).id(m.ID))
			}
		}
	}
	slices.SortFunc(ks, func(a, b key) int { return slices.Compare(a, b) })
	return slices.CompactFunc(ks, func(a, b key) bool { return slices.Equal(a, b) })
}

// due is one key per destination with somebody pending: the earliest attempt.
// What is not to be tried has a key that says so. A bounce waits for nothing
// but the end of what killed whoever tried it.
func (m *Message) due() []key {
	held := m.Held || m.Suspended || m.Expanding || m.lacked()
	next := map[string]mail.Time{}
	var ks []key
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.State != Pending {
			continue
		}
		d := r.Destination()
		if m.Poison != nil || held && !r.Returned {
			ks = append(ks, tab(tabParked).str(d).id(m.ID))
			continue
		}
		if t, ok := next[d]; !ok || r.Next < t {
			next[d] = r.Next
		}
	}
	for i := range m.Recipients { // not over the map: order
		d := m.Recipients[i].Destination()
		if t, ok := next[d]; ok {
			ks = append(ks, tab(tabDue).mem(m.Primary).str(d).time(t).id(m.ID))
			delete(next, d)
		}
	}
	return ks
}

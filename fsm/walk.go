package fsm

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"mailraft/directory"
	"mailraft/mail"
)

// match is deliveries of one message that lie side by side in the order that a
// request goes by: they are sent again as one.
type match struct {
	id mail.ID
	to []int // recipients; nil: whichever the request asks for
}

// gather adds a delivery to the last message found, or begins another.
func gather(fs []match, d Delivery) []match {
	if n := len(fs); n > 0 && fs[n-1].id == d.ID {
		fs[n-1].to = append(fs[n-1].to, d.Recipient)
		return fs
	}
	return append(fs, match{id: d.ID, to: []int{d.Recipient}})
}

// find moves the cursor of a request on by up to rows index keys, and to the
// last one of the message that it then is at.
func (t Tables) find(r *Request, rows int) []match {
	if r.MessageID != "" {
		return t.findByMessageID(r, rows)
	}
	var fs []match
	low := tab(tabSafetyNet)
	if r.Cursor != nil {
		low = append(slices.Clone(r.Cursor), 0)
	}
	base := t.databaseAt(r, low)
	for ; base != nil && rows > 0; rows-- { // a database costs a look of its own
		from, to := slices.Clone(base).time(max(r.Start, 0)), slices.Clone(base).time(r.End)
		if bytes.Compare(low, from) > 0 {
			from = low
		}
		for k := range t.Scan(from, to) {
			if d := deliveryOf(k); rows > 0 || fs[len(fs)-1].id == d.ID {
				fs = gather(fs, d)
				rows--
				r.Cursor = slices.Clone(k)
				continue
			}
			return fs
		}
		low = base.end()
		r.Cursor = low // no key is there, nor between it and the next database
		base = t.databaseAt(r, low)
	}
	r.Walked = base == nil
	return fs
}

// databaseAt begins the keys of the first database at or behind low that the
// request asks for; nil: there is none.
func (t Tables) databaseAt(r *Request, low key) key {
	if r.Database != "" {
		base := tab(tabSafetyNet).str(strings.ToLower(r.Database))
		if bytes.Compare(low, base.end()) >= 0 {
			return nil
		}
		return base
	}
	for k := range t.Scan(low, tab(tabSafetyNet).end()) {
		return slices.Clone(k[:2+bytes.IndexByte(k[2:], 0)+1])
	}
	return nil
}

func (t Tables) findByMessageID(r *Request, rows int) (fs []match) {
	base := tab(tabMessageID).u64(messageIDHash(r.MessageID))
	low := base
	if r.Cursor != nil {
		low = append(slices.Clone(r.Cursor), 0)
	}
	for k := range t.Scan(low, base.end()) {
		if rows--; rows < 0 {
			return fs
		}
		fs = append(fs, match{id: lastID(k)})
		r.Cursor = slices.Clone(k)
	}
	r.Walked = true
	return fs
}

// asks reports whether a request asks for the delivery of a message to a
// recipient. What went to the copy that the request's activation made active,
// or to a later one, is not missing there.
func (r *Request) asks(m *Message, i int) bool {
	if i >= len(m.Recipients) {
		return false
	}
	rc := &m.Recipients[i]
	switch {
	case !rc.held() || rc.Done < r.Start || rc.Done >= r.End,
		r.Database != "" && !sameName(r.Database, rc.Database),
		r.MessageID != "" && r.MessageID != m.Fields.MessageID,
		r.Sender != "" && r.Sender != senderKey(m.Envelope.ReversePath),
		r.Recipient != "" && r.Recipient != addressKey(rc.Address) && r.Recipient != addressKey(rc.Original),
		r.Activation != 0 && rc.Activation >= r.Activation:
		return false
	}
	return true
}

// unseen reports whether the walk has not come to a delivery yet.
func (r *Request) unseen(m *Message, i int) bool {
	if r.Walked || r.Cursor == nil {
		return !r.Walked
	}
	if r.MessageID != "" {
		return bytes.Compare(tab(tabMessageID).u64(messageIDHash(r.MessageID)).id(m.ID), r.Cursor) > 0
	}
	return bytes.Compare(m.delivery(i), r.Cursor) > 0
}

// delivery is the key of a recipient in the index of the Safety Net.
func (m *Message) delivery(i int) key {
	return tab(tabSafetyNet).bytes(m.deliveryTail(i))
}

func (m *Message) deliveryTail(i int) key {
	rc := &m.Recipients[i]
	return make(key, 0, 64).str(strings.ToLower(rc.Database)).time(rc.Done).id(m.ID).u16(i)
}

// addressKey is what addresses are compared by.
func addressKey(s string) string {
	return directory.Resolved{Address: s, Kind: directory.ToMailbox}.Key()
}

func senderKey(reversePath string) string {
	if reversePath == "" {
		return nullSender
	}
	return addressKey(reversePath)
}

// deliveryOf reads a key that ends with delivery time, id and recipient.
func deliveryOf(k []byte) Delivery {
	tail := k[len(k)-25:]
	return Delivery{At: mail.Time(binary.BigEndian.Uint64(tail)), ID: mail.ID(tail[8:23]), Recipient: int(binary.BigEndian.Uint16(tail[23:]))}
}

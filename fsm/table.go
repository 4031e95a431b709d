package fsm

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"mailraft/directory"
	"mailraft/mail"
	"mailraft/store/state"
)

// Tables reads the replicated rows at one moment. It is what both applying
// and every view of the state read through.
type Tables struct {
	state.Reader
	fatal func(error)
	known *Settings // nil: to be read
}

// get decodes the row at k into v. Rows were encoded here: one that does not
// decode is damage that no checksum found, and stops the process.
func (t Tables) get(k key, v any) bool {
	b, ok := t.Get(k)
	if !ok {
		return false
	}
	t.decode(k, b, v)
	return true
}

func (t Tables) decode(k, b []byte, v any) {
	if err := dec.Unmarshal(b, v); err != nil {
		t.fatal(fmt.Errorf("decode state row %q: %w", k, err))
	}
}

// rows decodes every row of a table, in key order.
func rows[T any](t Tables, k key) iter.Seq[T] {
	return func(yield func(T) bool) {
		for rk, b := range t.Scan(k, k.end()) {
			var v T
			t.decode(rk, b, &v)
			if !yield(v) {
				return
			}
		}
	}
}

// Applied is the position of the state.
func (t Tables) Applied() Applied {
	var a Applied
	t.get(tab(tabApplied), &a)
	return a
}

// Boundary is the boundary's own row; ok is false before it was founded.
func (t Tables) Boundary() (b Boundary, ok bool) {
	ok = t.get(tab(tabBoundary), &b)
	return b, ok
}

// Message returns a row.
func (t Tables) Message(id mail.ID) (*Message, bool) {
	m := new(Message)
	return m, t.get(tab(tabMessage).id(id), m)
}

// MessageContents walks what the rows with from <= id say of their contents.
func (t Tables) MessageContents(from mail.ID) iter.Seq2[mail.ID, mail.Content] {
	return func(yield func(mail.ID, mail.Content) bool) {
		for k, b := range t.Scan(tab(tabMessage).id(from), tab(tabMessage).end()) {
			var row struct {
				Content mail.Content `cbor:"2,keyasint"` // as in Message
			}
			t.decode(k, b, &row)
			if !yield(lastID(k), row.Content) {
				return
			}
		}
	}
}

// HeldRow is what of a message's row a sum over the Safety Net needs; the fields
// are those of Message and Recipient.
type HeldRow struct {
	Content    mail.Content    `cbor:"2,keyasint"`
	Recipients []HeldRecipient `cbor:"11,keyasint"`
	Origin     mail.ID         `cbor:"14,keyasint,omitempty"`
	Request    uint64          `cbor:"40,keyasint,omitempty"`
}

// HeldRecipient is one delivery of a HeldRow.
type HeldRecipient struct {
	Database string         `cbor:"3,keyasint,omitempty"`
	State    RecipientState `cbor:"5,keyasint,omitempty"`
	Done     mail.Time      `cbor:"8,keyasint,omitempty"`
	Gone     bool           `cbor:"14,keyasint,omitempty"`
}

// Held reports whether the delivery is in the Safety Net.
func (r *HeldRecipient) Held() bool {
	return (r.State == Delivered || r.State == Undelivered) && !r.Gone
}

// HeldRows walks all rows in order of id, which is a third of the work of
// following the index of the Safety Net to each of them.
func (t Tables) HeldRows() iter.Seq[*HeldRow] {
	return func(yield func(*HeldRow) bool) {
		for k, b := range t.Scan(tab(tabMessage), tab(tabMessage).end()) {
			row := new(HeldRow) // not one for all: what a row leaves out would keep its value
			t.decode(k, b, row)
			if !yield(row) {
				return
			}
		}
	}
}

// Messages walks the rows with from <= id in order.
func (t Tables) Messages(from mail.ID) iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		for k, b := range t.Scan(tab(tabMessage).id(from), tab(tabMessage).end()) {
			m := new(Message)
			t.decode(k, b, m)
			if !yield(m) {
				return
			}
		}
	}
}

// MessagesBack walks the rows with low <= id < high from the last one down; a
// high of zero is open.
func (t Tables) MessagesBack(low, high mail.ID) iter.Seq[*Message] {
	end := tab(tabMessage).end()
	if !high.IsZero() {
		end = tab(tabMessage).id(high)
	}
	return func(yield func(*Message) bool) {
		for k, b := range t.ScanBack(tab(tabMessage).id(low), end) {
			m := new(Message)
			t.decode(k, b, m)
			if !yield(m) {
				return
			}
		}
	}
}

// Active walks the active messages of one primary server in order of id.
func (t Tables) Active(owner mail.MemberID) iter.Seq[*Message] {
	return t.ActiveFrom(owner, mail.ID{})
}

// ActiveFrom is Active for ids not before one.
func (t Tables) ActiveFrom(owner mail.MemberID, from mail.ID) iter.Seq[*Message] {
	return t.messages(tab(tabOwner).mem(owner).id(from), tab(tabOwner).mem(owner).end())
}

// Discards walks the finished messages whose shadow server has not
// acknowledged the discard status yet.
func (t Tables) Discards(shadow mail.MemberID) iter.Seq[mail.ID] {
	return t.ids(tab(tabDiscard).mem(shadow))
}

// ByMessageID walks the messages with a Message-ID header field.
func (t Tables) ByMessageID(s string) iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		for m := range t.indexed(tab(tabMessageID).u64(messageIDHash(s))) {
			if m.Fields.MessageID == s && !yield(m) {
				return
			}
		}
	}
}

// Resubmissions walks the messages that were made of one from the Safety Net.
func (t Tables) Resubmissions(origin mail.ID) iter.Seq[*Message] {
	return t.indexed(tab(tabOrigin).id(origin))
}

// Needy reports whether any active message lacks a shadow, copies or an owner.
func (t Tables) Needy() bool { return t.any(tab(tabNeed)) }

// Expanding walks the messages whose groups are being expanded.
func (t Tables) Expanding() iter.Seq[mail.ID] { return t.ids(tab(tabExpand)) }

func (t Tables) ids(k key) iter.Seq[mail.ID] {
	return func(yield func(mail.ID) bool) {
		for k := range t.Scan(k, k.end()) {
			if !yield(lastID(k)) {
				return
			}
		}
	}
}

func (t Tables) indexed(k key) iter.Seq[*Message] { return t.messages(k, k.end()) }

// messages walks the messages that the keys of an index from low to high name.
func (t Tables) messages(low, high key) iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		for k := range t.Scan(low, high) {
			if m, ok := t.Message(lastID(k)); ok && !yield(m) {
				return
			}
		}
	}
}

func (t Tables) any(k key) bool {
	for range t.Scan(k, k.end()) {
		return true
	}
	return false
}

// Delivery is one resubmittable delivery in the Safety Net.
type Delivery struct {
	Database  string
	At        mail.Time
	ID        mail.ID
	Recipient int
}

// SafetyNet walks the deliveries to a database, its name without case, with
// start <= delivery time < end; an end of zero is open.
func (t Tables) SafetyNet(database string, start, end mail.Time) iter.Seq[Delivery] {
	low := tab(tabSafetyNet).str(strings.ToLower(database))
	high := low.end()
	if end != 0 {
		high = slices.Clone(low).time(max(end, 0))
	}
	return func(yield func(Delivery) bool) {
		for k := range t.Scan(low.time(max(start, 0)), high) {
			d := deliveryOf(k)
			d.Database = database
			if !yield(d) {
				return
			}
		}
	}
}

// LastDelivery is the latest delivery that SafetyNet would walk to.
func (t Tables) LastDelivery(database string, start, end mail.Time) (d Delivery, ok bool) {
	low := tab(tabSafetyNet).str(strings.ToLower(database))
	for k := range t.ScanBack(slices.Clone(low).time(max(start, 0)), low.time(max(end, 0))) {
		d = deliveryOf(k)
		d.Database = database
		return d, true
	}
	return d, false
}

// Member returns a member's row.
func (t Tables) Member(id mail.MemberID) (m Member, ok bool) {
	ok = t.get(tab(tabMember).mem(id), &m)
	return m, ok
}

// Members walks the members by queue database id.
func (t Tables) Members() iter.Seq[Member] { return rows[Member](t, tab(tabMember)) }

// Database returns a mailbox database; names are looked up without case.
func (t Tables) Database(name string) (d Database, ok bool) {
	ok = t.get(tab(tabDatabase).text(strings.ToLower(name)), &d)
	return d, ok
}

// Databases walks the mailbox databases by name.
func (t Tables) Databases() iter.Seq[Database] { return rows[Database](t, tab(tabDatabase)) }

// Suspensions walks the suspended destinations.
func (t Tables) Suspensions() iter.Seq[Suspension] { return rows[Suspension](t, tab(tabQueueStop)) }

// HasContent returns the content that rows refer to, and whether any do.
func (t Tables) HasContent(id mail.ContentID) (mail.Content, bool) {
	var c contentRow
	ok := t.get(tab(tabContent).bytes(id[:]), &c)
	return c.Content, ok
}

// Contents walks the contents that rows refer to, by id.
func (t Tables) Contents(from mail.ContentID) iter.Seq[mail.Content] {
	return func(yield func(mail.Content) bool) {
		for k, b := range t.Scan(tab(tabContent).bytes(from[:]), tab(tabContent).end()) {
			var c contentRow
			t.decode(k, b, &c)
			if !yield(c.Content) {
				return
			}
		}
	}
}

// Token returns an invitation by the hash of its secret.
func (t Tables) Token(hash [32]byte) (k Token, ok bool) {
	ok = t.get(tab(tabToken).bytes(hash[:]), &k)
	return k, ok
}

// Domain implements directory.Lookup.
func (t Tables) Domain(name string) (d directory.Domain, ok bool) {
	read := func() (d directory.Domain, ok bool) {
		ok = t.get(tab(tabDirectory).byte('d').text(name), &d)
		return d, ok
	}
	if t.known == nil {
		return read()
	}
	return look(&t.known.names, &t.known.names.domains, name, read)
}

// Mailbox implements directory.Lookup.
func (t Tables) Mailbox(k string) (m directory.Mailbox, ok bool) {
	read := func() (m directory.Mailbox, ok bool) {
		ok = t.get(tab(tabDirectory).byte('m').text(k), &m)
		return m, ok
	}
	if t.known == nil {
		return read()
	}
	return look(&t.known.names, &t.known.names.mailboxes, k, read)
}

// Group implements directory.Lookup; version 0 is the current one.
func (t Tables) Group(k string, version uint64) (g directory.Group, ok bool) {
	if version == 0 && t.known != nil && t.known.names.noGroup(k) {
		return g, false
	}
	if version == 0 && !t.get(tab(tabDirectory).byte('G').text(k), &version) {
		if t.known != nil {
			t.known.names.notGroup(k)
		}
		return g, false
	}
	var row groupRow
	ok = t.get(tab(tabDirectory).byte('g').str(k).u64(version), &row)
	return row.Group, ok
}

// groupRow is one version of a group's member list, with those who hold it.
type groupRow struct {
	Group directory.Group `cbor:"1,keyasint"`
	Refs  int             `cbor:"2,keyasint"` // being current, and expansions under way
}

// Domains walks the domains by name.
func (t Tables) Domains() iter.Seq[directory.Domain] {
	return rows[directory.Domain](t, tab(tabDirectory).byte('d'))
}

// NextHop returns what is set for exactly this address.
func (t Tables) NextHop(address string) (h directory.NextHop, ok bool) {
	ok = t.get(tab(tabDirectory).byte('n').text(directory.NextHopKey(address)), &h)
	return h, ok
}

// NextHops walks the next hops by address.
func (t Tables) NextHops() iter.Seq[directory.NextHop] {
	return rows[directory.NextHop](t, tab(tabDirectory).byte('n'))
}

// Mailboxes walks the mailboxes by key.
func (t Tables) Mailboxes() iter.Seq[directory.Mailbox] {
	return rows[directory.Mailbox](t, tab(tabDirectory).byte('m'))
}

// Groups walks the current version of every group.
func (t Tables) Groups() iter.Seq[directory.Group] {
	return func(yield func(directory.Group) bool) {
		k := tab(tabDirectory).byte('G')
		for gk := range t.Scan(k, k.end()) {
			if g, ok := t.Group(string(gk[len(k):]), 0); ok && !yield(g) {
				return
			}
		}
	}
}

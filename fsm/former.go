package fsm

import (
	"cmp"
	"iter"
	"slices"

	"mailraft/mail"
)

// Former is a queue database id that is no member any more. Whoever shows a
// certificate of one is refused, for ever: the rows are few and small.
type Former struct {
	ID     mail.MemberID `cbor:"1,keyasint" json:"id"`
	Name   string        `cbor:"2,keyasint" json:"name"`
	Serial string        `cbor:"3,keyasint,omitempty" json:"serial"` // of its last certificate
	How    string        `cbor:"4,keyasint" json:"how"`              // HowReplaced, HowRemoved, HowLost
	Joined mail.Time     `cbor:"5,keyasint,omitempty" json:"joined,omitzero"`
	At     mail.Time     `cbor:"6,keyasint" json:"at"`                      // since when
	Heir   mail.MemberID `cbor:"7,keyasint,omitempty" json:"heir,omitzero"` // replaced, lost: who has its name now
	By     string        `cbor:"8,keyasint,omitempty" json:"by,omitempty"`
	Reason string        `cbor:"9,keyasint,omitempty" json:"reason,omitempty"`
	Lost   bool          `cbor:"10,keyasint,omitempty" json:"lost,omitempty"` // it was not drained: its Safety Net went with it
}

// lost reports whether a Primary Safety Net went with the member; an older row
// says so by How alone.
func (f *Former) lost() bool { return f.Lost || f.How == HowReplaced }

// How a member came to be a former one.
const (
	HowReplaced = "replaced" // its disk was lost, and a new directory has its name
	HowRemoved  = "removed"
	HowLost     = "lost" // with the majority, before the boundary was recovered
)

// MemberRemove takes a member out of the boundary. One that is up is drained
// first, unless Now says that it must be out at once.
type MemberRemove struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	Now    bool          `cbor:"2,keyasint,omitempty"`
	By     string        `cbor:"3,keyasint,omitempty"`
	Reason string        `cbor:"4,keyasint,omitempty"`
}

// MemberSet gives a member another cluster address: Raft's configuration
// follows. Or the member itself says what its configuration has of it.
type MemberSet struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	Addr   string        `cbor:"2,keyasint"` // empty: as it is
	By     string        `cbor:"3,keyasint,omitempty"`
	Reason string        `cbor:"4,keyasint,omitempty"`
	Says   *Says         `cbor:"5,keyasint,omitempty"`
}

// Says is what a member's own configuration says of it.
type Says struct {
	SMTP string `cbor:"1,keyasint,omitempty"` // where it takes mail
	Host string `cbor:"2,keyasint,omitempty"` // its name in mail
	Site string `cbor:"3,keyasint,omitempty"`
}

// Says is what the state has of it.
func (m *Member) Says() Says { return Says{SMTP: m.SMTP, Host: m.Host, Site: m.Site} }

// memberSet applies MemberSet. Two members at one address could not both be in
// Raft's configuration.
func (t *tx) memberSet(c MemberSet) Answer {
	m, ok := t.Member(c.Member)
	switch {
	case !ok || m.Retired != 0:
		return refuse(550, "5.1.0", "there is no member %s", c.Member)
	case c.Addr == "" && c.Says == nil:
		return refuse(501, "5.5.4", "a member needs an address")
	}
	addr, says := cmp.Or(c.Addr, m.Addr), m.Says()
	if c.Says != nil {
		says = *c.Says
	}
	if m.Addr == addr && m.Says() == says {
		return Answer{}
	}
	for o := range t.Members() {
		if o.ID != m.ID && addr != m.Addr && o.Addr == addr {
			return refuse(550, "5.5.0", "%s is the address of %s", c.Addr, o.Name)
		}
	}
	m.Addr, m.SMTP, m.Host, m.Site = addr, says.SMTP, says.Host, says.Site
	t.put(tab(tabMember).mem(m.ID), m)
	return Answer{Count: 1}
}

// Former returns the row of a queue database id that is no member any more.
func (t Tables) Former(id mail.MemberID) (f Former, ok bool) {
	ok = t.get(tab(tabFormer).mem(id), &f)
	return f, ok
}

// Formers walks the former members by queue database id.
func (t Tables) Formers() iter.Seq[Former] { return rows[Former](t, tab(tabFormer)) }

// Gaps walks those whose Primary Safety Net was lost at a time of which
// something is still held: before At it begins anew under the heir.
func (t Tables) Gaps() iter.Seq[Former] {
	p := t.Params()
	held := t.Applied().Time.Add(-p.SafetyNetHoldTime - p.MessageExpirationTimeout)
	return func(yield func(Former) bool) {
		for f := range t.Formers() {
			if f.How != HowRemoved && f.At > held && !yield(f) {
				return
			}
		}
	}
}

// memberRemove applies MemberRemove. It is refused if those who stay could not
// go on without the member.
func (t *tx) memberRemove(c MemberRemove) Answer {
	m, ok := t.Member(c.Member)
	switch {
	case !ok:
		if _, was := t.Former(c.Member); was {
			return Answer{}
		}
		return refuse(550, "5.1.0", "there is no member %s", c.Member)
	case m.Retired != 0:
		return Answer{}
	}
	if a := t.checkRest(m, c.Now); a.Refused != nil {
		return a
	}
	if m.Up && !c.Now {
		m.Leaving, m.By, m.Reason = true, c.By, c.Reason
		t.beginDrain(&m)
		t.put(tab(tabMember).mem(m.ID), m)
		return Answer{Count: 1}
	}
	t.retire(m, Former{How: HowRemoved, By: cmp.Or(c.By, m.By), Reason: cmp.Or(c.Reason, m.Reason)})
	return Answer{Count: 1}
}

// checkRest refuses to let a voter go if the others are no majority, of the
// voters with it or without it: nothing could be committed from then on.
func (t *tx) checkRest(m Member, now bool) Answer {
	b, _ := t.Boundary()
	if !slices.Contains(b.Voters, m.ID) {
		return Answer{}
	}
	up, rest := 0, len(b.Voters)-1
	for _, id := range b.Voters {
		if v, _ := t.Member(id); id != m.ID && v.Up && v.Retired == 0 && !v.Leaving {
			up++
		}
	}
	with := up
	if m.Up && !now {
		with++ // it votes until it is out
	}
	switch {
	case rest == 0:
		return refuse(550, "5.5.0", "%s is the only voter", m.Name)
	case up <= rest/2, with <= len(b.Voters)/2:
		return refuse(450, "4.3.2", "without %s only %d of %d voters are up: they could agree on nothing", m.Name, up, len(b.Voters))
	}
	return Answer{}
}

// retire makes a member a former one: from here on its certificates are
// refused, it is granted no lease, and nothing is given to it. What it still
// owns goes as soon as MemberDown says that its last lease is over.
func (t *tx) retire(m Member, f Former) {
	f.ID, f.Name, f.Serial, f.Joined, f.At = m.ID, m.Name, m.Serial, m.Joined, t.now()
	f.Lost = m.Drained == 0
	t.put(tab(tabFormer).mem(m.ID), f)
	m.Retired, m.Left, m.Found, m.Walk = t.now(), 0, 0, nil
	if !m.Up {
		m.Phase, m.Cursor = PhasePrimaries, nil
	}
	t.put(tab(tabMember).mem(m.ID), m)
}

// forget drops the row of a retired member that nothing refers to any more:
// no message, no Raft configuration.
func (t *tx) forget(m Member) {
	b, _ := t.Boundary()
	for _, list := range [][]mail.MemberID{b.Voters, b.Learners, b.Next} {
		if slices.Contains(list, m.ID) {
			return
		}
	}
	if m.Retired != 0 && !m.Up && m.Phase == PhaseDone {
		t.delete(tab(tabMember).mem(m.ID))
	}
}

// replace lets a member in under the name of one that has lost its disk.
func (t *tx) replace(m Member, k Token) Answer {
	old, ok := t.Member(k.Replace)
	switch {
	case !ok || old.Retired != 0:
		return refuse(535, "5.7.8", "the member that the token is for was replaced or removed already; make another with: mailraft boundary token --replace %s", m.Name)
	case !sameName(old.Name, m.Name):
		return refuse(535, "5.7.8", "the token is for %s to come back, not for %s", old.Name, m.Name)
	}
	t.retire(old, Former{How: HowReplaced, Heir: m.ID})
	return Answer{}
}

package directory

import (
	"slices"
	"strings"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// Lookup is the directory as it stands at one log index.
type Lookup interface {
	Domain(key string) (Domain, bool)
	Mailbox(key string) (Mailbox, bool)                  // by its address or one of its aliases
	Group(key string, version uint64) (g Group, ok bool) // version 0: the current one
}

// Kind says what becomes of a recipient.
type Kind uint8

// The kinds of resolved recipient.
const (
	ToMailbox Kind = 1 // to a mailbox database
	ToRelay   Kind = 2 // to a next hop outside the boundary
	Failed    Kind = 3 // to nobody: bounced with Reply
)

var kindNames = [...]string{ToMailbox: "mailbox", ToRelay: "relay", Failed: "failed"}

// String is the kind in lower case.
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return ""
	}
	return kindNames[k]
}

// Resolved is one recipient of a message after categorization.
type Resolved struct {
	Original string // the envelope recipient it came from
	Address  string // where it goes: the mailbox's own address, or the outside address as given
	Kind     Kind
	Database string      // ToMailbox
	NextHop  string      // ToRelay
	Reply    *mail.Reply // Failed: why
	Via      []string    // the groups between Original and Address, outermost first, at most 16; read only
}

// Key tells recipients of one message apart: two with the same key are one
// delivery. An outside local part keeps its case (RFC 5321 §2.4: it must be
// preserved, and may matter over there).
func (r Resolved) Key() string {
	if a, err := mail.ParseAddress(r.Address); err == nil && r.Kind == ToRelay {
		return mail.Address{Local: a.Local, Domain: DomainKey(a.Domain)}.String()
	}
	return textKey(r.Address)
}

// Resolve categorizes the recipients of an envelope. Every recipient that is
// not a group is in now; groups are expanded as far as limit members go, and
// what then remains is in rest, to be continued with Expand. relay: recipients
// that the envelope itself names may lie outside the listed domains, and go by
// the default route; else they fail.
//
// Duplicates collapse. An address that the envelope names itself belongs to
// that recipient, even if a group before it has it too; among groups the first
// in the envelope's order wins.
func Resolve(l Lookup, recipients []string, relay bool, limit int) (now []Resolved, rest []GroupRef) {
	x := newExpansion(l, nil, nil)
	var groups []GroupRef
	named := map[string]bool{}
	for _, original := range recipients {
		a, err := mail.ParseAddress(original)
		if err != nil {
			x.add(Resolved{Original: original, Address: original, Kind: Failed,
				Reply: mail.Replyf(553, "5.1.3", "not an address")})
			continue
		}
		if named[Key(a)] {
			continue
		}
		r, g := find(l, a)
		if g == nil {
			if _, listed := domainOf(l, a); !listed && !relay {
				r = Resolved{Address: a.String(), Kind: Failed, Reply: denied(a)}
			}
			r.Original = original
			x.add(r)
			continue
		}
		named[g.Key()] = true
		groups = append(groups, GroupRef{Address: g.Key(), Version: g.Version, Original: original})
	}
	slices.Reverse(groups) // a stack: the first of the envelope lies on top
	x.stack = groups
	return x.run(limit)
}

// find resolves one address: to a group, or to what it is itself (without
// Original and Via).
func find(l Lookup, a mail.Address) (Resolved, *Group) {
	d, ok := domainOf(l, a)
	if !ok {
		d, ok = l.Domain(DefaultRoute)
	}
	switch {
	case !ok || d.Kind != Accepted && d.Kind != Relay:
		return Resolved{Address: a.String(), Kind: Failed,
			Reply: mail.Replyf(550, "5.4.4", "no route to domain %s", DomainKey(a.Domain))}, nil
	case d.Kind == Relay:
		return Resolved{Address: a.String(), Kind: ToRelay, NextHop: d.nextHop(a)}, nil
	}
	return findLocal(l, a, d)
}

// findLocal looks a up in the accepted domain d: a listed mailbox or alias, a
// group, the mailbox before "+detail", then what need not be listed.
func findLocal(l Lookup, a mail.Address, d Domain) (Resolved, *Group) {
	key := Key(a)
	if m, ok := l.Mailbox(key); ok {
		return toMailbox(m.Address, m.Database), nil
	}
	if g, ok := l.Group(key, 0); ok {
		return Resolved{}, &g
	}
	if base, ok := withoutDetail(a); ok {
		// In an AnyMailbox domain too: the detail must not lead a listed
		// mailbox's mail to the database of those that are not.
		if m, ok := l.Mailbox(Key(base)); ok {
			return toMailbox(m.Address, m.Database), nil
		}
	}
	// RFC 5321 §4.5.1: postmaster is accepted in every domain that we serve.
	// Listed or a group it was found above, else it is a mailbox like any.
	if d.AnyMailbox || strings.EqualFold(a.Local, "postmaster") {
		return toMailbox(key, d.Database), nil
	}
	return Resolved{Address: a.String(), Kind: Failed,
		Reply: reply.NoMailbox.Reply()}, nil
}

func toMailbox(address, database string) Resolved {
	return Resolved{Address: address, Kind: ToMailbox, Database: database}
}

// domainOf is the listed domain of an address, never the default route.
func domainOf(l Lookup, a mail.Address) (Domain, bool) {
	key := DomainKey(a.Domain)
	if key == "" || key == DefaultRoute {
		return Domain{}, false
	}
	return l.Domain(key)
}

// withoutDetail is user@domain for user+detail@domain (RFC 5233).
func withoutDetail(a mail.Address) (mail.Address, bool) {
	i := strings.IndexByte(a.Local, '+')
	if i <= 0 {
		return a, false
	}
	return mail.Address{Local: a.Local[:i], Domain: a.Domain}, true
}

// Home is the database of the mailbox that an address leads to by itself. Not
// ok: it leads to a group, outside, or nowhere.
func Home(l Lookup, address string) (database string, ok bool) {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return "", false
	}
	r, g := find(l, a)
	return r.Database, g == nil && r.Kind == ToMailbox
}

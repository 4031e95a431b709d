// Package directory is the categorizer: it turns the recipients of an envelope
// into deliveries to mailbox databases, relays to a next hop, and failures.
//
// It owns the shape of the directory's objects (domain, mailbox, group, next hop) and
// the rules of looking them up. It does not own the tables: whoever resolves
// brings a Lookup. It is pure, because it runs while a log entry is applied:
// no clock, no I/O, no randomness, nothing that depends on map order, so every
// member comes to the same answer from the same tables.
//
// Large groups are expanded in pieces (Resolve, then Expand until nothing is
// left); the pieces together give what one unbounded expansion would.
package directory

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"mailraft/mail"
)

// DomainKind says what the boundary is for a domain. The values are on disk:
// never renumber.
type DomainKind uint8

// The kinds of domain.
const (
	Accepted DomainKind = 1 // its mailboxes and groups are in this directory
	Relay    DomainKind = 2 // taken from anyone, and passed on to its next hop
)

var domainKinds = [...]string{Accepted: "accepted", Relay: "relay"}

// String is the kind in lower case.
func (k DomainKind) String() string {
	if int(k) >= len(domainKinds) {
		return ""
	}
	return domainKinds[k]
}

// MarshalText implements encoding.TextMarshaler.
func (k DomainKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *DomainKind) UnmarshalText(b []byte) error {
	switch string(b) {
	case "accepted":
		*k = Accepted
	case "relay":
		*k = Relay
	default:
		return fmt.Errorf("kind: %q is neither accepted nor relay", b)
	}
	return nil
}

// DefaultRoute is the name of the domain that stands for all that are not
// listed. It is a route for the outside members of groups and never makes a
// domain acceptable at RCPT: that would be an open relay.
const DefaultRoute = "*"

// Domain is a domain that the boundary takes mail for, or the default route.
type Domain struct {
	Name string     `cbor:"1,keyasint" json:"name"`
	Kind DomainKind `cbor:"2,keyasint" json:"kind"`
	// AnyMailbox: every local part is a mailbox, listed or not.
	AnyMailbox bool `cbor:"3,keyasint,omitempty" json:"any_mailbox,omitempty"`
	// Database holds the mailboxes of an accepted domain that are not listed:
	// all of them with AnyMailbox, else postmaster alone, which RFC 5321 §4.5.1
	// wants accepted whether anybody thought of it or not.
	Database string `cbor:"4,keyasint,omitempty" json:"database,omitempty"`
	NextHop  string `cbor:"5,keyasint,omitempty" json:"next_hop,omitempty"` // relay: smtp:// or smtps://host:port, mx:, mx:DOMAIN
}

// Mailbox is a listed mailbox of an accepted domain: a user's, a shared one or
// a public folder.
type Mailbox struct {
	Address  string   `cbor:"1,keyasint" json:"address"` // where its mail is delivered to
	Database string   `cbor:"2,keyasint" json:"database"`
	Aliases  []string `cbor:"3,keyasint,omitempty" json:"aliases,omitempty"` // other addresses of it
}

// Group is one version of a distribution group. The members of a version never
// change: another list is another version.
type Group struct {
	Address string   `cbor:"1,keyasint" json:"address"`
	Version uint64   `cbor:"2,keyasint" json:"version"`
	Members []string `cbor:"3,keyasint" json:"members"` // mailboxes, groups, outside addresses
}

// Key is the key of the domain's row.
func (d Domain) Key() string { return DomainKey(d.Name) }

// Validate reports the first field that cannot stand. Whether the database
// exists is for the owner of the tables to say.
func (d Domain) Validate() error {
	switch {
	case d.Name == DefaultRoute && d.Kind != Relay:
		return errors.New("kind: the default route is a relay")
	case d.Name != DefaultRoute && !validDomain(d.Name):
		return fmt.Errorf("name: %q is not a domain name", d.Name)
	}
	switch d.Kind {
	case Accepted:
		if d.NextHop != "" {
			return errors.New("next_hop: an accepted domain has none")
		}
		return validName("database", d.Database)
	case Relay:
		if d.AnyMailbox {
			return errors.New("any_mailbox: a relay domain has no mailboxes here")
		}
		if d.Database != "" {
			return errors.New("database: a relay domain has no mailboxes here")
		}
		return validNextHop(d.NextHop)
	}
	return fmt.Errorf("kind: %d is neither accepted nor relay", d.Kind)
}

// Key is the key of the mailbox's own row.
func (m Mailbox) Key() string { return textKey(m.Address) }

// Keys are all keys that the mailbox is found by, its own first. The owner of
// the tables refuses a mailbox one of whose keys belongs to another object.
func (m Mailbox) Keys() []string {
	keys := []string{m.Key()}
	for _, a := range m.Aliases {
		keys = append(keys, textKey(a))
	}
	return keys
}

// Validate reports the first field that cannot stand.
func (m Mailbox) Validate() error {
	if err := validAddress("address", m.Address); err != nil {
		return err
	}
	known := map[string]bool{m.Key(): true}
	for i, a := range m.Aliases {
		field := "aliases[" + strconv.Itoa(i) + "]"
		if err := validAddress(field, a); err != nil {
			return err
		}
		if known[textKey(a)] {
			return fmt.Errorf("%s: %q is there already", field, a)
		}
		known[textKey(a)] = true
	}
	return validName("database", m.Database)
}

// Key is the key of the group's row.
func (g Group) Key() string { return textKey(g.Address) }

// Validate reports the first field that cannot stand. An empty group is
// refused: mail to it would go to nobody, and nobody would be told.
func (g Group) Validate() error {
	if err := validAddress("address", g.Address); err != nil {
		return err
	}
	if len(g.Members) == 0 {
		return errors.New("members: a group has at least one")
	}
	for i, m := range g.Members {
		if err := validAddress("members["+strconv.Itoa(i)+"]", m); err != nil {
			return err
		}
	}
	return nil
}

func validAddress(field, s string) error {
	if a, err := mail.ParseAddress(s); err != nil || a.Domain == "" {
		return fmt.Errorf("%s: %q is not an address", field, s)
	}
	return nil
}

func validDomain(s string) bool {
	a, err := mail.ParseAddress("x@" + s)
	return err == nil && !strings.HasSuffix(s, ".") && a.Domain != ""
}

const nameMax = 64

func validName(field, s string) error {
	if s == "" || len(s) > nameMax {
		return fmt.Errorf("%s: a name of 1 to %d characters is needed", field, nameMax)
	}
	for i := range len(s) {
		c := s[i]
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return fmt.Errorf("%s: %q has characters other than letters, digits, dot, - and _", field, s)
		}
	}
	return nil
}

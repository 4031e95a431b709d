package fsm

import (
	"iter"
	"strings"

	"mailraft/mail"
)

// Frontend is a front end that the boundary knows: who shows a certificate of
// that role is let in only with one of its serial numbers, so that a front end
// is out as soon as its row is gone. Members need no such row: who was one is
// on record as a former one.
type Frontend struct {
	Name    string    `cbor:"1,keyasint" json:"name"`
	Site    string    `cbor:"2,keyasint,omitempty" json:"site,omitempty"`
	Serial  string    `cbor:"3,keyasint" json:"serial"`                  // of its newest certificate
	Was     string    `cbor:"4,keyasint,omitempty" json:"was,omitempty"` // of the one before, with which it renewed: the answer may have been lost
	Joined  mail.Time `cbor:"5,keyasint" json:"joined"`
	Renewed mail.Time `cbor:"6,keyasint,omitempty" json:"renewed,omitzero"`
	Token   [32]byte  `cbor:"7,keyasint" json:"-"` // hash of the one that it joined with
}

// Shows reports whether a certificate with this serial number is the front
// end's.
func (f *Frontend) Shows(serial string) bool {
	return serial != "" && (serial == f.Serial || serial == f.Was)
}

// FrontendChange lets a front end in, records its renewed certificate, or
// shuts it out.
type FrontendChange struct {
	Op     string   `cbor:"1,keyasint"` // FrontendJoin, FrontendRenew, FrontendRemove
	Name   string   `cbor:"2,keyasint"`
	Serial string   `cbor:"3,keyasint,omitempty"` // join, renew: of the certificate that it gets
	Was    string   `cbor:"4,keyasint,omitempty"` // renew: of the one that it showed
	Site   string   `cbor:"5,keyasint,omitempty"` // join
	Token  [32]byte `cbor:"6,keyasint,omitempty"` // join: hash
	By     string   `cbor:"7,keyasint,omitempty"`
	Reason string   `cbor:"8,keyasint,omitempty"`
}

// The steps of FrontendChange.
const (
	FrontendJoin   = "join"
	FrontendRenew  = "renew"
	FrontendRemove = "remove"
)

// frontendsMax bounds the rows: each is looked at by people.
const frontendsMax = 1000

// changeFrontend applies FrontendChange.
func (t *tx) changeFrontend(c FrontendChange) Answer {
	f, known := t.Frontend(c.Name)
	switch c.Op {
	case FrontendJoin:
		return t.joinFrontend(c, f, known)
	case FrontendRenew, FrontendRemove:
	default:
		return refuse(501, "5.5.4", "a front end knows no %q", c.Op)
	}
	k := tab(tabFrontend).text(strings.ToLower(c.Name))
	switch {
	case !known:
		return refuse(550, "5.1.0", "there is no front end %q", c.Name)
	case c.Op == FrontendRemove:
		t.delete(k)
		return Answer{Count: 1}
	case c.Serial == "" || !f.Shows(c.Was):
		return refuse(535, "5.7.8", "this certificate of front end %s is not good any more", f.Name)
	}
	f.Serial, f.Was, f.Renewed = c.Serial, c.Was, t.now()
	t.put(k, f)
	return Answer{Count: 1}
}

// joinFrontend lets one in that shows a token. A repetition with the same
// token, whose first answer was lost, uses nothing up; the token of one that has
// renewed its certificate since, or one whose time is over, opens nothing.
func (t *tx) joinFrontend(c FrontendChange, old Frontend, known bool) Answer {
	k, ok := t.Token(c.Token)
	again := known && old.Token == c.Token && old.Renewed == 0 && ok && t.now() < k.Until
	switch {
	case c.Name == "" || c.Serial == "":
		return refuse(501, "5.5.4", "a front end needs a name and a certificate")
	case again:
	case !ok || k.Uses < 1:
		return refuse(535, "5.7.8", "the token is not known or used up; make another with: mailraft boundary token --role frontend")
	case k.Until <= t.now():
		return refuse(535, "5.7.8", "the token is over; make another with: mailraft boundary token --role frontend")
	case k.Role != "frontend":
		return refuse(535, "5.7.8", "the token is for a %s, not for a front end", k.Role)
	case known:
		return refuse(550, "5.5.0", "a front end %s is there already; choose another name, or shut that one out first: mailraft boundary frontend remove %s", old.Name, old.Name)
	case t.frontends() >= frontendsMax:
		return refuse(452, "4.3.1", "%d front ends are there already", frontendsMax)
	}
	if !again {
		k.Uses--
		t.put(tab(tabToken).bytes(k.Hash[:]), k)
		old = Frontend{Joined: t.now()}
	}
	old.Name, old.Site, old.Serial, old.Was, old.Token = c.Name, c.Site, c.Serial, "", c.Token
	t.put(tab(tabFrontend).text(strings.ToLower(c.Name)), old)
	return Answer{Count: 1}
}

// Frontend returns a front end; names are looked up without case.
func (t Tables) Frontend(name string) (f Frontend, ok bool) {
	ok = t.get(tab(tabFrontend).text(strings.ToLower(name)), &f)
	return f, ok
}

// Frontends walks the front ends by name.
func (t Tables) Frontends() iter.Seq[Frontend] { return rows[Frontend](t, tab(tabFrontend)) }

func (t Tables) frontends() (n int) {
	for range t.Scan(tab(tabFrontend), tab(tabFrontend).end()) {
		n++
	}
	return n
}

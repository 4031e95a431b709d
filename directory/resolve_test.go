package directory

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// tables is a directory in memory, as package fsm has it on disk.
type tables struct {
	domains   map[string]Domain
	mailboxes map[string]Mailbox
	groups    map[string][]Group // all versions, the current one last
}

func (t *tables) Domain(key string) (Domain, bool)   { d, ok := t.domains[key]; return d, ok }
func (t *tables) Mailbox(key string) (Mailbox, bool) { m, ok := t.mailboxes[key]; return m, ok }

func (t *tables) Group(key string, version uint64) (Group, bool) {
	versions := t.groups[key]
	if version == 0 && len(versions) > 0 {
		return versions[len(versions)-1], true
	}
	for _, g := range versions {
		if g.Version == version {
			return g, true
		}
	}
	return Group{}, false
}

func newTables() *tables {
	return &tables{domains: map[string]Domain{}, mailboxes: map[string]Mailbox{}, groups: map[string][]Group{}}
}

func (t *tables) domain(d Domain)   { t.domains[d.Key()] = d }
func (t *tables) mailbox(m Mailbox) { putKeys(t.mailboxes, m.Keys(), m) }

func (t *tables) group(address string, members ...string) {
	key := textKey(address)
	v := uint64(len(t.groups[key]) + 1)
	t.groups[key] = append(t.groups[key], Group{Address: address, Version: v, Members: members})
}

func putKeys[T any](m map[string]T, keys []string, v T) {
	for _, k := range keys {
		m[k] = v
	}
}

func example() *tables {
	t := newTables()
	t.domain(Domain{Name: "corp.example", Kind: Accepted, Database: "DB1"})
	t.domain(Domain{Name: "any.example", Kind: Accepted, AnyMailbox: true, Database: "DB2"})
	t.domain(Domain{Name: "bücher.example", Kind: Accepted, Database: "DB1"})
	t.domain(Domain{Name: "partner.example", Kind: Relay, NextHop: "smtp://partner:25"})
	t.domain(Domain{Name: DefaultRoute, Kind: Relay, NextHop: "smtp://out:25"})
	t.mailbox(Mailbox{Address: "anna@corp.example", Database: "DB1", Aliases: []string{"sales@corp.example", "a.lee@any.example"}})
	t.mailbox(Mailbox{Address: "bob@corp.example", Database: "DB3"})
	t.mailbox(Mailbox{Address: "vip@any.example", Database: "DB3"})
	t.mailbox(Mailbox{Address: "leser@bücher.example", Database: "DB1"})
	t.group("two@corp.example", "anna@corp.example", "bob@corp.example")
	t.group("nested@corp.example", "two@corp.example", "friend@partner.example", "else@far.example")
	t.group("self@corp.example", "self@corp.example")
	t.group("ping@corp.example", "pong@corp.example")
	t.group("pong@corp.example", "ping@corp.example")
	t.group("ring@corp.example", "ring2@corp.example")
	t.group("ring2@corp.example", "ring@corp.example", "bob@corp.example")
	t.group("stale@corp.example", "gone@corp.example", "not an address")
	return t
}

// text is a recipient as one line: original > groups > address kind where.
func text(r Resolved) string {
	where := r.Database + r.NextHop
	if r.Kind == Failed {
		where = r.Reply.Enhanced
	}
	return fmt.Sprintf("%s > %s %s %s", strings.Join(append([]string{r.Original}, r.Via...), " > "), r.Address, r.Kind, where)
}

func texts(rs []Resolved) []string {
	var out []string
	for _, r := range rs {
		out = append(out, text(r))
	}
	return out
}

func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		name       string
		recipients []string
		want       []string
	}{
		{"mailbox", []string{"Bob@Corp.Example"}, []string{"Bob@Corp.Example > bob@corp.example mailbox DB3"}},
		{"alias", []string{"sales@corp.example"}, []string{"sales@corp.example > anna@corp.example mailbox DB1"}},
		{"alias in another domain", []string{"a.lee@any.example"}, []string{"a.lee@any.example > anna@corp.example mailbox DB1"}},
		{"alias and mailbox collapse", []string{"sales@corp.example", "anna@corp.example"},
			[]string{"sales@corp.example > anna@corp.example mailbox DB1"}},
		{"detail", []string{"bob+lists+go@corp.example"}, []string{"bob+lists+go@corp.example > bob@corp.example mailbox DB3"}},
		{"detail alone", []string{"+x@corp.example"}, []string{"+x@corp.example > +x@corp.example failed 5.1.1"}},
		{"unknown", []string{"nobody@corp.example"}, []string{"nobody@corp.example > nobody@corp.example failed 5.1.1"}},
		{"postmaster unlisted", []string{"PostMaster@corp.example"}, []string{"PostMaster@corp.example > postmaster@corp.example mailbox DB1"}},
		{"any mailbox", []string{"Who.Ever@any.example"}, []string{"Who.Ever@any.example > who.ever@any.example mailbox DB2"}},
		{"any mailbox, quoted", []string{`"a b"@any.example`}, []string{`"a b"@any.example > "a b"@any.example mailbox DB2`}},
		{"any mailbox, listed elsewhere", []string{"vip@any.example", "vip+x@any.example", "other+x@any.example"}, []string{
			"vip@any.example > vip@any.example mailbox DB3", "other+x@any.example > other+x@any.example mailbox DB2"}},
		{"domain in U-label form", []string{"leser@BÜCHER.example", "leser@xn--bcher-kva.example"},
			[]string{"leser@BÜCHER.example > leser@bücher.example mailbox DB1"}},
		{"relay keeps case", []string{"Bob@partner.example", "bob@PARTNER.example", "Bob@Partner.example"}, []string{
			"Bob@partner.example > Bob@partner.example relay smtp://partner:25",
			"bob@PARTNER.example > bob@PARTNER.example relay smtp://partner:25"}},
		{"default route", []string{"x@[192.0.2.1]"}, []string{"x@[192.0.2.1] > x@[192.0.2.1] relay smtp://out:25"}},
		{"no address", []string{"x@@"}, []string{"x@@ > x@@ failed 5.1.3"}},
		{"group", []string{"two@corp.example"}, []string{
			"two@corp.example > two@corp.example > anna@corp.example mailbox DB1",
			"two@corp.example > two@corp.example > bob@corp.example mailbox DB3"}},
		{"nested group with outside members", []string{"nested@corp.example"}, []string{
			"nested@corp.example > nested@corp.example > two@corp.example > anna@corp.example mailbox DB1",
			"nested@corp.example > nested@corp.example > two@corp.example > bob@corp.example mailbox DB3",
			"nested@corp.example > nested@corp.example > friend@partner.example relay smtp://partner:25",
			"nested@corp.example > nested@corp.example > else@far.example relay smtp://out:25"}},
		{"the envelope's own recipient is its own", []string{"two@corp.example", "bob@corp.example"}, []string{
			"bob@corp.example > bob@corp.example mailbox DB3",
			"two@corp.example > two@corp.example > anna@corp.example mailbox DB1"}},
		{"first group wins", []string{"two@corp.example", "TWO@corp.example", "ring2@corp.example"}, []string{
			"two@corp.example > two@corp.example > anna@corp.example mailbox DB1",
			"two@corp.example > two@corp.example > bob@corp.example mailbox DB3"}},
		{"only itself", []string{"self@corp.example"}, []string{"self@corp.example > self@corp.example failed 5.4.6"}},
		{"only each other", []string{"ping@corp.example", "pong@corp.example"}, []string{
			"ping@corp.example > ping@corp.example failed 5.4.6", "pong@corp.example > pong@corp.example failed 5.4.6"}},
		{"loop that reaches somebody", []string{"ring@corp.example"},
			[]string{"ring@corp.example > ring@corp.example > ring2@corp.example > bob@corp.example mailbox DB3"}},
		{"stale members", []string{"stale@corp.example"}, []string{
			"stale@corp.example > stale@corp.example > gone@corp.example failed 5.1.1",
			"stale@corp.example > stale@corp.example > not an address failed 5.1.3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, rest := Resolve(example(), tt.recipients, true, 1000)
			if got := texts(now); !reflect.DeepEqual(got, tt.want) || rest != nil {
				t.Errorf("got %q and %v, want %q", got, rest, tt.want)
			}
		})
	}
}

// The default route is for senders who may relay, for members of groups, and
// for nobody else.
func TestOutsideNeedsTheRight(t *testing.T) {
	recipients := []string{"x@far.example", "X@[192.0.2.1]", "y@partner.example", "nested@corp.example"}
	now, _ := Resolve(example(), recipients, false, 1000)
	want := []string{
		"x@far.example > x@far.example failed 5.7.1",
		"X@[192.0.2.1] > X@[192.0.2.1] failed 5.7.1",
		"y@partner.example > y@partner.example relay smtp://partner:25",
		"nested@corp.example > nested@corp.example > two@corp.example > anna@corp.example mailbox DB1",
		"nested@corp.example > nested@corp.example > two@corp.example > bob@corp.example mailbox DB3",
		"nested@corp.example > nested@corp.example > friend@partner.example relay smtp://partner:25",
		"nested@corp.example > nested@corp.example > else@far.example relay smtp://out:25",
	}
	if got := texts(now); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestNoRoute(t *testing.T) {
	l := example()
	delete(l.domains, DefaultRoute)
	now, _ := Resolve(l, []string{"x@far.example"}, true, 10)
	if got := texts(now); !reflect.DeepEqual(got, []string{"x@far.example > x@far.example failed 5.4.4"}) {
		t.Errorf("got %q", got)
	}
}

func TestVerify(t *testing.T) {
	for address, want := range map[string]string{
		"bob@corp.example":        "",
		"BOB+x@corp.example":      "",
		"sales@corp.example":      "",
		"self@corp.example":       "", // a group: found out when the message is there
		"postmaster@corp.example": "",
		"whoever@any.example":     "",
		"leser@bücher.example":    "",
		"x@partner.example":       "",
		"nobody@corp.example":     "550 5.1.1 no mailbox of this name",
		"x@far.example":           "550 5.7.1 relaying to far.example is not permitted",
		"x@sub.corp.example":      "550 5.7.1 relaying to sub.corp.example is not permitted",
		"x@[127.0.0.1]":           "550 5.7.1 relaying to [127.0.0.1] is not permitted",
	} {
		a, err := mail.ParseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := Verify(example(), a, false); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
	if err := Verify(example(), mail.Address{Local: "x", Domain: "*"}, false); err == nil {
		t.Error("the default route was accepted as a domain")
	}
}

func TestVerifyWithTheRightToRelay(t *testing.T) {
	routed := []string{"a%far.example@partner.example", "far.example!a@partner.example", `"a@far.example"@partner.example`}
	for _, address := range append(routed, "x@far.example", "x@[127.0.0.1]", "bob@corp.example") {
		a, err := mail.ParseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(example(), a, true); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range routed {
		a, _ := mail.ParseAddress(address)
		if err := Verify(example(), a, false); err == nil || err.Error() != reply.Routed.Reply().String() {
			t.Errorf("%s: %v", address, err)
		}
	}
	l := example()
	delete(l.domains, DefaultRoute)
	far := mail.Address{Local: "x", Domain: "far.example"}
	if err := Verify(l, far, true); err == nil || err.Error() != reply.NoRoute.Reply("far.example").String() {
		t.Errorf("without a default route: %v", err)
	}
	if err := Verify(l, mail.Address{Local: "nobody", Domain: "corp.example"}, true); err == nil {
		t.Error("the right to relay made a mailbox")
	}
}

func TestKey(t *testing.T) {
	for address, want := range map[string]string{
		"Anna@Corp.EXAMPLE":        "anna@corp.example",
		"ÄRGER@corp.example":       "ärger@corp.example",
		"a\u0308rger@corp.example": "ärger@corp.example", // decomposed
		`"A b"@corp.example`:       `"a b"@corp.example`,
		`"a"@corp.example`:         "a@corp.example",
		"x@BÜCHER.example.":        "x@xn--bcher-kva.example",
		"x@xn--BCHER-kva.example":  "x@xn--bcher-kva.example",
		"x@straße.example":         "x@xn--strae-oqa.example",
		"x@under_score.example":    "x@under_score.example",
		"x@[IPv6:2001:DB8::1]":     "x@[ipv6:2001:db8::1]",
		"x@evil\uff20corp.example": "x@evil\uff20corp.example", // a fullwidth @ must not become one
		"x@corp\u3002example":      "x@corp.example",           // ideographic full stop
		"x@\u00adcorp.example":     "x@corp.example",           // soft hyphen
		"x@\u00ad.corp.example":    "x@\u00ad.corp.example",    // no empty label
	} {
		a, err := mail.ParseAddress(address)
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		if got := Key(a); got != want {
			t.Errorf("%q: got %q, want %q", address, got, want)
		}
	}
}

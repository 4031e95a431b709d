package directory

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		object interface{ Validate() error }
		want   string // start of the error
	}{
		{Domain{Name: "corp.example", Kind: Accepted, Database: "DB1"}, ""},
		{Domain{Name: "bücher.example", Kind: Accepted, AnyMailbox: true, Database: "DB1"}, ""},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "smtp://[2001:db8::1]:25"}, ""},
		{Domain{Name: "*", Kind: Relay, NextHop: "smtp://out.example:587"}, ""},
		{Domain{Name: "*", Kind: Accepted, Database: "DB1"}, "kind:"},
		{Domain{Name: "", Kind: Accepted, Database: "DB1"}, "name:"},
		{Domain{Name: "a b", Kind: Accepted, Database: "DB1"}, "name:"},
		{Domain{Name: "corp.example.", Kind: Accepted, Database: "DB1"}, "name:"},
		{Domain{Name: "corp.example", Database: "DB1"}, "kind:"},
		{Domain{Name: "corp.example", Kind: 9, Database: "DB1"}, "kind:"},
		{Domain{Name: "corp.example", Kind: Accepted}, "database:"},
		{Domain{Name: "corp.example", Kind: Accepted, Database: "DB 1"}, "database:"},
		{Domain{Name: "corp.example", Kind: Accepted, Database: "DB1", NextHop: "smtp://x:25"}, "next_hop:"},
		{Domain{Name: "p.example", Kind: Relay}, "next_hop:"},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "smtps://x"}, ""},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "smtp://x/y"}, "next_hop:"},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "smtp://x:0"}, "next_hop:"},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "smtp://x:99999"}, "next_hop:"},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "smtp://u:p@x:25"}, "next_hop:"},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "lmtp://x:24"}, "next_hop:"},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "smtp://x:25", Database: "DB1"}, "database:"},
		{Domain{Name: "p.example", Kind: Relay, NextHop: "smtp://x:25", AnyMailbox: true}, "any_mailbox:"},
		{Mailbox{Address: "a@b.example", Database: "DB1", Aliases: []string{"c@b.example"}}, ""},
		{Mailbox{Address: "a", Database: "DB1"}, "address:"},
		{Mailbox{Address: "postmaster", Database: "DB1"}, "address:"},
		{Mailbox{Address: "a@b.example"}, "database:"},
		{Mailbox{Address: "a@b.example", Database: "DB1", Aliases: []string{"c@b.example", "<d@b.example>"}}, "aliases[1]:"},
		{Mailbox{Address: "a@b.example", Database: "DB1", Aliases: []string{"A@B.example"}}, "aliases[0]:"},
		{Group{Address: "g@b.example", Members: []string{"a@b.example"}}, ""},
		{Group{Address: "g", Members: []string{"a@b.example"}}, "address:"},
		{Group{Address: "g@b.example"}, "members:"},
		{Group{Address: "g@b.example", Members: []string{"a@b.example", ""}}, "members[1]:"},
	} {
		err := tt.object.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%+v: got %v, want %q", tt.object, err, tt.want)
		}
	}
}

func TestEncodings(t *testing.T) {
	d := Domain{Name: "any.example", Kind: Accepted, AnyMailbox: true, Database: "DB2"}
	b, err := json.Marshal(d)
	want := `{"name":"any.example","kind":"accepted","any_mailbox":true,"database":"DB2"}`
	if err != nil || string(b) != want {
		t.Errorf("got %s (%v), want %s", b, err, want)
	}
	var back Domain
	if err := json.Unmarshal(b, &back); err != nil || back != d {
		t.Errorf("got %+v (%v), want %+v", back, err, d)
	}
	if err := json.Unmarshal([]byte(`{"kind":"other"}`), &back); err == nil {
		t.Error("an unknown kind was read")
	}
	refs := []GroupRef{{Address: "g@x", Version: 3, Next: 1000, Original: "h@x", Reached: true}, {Address: "h@x", Next: expanded, Original: "h@x"}}
	b, err = cbor.Marshal(refs)
	if err != nil {
		t.Fatal(err)
	}
	var got []GroupRef
	if err := cbor.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, refs) {
		t.Errorf("got %+v (%v), want %+v", got, err, refs)
	}
}

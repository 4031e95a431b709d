package member

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/directory"
	"mailraft/fsm"
)

func TestDeliverConfig(t *testing.T) {
	dir := t.TempDir()
	password := filepath.Join(dir, "isp.password")
	if err := os.WriteFile(password, []byte("s3 cret\r\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(deliver string) (Config, error) {
		path := filepath.Join(dir, "m.toml")
		text := "name = \"m1\"\ndir = \"" + dir + "\"\n[cluster]\nlisten = \"127.0.0.1:8025\"\n[deliver]\n" + deliver
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(path)
	}
	c, err := load("hello = \"out.example\"\nsource-address = [\"127.0.0.5\", \"::1\"]\nresolvers = [\"127.0.0.1\", \"[::1]:5353\", \"::1\"]\ntime-answer = \"20m\"\n" +
		"[deliver.credential.isp]\nuser = \"u\"\npassword-file = \"" + password + "\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Deliver; !slices.Equal(d.sources, []netip.Addr{netip.MustParseAddr("127.0.0.5"), netip.MustParseAddr("::1")}) ||
		!slices.Equal(d.Resolvers, []string{"127.0.0.1:53", "[::1]:5353", "[::1]:53"}) || d.times.Answer != 20*time.Minute || d.times.Mail != 0 {
		t.Errorf("%+v", d)
	}
	if got, err := c.Deliver.credential("isp"); err != nil || got.User != "u" || got.Password != "s3 cret" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := c.Deliver.credential("other"); err == nil {
		t.Error("a credential that is not there")
	}
	for text, want := range map[string]string{
		"source-address = [\"127.0.0.1\", \"127.0.0.2\"]":     "source-address",
		"source-address = [\"host\"]":                         "source-address",
		"resolvers = [\"ns.example\"]":                        "resolvers",
		"time-data = \"0s\"":                                  "time-data",
		"connections-max = -1":                                "connections-max",
		"[deliver.credential.isp]\nuser = \"u\"":              "credential.isp",
		"[deliver.credential.isp]\npassword = \"in clear\"":   "unknown key",
		"time-connect = \"2h\"\nsource-address = [\"::1\"]\n": "time-connect",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Where the places ran out the next query goes on, and resubmissions stay last.
func TestTurn(t *testing.T) {
	keys := []string{"db/A", "db/B", "relay/x", "resubmit/A", "resubmit/B"}
	for last, want := range map[string]string{
		"": "db/A db/B relay/x resubmit/A resubmit/B", "db/A": "db/B relay/x db/A resubmit/A resubmit/B", "db/AB": "db/B relay/x db/A resubmit/A resubmit/B",
		"relay/x": "db/A db/B relay/x resubmit/A resubmit/B", "resubmit/A": "db/A db/B relay/x resubmit/A resubmit/B",
	} {
		if got := strings.Join(turn(keys, last), " "); got != want {
			t.Errorf("after %q: %s, want %s", last, got, want)
		}
	}
}

// What holds at an address, and who we are where MX records lead back.
func TestNextHopsOfMember(t *testing.T) {
	h := newHouse(t, 1)
	m := h.members[0]
	h.propose(fsm.KindNextHop, fsm.NextHops{Put: []directory.NextHop{
		{Address: "smtp://Hop.example", Credential: "isp"}, {Address: "mx:", TLS: directory.TLSRequired}, {Address: "mx:bank.example", TLS: directory.TLSVerified}}})
	for addr, want := range map[string]directory.TLSPolicy{
		"smtp://hop.example:25": directory.TLSVerified, "smtp://other.example": directory.TLSMay, "lmtp://10.0.0.1:24": directory.TLSOff,
		"mx:x.example": directory.TLSRequired, "mx:bank.example": directory.TLSVerified,
	} {
		if got := m.nextHop(addr).Policy(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	l := &loops{m: m}
	for name, want := range map[string]bool{strings.ToUpper(m.cfg.Hostname): true, "elsewhere.example": false} {
		if got := l.back(name, netip.Addr{}); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !l.back("x", netip.MustParseAddr("127.0.0.9")) || l.back("x", netip.MustParseAddr("192.0.2.1")) {
		t.Error("addresses")
	}
}

package directory

import (
	"strings"
	"testing"
)

func TestNextHopKey(t *testing.T) {
	for address, want := range map[string]string{
		"smtp://Hop.example": "smtp://hop.example:25", "smtps://hop.example": "smtps://hop.example:465", "lmtp://[::1]": "lmtp://[::1]:24",
		"lmtp://10.0.0.1:24": "lmtp://10.0.0.1:24", "mx:": "mx:", "mx:Stra\u00dfe.example": "mx:xn--strae-oqa.example", "maildir:/X": "maildir:/X",
	} {
		if got := NextHopKey(address); got != want || NextHopKey(got) != got {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		hop  NextHop
		want TLSPolicy
	}{
		{NextHop{Address: "smtp://x:25"}, TLSMay},
		{NextHop{Address: "mx:"}, TLSMay},
		{NextHop{Address: "lmtp://x:24"}, TLSOff},
		{NextHop{Address: "smtps://x"}, TLSVerified},
		{NextHop{Address: "lmtps://x"}, TLSVerified},
		{NextHop{Address: "smtp://x:25", Credential: "isp"}, TLSVerified},
		{NextHop{Address: "smtp://x:25", Credential: "isp", TLS: TLSRequired}, TLSRequired},
		{NextHop{Address: "lmtp://x:24", TLSName: "mail.example"}, TLSVerified},
	} {
		if got := c.hop.Policy(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.hop, got, c.want)
		}
		if err := c.hop.Validate(); err != nil {
			t.Errorf("%+v: %v", c.hop, err)
		}
	}
}

func TestNextHopsThatCannotStand(t *testing.T) {
	for _, c := range []struct {
		hop  NextHop
		want string
	}{
		{NextHop{Address: "maildir:/x"}, "address:"},
		{NextHop{Address: "smtp://user@x"}, "address:"},
		{NextHop{Address: "smtp://x", TLS: 9}, "tls:"},
		{NextHop{Address: "smtp://x", TLS: TLSMay, Credential: "isp"}, "tls:"},
		{NextHop{Address: "lmtps://x", TLS: TLSMay}, "tls:"},
		{NextHop{Address: "smtp://x", CA: "-----BEGIN CERTIFICATE-----" + strings.Repeat("x", caMax)}, "ca:"},
		{NextHop{Address: "smtp://x", TLSName: "a b"}, "tls_name:"},
		{NextHop{Address: "mx:x.example", Credential: "isp"}, "credential:"},
	} {
		if err := c.hop.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.hop, err, c.want)
		}
	}
}

package smtpd

import (
	"strings"
	"testing"

	"mailraft/mail"
)

// What a client declares without need must not keep its mail from a server
// that lacks the extension.
func TestDeclaredAndNeeded(t *testing.T) {
	both := mail.Envelope{ReversePath: "a@example.org", Recipients: []string{"b@example.test"}, UTF8: true, EightBit: true}
	for _, c := range []struct {
		name           string
		env            mail.Envelope
		header, body   bool
		utf8, eightBit bool
	}{
		{"plain", both, false, false, false, false},
		{"8-bit text", both, false, true, false, true},
		{"UTF-8 subject", both, true, true, true, true},
		{"UTF-8 recipient", mail.Envelope{Recipients: []string{"bü@example.test"}, UTF8: true}, false, false, true, false},
		{"UTF-8 sender", mail.Envelope{ReversePath: "ü@example.org", Recipients: []string{"b@example.test"}, UTF8: true}, false, false, true, false},
		{"not declared", mail.Envelope{Recipients: []string{"b@example.test"}}, true, true, false, false},
	} {
		needed(&c.env, c.header, c.body)
		if c.env.UTF8 != c.utf8 || c.env.EightBit != c.eightBit {
			t.Errorf("%s: got SMTPUTF8 %t, 8BITMIME %t; want %t, %t", c.name, c.env.UTF8, c.env.EightBit, c.utf8, c.eightBit)
		}
	}
}

func TestHeaderSeesHighBytes(t *testing.T) {
	for text, want := range map[string]bool{
		"Subject: plain\r\n\r\nübody\r\n":                   false,
		"Subject: grüße\r\n\r\nbody\r\n":                    true,
		"X: " + strings.Repeat("a", headerMax) + "\r\n\r\n": true, // too long to tell
	} {
		for cut := range 20 {
			var h header
			h.look([]byte(text[:cut]))
			h.look([]byte(text[cut:]))
			h.finish()
			if h.high != want {
				t.Errorf("%.30q cut at %d: got %t, want %t", text, cut, h.high, want)
			}
		}
	}
}

// Package handover is what a front end and a member say to each other: the
// requests by which a front end learns where mail may go, and the command by
// which it tells, before each transaction that it hands over, whose it is.
//
// It knows the words, and no connection. Who may say them is decided by the
// cluster port: only a front end's certificate opens these protocols, so nobody
// else can claim to be another client.
package handover

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Verb is the command. It is modelled on Postfix's XCLIENT: attributes with
// values in xtext (RFC 3461 §4). It resets the session, and holds for what
// follows until the next one.
const Verb = "XCLIENT"

// Client is who a transaction is from, as the front end knows it.
type Client struct {
	Session     string     // the front end's id of the session
	Address     netip.Addr // where it connected from; may be invalid: not known
	Helo        string
	Proto       string // SMTP or ESMTP, by HELO or EHLO
	TLS         bool
	Login       string // who it has shown to be, or empty
	Method      string // of AUTH, how it did so
	Certificate string // the name in its certificate that gave it the right to relay, or empty
	Role        string // of the listener that it came to
	Relay       bool   // it may send to recipients outside the boundary's domains
}

// ErrClient reports a malformed command.
var ErrClient = errors.New("malformed attributes of a client")

// Line is the command.
func (c Client) Line() string {
	var b strings.Builder
	b.WriteString(Verb)
	add := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%s", name, xtext(value))
		}
	}
	add("ID", c.Session)
	if c.Address.IsValid() {
		add("ADDR", c.Address.String())
	}
	add("HELO", c.Helo)
	add("PROTO", c.Proto)
	if c.TLS {
		add("TLS", "1")
	}
	add("LOGIN", c.Login)
	add("METHOD", c.Method)
	add("CERT", c.Certificate)
	add("ROLE", c.Role)
	if c.Relay {
		add("RELAY", "1")
	}
	return b.String()
}

// Parse reads what follows the verb. Attributes that are not known are an
// error: who says them means something by them.
func Parse(args string) (c Client, err error) {
	for _, word := range strings.Fields(args) {
		name, value, ok := strings.Cut(word, "=")
		if value, err = unxtext(value); err != nil || !ok || value == "" {
			return Client{}, ErrClient
		}
		switch name {
		case "ID":
			c.Session = value
		case "ADDR":
			if c.Address, err = netip.ParseAddr(value); err != nil || c.Address.Zone() != "" {
				return Client{}, ErrClient
			}
		case "HELO":
			c.Helo = value
		case "PROTO":
			c.Proto = value
		case "TLS":
			c.TLS = true
		case "LOGIN":
			c.Login = value
		case "METHOD":
			c.Method = value
		case "CERT":
			c.Certificate = value
		case "ROLE":
			c.Role = value
		case "RELAY":
			c.Relay = true
		default:
			return Client{}, ErrClient
		}
	}
	return c, nil
}

const hexDigits = "0123456789ABCDEF"

// xtext writes what is no plain character as +XX (RFC 3461 §4).
func xtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c > ' ' && c < 0x7f && c != '+' && c != '=' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'+', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

func unxtext(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			if i+2 >= len(s) {
				return "", ErrClient
			}
			h, l := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
			if h < 0 || l < 0 {
				return "", ErrClient
			}
			b.WriteByte(byte(h<<4 | l))
			i += 2
		case c > ' ' && c < 0x7f && c != '=':
			b.WriteByte(c)
		default:
			return "", ErrClient
		}
	}
	return b.String(), nil
}

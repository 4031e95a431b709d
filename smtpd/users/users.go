// Package users knows who may send mail by AUTH: from a file with argon2id
// hashes, or by asking Dovecot. It owns the file's format, the hashes, and the
// protocol of Dovecot's socket.
//
// It knows no SMTP, and counts no failures: how often somebody may try, and
// how long he waits for an answer, is for whoever asks to say.
package users

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// Login is what a client says of itself.
type Login struct {
	Name     string
	Password string
	Client   netip.Addr // where from; may be the zero value
}

// User is who a client has proved to be.
type User struct {
	Name string
	// Senders are what it may send as besides its own address: addresses,
	// "@domain" for all of a domain, "*" for everything.
	Senders []string
}

// ErrDenied reports a wrong password, or a name that nobody has: which of the
// two is not told. Every other error says that nobody knows at the moment.
var ErrDenied = errors.New("wrong name or password")

// Limits in octets: RFC 4616 §2 has 255 characters for each.
const (
	nameMax     = 255
	passwordMax = 1024
)

// MaySendAs reports whether the user may have address as the reverse-path. Its
// own address is its name, in domain if that is no address by itself. Case does
// not matter.
func (u User) MaySendAs(address, domain string) bool {
	own := u.Name
	if !strings.Contains(own, "@") {
		own += "@" + domain
	}
	at := strings.LastIndexByte(address, '@') // in front of it may be a quoted string
	return strings.EqualFold(own, address) || slices.ContainsFunc(u.Senders, func(s string) bool {
		return s == "*" || strings.EqualFold(s, address) || strings.HasPrefix(s, "@") && at >= 0 && strings.EqualFold(s, address[at:])
	})
}

// validName: what may stand in the file, in a log and in Dovecot's protocol.
func validName(s string) bool {
	return s != "" && len(s) <= nameMax && s[0] != '#' && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r == ':' || r >= 0x7f && r < 0xa0
	}) < 0
}

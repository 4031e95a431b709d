package mail

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Address is a mailbox in its parts: the local part decoded (no quotes, no
// backslashes), the domain as given, without a trailing dot.
type Address struct {
	Local  string
	Domain string // may be empty only for postmaster (RFC 5321 §4.5.1)
}

// ErrAddress reports text that is not a mailbox by RFC 5321 §4.1.2.
var ErrAddress = errors.New("malformed address")

// Limits of RFC 5321 §4.5.3.1, in octets.
const (
	localMax  = 64
	domainMax = 255
	pathMax   = 254 // 256 with the angle brackets
)

// ParseAddress reads a mailbox without angle brackets: a dot-string or a
// quoted string, "@", and a domain or an address literal. UTF-8 is allowed in
// both (RFC 6531); whether the session may use it is not decided here.
// Control bytes are refused everywhere, quoted or not.
func ParseAddress(s string) (Address, error) {
	if len(s) > pathMax || !utf8.ValidString(s) {
		return Address{}, ErrAddress
	}
	if strings.EqualFold(s, "postmaster") {
		return Address{Local: s}, nil
	}
	local, rest, ok := parseLocal(s)
	if !ok || len(local) > localMax || !strings.HasPrefix(rest, "@") {
		return Address{}, ErrAddress
	}
	domain := strings.TrimSuffix(rest[1:], ".")
	if !validDomain(domain) {
		return Address{}, ErrAddress
	}
	return Address{Local: local, Domain: domain}, nil
}

// String is the address as it may stand between angle brackets: the local
// part is quoted whenever it is not a dot-string, so that a decoded ">" or
// space never reaches a peer raw.
func (a Address) String() string {
	if a.Domain == "" {
		return quoteLocal(a.Local)
	}
	return quoteLocal(a.Local) + "@" + a.Domain
}

// UTF8 reports whether the address needs SMTPUTF8.
func (a Address) UTF8() bool { return !ascii(a.Local) || !ascii(a.Domain) }

func parseLocal(s string) (local, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexByte(s, '@')
		if i <= 0 || !dotString(s[:i]) {
			return "", "", false
		}
		return s[:i], s[i:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], b.Len() > 0
		case c == '\\' && i+1 < len(s) && s[i+1] >= ' ' && s[i+1] < 0x7f:
			i++
			b.WriteByte(s[i])
		case c == '\\' || c < ' ' || c == 0x7f:
			return "", "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

func quoteLocal(s string) string {
	if dotString(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// dotString: RFC 5321 §4.1.2 Dot-string, with UTF-8 as in RFC 6531 §3.3.
func dotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := 0; i < len(atom); i++ {
			c := atom[i]
			if c <= ' ' || c == 0x7f || strings.IndexByte(`()<>[]:;@\,"`, c) >= 0 {
				return false
			}
		}
	}
	return true
}

func validDomain(d string) bool {
	if d == "" || len(d) > domainMax {
		return false
	}
	if d[0] == '[' {
		return len(d) > 2 && d[len(d)-1] == ']' && ascii(d) && !strings.ContainsAny(d[1:len(d)-1], "[]\\ <>@\"") && printable(d)
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if c < 0x80 && c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

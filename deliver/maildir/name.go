package maildir

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"mailraft/mail"
)

// nameMax leaves room below the 255 bytes that file systems allow.
const nameMax = 200

// shortName is the folder of a mailbox that is the only one of its local
// part in this copy: "alice". It never contains "@".
func shortName(a mail.Address) string { return fit(encode(fold(a.Local))) }

// longName is the folder of a further mailbox with the same local part:
// "alice@example.org". The "@" is the only one in it, so that no short name
// equals a long one.
func longName(a mail.Address) string {
	return fit(encode(fold(a.Local)) + "@" + encode(fold(a.Domain)))
}

// identity is what makes two addresses one mailbox: ASCII case does not count.
// More is not folded, since other letters fold together in ways that differ
// between systems, and two mailboxes must never become one.
func identity(a mail.Address) string {
	return mail.Address{Local: fold(a.Local), Domain: fold(a.Domain)}.String()
}

// encode keeps what is harmless in a file name everywhere and writes any
// other byte as %xx, a leading dot among them: no "..", no separator, no NUL,
// no upper case (file systems may fold it), no dot folder.
func encode(s string) string {
	const hexDigits = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' ||
			i > 0 && (c == '.' || c == '-') || c == '_' || c == '+' || c == '='
		if plain {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

// fit cuts a long name and ends it with its hash. "%-" stands in no encoded
// name, so a cut name equals no whole one.
func fit(name string) string {
	if len(name) <= nameMax {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := "%-" + hex.EncodeToString(sum[:16])
	return name[:nameMax-len(tail)] + tail
}

func fold(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

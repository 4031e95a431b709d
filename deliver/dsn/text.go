package dsn

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// line keeps text on one line.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// ascii is line without anything beyond printable ASCII.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
}

// wide reports text beyond ASCII.
func wide(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) }

// addrXtext is utf-8-addr-xtext: an address in ASCII (RFC 6533 §3).
func addrXtext(s string) string {
	var b strings.Builder
	for _, r := range line(s) {
		if r <= ' ' || r >= 0x7f || r == '+' || r == '=' || r == '\\' {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// fold breaks a long value at spaces (RFC 5322 §2.2.3).
func fold(s string) string {
	var b strings.Builder
	width := 30 // the field's name
	for i, word := range strings.Split(s, " ") {
		if i > 0 {
			if width+len(word) > 76 {
				b.WriteString("\r\n")
				width = 0
			}
			b.WriteByte(' ')
		}
		b.WriteString(word)
		width += len(word) + 1
	}
	return b.String()
}

// plain text needs no encoding: ASCII lines of at most 998 bytes (RFC 5322 §2.1.1).
func plain(b []byte) bool {
	for l := range bytes.Lines(b) {
		if len(l) > 1000 || bytes.ContainsFunc(l, func(r rune) bool { return r >= 0x80 || r == 0 }) {
			return false
		}
	}
	return true
}

// portable text may stand in a message that is not encoded: lines of at most
// 998 bytes that end in CRLF, no NUL.
func portable(b []byte) bool {
	for l := range bytes.Lines(b) {
		if len(l) > 1000 || !bytes.HasSuffix(l, []byte("\r\n")) || bytes.IndexByte(l, 0) >= 0 || bytes.IndexByte(l, '\r') != len(l)-2 {
			return false
		}
	}
	return true
}

// validReference keeps a Message-ID that can stand in our header.
func validReference(id string) bool {
	return len(id) > 2 && len(id) < 250 && id[0] == '<' && id[len(id)-1] == '>' && ascii(id) == id && !strings.ContainsAny(id, " ")
}

package mail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// FieldPart says what a part of a message is, see FieldScanner.
type FieldPart uint8

// The parts.
const (
	PartNone      FieldPart = iota // too little is known yet
	PartField                      // the beginning of a header field
	PartMore                       // more of that field: the rest of its line, continuations
	PartSeparator                  // the empty line behind the header
	PartBody                       // what follows; or what cannot be a header, and ends it without an empty line
)

// FieldScanner cuts a message that comes in pieces into header fields and body
// (RFC 5322 §2.1). It holds no more than the beginning of one line. Whoever
// counts the fields of a stored header counts them with it, so that all come
// to the same numbers.
type FieldScanner struct {
	Fields int // begun so far

	head []byte // of a line that is not decided yet
	open bool   // within a line that is
	body bool
}

// fieldHead bounds the name of a field: a longer one is none.
const fieldHead = 256

// Next cuts the first part off p. It is valid until the next call; what is left
// is for that one. PartNone: p is used up.
func (s *FieldScanner) Next(p []byte) (kind FieldPart, part, rest []byte) {
	if s.body || len(p) == 0 {
		if len(p) == 0 {
			return PartNone, nil, nil
		}
		return PartBody, p, nil
	}
	line := p
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		line = p[:i+1]
	}
	if s.open {
		s.open = !ended(line)
		return PartMore, line, p[len(line):]
	}
	if len(s.head) == 0 && (ended(line) || decided(line)) {
		return s.decide(line), line, p[len(line):]
	}
	n := min(len(line), fieldHead-len(s.head))
	s.head = append(s.head, line[:n]...)
	if line = s.head; !ended(line) && !decided(line) {
		return PartNone, nil, nil
	}
	s.head = s.head[:0]
	return s.decide(line), line, p[n:]
}

// End is called at the end of the message, for what is still undecided.
func (s *FieldScanner) End() (kind FieldPart, part []byte) {
	if len(s.head) == 0 {
		return PartNone, nil
	}
	part, s.head = s.head, nil
	return s.decide(part), part
}

// Header reports whether the header goes on.
func (s *FieldScanner) Header() bool { return !s.body }

func (s *FieldScanner) decide(line []byte) FieldPart {
	switch {
	case s.Fields > 0 && blank(line[0]):
		s.open = !ended(line)
		return PartMore
	case fieldName(line) > 0:
		s.Fields++
		s.open = !ended(line)
		return PartField
	}
	s.body = true
	if len(bytes.TrimRight(line, "\r\n")) == 0 && ended(line) {
		return PartSeparator
	}
	return PartBody
}

func ended(line []byte) bool { return len(line) > 0 && line[len(line)-1] == '\n' }

func blank(c byte) bool { return c == ' ' || c == '\t' }

// decided reports whether the beginning of a line is enough to tell what it is.
func decided(line []byte) bool {
	if len(line) >= fieldHead || blank(line[0]) {
		return true
	}
	i := 0
	for i < len(line) && nameByte(line[i]) {
		i++
	}
	for i > 0 && i < len(line) && blank(line[i]) {
		i++
	}
	return i < len(line) && (line[i] != '\r' || i > 0)
}

// fieldName is the length of the name that a line begins with; zero: it does
// not begin a field. Space before the colon is what RFC 5322 §4.5 lets pass.
func fieldName(line []byte) int {
	line = line[:min(len(line), fieldHead)]
	n := 0
	for n < len(line) && nameByte(line[n]) {
		n++
	}
	i := n
	for i < len(line) && blank(line[i]) {
		i++
	}
	if i >= len(line) || line[i] != ':' {
		return 0
	}
	return n
}

func nameByte(c byte) bool { return c > ' ' && c < 0x7f && c != ':' }

// ErrField reports text that must not become a header field.
var ErrField = errors.New("not a header field")

// fieldLine bounds a line of a field that is added (RFC 5322 §2.1.1).
const fieldLine = 998

// Field is a header field as it is written, with CRLF. Lines of the value may
// end in LF or CRLF. Whatever could end the field within the value (RFC 5322
// §2.2.3), so that it became two, or the header, is refused.
func Field(name, value string) (string, error) {
	value = strings.TrimRight(strings.ReplaceAll(value, "\r\n", "\n"), "\n")
	text := name + ":" + strings.ReplaceAll(value, "\n", "\r\n") + "\r\n"
	if len(name) == 0 || len(name) > fieldHead/2 || fieldName([]byte(text)) != len(name) || text[len(name)] != ':' {
		return "", fmt.Errorf("name %.40q: %w", name, ErrField)
	}
	if n, err := fields(text); err != nil || n != 1 {
		return "", fmt.Errorf("value of %.40q: %w", name, ErrField)
	}
	return text, nil
}

// fields counts the fields of a text that is nothing but whole fields.
func fields(text string) (n int, err error) {
	for len(text) > 0 {
		line, rest, ok := strings.Cut(text, "\r\n")
		switch {
		case !ok || len(line) > fieldLine || strings.ContainsAny(line, "\r\n\x00"):
			return n, ErrField
		case n > 0 && line != "" && blank(line[0]) && strings.Trim(line, " \t") != "":
		case fieldName([]byte(line)) > 0:
			n++
		default:
			return n, ErrField
		}
		text = rest
	}
	return n, nil
}

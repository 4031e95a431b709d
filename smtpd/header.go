package smtpd

import (
	"bytes"
	"encoding/binary"
	"strings"

	"mailraft/mail"
)

// headerMax bounds how far the header is looked at.
const headerMax = 64 << 10

// fieldMax bounds a field's value: mail.Fields are in the entry.
const fieldMax = 998

// header watches a message go by: it finds the fields that views and filters
// need, and counts the Received fields. It keeps one field at a time.
type header struct {
	fields mail.Fields
	hops   int
	own    func(host string) bool // nil: nobody's
	ours   int                    // hops that were members of this boundary
	high   bool                   // a byte above 127 is in it, or it is too long to tell

	seen int
	done bool
	line []byte // the present line, cut
	name string // of the field that is open
	text []byte // its value, unfolded, cut
}

// look sees the next piece. Line ends are CRLF by now, or LF passed on.
func (h *header) look(p []byte) {
	for !h.done && len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		part, whole := p, i >= 0
		if whole {
			part = p[:i]
		}
		h.high = h.high || highBit(part)
		h.line = append(h.line, part[:min(len(part), fieldMax+100-len(h.line))]...)
		h.seen += len(part) + 1
		if h.seen > headerMax {
			h.high = true
			h.finish()
			return
		}
		if !whole {
			return
		}
		p = p[i+1:]
		h.endLine(bytes.TrimSuffix(h.line, []byte("\r")))
		h.line = h.line[:0]
	}
}

// endLine sees a whole line: a continuation, a new field, or the header's end.
func (h *header) endLine(line []byte) {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		h.text = append(h.text, line[:min(len(line), fieldMax-min(fieldMax, len(h.text)))]...)
		return
	}
	h.endField()
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		h.finish() // the empty line, or no header at all
		return
	}
	h.name = strings.ToLower(string(bytes.TrimRight(name, " \t")))
	h.text = append(h.text[:0], value...)
}

func (h *header) endField() {
	keep := func(s *string) {
		if *s == "" { // the first one counts
			*s = clean(string(h.text), fieldMax)
		}
	}
	switch h.name {
	case "received":
		h.hops++
		if h.own != nil && h.own(receivedBy(string(h.text))) {
			h.ours++
		}
	case "message-id":
		keep(&h.fields.MessageID)
	case "date":
		keep(&h.fields.Date)
	case "subject":
		keep(&h.fields.Subject)
	}
	h.name = ""
}

// receivedBy is the host that wrote a Received field; empty if it does not say.
func receivedBy(value string) string {
	words := strings.Fields(value)
	for i, w := range words[:max(len(words)-1, 0)] {
		if strings.EqualFold(w, "by") {
			return strings.TrimRight(words[i+1], ";")
		}
	}
	return ""
}

// finish ends the header, also where the message ends within it.
func (h *header) finish() {
	if h.done {
		return
	}
	h.endField()
	h.done, h.line, h.text = true, nil, nil
}

// clean makes text from outside fit for an entry, a log and a reply: valid
// UTF-8 without control characters, and at most max bytes.
func clean(s string, max int) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s))
	if len(s) > max {
		s = strings.ToValidUTF8(s[:max], "") // a rune cut in two
	}
	return s
}

// replyText is ASCII: the client may not have asked for more (RFC 6531 §3.7.4).
func replyText(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x80 {
			return '?'
		}
		return r
	}, s)
}

// highBit reports whether a byte above 127 is in p.
func highBit(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p)&0x8080808080808080 != 0 {
			return true
		}
		p = p[8:]
	}
	for _, b := range p {
		if b >= 0x80 {
			return true
		}
	}
	return false
}

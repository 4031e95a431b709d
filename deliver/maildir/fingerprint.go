package maildir

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"slices"
)

type fingerprint [sha256.Size]byte

var messageID = []byte("message-id")

// traceFields differ between two deliveries of one message, and are left
// out of its fingerprint.
var traceFields = [][]byte{[]byte("return-path"), []byte("delivered-to"), []byte("received"), []byte("x-mailraft-resubmit")}

// lineHead is enough of a line to tell the name of its field.
const lineHead = 64

// fingerprinter hashes a message below its trace fields, as it is written:
// Message-ID and Date are in the hash like all else that stays the same.
// Memory is bounded, however long the lines are.
type fingerprinter struct {
	sum    hash.Hash
	head   []byte // beginning of the present line, until it is decided
	inLine bool   // the present line is decided
	inBody bool
	skip   bool // the present field is a trace field
	inID   bool // the present field is Message-ID
	id     bool // a Message-ID field has a value
}

func newFingerprinter() *fingerprinter {
	return &fingerprinter{sum: sha256.New(), head: make([]byte, 0, lineHead)}
}

// Write implements io.Writer; it never fails.
func (p *fingerprinter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && !p.inBody {
		i := bytes.IndexByte(b, '\n') + 1
		ends := i > 0
		if !ends {
			i = len(b)
		}
		p.piece(b[:i], ends)
		b = b[i:]
	}
	p.sum.Write(b)
	return n, nil
}

// piece takes a part of one header line; ends says that the line ends with it.
func (p *fingerprinter) piece(b []byte, ends bool) {
	if !p.inLine {
		take := min(len(b), lineHead-len(p.head))
		p.head, b = append(p.head, b[:take]...), b[take:]
		if !ends && len(p.head) < lineHead {
			return
		}
		p.decide()
	}
	p.keep(b)
	if ends {
		p.inLine, p.head = false, p.head[:0]
	}
}

// decide looks at the head of a line: the end of the header, a continuation
// (RFC 5322 §2.2.3) that shares the fate of its field, or a new field.
func (p *fingerprinter) decide() {
	p.inLine = true
	line := bytes.TrimRight(p.head, "\r\n")
	switch {
	case len(line) == 0:
		p.inBody, p.skip, p.inID = true, false, false
	case line[0] != ' ' && line[0] != '\t':
		name, _, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		p.skip = slices.ContainsFunc(traceFields, func(f []byte) bool { return bytes.EqualFold(f, name) })
		if p.inID = ok && bytes.EqualFold(name, messageID); p.inID {
			colon := bytes.IndexByte(line, ':') + 1
			p.sum.Write(line[:colon]) // the name is no value
			p.keep(p.head[colon:])
			return
		}
	}
	p.keep(p.head)
}

func (p *fingerprinter) keep(b []byte) {
	if p.skip {
		return
	}
	p.sum.Write(b)
	p.id = p.id || p.inID && len(bytes.TrimSpace(b)) > 0
}

// result is the fingerprint of all that was written, and whether it may be
// compared with others: never without a Message-ID.
func (p *fingerprinter) result() (fp fingerprint, ok bool) {
	if !p.inLine && !p.inBody && len(p.head) > 0 {
		p.decide()
	}
	p.sum.Sum(fp[:0])
	return fp, p.id
}

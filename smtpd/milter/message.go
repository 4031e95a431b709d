package milter

import (
	"bytes"
	"strings"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// What filters are shown of a header. libmilter takes no field above 64 KiB.
const (
	fieldMax  = 60 << 10
	headerMax = 256 << 10
)

// message is one message on its way past the filters.
type message struct {
	id         string
	discarded  string      // the filter that wants it to vanish
	quarantine string      // why it is to be set aside
	away       *mail.Reply // given for want of a filter

	scan   mail.FieldScanner
	field  []byte     // the field that is open
	fields []received // those before it
	header int        // bytes of it
	ended  bool       // filters know that the header has
	bare   bool       // a body follows it without an empty line
	body   []byte     // not sent yet
	size   int64

	result Result
	edited *header // nil: nobody has changed it
}

// received is a field of the header as it came.
type received struct {
	name string
	size int // bytes with the line end
}

// idle reports that nobody looks at the message any more.
func (s *Session) idle() bool {
	for _, p := range s.peers {
		if !p.pass {
			return false
		}
	}
	return true
}

// Write shows filters the next piece of the message. It keeps nothing of p.
func (s *Session) Write(p []byte) (int, error) {
	n := len(p)
	if s == nil || s.idle() {
		return n, nil
	}
	s.size += int64(n)
	for _, p := range s.peers {
		if p.f.cfg.SizeMax > 0 && s.size > p.f.cfg.SizeMax && !p.pass {
			p.tooLarge()
		}
	}
	for len(p) > 0 {
		kind, part, rest := s.scan.Next(p)
		if err := s.part(kind, part); err != nil {
			return 0, err
		}
		p = rest
	}
	return n, nil
}

func (s *Session) part(kind mail.FieldPart, part []byte) error {
	switch kind {
	case mail.PartNone:
		return nil
	case mail.PartField, mail.PartMore:
		if kind == mail.PartField {
			if err := s.endField(); err != nil {
				return err
			}
		}
		s.field = append(s.field, part...)
		if s.header += len(part); s.header > headerMax || len(s.field) > fieldMax {
			return reply.FilterHeader.Reply()
		}
		return nil
	}
	if !s.ended {
		s.bare = kind == mail.PartBody
		if err := s.endHeader(); err != nil {
			return err
		}
	}
	if kind == mail.PartSeparator {
		return nil
	}
	return s.text(part)
}

// endField shows filters the field that is open. Its lines end in LF, as all
// senders of this protocol have it.
func (s *Session) endField() error {
	if len(s.field) == 0 {
		return nil
	}
	name, value, _ := bytes.Cut(s.field, []byte(":"))
	f := received{name: string(bytes.TrimRight(name, " \t")), size: len(s.field)}
	s.fields = append(s.fields, f)
	text := strings.ReplaceAll(strings.TrimRight(string(value), "\r\n"), "\r\n", "\n")
	s.field = s.field[:0]
	return s.each(func(p *peer) error {
		if p.c != nil && p.c.steps&leadingSpace == 0 {
			return p.ask(cmdHeader, texts(f.name, strings.TrimPrefix(text, " ")), nil)
		}
		return p.ask(cmdHeader, texts(f.name, text), nil)
	})
}

func (s *Session) endHeader() error {
	if err := s.endField(); err != nil {
		return err
	}
	s.ended, s.field = true, nil
	return s.each(func(p *peer) error { return p.ask(cmdEOH, nil, []string{"i", s.id}) })
}

// text gathers the body into pieces as large as may be: each costs a way to the
// filter and back.
func (s *Session) text(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), chunkMax-len(s.body))
		s.body = append(s.body, p[:n]...)
		p = p[n:]
		if len(s.body) == chunkMax {
			if err := s.chunk(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Session) chunk() error {
	piece := s.body
	s.body = s.body[:0]
	if len(piece) == 0 {
		return nil
	}
	return s.each(func(p *peer) error {
		if p.skip {
			return nil
		}
		return p.ask(cmdBody, piece, nil)
	})
}

// Result is what filters make of a message that they let pass.
type Result struct {
	Discarded     string // the filter that wants it to vanish: it is answered 250, and not kept
	Quarantine    string // why it is to be set aside; empty: it is not
	SenderChanged bool
	Sender        string            // then: an address, or empty
	Recipients    []RecipientChange // in order
	Overlay       *mail.Overlay     // of the header; nil: nothing changed
	Filtered      []string          // what each filter did, in words
}

// RecipientChange is a recipient that a filter adds or removes.
type RecipientChange struct {
	Filter string
	Remove bool
	Addr   mail.Address
}

// End is called when the whole message was written: what filters make of it.
func (s *Session) End() (Result, error) {
	if s == nil {
		return Result{}, nil
	}
	if !s.idle() {
		if err := s.end(); err != nil {
			return Result{}, err
		}
	}
	s.body = nil
	r := s.result
	r.Discarded, r.Quarantine = s.discarded, s.quarantine
	if s.edited != nil {
		r.Overlay = s.edited.overlay(s.bare)
	}
	return r, nil
}

func (s *Session) end() error {
	if err := s.part(s.scan.End()); err != nil {
		return err
	}
	if !s.ended {
		if err := s.endHeader(); err != nil {
			return err
		}
	}
	if err := s.chunk(); err != nil {
		return err
	}
	return s.each(func(p *peer) error {
		changes, err := p.end([]string{"i", s.id})
		if err != nil {
			return err
		}
		if p.discards {
			return nil
		}
		return s.apply(p, changes)
	})
}

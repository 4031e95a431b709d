package milter

import (
	"encoding/binary"
	"fmt"
	"strings"

	"mailraft/mail"
)

// change is what a filter asks for at the end of a message.
type change struct {
	code byte
	data []byte
}

// changesMax bounds what one filter may ask for, in bytes.
const changesMax = 256 << 10

// isChange reports whether a packet is a change, allowed or not ('b' replaces
// the body, which was not offered).
func isChange(code byte) bool {
	switch code {
	case rspAddRcpt, rspAddRcptArgs, rspDeleteRcpt, rspChangeSender, rspAddHeader, rspInsertHeader, rspChangeHeader, rspQuarantine, 'b':
		return true
	}
	return false
}

// apply takes over what a filter asks for: all of it, or nothing if one thing
// cannot be. Then the filter counts as one that failed, since mail with half of
// what it wanted is not what it let pass.
func (s *Session) apply(p *peer, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	r, quarantine := s.result, s.quarantine
	edited := s.edited.clone(s.fields)
	headers := 0
	var did []string
	for _, c := range changes {
		var err error
		text := cstring(c.data)
		switch c.code {
		case rspAddRcpt, rspAddRcptArgs:
			err = r.recipient(p, text, false)
			did = append(did, "recipient added: "+text)
		case rspDeleteRcpt:
			err = r.recipient(p, text, true)
			did = append(did, "recipient removed: "+text)
		case rspChangeSender:
			err = r.sender(text)
			did = append(did, "sender changed to "+text)
		case rspQuarantine:
			if quarantine == "" {
				quarantine = plain(p.f.Name()+": "+text, textMax)
			}
			did = append(did, "quarantine")
		case rspAddHeader, rspInsertHeader, rspChangeHeader:
			err = edited.change(p, c)
			headers++
		default:
			err = fmt.Errorf("change %q, which was not offered: %w", c.code, errProtocol)
		}
		if err != nil {
			return err
		}
	}
	if headers > 0 {
		if err := edited.overlay(s.bare).Check(); err != nil {
			return err
		}
		s.edited = edited
		did = append(did, fmt.Sprintf("header changes: %d", headers))
	}
	r.Filtered = append(r.Filtered, plain(p.f.Name()+": "+strings.Join(did, ", "), textMax))
	if s.result = r; s.quarantine != quarantine {
		s.quarantine = quarantine
		p.count("quarantine")
	}
	p.count("change")
	return nil
}

// textMax bounds what is kept of a filter's words.
const textMax = 300

func cstring(b []byte) string {
	text, _, _ := strings.Cut(string(b), "\x00")
	return text
}

// bracketed is the address between the brackets that some filters leave out.
func bracketed(s string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "<"), ">")
}

// recipient notes a recipient to be added or removed. One to remove that is no
// address is none of the message's either.
func (r *Result) recipient(p *peer, text string, remove bool) error {
	addr, err := mail.ParseAddress(bracketed(text))
	if err != nil {
		if remove {
			return nil
		}
		return fmt.Errorf("recipient %.100q to be added: %w", text, err)
	}
	r.Recipients = append(r.Recipients[:len(r.Recipients):len(r.Recipients)], RecipientChange{p.f.Name(), remove, addr})
	return nil
}

func (r *Result) sender(text string) error {
	text = bracketed(text)
	r.SenderChanged, r.Sender = true, ""
	if text == "" {
		return nil
	}
	addr, err := mail.ParseAddress(text)
	if err != nil {
		return fmt.Errorf("sender %.100q: %w", text, err)
	}
	r.Sender = addr.String()
	return nil
}

// header is a header with what filters have changed so far. Each filter counts
// in what it was shown: the fields as received, with its own changes. Those of
// other filters are invisible to it.
type header struct {
	list   []entry
	fields []received
}

type entry struct {
	at      int   // a received field, by its number; below zero: one that was added
	by      *peer // who added it
	name    string
	text    string // what it is now; empty: as received
	dropped []*peer
}

// clone is a copy that may be changed; of a header that nobody has changed yet
// it is the header as received.
func (h *header) clone(fields []received) *header {
	c := &header{fields: fields}
	if h != nil {
		c.list = append(c.list, h.list...)
		return c
	}
	for i, f := range fields {
		c.list = append(c.list, entry{at: i, name: f.name})
	}
	return c
}

// sees reports whether a filter counts an entry.
func (e *entry) sees(p *peer) bool {
	for _, who := range e.dropped {
		if who == p {
			return false
		}
	}
	return e.at >= 0 || e.by == p
}

// change does one change of the header.
func (h *header) change(p *peer, c change) error {
	data, index := c.data, 0
	if c.code != rspAddHeader {
		if len(data) < 4 {
			return fmt.Errorf("change %q of %d bytes: %w", c.code, len(data), errProtocol)
		}
		index, data = int(min(binary.BigEndian.Uint32(data), 1<<30)), data[4:]
	}
	name, value, ok := strings.Cut(string(data), "\x00")
	if !ok {
		return fmt.Errorf("change %q without a value: %w", c.code, errProtocol)
	}
	value = cstring([]byte(value))
	if c.code == rspChangeHeader && value == "" {
		h.remove(p, name, index)
		return nil
	}
	if p.c == nil || p.c.steps&leadingSpace == 0 {
		value = " " + value
	}
	text, err := mail.Field(name, value)
	if err != nil {
		return err
	}
	switch c.code {
	case rspChangeHeader:
		h.replace(p, name, index, text)
	case rspInsertHeader:
		h.insert(h.place(p, index), entry{at: -1, by: p, name: name, text: text})
	default:
		h.insert(len(h.list), entry{at: -1, by: p, name: name, text: text})
	}
	return nil
}

// find is the index-th field of a name, counted from 1; -1: there is none.
func (h *header) find(p *peer, name string, index int) int {
	for i := range h.list {
		if e := &h.list[i]; strings.EqualFold(e.name, name) && e.sees(p) {
			if index--; index <= 0 {
				return i
			}
		}
	}
	return -1
}

// replace changes a field; one that is not there is added, as Postfix and
// Sendmail do.
func (h *header) replace(p *peer, name string, index int, text string) {
	i := h.find(p, name, index)
	if i < 0 {
		h.insert(len(h.list), entry{at: -1, by: p, name: name, text: text})
		return
	}
	h.list[i].text, h.list[i].dropped = text, nil // also if another had removed it
}

func (h *header) remove(p *peer, name string, index int) {
	i := h.find(p, name, index)
	if i < 0 {
		return
	}
	e := &h.list[i]
	e.dropped = append(e.dropped[:len(e.dropped):len(e.dropped)], p)
}

// place is where a filter's index lies. It counts our Received field, which is
// above all and is not shown to it, as 0. Nothing goes above that one.
func (h *header) place(p *peer, index int) int {
	if index <= 1 {
		return 0
	}
	for i := range h.list {
		if h.list[i].sees(p) {
			if index--; index == 0 {
				return i
			}
		}
	}
	return len(h.list)
}

func (h *header) insert(i int, e entry) {
	h.list = append(h.list[:i:i], append([]entry{e}, h.list[i:]...)...)
}

// overlay is all changes together, by the numbers of the received fields.
func (h *header) overlay(bare bool) *mail.Overlay {
	o := &mail.Overlay{}
	var text strings.Builder
	put := func(at int, drop bool) {
		if drop || text.Len() > 0 {
			o.Edits = append(o.Edits, mail.Edit{At: at, Drop: drop, Text: text.String()})
			o.Grown += int64(text.Len())
		}
		if drop {
			o.Grown -= int64(h.fields[at].size)
		}
		text.Reset()
	}
	for i := range h.list {
		e := &h.list[i]
		gone := len(e.dropped) > 0
		if !gone {
			text.WriteString(e.text)
		}
		if e.at >= 0 {
			put(e.at, gone || e.text != "")
		}
	}
	put(len(h.fields), false)
	switch {
	case len(o.Edits) == 0:
		return nil
	case bare: // Over puts an empty line where there was none
		o.Grown += 2
	}
	return o
}

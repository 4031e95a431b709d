package wire

import (
	"io"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// Message is one message on its way in, by DATA or by BDAT.
type Message struct {
	c       *Conn
	pace    pace
	clean   cleaner
	sizeMax int64
	size    int64 // of what Next has returned
	err     error // what Next ended with
	ended   bool  // nothing of the message is left to read

	dots dots // DATA

	chunked  bool        // BDAT
	told     *mail.Reply // see Tell
	left     int64
	chunk    int64 // size of the present chunk
	received int64 // all chunks
	last     bool
}

// Begin starts the message inside Session.Data. Until Next is called the
// client has not been told to go ahead (DATA), and an error that Data returns
// is the answer to its command.
func (c *Conn) Begin() *Message {
	m := &Message{c: c, pace: c.newPace(), sizeMax: c.cfg.sizeMax(), clean: cleaner{policy: c.cfg.Bare}}
	if c.verb == "BDAT" {
		m.chunked = true
		m.take(c.chunk, c.last)
		c.chunk = 0
	}
	c.msg = m
	return m
}

// Size is the number of bytes that Next has returned.
func (m *Message) Size() int64 { return m.size }

// Tell has the next chunk that is not the last answered so.
func (m *Message) Tell(r *mail.Reply) { m.told = r }

// Next returns the next piece of the message without transparency, valid until
// the next call. io.EOF, and nothing but io.EOF, means that the client has
// sent the message to its end.
func (m *Message) Next() ([]byte, error) {
	if m.c.goAhead != nil {
		m.c.out = append(m.c.out, m.c.goAhead...)
		m.c.goAhead = nil
	}
	m.c.grow()
	for m.err == nil {
		p, err := m.piece()
		if err == io.EOF {
			p, err = m.clean.end(), m.complete()
		} else if err == nil {
			p = m.clean.text(p)
		}
		m.err = err
		m.size += int64(len(p))
		switch {
		case err != nil && err != io.EOF:
		case m.sizeMax > 0 && m.size > m.sizeMax:
			m.err = ErrTooLarge
		case m.clean.bare && m.clean.policy == Reject:
			m.err = ErrBare
		case len(p) > 0:
			return p, nil
		}
	}
	return nil, m.err
}

// complete sends what was answered so far, which the client should not have to
// wait for until the message is committed. If it is gone it will send the
// message again, and this one is better forgotten.
func (m *Message) complete() error {
	if m.c.flush(m.c.cfg.Timeouts.Write) != nil {
		return ErrLost
	}
	return io.EOF
}

// piece returns what the client sent, decoded; io.EOF is the end of it.
func (m *Message) piece() (p []byte, err error) {
	if m.ended {
		return nil, io.EOF
	}
	if m.chunked {
		p, err = m.chunkPiece()
	} else {
		p, err = m.dataPiece()
	}
	m.ended = err != nil
	return p, err
}

func (m *Message) dataPiece() ([]byte, error) {
	for {
		text, used, end := m.dots.step(m.c.unread())
		m.c.r += used
		switch {
		case end:
			return nil, io.EOF
		case used > 0:
			return text, nil
		}
		if err := m.c.fillBody(&m.pace); err != nil {
			return nil, err
		}
	}
}

// take begins a chunk.
func (m *Message) take(size int64, last bool) { m.left, m.chunk, m.last = size, size, last }

func (m *Message) chunkPiece() ([]byte, error) {
	for m.left == 0 || m.tooLarge() {
		switch {
		case m.tooLarge():
			return nil, ErrTooLarge
		case m.last:
			return nil, io.EOF
		}
		if m.told != nil {
			m.c.reply(m.told)
			m.told = nil
		} else {
			m.c.reply(reply.ChunkOk.Reply(m.chunk))
		}
		if err := m.nextChunk(); err != nil {
			return nil, err
		}
	}
	if len(m.c.unread()) == 0 {
		if err := m.c.fillBody(&m.pace); err != nil {
			return nil, err
		}
	}
	p := m.c.unread()
	p = p[:min(int64(len(p)), m.left)]
	m.c.r += len(p)
	m.left -= int64(len(p))
	m.received += int64(len(p))
	return p, nil
}

// tooLarge sees it when the chunk is announced, before it is stored.
func (m *Message) tooLarge() bool { return m.sizeMax > 0 && m.left > m.sizeMax-m.received }

// nextChunk reads commands until the next BDAT. RFC 3030 §2 lets RSET end the
// message; what else ends a transaction does so too.
func (m *Message) nextChunk() error {
	c := m.c
	for {
		text, err := m.command()
		if err != nil {
			return err
		}
		verb, arg := splitVerb(text)
		switch verb {
		case "BDAT":
			c.setVerb(verb, text)
			size, last, ok := parseChunk(arg)
			if !ok {
				return m.abandon(reply.ChunkSyntax.Reply())
			}
			m.take(size, last)
			return nil
		case "RSET", "EHLO", "HELO", "QUIT":
			c.stash, c.swallow = text, true
			return ErrAborted
		case "NOOP":
			c.reply(reply.Nothing.Reply())
		default:
			c.reply(reply.ChunkOrder.Reply())
		}
		if c.tooManyCommands() {
			c.swallow = true
			return ErrAborted
		}
	}
}

func (m *Message) command() (string, error) {
	deadline := earlier(time.Now().Add(m.c.cfg.Timeouts.Command), m.pace.end)
	line, err := m.c.readLine(deadline, false)
	if err == errLong {
		return "", m.abandon(reply.Long.Reply())
	}
	if err != nil {
		return "", cutShort(err)
	}
	text, ok := framed(line)
	if !ok {
		return "", m.abandon(reply.Framing.Reply())
	}
	return text, nil
}

// abandon gives a last reply; go-smtp's own goes nowhere.
func (m *Message) abandon(r *mail.Reply) error {
	m.c.hangUp(r)
	m.c.swallow = true
	return ErrAborted
}

// endMessage runs after Session.Data: it reads what Data left of the message,
// and shows go-smtp the dot that it waits for.
func (c *Conn) endMessage() error {
	m := c.msg
	if m == nil {
		m = c.Begin()
	}
	c.inMessage, c.msg = false, nil
	c.pend = []byte(".\r\n")
	c.tx = false
	if c.goAhead != nil { // never told to go ahead: the answer is to the command
		c.goAhead = nil
		return nil
	}
	c.verb = "MESSAGE"
	if m.chunked {
		c.chunk = m.left
		return nil
	}
	for !m.ended { // a lost connection is met again at the next command
		_, _ = m.piece()
	}
	return nil
}

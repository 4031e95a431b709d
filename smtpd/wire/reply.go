package wire

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// replies is what is on its way to the client. Replies leave together, before
// the next network read (RFC 2920 §3.2).
type replies struct {
	out     []byte
	partial []byte   // a reply line that go-smtp has not ended
	keep    []string // lines of an EHLO reply so far
	goAhead []byte   // the 354, held back until the message is wanted
	swallow bool     // the next reply of go-smtp is not for the client
	hangup  bool     // after this reply, no more commands
}

// Write takes go-smtp's replies.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			c.partial = append(c.partial, rest...)
			break
		}
		line := rest[:i+1]
		if len(c.partial) > 0 {
			line = append(c.partial, line...)
			c.partial = c.partial[:0]
		}
		c.replyLine(line)
		rest = rest[i+1:]
	}
	if len(c.out) > outMax {
		if err := c.flush(c.cfg.Timeouts.Write); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// replyLine looks at one line of a reply of go-smtp.
func (c *Conn) replyLine(line []byte) {
	code, final := parseReply(line)
	switch {
	case c.swallow:
		c.swallow = !final
	case !c.greeted:
		c.greet(line)
	case code == 354:
		c.inMessage = true
		if c.verb == "DATA" {
			c.goAhead = []byte(reply.GoAhead.Reply().String() + "\r\n")
		}
	case code == 250 && (c.verb == "EHLO" || c.verb == "HELO"):
		c.keep = append(c.keep, strings.TrimRight(string(line[4:]), "\r\n"))
		if final {
			c.hello, c.tx = c.verb, false
			c.sendHello()
		}
	default:
		if own := reply.OfLibrary(code, libraryText(line)); own != nil {
			c.reply(own.Reply())
			return
		}
		c.send(code, final, line)
	}
}

// libraryText is the text of a reply line, without an enhanced code.
func libraryText(line []byte) string {
	text := string(bytes.TrimRight(line[min(4, len(line)):], "\r\n"))
	if first, rest, ok := strings.Cut(text, " "); ok && strings.Count(first, ".") == 2 && first[0] >= '2' && first[0] <= '5' {
		return rest
	}
	return text
}

func parseReply(line []byte) (code int, final bool) {
	if len(line) < 4 {
		return 0, true
	}
	code, _ = strconv.Atoi(string(line[:3]))
	return code, line[3] != '-'
}

// greet lets the owner turn the 220 into a refusal.
func (c *Conn) greet(line []byte) {
	c.greeted = true
	c.setVerb("CONNECT", "")
	if c.refusal != nil { // counted where it was decided
		c.hangup = true
		c.out = append(c.out, c.refusal.String()+"\r\n"...)
		return
	}
	if c.cfg.Greet != nil {
		if r := c.cfg.Greet(c); r != nil {
			c.hangUp(r)
			return
		}
	}
	if c.talksEarly() {
		c.hangUp(reply.EarlyTalker.Reply())
		return
	}
	c.out = append(c.out, line...)
}

// sendHello answers EHLO or HELO with our name first (RFC 5321 §4.1.1.1), and
// with the keywords that hold for this connection.
func (c *Conn) sendHello() {
	lines := []string{c.cfg.Domain}
	if c.verb == "EHLO" {
		lines = append(lines, c.keywords(c.keep[1:])...)
	}
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		c.out = append(c.out, "250"+sep+l+"\r\n"...)
	}
	c.keep = nil
}

func (c *Conn) keywords(offered []string) (list []string) {
	if c.tls == nil && c.cfg.tls() != nil {
		list = append(list, "STARTTLS")
	}
	if c.tls != nil && len(c.cfg.Mechanisms) > 0 {
		list = append(list, "AUTH "+strings.Join(c.cfg.Mechanisms, " "))
	}
	for _, k := range offered {
		word, _, _ := strings.Cut(k, " ")
		hidden := slices.ContainsFunc(c.cfg.Hide, func(h string) bool { return strings.EqualFold(h, word) })
		if n := c.cfg.sizeMax(); word == "SIZE" && n > 0 {
			k = fmt.Sprintf("SIZE %d", n)
		}
		if !hidden {
			list = append(list, k)
		}
	}
	return list
}

// reply answers for go-smtp, which waits in Read meanwhile: order is kept.
func (c *Conn) reply(r *mail.Reply) { c.send(r.Code, true, []byte(r.String()+"\r\n")) }

// hangUp gives a last reply.
func (c *Conn) hangUp(r *mail.Reply) {
	c.hangup = true
	c.reply(r)
}

// send puts a reply line on its way and notes what it means for the session.
func (c *Conn) send(code int, final bool, line []byte) {
	c.out = append(c.out, line...)
	if !final {
		return
	}
	switch {
	case c.verb == "MAIL" && code == 250:
		c.tx, c.txEnd = true, time.Now().Add(c.cfg.Timeouts.Message)
	case c.verb == "RSET":
		c.tx = false
	case c.verb == "MESSAGE" && code == 250:
		c.errors, c.commands = 0, 0
	}
	if code >= 400 {
		c.refused(code, line)
	}
}

func (c *Conn) refused(code int, line []byte) {
	if c.cfg.Refused != nil {
		stage := strings.ToLower(or(c.verb, "IDLE"))
		c.cfg.Refused(c, stage, code, strings.TrimRight(string(line), "\r\n"))
	}
	if code == 421 { // RFC 5321 §3.8: says that we close
		c.hangup = true
	}
	if c.hangup {
		return
	}
	if c.verb == "DATA" && len(c.unread()) > 0 {
		// What follows a refused DATA is message text, and must not be run.
		c.hangUp(reply.Early.Reply())
		return
	}
	if code != 452 { // recipients over the limit are the next transaction's
		c.errors++
	}
	if most := c.cfg.ErrorsMax; most >= 0 && c.errors > most {
		c.hangUp(reply.Errors.Reply())
	}
}

// flush sends what waits.
func (c *Conn) flush(within time.Duration) error {
	if len(c.out) == 0 {
		return nil
	}
	c.raw.SetWriteDeadline(time.Now().Add(within))
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if cap(c.out) > 4<<10 {
		c.out = nil
	}
	return err
}

// leave ends the dialogue after a last reply. Closing with unread input resets
// the connection and may destroy that reply on its way, so what the client has
// under way is read and dropped for a moment.
func (c *Conn) leave() error {
	if c.flush(closeTime) != nil {
		return io.EOF
	}
	if c.tls != nil {
		_ = c.tls.CloseWrite() // the peer may be gone
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.raw.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c.raw, lingerMax)
	}
	return io.EOF
}

var _ net.Conn = (*Conn)(nil)

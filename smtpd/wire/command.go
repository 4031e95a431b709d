package wire

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"mailraft/mail/reply"
	"mailraft/smtpd/handover"
)

// verbs are the commands that there are: which need an EHLO before them, which
// can be said for ever without coming nearer to a message, and which are about
// mail, so that they are refused in clear text where TLS is required (RFC 3207
// §4; BDAT is out of order without the MAIL that was refused).
var verbs = map[string]struct{ hello, idle, mail bool }{
	"EHLO": {idle: true}, "HELO": {idle: true}, "NOOP": {idle: true}, "RSET": {idle: true}, "QUIT": {},
	"VRFY": {idle: true, mail: true}, "EXPN": {idle: true, mail: true}, "HELP": {idle: true}, "STARTTLS": {idle: true},
	"AUTH": {hello: true, idle: true}, "MAIL": {hello: true, idle: true, mail: true}, "RCPT": {hello: true, mail: true}, "DATA": {hello: true, mail: true}, "BDAT": {hello: true},
}

func (c *Conn) setVerb(verb, text string) { c.verb, c.text = verb, text }

// pass hands a command line to go-smtp.
func (c *Conn) pass(text string) { c.pend = append([]byte(text), '\r', '\n') }

// command finds the next command for go-smtp, answering what is not for it.
func (c *Conn) command() error {
	for {
		text, err := c.commandLine()
		if err != nil {
			return err
		}
		ready, err := c.dispatch(text)
		if err != nil || ready {
			return err
		}
		if c.hangup {
			return c.leave()
		}
	}
}

// commandLine reads a line and checks its framing.
func (c *Conn) commandLine() (string, error) {
	if text := c.stash; text != "" {
		c.stash = ""
		return text, nil
	}
	for {
		c.shrink(false)
		line, err := c.readLine(c.commandEnd(), !c.tx)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && c.tx && !time.Now().Before(c.txEnd):
			c.hangUp(reply.TransactionSlow.Reply())
			return "", c.leave()
		case err == errLong:
			c.secret = true // nobody knows what it was
			c.reply(reply.Long.Reply())
			if c.hangup {
				return "", c.leave()
			}
			continue
		case err == errDrained:
			c.hangUp(reply.Stopping.Reply())
			return "", c.leave()
		case err != nil:
			return "", err
		}
		text, ok := framed(line)
		if !ok {
			c.hangUp(reply.Framing.Reply())
			return "", c.leave()
		}
		return text, nil
	}
}

// commandEnd is until when the next command must have come.
func (c *Conn) commandEnd() time.Time {
	end := time.Now().Add(c.cfg.Timeouts.Command)
	if c.tx {
		end = earlier(end, c.txEnd)
	}
	return end
}

// framed takes the CRLF off. Nothing else ends a line (RFC 5321 §2.3.8): a
// command ended by a bare LF may come from a message that another server let
// through, so the connection is not to be trusted any further.
func framed(line []byte) (string, bool) {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.ContainsAny(text, "\r\x00") {
		return "", false
	}
	return string(bytes.TrimRight(text, " \t")), true
}

// dispatch decides who answers a command; ready means go-smtp does.
func (c *Conn) dispatch(text string) (ready bool, err error) {
	verb, arg := splitVerb(text)
	known, ok := verbs[verb]
	if verb == handover.Verb && c.cfg.Handover != nil {
		c.setVerb(verb, text)
		c.handOver(arg)
		return false, nil
	}
	c.secret = c.secret || strings.Contains(strings.ToUpper(text), "AUTH")
	if c.secret && (!ok || verb == "AUTH") {
		text = "" // in part a password, or the rest of an AUTH that was refused
	}
	if !ok {
		c.setVerb("OTHER", text)
		c.reply(reply.Unknown.Reply())
		return false, nil
	}
	c.setVerb(verb, text)
	if known.idle && c.tooManyCommands() {
		return false, nil
	}
	if known.hello && c.hello == "" && verb != "BDAT" {
		c.reply(reply.HelloFirst.Reply())
		return false, nil
	}
	if known.mail && c.cfg.TLSRequired && c.tls == nil {
		c.reply(reply.TLSFirst.Reply())
		return false, nil
	}
	switch verb {
	case "EHLO", "HELO":
		if !c.synchronized() {
			return false, nil
		}
	case "STARTTLS":
		return c.startTLS(arg)
	case "AUTH":
		return false, c.authenticate(arg)
	case "BDAT":
		return c.startChunk(arg)
	case "MAIL":
		c.text = clampSize(text)
	case "RCPT":
		c.text = c.postmaster(text)
	}
	c.pass(c.text)
	return true, nil
}

// handOver begins to serve another client. What the one before has done wrong
// does not count against it.
func (c *Conn) handOver(attributes string) {
	if c.tx {
		c.reply(reply.WhoseOrder.Reply())
		return
	}
	c.errors, c.commands = 0, 0
	c.reply(c.cfg.Handover(c, attributes))
}

func splitVerb(text string) (verb, arg string) {
	verb, arg, _ = strings.Cut(text, " ")
	return strings.ToUpper(verb), arg
}

func (c *Conn) tooManyCommands() bool {
	c.commands++
	if most := c.cfg.CommandsMax; most >= 0 && c.commands > most {
		c.reply(reply.Commands.Reply())
	}
	return c.hangup
}

// startChunk begins a message by BDAT (RFC 3030): for go-smtp it is a DATA.
func (c *Conn) startChunk(arg string) (ready bool, err error) {
	size, last, ok := parseChunk(arg)
	if !ok { // where the next command starts is unknown
		c.hangUp(reply.ChunkSyntax.Reply())
		return false, nil
	}
	c.chunk, c.last = size, last
	if c.hello == "" {
		c.reply(reply.HelloFirst.Reply())
		return false, c.skipChunk()
	}
	c.pass("DATA")
	return true, nil
}

func parseChunk(arg string) (size int64, last, ok bool) {
	f := strings.Fields(arg)
	last = len(f) == 2 && strings.EqualFold(f[1], "LAST")
	if len(f) != 1 && !last {
		return 0, false, false
	}
	n, err := strconv.ParseUint(f[0], 10, 62)
	return int64(n), last, err == nil
}

// skipChunk reads past a chunk whose BDAT was refused: the octets follow
// whatever the answer was (RFC 3030 §2).
func (c *Conn) skipChunk() error {
	p := c.newPace()
	for c.chunk > 0 {
		if len(c.unread()) == 0 {
			if err := c.fillBody(&p); err != nil {
				c.hangUp(reply.Slow.Reply())
				return c.leave()
			}
		}
		n := min(int64(len(c.unread())), c.chunk)
		c.r += int(n)
		c.chunk -= n
	}
	return nil
}

// postmaster adds our domain to RCPT TO:<postmaster>, which every server must
// take (RFC 5321 §4.5.1) and go-smtp cannot parse.
func (c *Conn) postmaster(text string) string {
	const command, bare = "RCPT TO:", "<postmaster>"
	if c.cfg.Postmaster == "" || !foldPrefix(text, command) {
		return text
	}
	path := strings.TrimLeft(text[len(command):], " ")
	if !foldPrefix(path, bare) {
		return text
	}
	return command + path[:len(bare)-1] + "@" + c.cfg.Postmaster + path[len(bare)-1:]
}

func foldPrefix(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// clampSize lowers a SIZE of more than 32 bits, which go-smtp takes for a
// syntax error, to one that is still too large for any limit.
func clampSize(text string) string {
	end := strings.LastIndexByte(text, '>') + 1
	params := strings.Fields(text[end:])
	changed := false
	for i, p := range params {
		if !foldPrefix(p, "SIZE=") {
			continue
		}
		n, err := strconv.ParseUint(p[len("SIZE="):], 10, 64)
		if errors.Is(err, strconv.ErrRange) || err == nil && n > math.MaxUint32 {
			params[i], changed = "SIZE="+strconv.Itoa(math.MaxUint32), true
		}
	}
	if !changed || end == 0 {
		return text
	}
	return text[:end] + " " + strings.Join(params, " ")
}

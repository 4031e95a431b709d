package wire

import (
	"crypto/tls"
	"io"
	"time"

	"mailraft/mail/reply"
)

// startImplicit makes the handshake of an implicit TLS connection in the
// goroutine that serves it, so a slow client delays nobody else.
func (c *Conn) startImplicit() error {
	if !c.implicit || c.tls != nil {
		return nil
	}
	if c.rerr != nil {
		return c.rerr
	}
	return c.handshake(c.cfg.tls())
}

// handshake turns TLS on. After a failed one nothing may be sent in clear
// text, so go-smtp sees an end of file, and its replies go nowhere.
func (c *Conn) handshake(cfg *tls.Config) error {
	if cfg == nil {
		c.rerr = io.EOF
		return io.EOF
	}
	tc := tls.Server(c.raw, cfg)
	c.raw.SetDeadline(time.Now().Add(c.cfg.Timeouts.Handshake))
	err := tc.Handshake()
	c.raw.SetDeadline(time.Time{})
	if err != nil {
		c.raw.Close()
		c.rerr = io.EOF
		return io.EOF
	}
	c.tls, c.nc = tc, tc
	return nil
}

// startTLS answers STARTTLS (RFC 3207). Both sides forget what was said in
// clear text: what was pipelined behind the command is dropped, and go-smtp
// gets a RSET whose reply is dropped too.
func (c *Conn) startTLS(arg string) (ready bool, err error) {
	cfg := c.cfg.tls()
	switch {
	case c.tls != nil:
		c.reply(reply.TLSOn.Reply())
		return false, nil
	case cfg == nil && c.cfg.TLS != nil: // RFC 3207 §4
		c.reply(reply.TLSNotNow.Reply())
		return false, nil
	case cfg == nil:
		c.reply(reply.TLSNot.Reply())
		return false, nil
	case arg != "":
		c.reply(reply.TLSArgument.Reply())
		return false, nil
	}
	c.r, c.w = 0, 0
	c.reply(reply.TLSReady.Reply())
	if err := c.flush(c.cfg.Timeouts.Write); err != nil {
		return false, err
	}
	if err := c.handshake(cfg); err != nil {
		return false, err
	}
	c.hello, c.tx, c.swallow = "", false, true
	c.pass("RSET")
	return true, nil
}

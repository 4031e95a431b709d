package wire

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// Exchange is an authentication under way, a SASL mechanism (RFC 4422): Next
// gets what the client said, or nil if it said nothing yet. An error that is a
// *mail.Reply is the answer; any other means that the client's response was
// malformed.
type Exchange interface {
	Next(response []byte) (challenge []byte, done bool, err error)
}

// authenticate answers AUTH (RFC 4954 §4), and all that belongs to it: go-smtp
// does not hear of it. What the client says behind the mechanism is a secret,
// and is nowhere but here: not in Command, so in no log.
func (c *Conn) authenticate(arg string) error {
	name, rest, initial := strings.Cut(arg, " ")
	name = strings.ToUpper(name)
	known := slices.Contains(c.cfg.Mechanisms, name)
	c.setVerb("AUTH", "AUTH")
	if known {
		c.setVerb("AUTH", "AUTH "+name)
	}
	switch {
	case len(c.cfg.Mechanisms) == 0:
		c.reply(reply.AuthNot.Reply())
	case c.tls == nil:
		c.reply(reply.AuthClear.Reply())
	case c.hello != "EHLO":
		c.reply(reply.AuthHello.Reply())
	case c.authenticated:
		c.reply(reply.AuthDone.Reply())
	case c.tx:
		c.reply(reply.AuthTransaction.Reply())
	case name == "" || strings.ContainsAny(rest, " \t"):
		c.reply(reply.AuthSyntax.Reply())
	case !known:
		c.reply(reply.AuthMechanism.Reply())
	case !initial:
		return c.exchange(c.cfg.Auth(c, name), nil)
	default:
		response, ok := decodeResponse(rest)
		if !ok {
			c.reply(reply.AuthBase64.Reply())
			return nil
		}
		return c.exchange(c.cfg.Auth(c, name), response)
	}
	return nil
}

// exchange runs a mechanism to its end. An error is one of the connection.
func (c *Conn) exchange(x Exchange, response []byte) error {
	for {
		challenge, done, err := x.Next(response)
		if err != nil {
			c.authFailed(err)
			return nil
		}
		if done {
			c.authenticated = true
			c.reply(reply.AuthOk.Reply())
			return nil
		}
		c.reply(reply.Challenge.Reply(base64.StdEncoding.EncodeToString(challenge)))
		var ok bool
		if response, ok, err = c.response(); err != nil || !ok {
			return err
		}
	}
}

// response reads the client's next line. Not ok: it was no response, and is
// answered.
func (c *Conn) response() (response []byte, ok bool, err error) {
	line, err := c.readLine(time.Now().Add(c.cfg.Timeouts.Command), true)
	switch {
	case err == errLong:
		c.reply(reply.AuthLong.Reply())
		return nil, false, nil
	case err == errDrained:
		c.hangUp(reply.Stopping.Reply())
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	text, ok := framed(line)
	switch {
	case !ok:
		c.hangUp(reply.Framing.Reply())
		return nil, false, nil
	case text == "*":
		c.reply(reply.AuthCancelled.Reply())
		return nil, false, nil
	}
	if response, ok = decodeResponse(text); !ok {
		c.reply(reply.AuthBase64.Reply())
	}
	return response, ok, nil
}

// decodeResponse never returns nil for a response: "=" is an empty initial one,
// and an empty line an empty later one.
func decodeResponse(text string) (response []byte, ok bool) {
	if text == "=" || text == "" {
		return []byte{}, true
	}
	response, err := base64.StdEncoding.DecodeString(text)
	return response, err == nil
}

func (c *Conn) authFailed(err error) {
	if r := (*mail.Reply)(nil); errors.As(err, &r) {
		c.reply(r)
		return
	}
	c.reply(reply.AuthResponse.Reply())
}

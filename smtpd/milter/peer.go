package milter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailraft/mail/reply"
)

// peer is one session at one filter.
type peer struct {
	f *Filter
	c *conn // nil: none open

	out     error   // the filter has refused the connection, with this answer
	trusted bool    // it has accepted the connection, and is not asked any more
	hello   *Sender // the greeting that it knows

	open     bool // it has been told of a message, and has not decided
	pass     bool // not asked about this message any more
	discards bool // it wants this message to vanish
	skip     bool // no more pieces of the body
	asked    bool // it has answered something of this message
	took     time.Duration
}

// begin forgets the message before.
func (p *peer) begin() {
	p.open, p.pass, p.discards, p.skip, p.asked, p.took = false, p.trusted, false, false, false, 0
}

// greet tells a filter of the client, where it does not know it yet.
func (p *peer) greet(ctx context.Context, c *Client, m *Sender) error {
	if p.out != nil || p.pass {
		return p.out
	}
	if p.c == nil {
		var err error
		if p.c, err = p.f.open(ctx); err != nil {
			return err
		}
		p.hello = nil
		if err := p.ask(cmdConnect, c.connectData(), c.connectMacros()); err != nil || p.pass {
			return err
		}
	}
	if m.same(p.hello) {
		return nil
	}
	greeting := *m
	p.hello = &greeting
	return p.ask(cmdHelo, texts(m.Helo), m.helloMacros())
}

// errLost: the filter was lost earlier in this message.
var errLost = errors.New("it is lost for this message")

// ask sends a command, with its macros, and does what the answer says.
func (p *peer) ask(cmd byte, data []byte, macros []string) error {
	if p.c == nil {
		return errLost
	}
	if !p.c.wants(cmd) {
		return nil
	}
	if len(macros) > 0 {
		p.c.put(cmdMacro, append([]byte{cmd}, texts(macros...)...))
	}
	p.c.put(cmd, data)
	timeout := p.timeout(cmd)
	begun := time.Now()
	if err := p.c.flush(timeout); err != nil {
		return fmt.Errorf("send %q: %w", cmd, err)
	}
	if !p.c.answers(cmd) {
		return nil
	}
	code, answer, err := p.c.receive(timeout)
	p.took += time.Since(begun)
	if err != nil {
		return fmt.Errorf("answer to %q: %w", cmd, err)
	}
	p.f.answered()
	return p.verdict(cmd, code, answer)
}

// end tells a filter that this was all, and returns what it wants changed.
func (p *peer) end(macros []string) ([]change, error) {
	if p.c == nil {
		return nil, errLost
	}
	p.c.put(cmdMacro, append([]byte{cmdEnd}, texts(macros...)...))
	p.c.put(cmdEnd, nil)
	begun := time.Now()
	if err := p.c.flush(p.f.cfg.Content); err != nil {
		return nil, fmt.Errorf("send the end of a message: %w", err)
	}
	var changes []change
	size := 0
	for {
		code, data, err := p.c.receive(p.f.cfg.Content)
		if err != nil {
			return nil, fmt.Errorf("answer to the end of a message: %w", err)
		}
		if !isChange(code) {
			p.f.answered()
			p.took += time.Since(begun)
			return changes, p.verdict(cmdEnd, code, data)
		}
		if size += len(data); size > changesMax {
			return nil, fmt.Errorf("more than %d bytes of changes: %w", changesMax, errProtocol)
		}
		changes = append(changes, change{code, data})
	}
}

func (p *peer) timeout(cmd byte) time.Duration {
	switch cmd {
	case cmdHeader, cmdEOH, cmdBody, cmdEnd:
		return p.f.cfg.Content
	}
	return p.f.cfg.Command
}

// verdict does what an answer says. Of a command it is about the connection,
// the message, or one recipient alone.
func (p *peer) verdict(cmd, code byte, data []byte) error {
	connection := cmd == cmdConnect || cmd == cmdHelo
	p.asked = p.asked || !connection
	switch code {
	case rspContinue:
		if cmd == cmdEnd {
			p.count("accept")
			p.decided()
		}
		return nil
	case rspSkip:
		if cmd == cmdBody {
			p.skip = true
			return nil
		}
	case rspAccept:
		p.count("accept")
		if p.pass = true; connection {
			p.trusted = true
			p.leave()
		}
		p.decided()
		return nil
	case rspDiscard:
		if !connection {
			p.count("discard")
			p.discards, p.pass = true, true
			p.decided()
			return nil
		}
	case rspReject, rspTempfail, rspReply, rspShutdown:
		return p.refused(cmd, code, data)
	}
	return fmt.Errorf("answer %q to %q: %w", code, cmd, errProtocol)
}

// refused is a refusal; of a recipient it leaves the message open.
func (p *peer) refused(cmd, code byte, data []byte) error {
	r := reply.FilterReject.Reply()
	switch code {
	case rspTempfail:
		r = reply.FilterTempfail.Reply()
	case rspShutdown:
		r = reply.FilterShutdown.Reply()
	case rspReply:
		if r = parseReply(data); r == nil {
			return fmt.Errorf("reply %.100q: %w", data, errProtocol)
		}
	}
	verdict := "reject"
	if r.Temporary() {
		verdict = "tempfail"
	}
	p.count(verdict)
	switch cmd {
	case cmdRcpt:
		return r
	case cmdConnect, cmdHelo:
		p.out = r
		p.leave()
	}
	p.decided()
	return r
}

func (p *peer) count(verdict string) { p.f.count(verdict) }

// decided: the filter is through with the message, and back before MAIL.
func (p *peer) decided() {
	if p.open = false; p.asked {
		p.f.took(p.took)
		p.asked = false
	}
}

// abort takes a message back that the filter is still at.
func (p *peer) abort() {
	if !p.open || p.c == nil {
		return
	}
	p.open = false
	p.c.put(cmdAbort, nil)
	if err := p.c.flush(p.f.cfg.Command); err != nil {
		p.fail(err)
	}
}

// tooLarge: the filter is not asked about a message of this size.
func (p *peer) tooLarge() {
	p.count("too-large")
	p.abort()
	p.pass = true
}

// fail gives a connection up.
func (p *peer) fail(err error) {
	p.count("failed")
	if !slices.ContainsFunc([]error{errBusy, errHeld}, func(known error) bool { return errors.Is(err, known) }) {
		p.f.away(err)
	}
	if p.open = false; p.c != nil {
		p.c.close()
		p.c = nil
		p.f.release()
	}
}

// leave says goodbye.
func (p *peer) leave() {
	if p.open = false; p.c != nil {
		p.c.quit()
		p.c = nil
		p.f.release()
	}
}

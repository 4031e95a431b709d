package remote

import (
	"cmp"
	"context"
	"errors"
	"net"

	"mailraft/deliver"
	"mailraft/directory"
	"mailraft/mail"
)

// attemptsMax is how many addresses one delivery tries: a domain with many that
// do not answer holds a place for minutes as it is.
const attemptsMax = 6

// deliverMX delivers to the hosts that take mail for a domain, the best first
// (RFC 5321 §5.1), until one has answered for the message. What a host says of
// the message, of a recipient or of its content, is the answer; only one that
// cannot be used at all leads to the next.
func (t *Transport) deliverMX(ctx context.Context, x *transaction, domain string) {
	targets, err := t.resolve(ctx, domain)
	if err != nil {
		r := (*mail.Reply)(nil)
		if !errors.As(err, &r) {
			r = mail.Replyf(451, "4.4.3", "%v", err)
		}
		x.rest(*r, r.Temporary())
		return
	}
	if !x.addresses() {
		return
	}
	for i, to := range targets[:min(len(targets), attemptsMax)] {
		if i > 0 {
			x.forget()
		}
		if t.atHost(ctx, x, to); x.ended || x.settled() || ctx.Err() != nil {
			return
		}
	}
}

// resolve are the addresses to try, in their order.
func (t *Transport) resolve(ctx context.Context, domain string) ([]target, error) {
	if t.MX == nil {
		return nil, mail.Replyf(451, "4.3.5", "this member looks up no MX records")
	}
	found, err := t.MX.Hosts(ctx, domain)
	if err != nil {
		return nil, err
	}
	hop := directory.NextHop{Address: directory.MX + ":" + domain}
	if t.Hop != nil {
		hop = t.Hop(hop.Address)
	}
	var targets []target
	for _, h := range found {
		for _, a := range h.Addrs {
			targets = append(targets, target{network: "tcp", addr: net.JoinHostPort(a.String(), cmp.Or(t.MXPort, "25")), host: h.Name, hop: hop})
		}
	}
	return targets, nil
}

// atHost delivers at one host, if it may have one more connection now.
func (t *Transport) atHost(ctx context.Context, x *transaction, to target) {
	switch may, why := t.hosts.enter(to.addr, t.HostMax, x.attempt.Last); may {
	case full:
		x.full()
		return
	case dead:
		x.session = nil
		x.rest(why, true)
		return
	}
	t.at(ctx, x, to)
	down, busy := x.down()
	if ctx.Err() != nil || x.ended {
		down = nil // our doing
	}
	t.hosts.leave(to.addr, down, busy)
}

// down is why the host could not be used, nil if it could.
func (x *transaction) down() (*mail.Reply, bool) {
	for _, a := range x.answers {
		if a.Down || a.Busy {
			return &a.Reply, a.Busy
		}
	}
	return nil, false
}

// full leaves everybody without an answer: nothing was tried.
func (x *transaction) full() {
	for i := range x.answers {
		x.answers[i].Busy = x.answers[i].Reply.Code == 0
	}
}

// settled reports that no other host is to be asked.
func (x *transaction) settled() bool {
	down, _ := x.down()
	return down == nil
}

// forget takes back what a host could not say, for the next one.
func (x *transaction) forget() {
	for i, a := range x.answers {
		if a.Down || a.Busy {
			x.answers[i] = deliver.Answer{}
		}
	}
	x.later = false
}

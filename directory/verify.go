package directory

import (
	"strings"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// Verify is the answer to RCPT: nil if mail for a is taken, else a *mail.Reply.
// It asks what Resolve will ask, so that an address taken here fails later
// only if the directory changed in between, or if it is a group that fails.
// relay: the client has the right to send to recipients outside our domains.
func Verify(l Lookup, a mail.Address, relay bool) error {
	d, ok := domainOf(l, a)
	switch {
	case !ok && relay:
		return verifyOutside(l, a)
	case !ok:
		return denied(a)
	case d.Kind == Relay && !relay && routed(a):
		return reply.Routed.Reply()
	case d.Kind == Relay:
		return nil
	}
	if r, g := find(l, a); g == nil && r.Kind == Failed {
		return r.Reply
	}
	return nil
}

func denied(a mail.Address) *mail.Reply {
	return reply.Relaying.Reply(DomainKey(a.Domain))
}

// verifyOutside answers a client with the right to relay. That there is no
// default route is for the operator to mend, so the answer is temporary: the
// client's queue keeps the mail until then, and says why it waits.
func verifyOutside(l Lookup, a mail.Address) error {
	if _, ok := l.Domain(DefaultRoute); !ok {
		return reply.NoRoute.Reply(DomainKey(a.Domain))
	}
	return nil
}

// routed reports a local part that a next hop may take for another address
// (RFC 5321 appendix F.2: user%host@relay, host!user): it would relay
// for us what we do not.
func routed(a mail.Address) bool { return strings.ContainsAny(a.Local, "%!@") }

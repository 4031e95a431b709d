package directory

import (
	"fmt"

	"mailraft/mail"
)

// Explain says for people what decides where mail for an address goes.
func Explain(l Lookup, a mail.Address) string {
	d, ok := domainOf(l, a)
	if !ok {
		return fmt.Sprintf("%s is no domain of this boundary", DomainKey(a.Domain))
	}
	r, g := find(l, a)
	switch {
	case d.Kind == Relay:
		return fmt.Sprintf("mail for domain %s is relayed to %s", d.Name, d.NextHop)
	case g != nil:
		return fmt.Sprintf("group %s of domain %s", g.Address, d.Name)
	case r.Kind == Failed:
		return fmt.Sprintf("domain %s is accepted, and has no such mailbox", d.Name)
	}
	return fmt.Sprintf("mailbox %s of domain %s, in database %s", r.Address, d.Name, r.Database)
}

package fsm

import (
	"slices"

	"mailraft/directory"
	"mailraft/mail"
)

// directory applies Directory: objects are put and removed, all or none.
func (t *tx) directory(c Directory) Answer {
	if r := t.checkObjects(c); r != nil {
		return Answer{Refused: r}
	}
	for _, d := range c.Domains {
		d.Database = t.databaseName(d.Database)
		t.put(tab(tabDirectory).byte('d').text(d.Key()), d)
	}
	for _, m := range c.Mailboxes {
		if old, ok := t.Mailbox(m.Key()); ok {
			t.removeMailbox(old)
		}
		m.Database = t.databaseName(m.Database)
		for _, k := range m.Keys() {
			t.put(tab(tabDirectory).byte('m').text(k), m)
		}
	}
	for _, g := range c.Groups {
		t.putGroup(g)
	}
	return Answer{Count: len(c.Domains) + len(c.Mailboxes) + len(c.Groups) + t.removeObjects(c.Remove)}
}

// databaseName is the name as the database itself is spelt, so that its mail
// waits in one queue, whoever refers to it.
func (t *tx) databaseName(s string) string {
	if d, ok := t.Database(s); ok {
		return d.Name
	}
	return s
}

// checkObjects refuses what cannot stand, by itself, beside the tables, or
// beside the rest of the same entry: no address may lead to two objects.
func (t *tx) checkObjects(c Directory) *mail.Reply {
	taken := map[string]string{}
	claim := func(address string, keys ...string) *mail.Reply {
		for _, k := range keys {
			if other, ok := taken[k]; ok {
				return mail.Replyf(501, "5.5.4", "%s: %s belongs to %s of the same change", address, k, other)
			}
			taken[k] = address
		}
		return nil
	}
	for _, d := range c.Domains {
		if err := d.Validate(); err != nil {
			return mail.Replyf(501, "5.5.4", "domain %s: %v", d.Name, err)
		}
		if _, ok := t.Database(d.Database); d.Database != "" && !ok {
			return mail.Replyf(501, "5.5.4", "domain %s: there is no database %q", d.Name, d.Database)
		}
	}
	for _, m := range c.Mailboxes {
		if err := m.Validate(); err != nil {
			return mail.Replyf(501, "5.5.4", "mailbox %s: %v", m.Address, err)
		}
		if _, ok := t.Database(m.Database); !ok {
			return mail.Replyf(501, "5.5.4", "mailbox %s: there is no database %q", m.Address, m.Database)
		}
		if r := claim(m.Address, m.Keys()...); r != nil {
			return r
		}
		for _, k := range m.Keys() {
			if other, ok := t.Mailbox(k); ok && other.Key() != m.Key() {
				return mail.Replyf(501, "5.5.4", "mailbox %s: %s belongs to mailbox %s", m.Address, k, other.Address)
			}
			if g, ok := t.Group(k, 0); ok {
				return mail.Replyf(501, "5.5.4", "mailbox %s: %s is a group", m.Address, g.Address)
			}
		}
	}
	for _, g := range c.Groups {
		if err := g.Validate(); err != nil {
			return mail.Replyf(501, "5.5.4", "group %s: %v", g.Address, err)
		}
		if m, ok := t.Mailbox(g.Key()); ok {
			return mail.Replyf(501, "5.5.4", "group %s: the address belongs to mailbox %s", g.Address, m.Address)
		}
		if r := claim(g.Address, g.Key()); r != nil {
			return r
		}
	}
	for _, n := range c.Remove {
		if !slices.Contains([]string{"domain", "mailbox", "group"}, n.Kind) {
			return mail.Replyf(501, "5.5.4", "there is no kind of object %q", n.Kind)
		}
	}
	return nil
}

func (t *tx) removeMailbox(m directory.Mailbox) {
	for _, k := range m.Keys() {
		t.delete(tab(tabDirectory).byte('m').text(k))
	}
}

// putGroup makes a new version of a group the current one. The old one stays
// for the expansions that hold it.
func (t *tx) putGroup(g directory.Group) {
	t.removeGroup(g.Key())
	b, _ := t.Boundary()
	b.Groups++
	t.put(tab(tabBoundary), b)
	g.Version = b.Groups
	t.put(tab(tabDirectory).byte('g').str(g.Key()).u64(g.Version), groupRow{Group: g, Refs: 1})
	t.put(tab(tabDirectory).byte('G').text(g.Key()), g.Version)
}

func (t *tx) removeGroup(k string) bool {
	current := tab(tabDirectory).byte('G').text(k)
	var version uint64
	if !t.get(current, &version) {
		return false
	}
	t.delete(current)
	t.refGroup(k, version, -1)
	return true
}

func (t *tx) removeObjects(names []ObjectName) (n int) {
	for _, name := range names {
		switch name.Kind {
		case "domain":
			if _, ok := t.Domain(directory.DomainKey(name.Name)); ok {
				t.delete(tab(tabDirectory).byte('d').text(directory.DomainKey(name.Name)))
				n++
			}
		case "mailbox":
			k := directory.Mailbox{Address: name.Name}.Key()
			if m, ok := t.Mailbox(k); ok && m.Key() == k { // an alias is no name to remove its mailbox by
				t.removeMailbox(m)
				n++
			}
		case "group":
			if t.removeGroup(directory.Group{Address: name.Name}.Key()) {
				n++
			}
		}
	}
	return n
}

// nextHops applies NextHops: settings of addresses, all or none. They hold for
// what waits already, since a queue names the address alone.
func (t *tx) nextHops(c NextHops) Answer {
	for _, h := range c.Put {
		if err := h.Validate(); err != nil {
			return refuse(501, "5.5.4", "next hop %s: %v", h.Address, err)
		}
	}
	n := len(c.Put)
	for _, h := range c.Put {
		t.put(tab(tabDirectory).byte('n').text(h.Key()), h)
	}
	for _, address := range c.Remove {
		if h, ok := t.NextHop(address); ok {
			t.delete(tab(tabDirectory).byte('n').text(h.Key()))
			n++
		}
	}
	return Answer{Count: n}
}

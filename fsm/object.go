package fsm

import (
	"cmp"
	"slices"
	"strings"

	"mailraft/directory"
	"mailraft/mail"
)

// directory applies Directory: objects are put and removed, all or none.
func (t *tx) directory(c Directory) Answer {
	if r := t.checkObjects(c); r != nil {
		return Answer{Refused: r}
	}
	for _, d := range c.Domains {
		t.put(tab(tabDirectory).byte('d').text(d.Key()), d)
	}
	for _, m := range c.Mailboxes {
		if old, ok := t.Mailbox(m.Key()); ok {
			t.removeMailbox(old)
		}
		for _, k := range m.Keys() {
			t.put(tab(tabDirectory).byte('m').text(k), m)
		}
	}
	for _, g := range c.Groups {
		t.putGroup(g)
	}
	return Answer{Count: len(c.Domains) + len(c.Mailboxes) + len(c.Groups) + t.removeObjects(c.Remove)}
}

func (t *tx) checkObjects(c Directory) *mail.Reply {
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
		t.batch.Delete(tab(tabDirectory).byte('m').text(k))
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
	t.batch.Delete(current)
	t.refGroup(k, version, -1)
	return true
}

func (t *tx) removeObjects(names []ObjectName) (n int) {
	for _, name := range names {
		switch name.Kind {
		case "domain":
			if _, ok := t.Domain(directory.DomainKey(name.Name)); ok {
				t.batch.Delete(tab(tabDirectory).byte('d').text(directory.DomainKey(name.Name)))
				n++
			}
		case "mailbox":
			if m, ok := t.Mailbox(directory.Mailbox{Address: name.Name}.Key()); ok {
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

// database applies DatabaseChange.
func (t *tx) database(c DatabaseChange) Answer {
	d, ok := t.Database(c.Name)
	var refusal *mail.Reply
	switch c.Op {
	case "add":
		if ok {
			return refuse(550, "5.5.0", "there is a database %s already", d.Name)
		}
		d = Database{Name: c.Name}
		refusal = t.addCopies(&d, c.Copies)
	case "remove":
		if !ok {
			return refuse(550, "5.1.0", "there is no database %q", c.Name)
		}
		if user := t.databaseUser(d.Name); user != "" {
			return refuse(550, "5.5.0", "database %s is used by %s", d.Name, user)
		}
		t.batch.Delete(tab(tabDatabase).text(strings.ToLower(d.Name)))
		return Answer{Count: 1}
	default:
		if !ok {
			return refuse(550, "5.1.0", "there is no database %q", c.Name)
		}
		refusal = t.changeCopies(&d, c)
	}
	if refusal != nil {
		return Answer{Refused: refusal}
	}
	t.put(tab(tabDatabase).text(strings.ToLower(d.Name)), d)
	return Answer{Count: 1}
}

func (t *tx) changeCopies(d *Database, c DatabaseChange) *mail.Reply {
	switch c.Op {
	case "copy-add":
		return t.addCopies(d, c.Copies)
	case "copy-set":
		for _, n := range c.Copies {
			old := d.copy(n.Name)
			if old == nil {
				return mail.Replyf(550, "5.1.0", "database %s has no copy %q", d.Name, n.Name)
			}
			if r := t.checkCopy(d, n); r != nil {
				return r
			}
			*old = n
		}
	case "copy-remove":
		for _, n := range c.Copies {
			if n.Name == d.Active {
				return mail.Replyf(550, "5.5.0", "copy %s is the active one of %s", n.Name, d.Name)
			}
			before := len(d.Copies)
			d.Copies = slices.DeleteFunc(d.Copies, func(x Copy) bool { return x.Name == n.Name })
			if len(d.Copies) == before {
				return mail.Replyf(550, "5.1.0", "database %s has no copy %q", d.Name, n.Name)
			}
		}
	default:
		return mail.Replyf(501, "5.5.4", "databases know no %q", c.Op)
	}
	return nil
}

// addCopies adds copies; the first that a database ever has is the active one.
func (t *tx) addCopies(d *Database, copies []Copy) *mail.Reply {
	for _, n := range copies {
		if d.copy(n.Name) != nil {
			return mail.Replyf(550, "5.5.0", "database %s has a copy %s already", d.Name, n.Name)
		}
		if r := t.checkCopy(d, n); r != nil {
			return r
		}
		d.Copies = append(d.Copies, n)
		if d.Active == "" {
			d.Active, d.Activation, d.Since = n.Name, d.Activation+1, t.now()
		}
	}
	slices.SortStableFunc(d.Copies, func(a, b Copy) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

const lagMax = 14 * day

func (t *tx) checkCopy(d *Database, c Copy) *mail.Reply {
	p := t.Params()
	switch lag := c.Lag.Std(); {
	case c.Name == "" || strings.ContainsAny(c.Name, "/ \x00"):
		return mail.Replyf(501, "5.5.4", "copy name %q of database %s: want a word", c.Name, d.Name)
	case !validCopyAddr(c.Addr):
		return mail.Replyf(501, "5.5.4", "copy %s of %s: address %q is none of lmtp://, lmtps://, smtp:// and maildir:", c.Name, d.Name, c.Addr)
	case lag > lagMax:
		return mail.Replyf(501, "5.5.4", "copy %s of %s: replay lag %s is above 14d", c.Name, d.Name, mail.FormatDuration(lag))
	case lag > p.SafetyNetHoldTime:
		return mail.Replyf(501, "5.5.4", "copy %s of %s: replay lag %s is above safety-net-hold-time %s",
			c.Name, d.Name, mail.FormatDuration(lag), mail.FormatDuration(p.SafetyNetHoldTime))
	}
	return nil
}

func validCopyAddr(a string) bool {
	for _, scheme := range []string{"lmtp://", "lmtps://", "smtp://", "maildir:"} {
		if rest, ok := strings.CutPrefix(a, scheme); ok {
			return rest != "" && !strings.ContainsAny(rest, " \r\n\x00")
		}
	}
	return false
}

// databaseUser names an object of the directory that needs the database.
func (t *tx) databaseUser(name string) string {
	for d := range t.Domains() {
		if strings.EqualFold(d.Database, name) {
			return "domain " + d.Name
		}
	}
	for m := range t.Mailboxes() {
		if strings.EqualFold(m.Database, name) {
			return "mailbox " + m.Address
		}
	}
	return ""
}

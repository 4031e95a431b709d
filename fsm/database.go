package fsm

import (
	"cmp"
	"slices"
	"strings"

	"mailraft/mail"
)

// database applies DatabaseChange.
func (t *tx) database(c DatabaseChange) Answer {
	d, ok := t.Database(c.Name)
	var refusal *mail.Reply
	switch c.Op {
	case "add":
		if ok {
			return refuse(550, "5.5.0", "there is a database %s already", d.Name)
		}
		if !validDatabaseName(c.Name) {
			return refuse(501, "5.5.4", "database name %q: want 1 to 64 letters, digits, dots, - or _", c.Name)
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
		if t.mailWaits(d.Name) {
			return refuse(550, "5.5.0", "mail waits for database %s; deliver or delete it first", d.Name)
		}
		t.delete(tab(tabDatabase).text(strings.ToLower(d.Name)))
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
	case c.Lag < 0 || c.Slack < 0 || c.DataThrough < 0:
		return mail.Replyf(501, "5.5.4", "copy %s of %s: a negative time", c.Name, d.Name)
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

// mailWaits reports whether some member has mail for the database: nobody
// would deliver it, nor give it up, once the database is gone.
func (t *tx) mailWaits(name string) bool {
	for m := range t.Members() {
		for range t.Due(m.ID, "db/"+name) {
			return true
		}
	}
	return false
}

// validDatabaseName: the name is part of keys, queues and paths.
func validDatabaseName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

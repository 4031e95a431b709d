package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailraft/mail"
)

// database applies DatabaseChange.
func (t *tx) database(c DatabaseChange) Answer {
	d, ok := t.Database(c.Name)
	switch {
	case c.Op == "add" && ok:
		return refuse(550, "5.5.0", "there is a database %s already", d.Name)
	case c.Op == "add" && !validDatabaseName(c.Name):
		return refuse(501, "5.5.4", "database name %q: want 1 to 64 letters, digits, dots, - or _", c.Name)
	case c.Op != "add" && !ok:
		return refuse(550, "5.1.0", "there is no database %q", c.Name)
	case c.Op == "remove":
		return t.removeDatabase(d, c)
	}
	e := &databaseEdit{Database: d}
	if c.Op == "add" {
		h, _ := t.History(c.Name) // of one that was removed: its numbers are not given again
		e.Database = Database{Name: c.Name, Activation: h.Activation}
		e.note(HistoryAdd, "", "")
	}
	if r := t.changeDatabase(e, c); r != nil {
		return Answer{Refused: r}
	}
	for i := range e.events {
		e.events[i].By, e.events[i].Reason = c.By, c.Reason
	}
	t.putDatabase(e.Database)
	t.forgetHealth(e.Database)
	t.note(e.Database, e.events...)
	return Answer{Count: 1, Text: strings.Join(e.warnings, "\n")}
}

func (t *tx) putDatabase(d Database) {
	t.put(tab(tabDatabase).text(strings.ToLower(d.Name)), d)
}

// removeDatabase removes one that nothing needs. Its history stays.
func (t *tx) removeDatabase(d Database, c DatabaseChange) Answer {
	if user := t.databaseUser(d.Name); user != "" {
		return refuse(550, "5.5.0", "database %s is used by %s", d.Name, user)
	}
	if t.mailWaits(d.Name) {
		return refuse(550, "5.5.0", "mail waits for database %s; deliver or delete it first", d.Name)
	}
	for r := range t.OpenRequests() {
		if r.Parent == 0 && sameName(r.Database, d.Name) {
			return refuse(550, "5.5.0", "resubmit request %s for database %s is %s; wait for its end or cancel it first", r.Name(), d.Name, r.State)
		}
	}
	t.delete(tab(tabDatabase).text(strings.ToLower(d.Name)))
	t.putHealth(d, nil)
	t.note(d, HistoryEvent{Kind: HistoryRemove, By: c.By, Reason: c.Reason})
	return Answer{Count: 1}
}

// databaseEdit is a database being changed, what its history will say of it,
// and what the operator is told.
type databaseEdit struct {
	Database
	events   []HistoryEvent
	warnings []string
}

func (e *databaseEdit) note(kind HistoryKind, copy, text string) {
	e.events = append(e.events, HistoryEvent{Kind: kind, Copy: copy, Text: text})
}

func (e *databaseEdit) warn(text string) {
	if text != "" {
		e.warnings = append(e.warnings, text)
	}
}

func (t *tx) changeDatabase(e *databaseEdit, c DatabaseChange) *mail.Reply {
	switch c.Op {
	case "add", "copy-add":
		return t.addCopies(e, c.Copies)
	case "copy-set":
		return t.setCopies(e, c.Copies)
	case "copy-remove":
		return removeCopies(e, c.Copies)
	case "report":
		return t.reportCopies(e, c.Copies)
	case "suspend-activation":
		return e.suspend(c.Copies, &Stop{At: t.now(), By: c.By, Reason: cut(c.Reason)}, HistorySuspend)
	case "resume-activation":
		return e.suspend(c.Copies, nil, HistoryResume)
	default:
		return mail.Replyf(501, "5.5.4", "databases know no %q", c.Op)
	}
}

// addCopies adds copies; the first that a database ever has is the active one.
func (t *tx) addCopies(e *databaseEdit, copies []Copy) *mail.Reply {
	for _, n := range copies {
		if e.copy(n.Name) != nil {
			return mail.Replyf(550, "5.5.0", "database %s has a copy %s already", e.Name, n.Name)
		}
		n.Suspended = nil
		if r := t.checkCopy(&e.Database, n); r != nil {
			return r
		}
		t.believe(e, &n)
		e.Copies = append(e.Copies, n)
		e.note(HistoryCopyAdd, n.Name, n.text())
		e.warn(t.Params().holdWarning(e.Name, n))
		if e.Active == "" {
			e.Active, e.Activation, e.Since = n.Name, e.Activation+1, t.now()
			e.events[len(e.events)-1].Activation = e.Activation
		}
	}
	slices.SortStableFunc(e.Copies, func(a, b Copy) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// setCopies replaces copies by name. What a copy is known to hold stays unless
// another data-through is given, but does not go along to another address.
func (t *tx) setCopies(e *databaseEdit, copies []Copy) *mail.Reply {
	for _, n := range copies {
		old := e.copy(n.Name)
		if old == nil {
			return e.noCopy(n.Name)
		}
		n.Suspended = old.Suspended
		switch same := n.Addr == old.Addr; {
		case n.Name == e.Active: // nobody but its request knows
			n.DataThrough = old.DataThrough
		case same && n.DataThrough == 0:
			n.DataThrough = old.DataThrough
		case !same && n.DataThrough == old.DataThrough:
			n.DataThrough = 0
		}
		if r := t.checkCopy(&e.Database, n); r != nil {
			return r
		}
		if n.DataThrough != old.DataThrough {
			t.believe(e, &n)
		}
		if n.Addr != old.Addr && n.Name == e.Active {
			e.warn(fmt.Sprintf("copy %s is the active one of %s: what was delivered at %s is not sent to %s; if that is another store: database activate %s --copy %s --data-through TIME",
				n.Name, e.Name, old.Addr, n.Addr, e.Name, n.Name))
		}
		*old = n
		e.note(HistoryCopySet, n.Name, n.text())
		e.warn(t.Params().holdWarning(e.Name, n))
	}
	return nil
}

func removeCopies(e *databaseEdit, copies []Copy) *mail.Reply {
	for _, n := range copies {
		if n.Name == e.Active {
			return mail.Replyf(550, "5.5.0", "copy %s is the active one of %s", n.Name, e.Name)
		}
		if e.copy(n.Name) == nil {
			return e.noCopy(n.Name)
		}
		e.Copies = slices.DeleteFunc(e.Copies, func(x Copy) bool { return x.Name == n.Name })
		e.note(HistoryCopyRemove, n.Name, "")
	}
	return nil
}

// reportCopies records up to when copies are complete, as whatever replicates
// them says. It may go back: a copy was restored from a backup. Of the active
// copy it says nothing: what it was still to be sent is not in its own log.
func (t *tx) reportCopies(e *databaseEdit, copies []Copy) *mail.Reply {
	if len(copies) == 0 {
		return mail.Replyf(501, "5.5.4", "report: say which copy of %s", e.Name)
	}
	for _, n := range copies {
		x := e.copy(n.Name)
		if x == nil {
			return e.noCopy(n.Name)
		}
		if n.DataThrough == 0 {
			return mail.Replyf(501, "5.5.4", "report: say up to when copy %s of %s is complete", n.Name, e.Name)
		}
		if r := t.checkThrough(e.Name, n.Name, n.DataThrough); r != nil {
			return r
		}
		if n.Name == e.Active {
			e.warn(fmt.Sprintf("copy %s is the active one of %s; if it was restored: database activate %s --copy %s --data-through %s",
				n.Name, e.Name, e.Name, n.Name, n.DataThrough))
			continue
		}
		text := "data-through " + n.DataThrough.String()
		if n.DataThrough < x.DataThrough {
			text += ", back from " + x.DataThrough.String()
		}
		x.DataThrough = n.DataThrough
		t.believe(e, x)
		if x.DataThrough < n.DataThrough {
			text += ", of which " + x.DataThrough.String() + " counts"
		}
		e.note(HistoryReport, n.Name, text)
		if live := t.healthOf(e.Database, n.Name).Through; x.Live && n.DataThrough < live {
			e.warn(fmt.Sprintf("copy %s of %s is declared live, and counts as complete up to %s, when it was last healthy: database copy set %s %s --replication none",
				n.Name, e.Name, live, e.Name, n.Name))
		}
	}
	return nil
}

// believe takes what is said of a copy only as far as it can be true if the
// copy is the same as the active one.
func (t *tx) believe(e *databaseEdit, c *Copy) {
	c.DataThrough = min(c.DataThrough, t.now()) // a clock elsewhere may be ahead
	if to := t.completeTo(e.Database); to < c.DataThrough {
		c.DataThrough = to
		e.warn(fmt.Sprintf("copy %s of %s counts as complete up to %s: the active copy %s was not sent what was delivered since", c.Name, e.Name, to, e.Active))
	}
}

// suspend stops the Active Manager from activating a database, or some of its
// copies, or lets it again.
func (e *databaseEdit) suspend(copies []Copy, stop *Stop, kind HistoryKind) *mail.Reply {
	if len(copies) == 0 {
		e.Suspended = stop
		e.note(kind, "", "")
	}
	for _, n := range copies {
		x := e.copy(n.Name)
		if x == nil {
			return e.noCopy(n.Name)
		}
		x.Suspended = stop
		e.note(kind, n.Name, "")
	}
	return nil
}

func (d *Database) noCopy(name string) *mail.Reply {
	return mail.Replyf(550, "5.1.0", "database %s has no copy %q", d.Name, name)
}

// lagMax is the longest replay lag, as Exchange has it.
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
	return t.checkThrough(d.Name, c.Name, c.DataThrough)
}

// aheadMax is how far the clock of whoever says data-through may be ahead.
const aheadMax = time.Minute

// checkThrough refuses a data-through that nobody can know yet: what is
// delivered until then would never be sent again.
func (t *tx) checkThrough(database, copy string, through mail.Time) *mail.Reply {
	if through > t.now().Add(aheadMax) {
		return mail.Replyf(501, "5.5.4", "copy %s of %s: data-through %s is ahead of the boundary's time %s", copy, database, through, t.now())
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

// mailWaits reports whether some member has mail for the database, due or held
// back: nobody would deliver it, nor give it up, once the database is gone. A
// group that is being expanded leads to mailboxes, which have a database.
func (t *tx) mailWaits(name string) bool {
	if t.any(tab(tabParked).str("db/"+name)) || t.any(tab(tabParked).str("resubmit/"+name)) {
		return true
	}
	for m := range t.Members() {
		for _, queue := range []string{"db/", "resubmit/"} {
			for range t.Due(m.ID, queue+name) {
				return true
			}
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

package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"mailraft/directory"
	"mailraft/fsm"
)

// ObjectName names a directory object to remove.
type ObjectName struct {
	Kind string `json:"kind"` // domain, mailbox, group, next-hop
	Name string `json:"name"`
}

// DirectoryOrder is the body of POST /v1/directory. Mode "add" refuses what is
// there, "set" what is not; without a mode objects are put either way.
type DirectoryOrder struct {
	Order
	Mode      string         `json:"mode,omitempty"`
	Domains   []Domain       `json:"domains,omitempty"`
	Mailboxes []Mailbox      `json:"mailboxes,omitempty"`
	Groups    []AddressGroup `json:"groups,omitempty"`
	NextHops  []NextHop      `json:"next_hops,omitempty"`
	Remove    []ObjectName   `json:"remove,omitempty"`
}

func (s *Server) changeDirectory(_ *http.Request, v *fsm.View, body DirectoryOrder) (plan, error) {
	switch body.Mode {
	case "", "add", "set":
	default:
		return plan{}, malformed("mode: %q is neither add nor set", body.Mode)
	}
	d := drawing{v: v, mode: body.Mode}
	d.objects(body.Domains, body.Mailboxes, body.Groups)
	d.nextHops(body.NextHops)
	for _, n := range body.Remove {
		d.remove(n)
	}
	return d.finish()
}

// drawing makes the plan of a change of directory objects. Objects that are
// there already, just so, are left out: a group that is put again would be a
// new version for nothing.
type drawing struct {
	v     *fsm.View
	mode  string
	fresh []string // databases that the same change makes
	plan  plan
	dir   fsm.Directory
	hops  fsm.NextHops
	size  int // objects in dir and hops
	err   error

	by, reason string // kept in the history of databases
}

// objectsPerEntry bounds an entry; a group is bounded by its members.
const (
	objectsPerEntry = 200
	membersPerEntry = 5000
)

func (d *drawing) objects(domains []Domain, mailboxes []Mailbox, groups []AddressGroup) {
	for _, x := range domains {
		x.Database = d.databaseName(x.Database)
		old, ok := d.v.Domain(x.Key())
		if d.put("domain", x.Name, ok, domainText(old), domainText(x), x.Validate(), x.Database) {
			d.dir.Domains = append(d.dir.Domains, x)
			d.grow(1)
		}
	}
	for _, x := range mailboxes {
		x.Database = d.databaseName(x.Database)
		old, ok := d.v.Mailbox(x.Key())
		if d.put("mailbox", x.Address, ok && old.Key() == x.Key(), mailboxText(old), mailboxText(x), x.Validate(), x.Database) {
			d.dir.Mailboxes = append(d.dir.Mailboxes, x)
			d.grow(1)
		}
	}
	for _, x := range groups {
		x.Version = 0
		old, ok := d.v.Group(x.Key(), 0)
		if d.put("group", x.Address, ok, groupText(old), groupText(x), x.Validate(), "") {
			d.dir.Groups = append(d.dir.Groups, x)
			d.grow(1 + len(x.Members)*objectsPerEntry/membersPerEntry)
		}
	}
}

// put notes one object; true: it has to be put.
func (d *drawing) put(kind, name string, there bool, from, to string, invalid error, database string) bool {
	if !there {
		from = ""
	}
	item := ChangeItem{Kind: kind, Name: name, Action: "add", From: from, To: to}
	switch {
	case d.err != nil:
	case invalid != nil:
		d.err = problem(http.StatusUnprocessableEntity, "%s %s: %v", kind, name, invalid)
	case database != "" && !d.hasDatabase(database):
		d.err = problem(http.StatusUnprocessableEntity, "%s %s: there is no database %q", kind, name, database)
	case there && d.mode == "add":
		d.err = problem(http.StatusConflict, "there is a %s %s already; change it with set", kind, name)
	case !there && d.mode == "set":
		d.err = missing("there is no %s %s; make it with add", kind, name)
	}
	if there {
		item.Action = "set"
	}
	if from == to {
		item.Action = "none"
	}
	d.plan.add(item)
	return item.changed()
}

func (d *drawing) remove(n ObjectName) {
	var from string
	var ok bool
	switch n.Kind {
	case "domain":
		var x Domain
		x, ok = d.v.Domain(directory.DomainKey(n.Name))
		from = domainText(x)
	case "mailbox":
		var x Mailbox
		x, ok = d.v.Mailbox(Mailbox{Address: n.Name}.Key())
		from = mailboxText(x)
	case "group":
		var x AddressGroup
		x, ok = d.v.Group(AddressGroup{Address: n.Name}.Key(), 0)
		from = groupText(x)
	case "next-hop":
		var x NextHop
		x, ok = d.v.NextHop(n.Name)
		from = nextHopText(x)
	}
	if !ok && d.err == nil {
		d.err = missing("there is no %s %q", n.Kind, n.Name)
	}
	d.plan.add(ChangeItem{Kind: n.Kind, Name: n.Name, Action: "remove", From: from})
	if n.Kind == "next-hop" {
		d.hops.Remove = append(d.hops.Remove, n.Name)
	} else {
		d.dir.Remove = append(d.dir.Remove, fsm.ObjectName{Kind: n.Kind, Name: n.Name})
	}
	d.grow(1)
}

// grow ends the entry when it is large enough. Each entry is applied whole or
// not at all; several are not one, but repeating them does no harm.
func (d *drawing) grow(by int) {
	if d.size += by; d.size >= objectsPerEntry {
		d.flush()
	}
}

func (d *drawing) flush() {
	if len(d.hops.Put)+len(d.hops.Remove) > 0 { // before a domain that leads there
		d.plan.steps = append(d.plan.steps, step{fsm.KindNextHop, d.hops})
		d.size -= len(d.hops.Put) + len(d.hops.Remove)
	}
	if d.size > 0 {
		d.plan.steps = append(d.plan.steps, step{fsm.KindDirectory, d.dir})
	}
	d.dir, d.hops, d.size = fsm.Directory{}, fsm.NextHops{}, 0
}

func (d *drawing) finish() (plan, error) {
	d.flush()
	return d.plan, d.err
}

// databaseName is the database's own spelling: deliveries are indexed by the
// name that the directory gives them.
func (d *drawing) databaseName(name string) string {
	if x, ok := d.v.Database(name); ok {
		return x.Name
	}
	if i := slices.IndexFunc(d.fresh, func(f string) bool { return strings.EqualFold(f, name) }); i >= 0 {
		return d.fresh[i]
	}
	return name
}

func (d *drawing) hasDatabase(name string) bool {
	_, ok := d.v.Database(name)
	return ok || slices.Contains(d.fresh, name)
}

func domainText(d Domain) string {
	s := d.Kind.String()
	if d.AnyMailbox {
		s += " any-mailbox"
	}
	if d.Database != "" {
		s += " database=" + d.Database
	}
	if d.NextHop != "" {
		s += " next-hop=" + d.NextHop
	}
	return s
}

func mailboxText(m Mailbox) string {
	s := "database=" + m.Database
	if len(m.Aliases) > 0 {
		s += " aliases=" + strings.Join(m.Aliases, ",")
	}
	return s
}

func groupText(g AddressGroup) string {
	return fmt.Sprintf("%d members: %s", len(g.Members), strings.Join(g.Members, ","))
}

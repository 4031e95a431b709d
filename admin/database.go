package admin

import (
	"net/http"
	"slices"
	"strings"

	"mailraft/fsm"
	"mailraft/mail"
)

// DatabaseOrder is the body of POST /v1/databases. With copy-set each copy
// replaces the one of its name wholly, but what it is known to hold stays.
type DatabaseOrder struct {
	Order
	Op     string `json:"op"` // add, remove, copy-add, copy-set, copy-remove, suspend-activation, resume-activation
	Name   string `json:"name"`
	Copies []Copy `json:"copies,omitempty"` // copy-remove and activation: by name; without any, activation is of the whole database
}

func (s *Server) changeDatabase(_ *http.Request, v *fsm.View, body DatabaseOrder) (p plan, err error) {
	old, ok := v.Database(body.Name)
	switch {
	case body.Op == "add" && ok:
		return p, problem(http.StatusConflict, "there is a database %s already", old.Name)
	case body.Op == "add":
		if err := (Mailbox{Address: "x@x", Database: body.Name}).Validate(); err != nil {
			return p, problem(http.StatusUnprocessableEntity, "%v", err)
		}
		p.add(ChangeItem{Kind: "database", Name: body.Name, Action: "add"})
	case !ok:
		return p, missing("there is no database %q", body.Name)
	case body.Op == "remove":
		p.add(ChangeItem{Kind: "database", Name: old.Name, Action: "remove"})
	case body.Op == "suspend-activation" || body.Op == "resume-activation":
		return changeActivation(old, body)
	case !slices.Contains([]string{"copy-add", "copy-set", "copy-remove"}, body.Op):
		return p, malformed("databases know no %q", body.Op)
	case len(body.Copies) == 0:
		return p, malformed("%s: say which copy", body.Op)
	}
	if ok {
		body.Name = old.Name
	}
	return p, p.copies(v, old, body)
}

// copies adds the change of copies to the plan.
func (p *plan) copies(v *fsm.View, old fsm.Database, body DatabaseOrder) error {
	next := fsm.Database{Name: body.Name}
	for _, c := range body.Copies {
		item, err := copyChange(old, body.Op, c)
		if err != nil {
			return err
		}
		item.Name = body.Name + "/" + c.Name
		p.add(item)
		if item.Action != "remove" {
			next.Copies = append(next.Copies, c)
		}
	}
	p.warnings = warnings(v.Params(), []fsm.Database{next})
	p.steps = []step{{fsm.KindDatabase, fsm.DatabaseChange{Op: body.Op, Name: body.Name, Copies: body.Copies, By: body.By, Reason: body.Reason}}}
	return nil
}

// changeActivation plans to stop the Active Manager, or to let it again.
func changeActivation(d fsm.Database, body DatabaseOrder) (p plan, err error) {
	op := strings.TrimSuffix(body.Op, "-activation")
	change := fsm.DatabaseChange{Op: body.Op, Name: d.Name, By: body.By, Reason: body.Reason}
	item := func(kind, name string, stop *Stop) {
		i := ChangeItem{Kind: kind, Name: name, Action: op}
		if op == "resume" && stop == nil {
			i.Action, i.Reason = "skip", "its activation is not suspended"
		}
		p.add(i)
	}
	if len(body.Copies) == 0 {
		item("database", d.Name, d.Suspended)
	}
	for _, c := range body.Copies {
		i := slices.IndexFunc(d.Copies, func(x Copy) bool { return x.Name == c.Name })
		if i < 0 {
			return plan{}, missing("database %s has no copy %q", d.Name, c.Name)
		}
		item("copy", d.Name+"/"+c.Name, d.Copies[i].Suspended)
		change.Copies = append(change.Copies, Copy{Name: c.Name})
	}
	p.steps = []step{{fsm.KindDatabase, change}}
	return p, nil
}

func copyChange(d fsm.Database, op string, c Copy) (ChangeItem, error) {
	i := slices.IndexFunc(d.Copies, func(x Copy) bool { return x.Name == c.Name })
	if op == "copy-set" && i >= 0 {
		c.DataThrough = keptThrough(d.Copies[i], c)
	}
	item := ChangeItem{Kind: "copy", Action: "add", To: copyText(c)}
	switch op {
	case "copy-set", "copy-remove":
		if i < 0 {
			return item, missing("database %s has no copy %q", d.Name, c.Name)
		}
		item.Action, item.From = "set", copyText(d.Copies[i])
		if op == "copy-remove" {
			item.Action, item.To = "remove", ""
		} else if item.From == item.To {
			item.Action = "none"
		}
	default:
		if i >= 0 {
			return item, problem(http.StatusConflict, "database %s has a copy %s already; change it with copy set", d.Name, c.Name)
		}
	}
	return item, nil
}

// keptThrough is what a copy that is set is known to hold: it stays, but not at
// another address.
func keptThrough(old, c Copy) mail.Time {
	switch {
	case c.Addr == old.Addr && c.DataThrough == 0:
		return old.DataThrough
	case c.Addr != old.Addr && c.DataThrough == old.DataThrough:
		return 0
	}
	return c.DataThrough
}

func copyText(c Copy) string {
	s := []string{c.Addr}
	add := func(name, value string, there bool) {
		if there {
			s = append(s, name+"="+value)
		}
	}
	add("site", c.Site, c.Site != "")
	add("lag", mail.FormatDuration(c.Lag.Std()), c.Lag != 0)
	add("preference", itoa(c.Preference), c.Preference != 0)
	add("replication-slack", mail.FormatDuration(c.Slack.Std()), c.Slack != 0)
	add("data-through", c.DataThrough.String(), c.DataThrough != 0)
	add("replication", "live", c.Live)
	return strings.Join(s, " ")
}

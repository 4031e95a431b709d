package admin

import (
	"net/http"
	"slices"
	"strings"

	"mailraft/fsm"
	"mailraft/mail"
)

// DatabaseOrder is the body of POST /v1/databases. With copy-set each copy
// replaces the one of its name wholly.
type DatabaseOrder struct {
	Order
	Op     string `json:"op"` // add, remove, copy-add, copy-set, copy-remove
	Name   string `json:"name"`
	Copies []Copy `json:"copies,omitempty"`
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
	case !slices.Contains([]string{"copy-add", "copy-set", "copy-remove"}, body.Op):
		return p, malformed("databases know no %q", body.Op)
	case len(body.Copies) == 0:
		return p, malformed("%s: say which copy", body.Op)
	}
	if ok {
		body.Name = old.Name
	}
	next := fsm.Database{Name: body.Name}
	for _, c := range body.Copies {
		item, err := copyChange(old, body.Op, c)
		if err != nil {
			return p, err
		}
		item.Name = body.Name + "/" + c.Name
		p.add(item)
		if item.Action != "remove" {
			next.Copies = append(next.Copies, c)
		}
	}
	p.warnings = warnings(v.Params(), []fsm.Database{next})
	p.steps = []step{{fsm.KindDatabase, fsm.DatabaseChange{Op: body.Op, Name: body.Name, Copies: body.Copies, By: body.By, Reason: body.Reason}}}
	return p, nil
}

func copyChange(d fsm.Database, op string, c Copy) (ChangeItem, error) {
	item := ChangeItem{Kind: "copy", Action: "add", To: copyText(c)}
	i := slices.IndexFunc(d.Copies, func(x Copy) bool { return x.Name == c.Name })
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

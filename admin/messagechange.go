package admin

import (
	"net/http"
	"slices"

	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
)

// MessageOrder is the body of POST /v1/messages/{op}, see MessageVerbs; the
// filter is in the query. Without ids and filter All must be said.
type MessageOrder struct {
	Order
	All bool      `json:"all,omitempty"`
	IDs []mail.ID `json:"ids,omitempty"`
	// Redirect: pending recipients get the message in this database, or at this
	// address. One of them.
	Database string `json:"to_database,omitempty"`
	To       string `json:"to,omitempty"`
}

// MessageVerbs are what can be done to messages. "delete" is another word for
// "remove".
var MessageVerbs = []string{"retry", "suspend", "resume", "bounce", "redirect", "remove", "delete"}

// idsPerEntry bounds the rows that one entry of the log changes.
const idsPerEntry = 500

func (s *Server) changeMessages(r *http.Request, v *fsm.View, body MessageOrder) (p plan, err error) {
	op := r.PathValue("op")
	if !slices.Contains(MessageVerbs, op) {
		return p, missing("messages know no %q", op)
	}
	f, err := ParseFilter(r.URL.Query())
	if err != nil {
		return p, err
	}
	f.ids = append(f.ids, body.IDs...)
	if err := checkSelection(f.given || len(f.ids) > 0, body.All); err != nil {
		return p, err
	}
	if err := missingID(v, &f); err != nil {
		return p, err
	}
	c := fsm.MessageChange{Op: op, Reason: body.Reason, By: body.By, Database: body.Database, To: body.To}
	if op == "remove" {
		c.Op = "delete"
	}
	to, err := target(v, &c)
	if err != nil {
		return p, err
	}
	where := to.Address
	if where == "" && to.Database != "" {
		where = "database " + to.Database
	}
	limit, _ := limitOf(r.URL.Query())
	var ids []mail.ID
	for m := range selected(v, &f, namesOf(v), v.Tables.Applied().Time) {
		if len(ids) == limit {
			break
		}
		item := ChangeItem{Kind: "message", Name: m.ID.String(), Action: op, To: where}
		if reason := idle(m, &c, to); reason != "" {
			item.Action, item.Reason, item.To = "skip", reason, ""
		} else {
			ids = append(ids, m.ID)
		}
		if item.changed() || len(f.ids) > 0 {
			p.add(item)
		}
	}
	for batch := range slices.Chunk(ids, idsPerEntry) {
		c.IDs = batch
		p.steps = append(p.steps, step{fsm.KindMessage, c})
	}
	return p, nil
}

// target is where a redirection leads.
func target(v *fsm.View, c *fsm.MessageChange) (to directory.Resolved, err error) {
	switch {
	case c.Op != "redirect" && c.Database+c.To != "":
		return to, malformed("only redirect goes to a database or an address")
	case c.Op != "redirect":
		return to, nil
	case (c.Database == "") == (c.To == ""):
		return to, malformed("redirect: say where, to a database or to an address")
	case c.Database != "":
		d, ok := v.Database(c.Database)
		if !ok {
			return to, missing("there is no database %q", c.Database)
		}
		c.Database = d.Name
	}
	to, refused := v.Redirection(*c)
	if refused != nil {
		return to, refusal(refused)
	}
	return to, nil
}

// checkSelection: everything must be spelt out, and not together with less.
func checkSelection(given, all bool) error {
	switch {
	case !given && !all:
		return malformed("say which: by id, by a filter, or --all")
	case given && all:
		return malformed("--all and a selection contradict each other")
	}
	return nil
}

// idle says why a change would do nothing to the message.
func idle(m *fsm.Message, c *fsm.MessageChange, to directory.Resolved) string {
	switch {
	case !m.Active():
		return "finished at " + m.Finished.String()
	case c.Op == "suspend" && m.Suspended:
		return "suspended already"
	case c.Op == "resume" && !m.Suspended && m.Poison == nil:
		return "not suspended"
	case c.Op == "retry" && m.Poison != nil:
		return "set aside as poison; resume it"
	case m.Request != 0 && (c.Op == "bounce" || c.Op == "redirect"):
		return "a resubmission; cancel its request, or remove it"
	case c.Op == "redirect" && m.Expanding:
		return "its groups are being expanded; try again"
	case c.Op == "redirect" && !slices.ContainsFunc(m.Recipients, func(r fsm.Recipient) bool { return r.Redirectable(to) }):
		return "nobody is pending who could be redirected there"
	case c.Op == "bounce" && !m.Expanding && !slices.ContainsFunc(m.Recipients, func(r fsm.Recipient) bool { return r.State == fsm.Pending && !r.Returned }):
		return "bounced already"
	}
	return ""
}

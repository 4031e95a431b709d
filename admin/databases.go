package admin

import (
	"iter"
	"net/http"
	"slices"

	"mailraft/fsm"
	"mailraft/mail"
)

// Stop is an order to activate nothing automatically, as it stands.
type Stop = fsm.Stop

// Database is a mailbox database.
type Database struct {
	Name       string         `json:"name"`
	Active     string         `json:"active,omitempty"`
	Activation uint64         `json:"activation,omitempty"`
	Since      mail.Time      `json:"since,omitzero"`
	Request    string         `json:"request,omitempty"`              // that the present activation made
	Suspended  *Stop          `json:"activation_suspended,omitempty"` // of all copies
	Copies     []DatabaseCopy `json:"copies"`
}

// DatabaseCopy is a copy of a database and how it is.
type DatabaseCopy struct {
	Copy
	Health *CopyHealth `json:"health,omitempty"` // none: nothing is known
}

// CopyHealth is what a majority of the members has found of a copy.
type CopyHealth struct {
	Healthy bool      `json:"healthy"`
	Since   mail.Time `json:"since"`           // of this verdict
	Seen    mail.Time `json:"seen,omitzero"`   // when it was last found healthy, a minute ago at most if it is
	Error   string    `json:"error,omitempty"` // the last one
}

// Stuck is a database whose active copy is dead and which is not activated
// elsewhere.
type Stuck struct {
	Database string    `json:"database"`
	Why      string    `json:"why"`
	Since    mail.Time `json:"since"`
	Waits    bool      `json:"waits,omitempty"` // it will be, in a while
}

// DatabaseEvent is one line of the history of a database.
type DatabaseEvent struct {
	Time       mail.Time `json:"time"`
	Event      string    `json:"event"`
	Database   string    `json:"database"`
	Copy       string    `json:"copy,omitempty"` // none: the whole database
	From       string    `json:"from,omitempty"` // the copy that was active before
	Activation uint64    `json:"activation,omitempty"`
	Request    string    `json:"request,omitempty"`
	By         string    `json:"by,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Text       string    `json:"text,omitempty"`
	Times      int       `json:"times,omitempty"` // report: how often in a row
}

func (s *Server) routeDatabases(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/databases", listing(s, objectList(databases)))
	mux.HandleFunc("GET /v1/databases/{name}", s.reading(showDatabase))
	mux.HandleFunc("GET /v1/databases/{name}/active", s.activeCopy)
	mux.HandleFunc("GET /v1/databases/{name}/history", listing(s, databaseHistory))
	mux.HandleFunc("POST /v1/databases", changing(s, "databases",
		func(o *DatabaseOrder) *Order { return &o.Order }, s.changeDatabase))
	mux.HandleFunc("POST /v1/databases/{name}/activate", s.activate)
	mux.HandleFunc("POST /v1/databases/{name}/report", changing(s, "databases",
		func(o *CopyReport) *Order { return &o.Order }, reportCopy))
}

func databases(v *fsm.View) iter.Seq[Database] {
	return func(yield func(Database) bool) {
		for d := range v.Databases() {
			if !yield(viewDatabase(v, d)) {
				return
			}
		}
	}
}

func viewDatabase(v *fsm.View, d fsm.Database) Database {
	view := Database{Name: d.Name, Active: d.Active, Activation: d.Activation, Since: d.Since, Suspended: d.Suspended, Copies: []DatabaseCopy{}}
	if d.Request != 0 {
		view.Request = requestID(d.Request)
	}
	records := v.Health(d.Name)
	for _, c := range d.Copies {
		x := DatabaseCopy{Copy: c}
		if i := slices.IndexFunc(records, func(r fsm.CopyRecord) bool { return r.Copy == c.Name && r.Addr == c.Addr }); i >= 0 {
			x.Health = &CopyHealth{Healthy: records[i].Healthy, Since: records[i].Since, Seen: records[i].Seen, Error: records[i].Text}
		}
		view.Copies = append(view.Copies, x)
	}
	return view
}

func showDatabase(r *http.Request, v *fsm.View, as As) (any, error) {
	d, ok := v.Database(r.PathValue("name"))
	return one(as, viewDatabase(v, d), ok, "database", r)
}

// databaseHistory is also of a database that was removed.
func databaseHistory(r *http.Request, v *fsm.View, _ As) (iter.Seq[DatabaseEvent], error) {
	h, ok := v.History(r.PathValue("name"))
	if !ok {
		return nil, missing("there is no database %q, and never was", r.PathValue("name"))
	}
	return func(yield func(DatabaseEvent) bool) {
		for _, e := range h.Events {
			x := DatabaseEvent{Time: e.At, Event: e.Kind.String(), Database: h.Name, Copy: e.Copy, From: e.From, Activation: e.Activation,
				By: e.By, Reason: e.Reason, Text: e.Text, Times: e.Times}
			if e.Request != 0 {
				x.Request = requestID(e.Request)
			}
			if !yield(x) {
				return
			}
		}
	}, nil
}

// CopyReport is the body of POST /v1/databases/{name}/report: whatever
// replicates a copy says up to when it is complete.
type CopyReport struct {
	Order
	Copy        string `json:"copy"`
	DataThrough Moment `json:"data_through"`
}

func reportCopy(r *http.Request, v *fsm.View, body CopyReport) (p plan, err error) {
	d, ok := v.Database(r.PathValue("name"))
	if !ok {
		return p, missing("there is no database %q", r.PathValue("name"))
	}
	i := slices.IndexFunc(d.Copies, func(c Copy) bool { return c.Name == body.Copy })
	switch {
	case i < 0:
		return p, missing("database %s has no copy %q", d.Name, body.Copy)
	case body.DataThrough.IsZero():
		return p, malformed("data_through: say up to when copy %s is complete", body.Copy)
	}
	through := body.DataThrough.Of(v.Tables.Applied().Time)
	item := ChangeItem{Kind: "copy", Name: d.Name + "/" + body.Copy, Action: "report", From: d.Copies[i].DataThrough.String(), To: through.String()}
	switch {
	case body.Copy == d.Active:
		item.Action, item.From, item.To = "skip", "", ""
		item.Reason = "it is the active copy; if it was restored, activate it with data-through"
	case item.From == item.To:
		item.Action = "none"
	}
	p.add(item)
	p.steps = []step{{fsm.KindDatabase, fsm.DatabaseChange{Op: "report", Name: d.Name, Copies: []Copy{{Name: body.Copy, DataThrough: through}}, By: body.By, Reason: body.Reason}}}
	return p, nil
}

package admin

import (
	"net/http"
	"slices"
	"strconv"

	"mailraft/fsm"
)

// Document is all of the directory and the databases in one file.
type Document struct {
	Databases []DocumentDatabase `json:"databases"`
	Domains   []Domain           `json:"domains"`
	Mailboxes []Mailbox          `json:"mailboxes"`
	Groups    []DocumentGroup    `json:"groups"`
	NextHops  []NextHop          `json:"next_hops,omitempty"`
}

// DocumentDatabase is a database in a file: which copy is active is the
// boundary's to say, not the file's.
type DocumentDatabase struct {
	Name   string `json:"name"`
	Copies []Copy `json:"copies"`
}

// DocumentGroup is a group in a file: its version is the boundary's.
type DocumentGroup struct {
	Address string   `json:"address"`
	Members []string `json:"members"`
}

// ExportedDocument is the answer to an export.
type ExportedDocument struct {
	As
	Document
}

func export(_ *http.Request, v *fsm.View, as As) (any, error) {
	d := Document{Databases: []DocumentDatabase{}, Domains: []Domain{}, Mailboxes: []Mailbox{}, Groups: []DocumentGroup{}}
	for x := range v.Databases() {
		copies := slices.Clone(x.Copies)
		for i := range copies {
			copies[i].Suspended = nil // an order of the day, not of the site
		}
		d.Databases = append(d.Databases, DocumentDatabase{x.Name, copies})
	}
	d.Domains = slices.AppendSeq(d.Domains, v.Domains())
	d.Mailboxes = slices.AppendSeq(d.Mailboxes, mailboxes(v))
	for g := range v.Groups() {
		d.Groups = append(d.Groups, DocumentGroup{g.Address, g.Members})
	}
	d.NextHops = slices.AppendSeq(d.NextHops, v.NextHops())
	return ExportedDocument{as, d}, nil
}

// ImportOrder is the body of POST /v1/import.
type ImportOrder struct {
	Order
	Document Document `json:"document"`
}

// importDocument puts what a document names and leaves the rest alone. It
// changes only what differs, so importing twice is importing once.
func (s *Server) importDocument(_ *http.Request, v *fsm.View, body ImportOrder) (plan, error) {
	d := drawing{v: v, by: body.By, reason: body.Reason}
	for _, x := range body.Document.Databases {
		if err := d.importDatabase(x); err != nil {
			return plan{}, err
		}
	}
	groups := make([]AddressGroup, len(body.Document.Groups))
	for i, g := range body.Document.Groups {
		groups[i] = AddressGroup{Address: g.Address, Members: g.Members}
	}
	d.nextHops(body.Document.NextHops)
	d.objects(body.Document.Domains, body.Document.Mailboxes, groups)
	return d.finish()
}

// importDatabase adds a database or the copies that it lacks, and changes
// those that differ. Copies that the file does not name stay.
func (d *drawing) importDatabase(x DocumentDatabase) error {
	old, ok := d.v.Database(x.Name)
	op, name := "copy-add", old.Name
	if !ok {
		op, name = "add", x.Name
		d.fresh = append(d.fresh, x.Name)
		d.plan.add(ChangeItem{Kind: "database", Name: x.Name, Action: "add"})
	}
	var add, set []Copy
	for _, c := range x.Copies {
		copyOp := op
		if slices.ContainsFunc(old.Copies, func(o Copy) bool { return o.Name == c.Name }) {
			copyOp = "copy-set"
		}
		item, err := copyChange(old, copyOp, c)
		if err != nil {
			return err
		}
		item.Name = name + "/" + c.Name
		d.plan.add(item)
		switch item.Action {
		case "add":
			add = append(add, c)
		case "set":
			set = append(set, c)
		}
	}
	if !ok || len(add) > 0 {
		d.plan.steps = append(d.plan.steps, step{fsm.KindDatabase, fsm.DatabaseChange{Op: op, Name: name, Copies: add, By: d.by, Reason: d.reason}})
	}
	if len(set) > 0 {
		d.plan.steps = append(d.plan.steps, step{fsm.KindDatabase, fsm.DatabaseChange{Op: "copy-set", Name: name, Copies: set, By: d.by, Reason: d.reason}})
	}
	d.plan.warnings = append(d.plan.warnings, warnings(d.v.Params(), []fsm.Database{{Name: name, Copies: x.Copies}})...)
	return nil
}

func itoa(n int) string { return strconv.Itoa(n) }

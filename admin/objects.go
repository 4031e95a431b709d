package admin

import (
	"iter"
	"net/http"

	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
)

// The objects of the directory and the copies of databases are shown as they
// are: their JSON is what files hold.
type (
	Domain       = directory.Domain
	Mailbox      = directory.Mailbox
	AddressGroup = directory.Group // Group is of the queue
	NextHop      = directory.NextHop
	TLSPolicy    = directory.TLSPolicy
	Copy         = fsm.Copy
)

// The kinds of domain.
const (
	Accepted = directory.Accepted
	Relay    = directory.Relay
)

func (s *Server) routeObjects(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/parameters", listing(s, s.listParameters))
	mux.HandleFunc("POST /v1/parameters", changing(s, "parameters",
		func(o *ParameterOrder) *Order { return &o.Order }, s.setParameters))
	mux.HandleFunc("GET /v1/domains", listing(s, objectList((*fsm.View).Domains)))
	mux.HandleFunc("GET /v1/mailboxes", listing(s, objectList(mailboxes)))
	mux.HandleFunc("GET /v1/groups", listing(s, objectList((*fsm.View).Groups)))
	mux.HandleFunc("GET /v1/domains/{name}", s.reading(showDomain))
	mux.HandleFunc("GET /v1/mailboxes/{name}", s.reading(showMailbox))
	mux.HandleFunc("GET /v1/groups/{name}", s.reading(showGroup))
	mux.HandleFunc("GET /v1/next-hops", listing(s, objectList((*fsm.View).NextHops)))
	mux.HandleFunc("GET /v1/next-hops/{name}", s.reading(showNextHop))
	s.routeDatabases(mux)
	mux.HandleFunc("GET /v1/resolve", listing(s, resolve))
	mux.HandleFunc("GET /v1/directory", s.reading(export))
	mux.HandleFunc("POST /v1/directory", changing(s, "directory",
		func(o *DirectoryOrder) *Order { return &o.Order }, s.changeDirectory))
	mux.HandleFunc("POST /v1/import", changing(s, "import",
		func(o *ImportOrder) *Order { return &o.Order }, s.importDocument))
}

func objectList[T any](f func(*fsm.View) iter.Seq[T]) func(*http.Request, *fsm.View, As) (iter.Seq[T], error) {
	return func(_ *http.Request, v *fsm.View, _ As) (iter.Seq[T], error) { return f(v), nil }
}

// mailboxes walks each mailbox once: the table has it under its aliases too,
// and the row is the same; its own key is the one that counts.
func mailboxes(v *fsm.View) iter.Seq[Mailbox] {
	return func(yield func(Mailbox) bool) {
		seen := map[string]int{} // aliases still to come, by own key
		for m := range v.Mailboxes() {
			k := m.Key()
			left, known := seen[k]
			if !known {
				left = len(m.Aliases) + 1
			}
			if left--; left == 0 {
				delete(seen, k)
			} else {
				seen[k] = left
			}
			if !known && !yield(m) {
				return
			}
		}
	}
}

// One is the answer for one object.
type One[T any] struct {
	As
	Item T `json:"item"`
}

func showDomain(r *http.Request, v *fsm.View, as As) (any, error) {
	d, ok := v.Domain(directory.DomainKey(r.PathValue("name")))
	return one(as, d, ok, "domain", r)
}

func showMailbox(r *http.Request, v *fsm.View, as As) (any, error) {
	m, ok := v.Mailbox(Mailbox{Address: r.PathValue("name")}.Key())
	return one(as, m, ok, "mailbox", r)
}

func showGroup(r *http.Request, v *fsm.View, as As) (any, error) {
	g, ok := v.Group(AddressGroup{Address: r.PathValue("name")}.Key(), 0)
	return one(as, g, ok, "group", r)
}

func one[T any](as As, item T, ok bool, kind string, r *http.Request) (any, error) {
	if !ok {
		return nil, missing("there is no %s %q", kind, r.PathValue("name"))
	}
	return One[T]{as, item}, nil
}

// Resolution is what becomes of mail to an address now.
type Resolution struct {
	Original string      `json:"original"`
	Address  string      `json:"address"`
	Kind     string      `json:"kind"` // mailbox, relay, failed
	Database string      `json:"database,omitempty"`
	NextHop  string      `json:"next_hop,omitempty"`
	Via      []string    `json:"via,omitempty"`
	Reply    *mail.Reply `json:"reply,omitempty"` // failed: why
	RCPT     *mail.Reply `json:"rcpt,omitempty"`  // what RCPT would be refused with, without the right to relay
}

// resolvePiece is how many members of groups are resolved at a time.
const resolvePiece = 1000

func resolve(r *http.Request, v *fsm.View, _ As) (iter.Seq[Resolution], error) {
	addresses := r.URL.Query()["address"]
	if len(addresses) == 0 {
		return nil, malformed("address: at least one is needed")
	}
	rcpt := map[string]*mail.Reply{}
	for _, text := range addresses {
		a, err := mail.ParseAddress(text)
		if err != nil {
			return nil, malformed("%q is not an address", text)
		}
		if reply, ok := directory.Verify(v.Tables, a, false).(*mail.Reply); ok {
			rcpt[text] = reply
		}
	}
	return func(yield func(Resolution) bool) {
		seen := map[string]bool{}
		now, rest := directory.Resolve(v.Tables, addresses, true, resolvePiece)
		for {
			for _, x := range now {
				seen[x.Key()] = true
				if !yield(Resolution{Original: x.Original, Address: x.Address, Kind: x.Kind.String(), Database: x.Database,
					NextHop: x.NextHop, Via: x.Via, Reply: x.Reply, RCPT: rcpt[x.Original]}) {
					return
				}
			}
			if len(rest) == 0 {
				return
			}
			now, rest = directory.Expand(v.Tables, rest, resolvePiece, func(k string) bool { return seen[k] })
		}
	}, nil
}

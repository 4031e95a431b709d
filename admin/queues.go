package admin

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"

	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
)

func (s *Server) routeQueues(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/queues", listing(s, s.listQueues))
	mux.HandleFunc("GET /v1/queues/summary", listing(s, s.summarize))
	mux.HandleFunc("POST /v1/queues/{op}", changing(s, "queues",
		func(o *QueueOrder) *Order { return &o.Order }, s.changeQueues))
	mux.HandleFunc("GET /v1/safetynet", listing(s, s.listSafetyNet))
	mux.HandleFunc("GET /v1/safetynet/summary", listing(s, summarizeSafetyNet))
}

// Group is a number of messages with something in common.
type Group struct {
	Name        string    `json:"name"`
	Messages    int       `json:"messages"`
	Recipients  int       `json:"recipients"` // pending
	Bytes       int64     `json:"bytes"`
	Deferred    int       `json:"deferred"` // recipients that were tried
	Oldest      mail.Time `json:"oldest,omitzero"`
	NextAttempt mail.Time `json:"next_attempt,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
	last        mail.ID   // counted last
}

// Queue is what waits for one destination.
type Queue struct {
	Group
	Suspended   bool      `json:"suspended,omitempty"`
	SuspendedBy string    `json:"suspended_by,omitempty"`
	SuspendedAt mail.Time `json:"suspended_at,omitzero"`
	Reason      string    `json:"reason,omitempty"`
}

// AllQueues is the name that a standing order for all destinations is shown by.
const AllQueues = "(all)"

// groupings are the ways to sum up the queue: by what of a pending recipient.
var groupings = map[string]func(*fsm.Message, *fsm.Recipient, names, mail.Time) string{
	"destination": func(_ *fsm.Message, r *fsm.Recipient, _ names, _ mail.Time) string { return r.Destination() },
	"database": func(_ *fsm.Message, r *fsm.Recipient, _ names, _ mail.Time) string {
		return cmp.Or(r.Database, "(none)")
	},
	"domain": func(_ *fsm.Message, r *fsm.Recipient, _ names, _ mail.Time) string { return domainOf(r.Address) },
	"sender": func(m *fsm.Message, _ *fsm.Recipient, _ names, _ mail.Time) string {
		return cmp.Or(m.Envelope.ReversePath, "<>")
	},
	"member": func(m *fsm.Message, _ *fsm.Recipient, n names, _ mail.Time) string { return n.of(m.Primary) },
	"state":  func(m *fsm.Message, _ *fsm.Recipient, _ names, now mail.Time) string { return stateOf(m, now) },
	"error": func(_ *fsm.Message, r *fsm.Recipient, _ names, _ mail.Time) string {
		if r.Reply == nil {
			return "(none)"
		}
		return word(r.Reply.String(), 120)
	},
}

// Groupings are the words that a summary can be by.
func Groupings() []string { return slices.Sorted(maps.Keys(groupings)) }

// groups sums up the pending recipients of the selected active messages.
func groups(r *http.Request, v *fsm.View, as As, by string) (map[string]*Group, error) {
	f, err := ParseFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	name, ok := groupings[by]
	if !ok {
		return nil, malformed("by: %q is none of %s", by, strings.Join(Groupings(), ", "))
	}
	n, all := namesOf(v), map[string]*Group{}
	for m := range selected(v, &f, n, as.Time) {
		if r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		for i := range m.Recipients {
			if rc := &m.Recipients[i]; rc.State == fsm.Pending && f.matchRecipient(rc) {
				k := name(m, rc, n, as.Time)
				if all[k] == nil {
					all[k] = &Group{Name: k}
				}
				all[k].count(m, rc)
			}
		}
	}
	return all, nil
}

func (g *Group) count(m *fsm.Message, r *fsm.Recipient) {
	if g.last != m.ID {
		g.last = m.ID
		g.Messages++
		g.Bytes += m.Content.Size
		if g.Oldest == 0 || m.Accepted < g.Oldest {
			g.Oldest = m.Accepted
		}
	}
	g.Recipients++
	if r.Attempts > 0 {
		g.Deferred++
	}
	if g.NextAttempt == 0 || r.Next < g.NextAttempt {
		g.NextAttempt = r.Next
	}
	if r.Reply != nil {
		g.LastError = r.Reply.String()
	}
}

func (s *Server) listQueues(r *http.Request, v *fsm.View, as As) (iter.Seq[Queue], error) {
	all, err := groups(r, v, as, "destination")
	if err != nil {
		return nil, err
	}
	queues := map[string]Queue{}
	for k, g := range all {
		queues[k] = Queue{Group: *g}
	}
	for sp := range v.Suspensions() {
		name := cmp.Or(sp.Key, AllQueues)
		q := queues[name]
		q.Name = name
		q.Suspended, q.SuspendedBy, q.SuspendedAt, q.Reason = true, sp.By, sp.At, sp.Reason
		queues[name] = q
	}
	return values(queues), nil
}

// values walks a map in the order of its keys.
func values[T any](m map[string]T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(m[k]) {
				return
			}
		}
	}
}

func (s *Server) summarize(r *http.Request, v *fsm.View, as As) (iter.Seq[Group], error) {
	all, err := groups(r, v, as, cmp.Or(r.URL.Query().Get("by"), "destination"))
	if err != nil {
		return nil, err
	}
	list := make([]Group, 0, len(all))
	for _, g := range all {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	return slices.Values(list), nil
}

// QueueOrder is the body of POST /v1/queues/{suspend,resume,retry}. A key is
// "db/NAME", "resubmit/NAME", "relay/NEXTHOP", or the name of a database, which
// is that of both its queues: what suspends "db/NAME" holds back resubmissions,
// too.
type QueueOrder struct {
	Order
	Keys []string `json:"keys,omitempty"`
	All  bool     `json:"all,omitempty"`
}

func (s *Server) changeQueues(r *http.Request, v *fsm.View, body QueueOrder) (p plan, err error) {
	op := r.PathValue("op")
	if op != "suspend" && op != "resume" && op != "retry" {
		return p, missing("queues know no %q", op)
	}
	if err := checkSelection(len(body.Keys) > 0, body.All); err != nil {
		return p, err
	}
	if op == "retry" {
		return retryQueues(v, body)
	}
	standing := map[string]bool{}
	for sp := range v.Suspensions() {
		standing[sp.Key] = true
	}
	keys := body.Keys
	switch {
	case body.All && op == "suspend":
		keys = []string{""}
	case body.All:
		keys = slices.Sorted(maps.Keys(standing))
	}
	for _, k := range keys {
		if k, err = queueKey(v, k); err != nil {
			return p, err
		}
		item := ChangeItem{Kind: "queue", Name: cmp.Or(k, AllQueues), Action: op}
		if op == "resume" && !standing[k] {
			item.Action, item.Reason = "skip", "not suspended"
		} else {
			p.steps = append(p.steps, step{fsm.KindQueue,
				fsm.QueueChange{Key: k, Suspend: op == "suspend", Reason: body.Reason, By: body.By}})
		}
		p.add(item)
	}
	return p, nil
}

// retryQueues has all that waits for destinations tried now, by its owners. A
// destination that does not answer is probed once a minute at most, as always.
func retryQueues(v *fsm.View, body QueueOrder) (p plan, err error) {
	waiting := map[string][]mail.ID{}
	for m := range v.Members() {
		for key := range v.Destinations(m.ID) {
			for w := range v.Due(m.ID, key) {
				if key != fsm.NoticeQueue && w.Next > v.Tables.Applied().Time {
					waiting[key] = append(waiting[key], w.ID)
				}
			}
		}
	}
	keys := body.Keys
	if body.All {
		keys = slices.Sorted(maps.Keys(waiting))
	}
	for _, k := range keys {
		if k, err = queueKey(v, k); err != nil {
			return p, err
		}
		item := ChangeItem{Kind: "queue", Name: k, Action: "retry", To: fmt.Sprintf("%d messages", len(waiting[k]))}
		if len(waiting[k]) == 0 {
			item.Action, item.To, item.Reason = "skip", "", "nothing waits for another attempt there"
		}
		p.add(item)
		for batch := range slices.Chunk(waiting[k], idsPerEntry) {
			p.steps = append(p.steps, step{fsm.KindMessage, fsm.MessageChange{Op: "retry", IDs: batch, Queue: k, Reason: body.Reason, By: body.By}})
		}
	}
	return p, nil
}

// queueKey is the key of a destination in the state's spelling.
func queueKey(v *fsm.View, k string) (string, error) {
	queue, name, ok := strings.Cut(k, "/")
	switch {
	case k == "", strings.HasPrefix(k, "relay/"):
		return k, nil
	case !ok:
		queue, name = "db", k
	case queue != "db" && queue != "resubmit":
		return "", malformed("queue %q: want db/NAME, resubmit/NAME or relay/NEXTHOP, as queue list shows it", k)
	}
	d, ok := v.Database(name)
	if !ok {
		return "", missing("there is no database %q", name)
	}
	return queue + "/" + d.Name, nil
}

func domainOf(address string) string {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return "(malformed)"
	}
	return directory.DomainKey(a.Domain)
}

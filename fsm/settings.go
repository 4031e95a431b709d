package fsm

import (
	"slices"
	"sync"

	"mailraft/directory"
	"mailraft/mail"
)

// Settings are the rows that nearly every entry, and every command of every
// client, asks for: read and decoded once, and again after one of them has
// changed. They are shared by all who ask: read only.
type Settings struct {
	Params   Params
	Boundary Boundary
	Members  []Member // by id
	names    names
}

// names remembers what look-ups in the directory have found: nearly all mail
// is for few domains, and most of it for addresses that had mail before. A
// group is remembered only for not being one.
type names struct {
	mu        sync.Mutex
	domains   map[string]found[directory.Domain]
	mailboxes map[string]found[directory.Mailbox]
	groups    map[string]struct{} // that are none
}

type found[T any] struct {
	row T
	ok  bool
}

// namesMax bounds each of the maps; who asks for names that are not there
// makes them grow, too.
const namesMax = 10_000

// look is a look-up through the map that which chooses.
func look[T any](n *names, which *map[string]found[T], name string, read func() (T, bool)) (T, bool) {
	n.mu.Lock()
	f, known := (*which)[name]
	n.mu.Unlock()
	if known {
		return f.row, f.ok
	}
	f.row, f.ok = read()
	n.mu.Lock()
	defer n.mu.Unlock()
	if *which == nil || len(*which) >= namesMax {
		*which = map[string]found[T]{}
	}
	(*which)[name] = f
	return f.row, f.ok
}

func (n *names) noGroup(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.groups[name]
	return ok
}

func (n *names) notGroup(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.groups == nil || len(n.groups) >= namesMax {
		n.groups = map[string]struct{}{}
	}
	n.groups[name] = struct{}{}
}

// Member returns a member, or nil.
func (s *Settings) Member(id mail.MemberID) *Member {
	i := slices.IndexFunc(s.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Members[i]
}

// Voter reports whether the member has a vote.
func (s *Settings) Voter(id mail.MemberID) bool { return slices.Contains(s.Boundary.Voters, id) }

// Settings are those of these tables.
func (t Tables) Settings() *Settings {
	if t.known != nil {
		return t.known
	}
	s := &Settings{Params: t.readParams()}
	s.Boundary, _ = t.Boundary()
	s.Members = slices.Collect(t.Members())
	return s
}

// Settings are those of the state as it stands; no view is opened for them.
func (f *FSM) Settings() *Settings {
	if s := f.settings.Load(); s != nil {
		return s
	}
	v := f.View()
	defer v.Close()
	return v.Settings()
}

// set, delete and deleteRange are the only ways in which an entry changes rows:
// what is known of the settings is forgotten with the first change of one of
// theirs.
func (t *tx) set(k key, value []byte) {
	t.touch(k)
	t.rows.Set(k, value)
}

func (t *tx) delete(k key) {
	t.touch(k)
	t.rows.Delete(k)
}

func (t *tx) deleteRange(low, high key) {
	t.known = nil
	t.rows.DeleteRange(low, high)
}

func (t *tx) touch(k key) {
	switch k[1] {
	case tabDirectory:
		if k[2] == 'g' || k[2] == 'n' { // a version of a group, a next hop: what a name is does not change
			return
		}
		t.known = nil
	case tabParam, tabBoundary, tabMember:
		t.known = nil
	}
}

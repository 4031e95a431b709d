package fsm

import (
	"slices"

	"mailraft/mail"
)

// Settings are the rows that nearly every entry, and every command of every
// client, asks for: read and decoded once, and again after one of them has
// changed. They are shared by all who ask: read only.
type Settings struct {
	Params   Params
	Boundary Boundary
	Members  []Member // by id
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

// set, delete and deleteRange are how an entry changes rows. What is known of
// the settings is forgotten with the first change of one of their rows.
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
	case tabParam, tabBoundary, tabMember:
		t.known = nil
	}
}

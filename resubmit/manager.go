package resubmit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

const (
	roundEvery   = 500 * time.Millisecond
	refreshEvery = time.Minute // that a healthy copy is, is said again
	proposeTime  = 10 * time.Second
	verdictsMax  = 200             // in one proposal
	refusedTime  = 5 * time.Second // before the same activation is proposed again
)

// Manager is the Active Manager: on the leader it makes verdicts of what the
// members find, and activates another copy of a database whose active one is
// dead. On a member that does not lead it does nothing.
//
// All that it keeps is of the present term: a new leader begins to count anew.
type Manager struct {
	log hclog.Logger

	mu        sync.Mutex
	began     time.Time // of this term here; zero: this member does not lead
	votes     map[copyKey]map[mail.MemberID]vote
	pressures map[mail.MemberID]heardPressure
	stuck     map[string]Stuck // by database
	refreshed map[copyKey]time.Time
}

type copyKey struct{ database, copy string }

// Stuck is a database whose active copy is dead and which is not activated
// elsewhere.
type Stuck struct {
	Database   string    `json:"database"`
	Activation uint64    `json:"activation"`
	Why        string    `json:"why"`
	Text       string    `json:"text,omitempty"` // more of it
	Since      time.Time `json:"since"`
	Waits      bool      `json:"waits,omitempty"` // it will be activated elsewhere by itself
	again      time.Time // not proposed before
}

// whyRecent is why a database stays where it is for a while only.
const whyRecent = "it was activated a short time ago"

// NewManager makes a Manager; it leads with Run.
func NewManager(log hclog.Logger) *Manager { return &Manager{log: log} }

// Run decides until ctx, the term, ends.
func (m *Manager) Run(ctx context.Context, b Boundary) {
	m.begin(time.Now())
	defer m.begin(time.Time{})
	beat := time.NewTicker(roundEvery)
	defer beat.Stop()
	for ctx.Err() == nil {
		if err := m.round(ctx, b); err != nil && ctx.Err() == nil {
			m.log.Debug("not done, will be tried again", "error", err)
		}
		select {
		case <-beat.C:
		case <-ctx.Done():
		}
	}
}

func (m *Manager) begin(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = at
	m.votes, m.pressures = map[copyKey]map[mail.MemberID]vote{}, map[mail.MemberID]heardPressure{}
	m.stuck, m.refreshed = map[string]Stuck{}, map[copyKey]time.Time{}
}

// Stuck lists the databases that cannot be activated elsewhere, by name.
func (m *Manager) Stuck() []Stuck {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []Stuck{}
	for _, s := range m.stuck {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Stuck) int { return strings.Compare(a.Database, b.Database) })
	return list
}

// round says what has changed about the copies, and then acts on it: what is
// activated is known to be healthy by all when the entry applies.
func (m *Manager) round(ctx context.Context, b Boundary) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	s := b.State()
	verdicts := m.verdicts(&s)
	for part := range slices.Chunk(verdicts, verdictsMax) {
		if err := b.Declare(ctx, part); err != nil {
			return fmt.Errorf("declare verdicts: %w", err)
		}
		m.declared(part)
	}
	if len(verdicts) > 0 {
		s = b.State()
	}
	m.forget(&s)
	var failed error
	for i := range s.Databases {
		failed = errors.Join(failed, m.supply(ctx, b, &s, &s.Databases[i]))
	}
	return failed
}

// verdicts are those that differ from what the state has, and those that are
// to be said again.
func (m *Manager) verdicts(s *State) (list []Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for i := range s.Databases {
		d := &s.Databases[i]
		for _, c := range d.Copies {
			k, found := copyKey{d.Name, c.Name}, m.judge(s, d.Name, &c, now)
			v := Verdict{Database: d.Name, Copy: c.Name, Addr: c.Addr, Healthy: found.healthy}
			switch {
			case found.dead && (c.Healthy || !c.Judged):
				v.Text = found.text
			case found.healthy && !c.Judged, found.steady && !c.Healthy:
			case found.healthy && c.Healthy && now.Sub(m.refreshed[k]) >= refreshEvery:
			default:
				continue
			}
			list = append(list, v)
		}
	}
	return list
}

func (m *Manager) declared(list []Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range list {
		if v.Healthy {
			m.refreshed[copyKey{v.Database, v.Copy}] = time.Now()
			continue
		}
		m.log.Warn("a copy is dead, by what a majority finds", "database", v.Database, "copy", v.Copy, "reason", v.Text)
	}
}

// supply activates another copy of the database if the active one is dead.
func (m *Manager) supply(ctx context.Context, b Boundary, s *State, d *Database) error {
	a, why, text := m.decide(s, d)
	if a == nil {
		m.note(d, why, text)
		return nil
	}
	if m.waits(d) {
		return nil
	}
	err := b.Activate(ctx, *a)
	if r := (*mail.Reply)(nil); errors.As(err, &r) {
		// Somebody was faster, or the state knows better: the next round reads it.
		m.note(d, "the activation was refused", r.String())
		m.postpone(d)
		return nil
	}
	if err != nil {
		return fmt.Errorf("activate copy %s of %s: %w", a.Copy, d.Name, err)
	}
	m.note(d, "", "")
	m.log.Warn("another copy is activated", "database", d.Name, "copy", a.Copy, "instead_of", a.From, "reason", a.Reason)
	return nil
}

// decide names the copy that is to be activated, or why none is although the
// active one is dead; neither: all is well, or not known.
func (m *Manager) decide(s *State, d *Database) (a *Activation, why, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	active := d.copy(d.Active)
	if active == nil {
		return nil, "", ""
	}
	dead := m.judge(s, d.Name, active, now)
	if !dead.dead {
		return nil, "", ""
	}
	var best *Copy
	var others []string
	for i := range d.Copies {
		c := &d.Copies[i]
		found := m.judge(s, d.Name, c, now)
		switch {
		case c.Name == d.Active:
		case c.Suspended:
			others = append(others, c.Name+": its activation is suspended")
		case !found.steady || !c.Healthy:
			others = append(others, c.Name+": "+found.state())
		case best == nil || better(*c, *best) < 0:
			best = c
		}
	}
	earliest := d.earliest(s.FailoverAfter)
	switch {
	case d.Suspended:
		return nil, "its activation is suspended", ""
	case best == nil && len(others) == 0:
		return nil, "it has no other copy", ""
	case best == nil:
		return nil, "no other copy can be activated", strings.Join(others, "; ")
	case s.Now < earliest:
		return nil, whyRecent, fmt.Sprintf("waits until %s", earliest)
	}
	return &Activation{Database: d.Name, From: d.Active, Activation: d.Activation, Copy: best.Name,
		Reason: fmt.Sprintf("copy %s does not answer: %s", d.Active, dead.text)}, "", ""
}

// note keeps why a database is left where it is, and says it once.
func (m *Manager) note(d *Database, why, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was, is := m.stuck[d.Name]
	if why == "" {
		if is && was.Activation == d.Activation {
			m.log.Info("the active copy is not given up any more", "database", d.Name, "copy", d.Active)
		}
		delete(m.stuck, d.Name)
		return
	}
	now := Stuck{Database: d.Name, Activation: d.Activation, Why: why, Text: text, Since: time.Now(), Waits: why == whyRecent}
	if is && was.Activation == d.Activation && was.Why == why {
		now.Since = was.Since
	} else {
		m.log.Warn("the active copy is dead, and no other is activated", "database", d.Name, "copy", d.Active, "why", why, "text", text)
	}
	m.stuck[d.Name] = now
}

// postpone leaves a database alone whose activation was refused.
func (m *Manager) postpone(d *Database) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stuck[d.Name]
	s.again = time.Now().Add(refusedTime)
	m.stuck[d.Name] = s
}

func (m *Manager) waits(d *Database) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.stuck[d.Name]
	return ok && s.Activation == d.Activation && time.Now().Before(s.again)
}

// forget drops what is about copies and databases that are no more.
func (m *Manager) forget(s *State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	databases, copies := map[string]bool{}, map[copyKey]bool{}
	for _, d := range s.Databases {
		databases[d.Name] = true
		for _, c := range d.Copies {
			copies[copyKey{d.Name, c.Name}] = true
		}
	}
	for name := range m.stuck {
		if !databases[name] {
			delete(m.stuck, name)
		}
	}
	for k := range m.votes {
		if !copies[k] {
			delete(m.votes, k)
			delete(m.refreshed, k)
		}
	}
}

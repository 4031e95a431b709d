package resubmit

import (
	"fmt"
	"slices"
	"time"

	"mailraft/mail"
)

// vote is what one member finds of one copy, by this leader's clock.
type vote struct {
	addr    string
	healthy bool
	since   time.Time // without a break; not before the term
	heard   time.Time
	text    string
}

type heardPressure struct {
	Pressure
	heard time.Time
}

// Hear takes what a member finds, and how hard pressed it is. Who sends it is
// authenticated. Without the lead nothing is kept.
//
// How long a member says that something has been so is believed as far as this
// leader can check it: not from before its term, nor from before the moment at
// which the same member said the contrary.
func (m *Manager) Hear(from mail.MemberID, found []Finding, p Pressure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.began.IsZero() {
		return
	}
	now := time.Now()
	m.pressures[from] = heardPressure{p, now}
	said := map[copyKey]bool{}
	for _, f := range found {
		k := copyKey{f.Database, f.Copy}
		said[k] = true
		v := vote{addr: f.Addr, healthy: f.Healthy, since: later(m.began, now.Add(-max(f.For.Std(), 0))), heard: now, text: clip(f.Text)}
		if was, ok := m.votes[k][from]; ok && (was.addr != v.addr || was.healthy != v.healthy) {
			v.since = later(v.since, was.heard)
		} else if ok {
			v.since = later(v.since, was.since)
		}
		if m.votes[k] == nil {
			m.votes[k] = map[mail.MemberID]vote{}
		}
		m.votes[k][from] = v
	}
	for k, votes := range m.votes {
		if !said[k] {
			delete(votes, from) // it finds nothing of it any more
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// fresh is how old a word may be to count: some may be lost on the way.
func fresh(failoverAfter time.Duration) time.Duration { return 3*Interval(failoverAfter) + time.Second }

// judgement is what a majority finds.
type judgement struct {
	dead    bool // it has failed for failover-after
	healthy bool // it answers
	steady  bool // it has answered for failover-after
	text    string
	heard   int // members that say something of now
}

// judge counts the votes on a copy. Neither dead nor healthy: there is no
// majority, and nothing is done. The caller holds mu.
func (m *Manager) judge(s *State, database string, c *Copy, now time.Time) judgement {
	votes := m.votes[copyKey{database, c.Name}]
	current := func(v vote) bool { return v.addr == c.Addr && now.Sub(v.heard) <= fresh(s.FailoverAfter) }
	majority := func(fulfils func(vote) bool) bool {
		return s.Quorum(func(id mail.MemberID) bool { v, ok := votes[id]; return ok && current(v) && fulfils(v) })
	}
	long := func(v vote) bool { return v.heard.Sub(v.since) >= s.FailoverAfter } // as of when it was said
	j := judgement{
		dead:    majority(func(v vote) bool { return !v.healthy && long(v) }),
		healthy: majority(func(v vote) bool { return v.healthy }),
		steady:  majority(func(v vote) bool { return v.healthy && long(v) }),
	}
	var ids []mail.MemberID
	for id, v := range votes {
		if current(v) {
			j.heard++
			if !v.healthy && v.text != "" {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) > 0 {
		j.text = votes[slices.Min(ids)].text
	}
	return j
}

// state is why the copy is not activated, for people.
func (j judgement) state() string {
	switch {
	case j.heard == 0:
		return "nobody has looked at it yet"
	case j.steady:
		return "it was not declared healthy yet"
	case j.healthy:
		return "it has not answered for long enough yet"
	case j.text != "":
		return "it does not answer: " + j.text
	}
	return "no majority finds it healthy"
}

// pressureTime is how long a member's word about itself counts.
const pressureTime = 30 * time.Second

// Pressure is the highest level that a member has reported lately, and why.
func (m *Manager) Pressure(name func(mail.MemberID) string) (Level, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	level, worst := Normal, mail.MemberID(0)
	for id, p := range m.pressures {
		if time.Since(p.heard) <= pressureTime && (p.Level > level || p.Level == level && p.Level > Normal && id < worst) {
			level, worst = p.Level, id
		}
	}
	if level == Normal {
		return Normal, ""
	}
	return level, fmt.Sprintf("%s: %s", name(worst), m.pressures[worst].Reason())
}

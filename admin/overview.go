package admin

import (
	"slices"

	"mailraft/fsm"
	"mailraft/mail"
)

// RequestsInfo is how the resubmit requests are.
type RequestsInfo struct {
	Open   int            `json:"open"`
	States map[string]int `json:"states"` // how many in each; of the ended ones while they are kept
	Items  []Request      `json:"items"`  // the first open ones
}

// requestsShown bounds the requests that a status carries.
const requestsShown = 50

func requestsOf(v *fsm.View, n names, now mail.Time) RequestsInfo {
	info := RequestsInfo{States: map[string]int{}, Items: []Request{}}
	for r := range v.Requests(0) {
		info.States[r.State.String()]++
		if !r.Open() {
			continue
		}
		if info.Open++; len(info.Items) < requestsShown {
			info.Items = append(info.Items, viewRequest(v, r, n, now))
		}
	}
	return info
}

// NetInfo is what the Safety Net holds, and why longer than it has to.
type NetInfo struct {
	HeldSince mail.Time `json:"held_since,omitzero"` // all that was delivered then or later is held
	Held      *NetHeld  `json:"held,omitempty"`
	Pins      []Pin     `json:"pins,omitempty"`
}

// NetHeld says why nothing expires: after a time without a quorum all is kept
// until the active copies are known to be well.
type NetHeld struct {
	From      mail.Time `json:"no_quorum_from"`
	Until     mail.Time `json:"no_quorum_until"`
	Release   mail.Time `json:"release"`   // at the latest
	Databases []string  `json:"databases"` // whose active copy was neither seen healthy since nor replaced
}

// Pin is a request that keeps what is older than the hold time.
type Pin struct {
	Request string    `json:"request"`
	From    mail.Time `json:"from"` // delivery time
}

func netOf(v *fsm.View, requests []Request, now mail.Time) NetInfo {
	b, _ := v.Boundary()
	info := NetInfo{HeldSince: max(v.HeldSince(now), b.Created)}
	if h, ok := v.Held(now); ok {
		info.Held = &NetHeld{From: h.From, Until: h.Since, Release: h.Until, Databases: h.Databases}
	}
	expired := now.Add(-v.Params().SafetyNetHoldTime)
	for _, r := range requests {
		if !r.Walked && r.Position != 0 && r.Position < expired {
			info.Pins = append(info.Pins, Pin{Request: r.ID, From: r.Position})
		}
	}
	return info
}

// The ways that a database can be, worst last.
const (
	DatabaseHealthy = "healthy"
	DatabaseUnknown = "unknown"     // of its active copy nothing is known
	DatabaseBehind  = "copy-dead"   // a copy that is not active is dead
	DatabaseDead    = "active-dead" // mail waits until another copy is active
	DatabaseLost    = "no-copy"     // no copy is healthy
)

// DatabaseStates are the words for how a database can be.
func DatabaseStates() []string {
	return []string{DatabaseHealthy, DatabaseUnknown, DatabaseBehind, DatabaseDead, DatabaseLost}
}

// Dead are the copies that a majority finds dead.
func (d *Database) Dead() (names []string) {
	for _, c := range d.Copies {
		if c.Health != nil && !c.Health.Healthy {
			names = append(names, c.Name)
		}
	}
	return names
}

// State says how the database is, by what is known of its copies.
func (d *Database) State() string {
	i := slices.IndexFunc(d.Copies, func(c DatabaseCopy) bool { return c.Name == d.Active })
	dead := d.Dead()
	switch {
	case len(dead) > 0 && len(dead) == len(d.Copies):
		return DatabaseLost
	case slices.Contains(dead, d.Active):
		return DatabaseDead
	case len(dead) > 0:
		return DatabaseBehind
	case i < 0 || d.Copies[i].Health == nil:
		return DatabaseUnknown
	}
	return DatabaseHealthy
}

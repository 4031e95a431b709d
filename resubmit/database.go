package resubmit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"mailraft/mail"
)

// State is what is decided from: the databases as of one moment.
type State struct {
	Now           mail.Time     // state machine time
	FailoverAfter time.Duration // how long a copy is silent before it counts as dead
	Databases     []Database
	// Quorum reports whether a majority of the voters fulfils has; of the old
	// set and of the new one while these change.
	Quorum func(has func(mail.MemberID) bool) bool
}

// Database is a mailbox database.
type Database struct {
	Name       string
	Active     string // copy
	Activation uint64
	Since      mail.Time // of the present activation
	Automatic  int       // activations that nobody asked for, in the hour before State.Now
	Suspended  bool      // it is not activated elsewhere by itself
	Copies     []Copy
}

// Copy is a place where a database lives, and what the boundary knows of it.
type Copy struct {
	Name       string
	Addr       string
	Lag        time.Duration // above zero: a lagged copy
	Preference int           // 1 is taken first, 0 last
	Through    mail.Time     // it is known to hold all that was delivered until then; 0: nothing known
	Suspended  bool          // it is not activated by itself
	Judged     bool          // there is a verdict
	Healthy    bool          // which says so
}

// Boundary is what a Manager decides about, in one term of its member. Both
// proposals are refused once the term is over.
type Boundary interface {
	State() State
	// Declare records verdicts.
	Declare(ctx context.Context, verdicts []Verdict) error
	// Activate makes another copy the active one, and the request for what it
	// lacks. A *mail.Reply is a refusal: the state is not what it was.
	Activate(ctx context.Context, a Activation) error
}

// Verdict is what a majority of the voters finds of a copy.
type Verdict struct {
	Database, Copy string
	Addr           string // which the findings are about
	Healthy        bool
	Text           string // why not
}

// Activation is to replace the active copy, From with its number, by another.
type Activation struct {
	Database   string
	From       string
	Activation uint64
	Copy       string
	Reason     string
}

func (d *Database) copy(name string) *Copy {
	if i := slices.IndexFunc(d.Copies, func(c Copy) bool { return c.Name == name }); i >= 0 {
		return &d.Copies[i]
	}
	return nil
}

// better orders copies that could be activated: not lagged before lagged, by
// preference, least behind, by name.
func better(a, b Copy) int {
	lagged := func(c Copy) int {
		if c.Lag > 0 {
			return 1
		}
		return 0
	}
	preference := func(c Copy) uint { return uint(c.Preference) - 1 } // 0, not set, is last
	return cmp.Or(cmp.Compare(lagged(a), lagged(b)), cmp.Compare(preference(a), preference(b)),
		cmp.Compare(b.Through, a.Through), cmp.Compare(a.Name, b.Name))
}

// Damping bounds.
const (
	damped    = time.Hour // the longest wait
	dampedFor = 12        // automatic activations in an hour, after which the wait does not grow
)

// earliest is when the database may be activated elsewhere by itself: not
// sooner than failover-after after the last activation, twice that if it was
// an automatic one, and twice as long again for each further one in the last
// hour, but an hour at most. Copies that die one after the other, or a network
// that comes and goes, do not move it to and fro.
func (d *Database) earliest(failoverAfter time.Duration) mail.Time {
	wait := failoverAfter << min(d.Automatic, dampedFor)
	return d.Since.Add(max(failoverAfter, min(wait, damped)))
}

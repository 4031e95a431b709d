package fsm

import (
	"fmt"
	"time"

	"mailraft/mail"
)

// silenceMax is how long the log may be silent, in state machine time, before
// the boundary counts as having had no quorum: a leader ticks every second.
const silenceMax = 10 * time.Minute

// Held says why nothing of the Safety Net expires now. After a time without
// quorum copies may have been lost that nobody could fail over from; what
// their heirs need is kept until each database has an active copy again.
type Held struct {
	From      mail.Time // the last entry before the silence
	Since     mail.Time // the first one after it
	Until     mail.Time // at the latest
	Databases []string  // whose active copy was not seen healthy since, nor replaced
}

// pass lets the state machine time go on, never back.
func (t *tx) pass(at mail.Time) {
	was := t.at.Time
	t.at.Time = max(was, at)
	if was == 0 || at <= was.Add(silenceMax) {
		return
	}
	b, _ := t.Boundary()
	if b.HoldSince == 0 {
		b.SilentFrom = was
	}
	b.HoldSince = at
	t.put(tab(tabBoundary), b)
}

// Held reports whether all of the Safety Net is held, and why.
func (t Tables) Held(now mail.Time) (h Held, ok bool) {
	s := t.Settings()
	h.From, h.Since = s.Boundary.SilentFrom, s.Boundary.HoldSince
	h.Until = h.Since.Add(s.Params.SafetyNetHoldTime)
	if h.Since == 0 || now >= h.Until {
		return Held{}, false
	}
	for d := range t.Databases() {
		if d.Active != "" && d.Since < h.Since && t.healthOf(d, d.Active).Seen < h.Since {
			h.Databases = append(h.Databases, d.Name)
		}
	}
	return h, len(h.Databases) > 0
}

// holding is Held at this entry. When it is over it is forgotten.
func (t *tx) holding() bool {
	if t.Settings().Boundary.HoldSince == 0 {
		return false
	}
	if _, ok := t.Held(t.now()); ok {
		return true
	}
	b, _ := t.Boundary()
	b.HoldSince, b.SilentFrom = 0, 0
	t.put(tab(tabBoundary), b)
	return false
}

// HeldSince is the beginning of what is held: all that was delivered then or
// later, and is resubmittable, still is.
func (t Tables) HeldSince(now mail.Time) mail.Time {
	s := t.Settings()
	if h, ok := t.Held(now); ok {
		now = h.From
	}
	if r, ok := t.keeps(now); ok {
		now = min(now, r.Cut)
	}
	return max(s.Boundary.Created, s.Boundary.HeldFrom, now.Add(-s.Params.SafetyNetHoldTime))
}

// holdWarning says that the Safety Net may not hold all that a failover to a
// copy needs, by when somebody gets to ask for it; empty: it does.
func (p Params) holdWarning(database string, c Copy) string {
	slack := p.slack(c)
	need := c.Lag.Std() + slack + p.FailoverAfter + p.UnresponsivePrimaryTimeout
	if p.SafetyNetHoldTime >= need {
		return ""
	}
	f := mail.FormatDuration
	return fmt.Sprintf("safety-net-hold-time %s is below %s, which a failover of %s to copy %s may need (lag %s, slack %s, failover-after %s, unresponsive-primary-timeout %s)",
		f(p.SafetyNetHoldTime), f(need), database, c.Name, f(c.Lag.Std()), f(slack), f(p.FailoverAfter), f(p.UnresponsivePrimaryTimeout))
}

// HoldWarnings names the copies of a database that a failover to may need more
// than the Safety Net holds.
func (p Params) HoldWarnings(d Database) (w []string) {
	for _, c := range d.Copies {
		if text := p.holdWarning(d.Name, c); text != "" {
			w = append(w, text)
		}
	}
	return w
}

// slack is what is subtracted from what the copy is known to hold.
func (p Params) slack(c Copy) time.Duration {
	if c.Slack != 0 {
		return c.Slack.Std()
	}
	return p.ReplicationSlack
}

package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailraft/mail"
)

// verdict collects what is said about how the boundary is.
type verdict struct {
	worst   int
	reasons []string
}

func (v *verdict) say(level int, format string, a ...any) {
	v.worst = max(v.worst, level)
	v.reasons = append(v.reasons, fmt.Sprintf(format, a...))
}

// judge says how the boundary is. Critical: it takes or delivers no mail now,
// or cannot be trusted with it. Degraded: it works, but one more failure hurts.
func judge(st *Status, minVoters int) (health string, reasons []string) {
	v := verdict{reasons: []string{}}
	v.boundary(st, minVoters)
	v.member(&st.Member, st.Time)
	for _, c := range st.Checks {
		if !c.OK {
			v.say(Degraded, "%s: %s: %s", st.Member.Name, c.Name, c.Reason)
		}
	}
	v.queue(&st.Queue, st.Boundary.Protected)
	for i := range st.Databases {
		v.database(&st.Databases[i], st.Time, st.Member.Stuck)
	}
	v.requests(&st.Requests)
	v.net(&st.SafetyNet)
	return healthNames[v.worst], v.reasons
}

func (v *verdict) boundary(st *Status, minVoters int) {
	b, m := &st.Boundary, &st.Member
	switch {
	case m.Leader == 0:
		v.say(Critical, "no quorum: there is no leader")
	case b.VotersUp < b.Voters/2+1:
		v.say(Critical, "no quorum: %d of %d voters are up", b.VotersUp, b.Voters)
	case b.VotersUp < b.Voters:
		v.say(Degraded, "%d of %d voters are up", b.VotersUp, b.Voters)
	case b.Tolerance == 0:
		v.say(Degraded, "%d voters: none may fail", b.Voters)
	}
	switch {
	case b.Opened && b.Voters < minVoters && b.Voters == 1:
		v.say(Critical, "UNPROTECTED: one voter, and min-voters is %d: what is acknowledged is in the log of one disk", minVoters)
	case b.Opened && b.Voters < minVoters:
		v.say(Degraded, "%d voters, fewer than min-voters (%d)", b.Voters, minVoters)
	}
	if !b.Opened {
		v.say(Critical, "SMTP is not open yet: %d of %d voters (min-voters) are there", b.Voters, minVoters)
	}
	if b.Restored.Suspended() {
		v.say(Critical, "restored from the backup of %s: nothing is delivered, activated or expired before: mailraft queue resume --all", b.Restored.Cut)
	}
	switch { // only the leader knows of the others' clocks
	case m.Leader != 0 && len(m.Peers) == 0:
		v.say(Degraded, "%s: the leader does not answer it", m.Name)
	case m.Leader != 0 && !m.TimeTrusted:
		v.say(Critical, "the clocks of a majority do not agree with the leader's: time goes on at its own pace, and nothing expires early")
	case m.Leader != 0:
		v.clocks(st)
	}
	if b.Lost > 0 {
		v.say(Degraded, "the content of %d messages is on no member; see: mailraft message list --state %s", b.Lost, StateLost)
	}
	if !b.Protected {
		v.say(Degraded, "UNPROTECTED: shadow-redundancy-enabled is false")
	}
}

// clockWarn is how far a clock may be off unsaid: further than this it counts
// for nothing when time is agreed upon.
const clockWarn = 5 * time.Second

// clocks says whose clock is wrong while a majority's agree.
func (v *verdict) clocks(st *Status) {
	for _, m := range st.Members {
		if m.Seen != nil && m.Seen.ClockOffset.Std() > clockWarn {
			v.say(Degraded, "%s: its clock differs by %s from the leader's, and is outvoted", m.Name, mail.FormatDuration(m.Seen.ClockOffset.Std()))
		}
	}
	if ahead := st.Member.TimeAhead.Std(); ahead > clockWarn {
		v.say(Degraded, "the boundary's time is %s ahead of its members' clocks: they were set back, and it never goes back", mail.FormatDuration(ahead))
	}
}

// certWarn is how long before its end a certificate that was not renewed is
// worth a warning: renewal is due long before.
const certWarn = 14 * 24 * time.Hour

func (v *verdict) member(m *MemberStatus, now mail.Time) {
	if left := m.CertNotAfter.Sub(now); m.CertNotAfter != 0 && left < certWarn {
		v.say(Degraded, "%s: its certificate ends %s", m.Name, m.CertNotAfter)
	}
	for _, c := range m.SMTPCerts {
		// One that lives for days is renewed within them.
		if left := c.NotAfter.Sub(now); left < min(certWarn, c.NotAfter.Sub(c.NotBefore)/4) {
			v.say(Degraded, "%s: the SMTP certificate %s ends %s", m.Name, c.File, c.NotAfter)
		}
	}
	for i := range m.Milters {
		if x := &m.Milters[i]; x.Away {
			v.say(Degraded, "%s: milter %s (%s) is away for %s, %s: %s", m.Name, x.Name, x.Address,
				mail.FormatDuration(x.AwayFor.Std().Truncate(time.Second)), x.consequence(), x.Error)
		}
	}
	if why := m.Pressure.reason(); why != "" {
		v.say(Degraded, "%s: back pressure is %s, %s: %s", m.Name, m.Pressure.Level, m.Pressure.consequence(), why)
	} else if m.WaitingWhy != "" {
		v.say(Degraded, "back pressure, resubmission waits: %s", m.WaitingWhy)
	}
}

func (v *verdict) queue(q *QueueTotals, protected bool) {
	if q.Poison > 0 {
		v.say(Degraded, "%d messages are set aside as poison: mailraft message list --state poison", q.Poison)
	}
	if q.Waiting > 0 {
		v.say(Degraded, "%d messages wait for content that no member who is up has", q.Waiting)
	}
	if q.NoShadow > 0 && protected {
		v.say(Degraded, "%d messages have no shadow; see: mailraft message list --state %s", q.NoShadow, StateNoShadow)
	}
	if q.Fewer > 0 && protected {
		v.say(Degraded, "%d messages have fewer copies than a majority; see: mailraft message list --state %s", q.Fewer, StateFewer)
	}
}

// database says what is wrong with a database: without a healthy copy its mail
// waits, and nobody reads what was delivered.
func (v *verdict) database(d *Database, now mail.Time, stuck []Stuck) {
	for _, c := range d.Copies {
		if h := c.Health; h != nil && !h.Healthy {
			which := "copy"
			if c.Name == d.Active {
				which = "active copy"
			}
			v.say(Degraded, "database %s: %s %s is dead for %s: %s", d.Name, which, c.Name, ago(now, h.Since), h.Error)
		}
	}
	i := slices.IndexFunc(stuck, func(s Stuck) bool { return s.Database == d.Name })
	switch state := d.State(); {
	case state == DatabaseLost:
		v.say(Critical, "database %s: no copy of it is healthy, its mail waits", d.Name)
	case state != DatabaseDead:
	case i >= 0 && stuck[i].Waits:
		v.say(Degraded, "database %s: another copy will be activated: %s", d.Name, stuck[i].Why)
	case i >= 0:
		v.say(Critical, "database %s: its mail waits: %s; if you know better: mailraft database activate %s --copy NAME", d.Name, stuck[i].Why, d.Name)
	case d.Suspended != nil: // also where the leader does not answer
		v.say(Critical, "database %s: its mail waits: its activation is suspended; mailraft database activate %s --copy NAME", d.Name, d.Name)
	}
	if d.Suspended != nil {
		v.say(Degraded, "database %s: nothing is activated automatically%s", d.Name, because(d.Suspended))
	}
	for _, c := range d.Copies {
		if c.Suspended != nil && d.Suspended == nil {
			v.say(Degraded, "database %s: copy %s is not activated automatically%s", d.Name, c.Name, because(c.Suspended))
		}
	}
}

func because(s *Stop) string {
	if s.Reason == "" {
		return ""
	}
	return ": " + s.Reason
}

func ago(now, t mail.Time) string { return mail.FormatDuration(now.Sub(t).Round(time.Second)) }

// requests says which requests stand still for want of somebody to serve them.
func (v *verdict) requests(r *RequestsInfo) {
	for i := range r.Items {
		x := &r.Items[i]
		for _, w := range x.Waiting {
			v.say(Degraded, "request %s: %d deliveries wait for %s, which is down", x.ID, w.Count, w.Member)
		}
	}
}

func (v *verdict) net(n *NetInfo) {
	if h := n.Held; h != nil {
		v.say(Degraded, "nothing in the Safety Net expires: there was no quorum from %s to %s, and the active copy of %s was not seen healthy since; it ends at %s at the latest",
			h.From, h.Until, strings.Join(h.Databases, ", "), h.Release)
	}
}

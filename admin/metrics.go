package admin

import (
	"context"
	"runtime"
	"slices"
	"time"

	"mailraft/mail"

	"github.com/prometheus/client_golang/prometheus"
)

// series makes the series about the boundary and this member when they are
// scraped. The ones of SMTP and delivery come from those parts.
type series struct{ s *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mailraft_"+name, help, labels, nil)
}

var (
	descBuild        = desc("build_info", "1, labelled with the versions.", "version", "go_version")
	descMessages     = desc("messages", "Active messages; one with recipients in several databases counts in each.", "state", "database")
	descBytes        = desc("messages_bytes", "Bytes of active messages.", "state", "database")
	descOldest       = desc("oldest_message_age_seconds", "Age of the oldest active message.", "state", "database")
	descNoShadow     = desc("messages_without_shadow", "Active messages that have no shadow.")
	descFewer        = desc("messages_fewer_copies", "Active messages accepted with fewer copies than a majority, and not made good yet.")
	descTruncated    = desc("scan_truncated", "1 if there is more than was counted.", "of")
	descNet          = desc("safetynet_deliveries", "Resubmittable deliveries held.", "database")
	descNetOldest    = desc("safetynet_oldest_seconds", "Age of the oldest resubmittable delivery.", "database")
	descIsLeader     = desc("raft_is_leader", "1 on the leader.")
	descHasLeader    = desc("raft_has_leader", "1 if this member knows a leader.")
	descTerm         = desc("raft_term", "Raft term.")
	descCommit       = desc("raft_commit_index", "Commit index known here.")
	descApplied      = desc("raft_applied_index", "Index that the state here includes.")
	descLag          = desc("raft_lag_entries", "Entries that this member knows of and has not applied.")
	descPeerApplied  = desc("raft_peer_applied_index", "Applied index of a member, as the leader sees it.", "peer")
	descClockOffset  = desc("clock_offset_seconds", "Clock offset of a member, as the leader sees it.", "peer")
	descMembers      = desc("members", "Members by state.", "state")
	descTolerance    = desc("failure_tolerance", "Voters that may still fail.")
	descHealth       = desc("health", "0 healthy, 1 degraded, 2 critical, 3 unknown.")
	descReady        = desc("ready", "1 if the check is passed.", "check")
	descLease        = desc("lease_seconds", "Time left of this member's lease; 0 without one.")
	descTime         = desc("time_trusted", "1 if a majority's clocks agree.")
	descTimeAhead    = desc("time_ahead_seconds", "How far the boundary's time is ahead of the clocks that agree.")
	descDiskFree     = desc("disk_free_bytes", "Free bytes where the data directory is.")
	descDiskTotal    = desc("disk_total_bytes", "Size of where the data directory is.")
	descContent      = desc("content_bytes", "Bytes of stored content.")
	descSegments     = desc("content_segments", "Content segments.")
	descMissing      = desc("content_missing", "Contents named by the state and not here yet.")
	descState        = desc("state_bytes", "Bytes of the state tables.")
	descLog          = desc("raft_log_bytes", "Bytes of the Raft log.")
	descCert         = desc("tls_cert_expiry_seconds", "Time until the certificate ends.", "role")
	descSessions     = desc("smtp_sessions", "Open SMTP sessions.")
	descUptime       = desc("uptime_seconds", "Time since the member started.")
	descPressure     = desc("pressure_level", "Back pressure by resource: 0 normal, 1 medium (resubmission waits), 2 high (no new mail is taken).", "resource")
	descPressureVal  = desc("pressure_value", "What the level goes by: bytes free (disk), bytes in use (memory), active messages (queue).", "resource")
	descPressureLim  = desc("pressure_limit", "Where a level begins.", "resource", "level")
	descPressureLeft = desc("pressure_left", "From the value to where the next level begins; 0 at high.", "resource")
	everyDescription = []*prometheus.Desc{descBuild, descMessages, descBytes, descOldest, descNoShadow, descFewer, descTruncated, descNet, descNetOldest,
		descIsLeader, descHasLeader, descTerm, descCommit, descApplied, descLag, descPeerApplied, descClockOffset, descMembers,
		descTolerance, descHealth, descReady, descLease, descTime, descTimeAhead, descDiskFree, descDiskTotal, descContent, descSegments,
		descMissing, descState, descLog, descCert, descSessions, descUptime, descPressure, descPressureVal, descPressureLim, descPressureLeft}
)

// Describe implements prometheus.Collector.
func (x series) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range describeAll() {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (x series) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	v, as := x.s.view()
	defer v.Close()
	g := gauges(ch)
	q := x.s.scans.queue(v)
	st := x.s.statusOf(ctx, v, as, q)
	g.set(descHealth, float64(HealthCode(st.Health)))
	g.set(descTolerance, float64(st.Boundary.Tolerance))
	for _, state := range []string{"up", "down", "draining", "retired"} {
		n := 0
		for _, m := range st.Members {
			if m.State == state {
				n++
			}
		}
		g.set(descMembers, float64(n), state)
	}
	for _, c := range st.Checks {
		g.set(descReady, one01(c.OK), c.Name)
	}
	g.member(&st.Member)
	g.pressure(&st.Member.Pressure)
	g.databases(st.Databases)
	g.requests(&st.Requests, &st.SafetyNet)
	for _, m := range st.Members {
		if m.Seen != nil {
			g.set(descPeerApplied, float64(m.Seen.AppliedIndex), m.Name)
			g.set(descClockOffset, m.Seen.ClockOffset.Std().Seconds(), m.Name)
		}
	}
	g.scans(q, x.s.scans.safetyNet(v))
}

// gauges sends values as they are found.
type gauges chan<- prometheus.Metric

func (g gauges) set(d *prometheus.Desc, v float64, labels ...string) {
	g <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (g gauges) member(m *MemberStatus) {
	g.set(descBuild, 1, m.Version, runtime.Version())
	g.set(descIsLeader, one01(m.Leader == m.ID && m.ID != 0))
	g.set(descHasLeader, one01(m.Leader != 0))
	g.set(descTime, one01(m.TimeTrusted))
	g.set(descTimeAhead, m.TimeAhead.Std().Seconds())
	g.set(descLease, m.LeaseLeft.Std().Seconds())
	g.set(descUptime, m.Uptime.Std().Seconds())
	if m.CertNotAfter != 0 {
		g.set(descCert, m.CertNotAfter.Sub(mail.At(time.Now())).Seconds(), "member")
	}
	for _, x := range []struct {
		d *prometheus.Desc
		v float64
	}{
		{descTerm, float64(m.Term)}, {descCommit, float64(m.CommitIndex)}, {descApplied, float64(m.AppliedIndex)},
		{descLag, float64(m.Lag)}, {descDiskFree, float64(m.DiskFree)}, {descDiskTotal, float64(m.DiskTotal)},
		{descContent, float64(m.ContentBytes)}, {descSegments, float64(m.ContentSegments)}, {descMissing, float64(m.ContentMissing)},
		{descState, float64(m.StateBytes)}, {descLog, float64(m.LogBytes)}, {descSessions, float64(m.Sessions)},
	} {
		g.set(x.d, x.v)
	}
}

func (g gauges) pressure(p *Pressure) {
	for i := range p.Resources {
		r := &p.Resources[i]
		if r.Value < 0 {
			continue // not known
		}
		g.set(descPressure, float64(slices.Index(pressureLevels, r.Level)), r.Name)
		g.set(descPressureVal, float64(r.Value), r.Name)
		if r.limited() {
			g.set(descPressureLim, float64(r.Medium), r.Name, PressureMedium)
			g.set(descPressureLim, float64(r.High), r.Name, PressureHigh)
			g.set(descPressureLeft, float64(r.Left), r.Name)
		}
	}
}

func (g gauges) scans(q *queueScan, n *netScan) {
	for c, sum := range q.cells {
		g.set(descMessages, float64(sum.messages), c.state, c.database)
		g.set(descBytes, float64(sum.bytes), c.state, c.database)
		g.set(descOldest, q.now.Sub(sum.oldest).Seconds(), c.state, c.database)
	}
	for d, count := range n.deliveries {
		g.set(descNet, float64(count), d)
		if oldest, ok := n.oldest[d]; ok {
			g.set(descNetOldest, n.now.Sub(oldest).Seconds(), d)
		}
	}
	g.set(descNoShadow, float64(q.total.NoShadow))
	g.set(descFewer, float64(q.total.Fewer))
	g.set(descTruncated, one01(q.total.Truncated), "queue")
	g.set(descTruncated, one01(n.truncated), "safetynet")
}

func one01(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

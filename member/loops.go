package member

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"mailraft/cluster/port"
	"mailraft/cluster/replica"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/content"
)

type conn = net.Conn

// params is the latest known value of the replicated parameters, for what asks
// often and need not know the index.
type params struct{ p atomic.Pointer[fsm.Params] }

func (p *params) get() fsm.Params { return *p.p.Load() }

func (p *params) load(f *fsm.FSM) {
	v := f.View()
	defer v.Close()
	n := v.Params()
	p.p.Store(&n)
}

// followParams reads the parameters again at most once per paramsEvery.
func (m *Engine) followParams() {
	const paramsEvery = 250 * time.Millisecond
	for {
		changed := m.fsm.Changed() // before they are read: a change meanwhile counts
		m.params.load(m.fsm)
		select {
		case <-changed:
		case <-m.ctx.Done():
			return
		}
		if !m.pause(paramsEvery) {
			return
		}
	}
}

// pause waits; false: the member is stopping.
func (m *Engine) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-m.ctx.Done():
		return false
	}
}

// syncState makes the tables durable every second, so that little of the log
// has to be replayed after a crash.
func (m *Engine) syncState() {
	for m.pause(time.Second) {
		m.fsm.Sync()
	}
	m.fsm.Sync()
}

// acknowledge is the shadow server's heartbeat: it polls the discard statuses
// that are for this member, and acknowledges them.
func (m *Engine) acknowledge() {
	for m.pause(m.params.get().ShadowHeartbeatFrequency) {
		m.acknowledgeAll()
	}
}

func (m *Engine) acknowledgeAll() {
	const idsMax = 250 // rows are read and changed for each, and new mail waits for the entry
	for {
		v := m.fsm.View()
		var ids []mail.ID
		for id := range v.Discards(m.id.ID) {
			if ids = append(ids, id); len(ids) == idsMax {
				break
			}
		}
		v.Close()
		if len(ids) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
		a, err := m.Propose(ctx, fsm.KindDiscard, fsm.Discard{Member: m.id.ID, IDs: ids})
		if err == nil {
			err = m.waitApplied(ctx, a.Index) // else the same ones are found again
		}
		cancel()
		if err != nil {
			m.log.Debug("discard statuses are not acknowledged yet", "messages", len(ids), "error", err)
			return
		}
		if len(ids) < idsMax {
			return
		}
	}
}

// sweep gives back the space of content that nobody wants: no row refers to
// it, and no entry that would can be applied any more.
//
// A sweep asks about every content: seconds for a million. So there is one only
// where rows have let go of contents since the last, or the last did something,
// which may leave more to do; it takes a small share of the time; and for
// uploads without an entry, of which nobody tells, there is one an hour.
func (m *Engine) sweep() {
	const (
		sweepEvery = time.Minute
		sweepIdle  = time.Hour
		sweepShare = 50 // times as long as a sweep took until the next
	)
	more, freed := true, int64(0)
	var ended time.Time
	var took time.Duration
	for m.pause(max(sweepEvery, sweepShare*took)) {
		now := m.fsm.Freed() // before the view
		if !more && now == freed && time.Since(ended) < sweepIdle {
			continue
		}
		began := time.Now()
		stats, err := m.sweepOnce()
		if err != nil && m.ctx.Err() == nil {
			m.log.Error("content is not swept", "error", err)
		}
		ended, freed = time.Now(), now
		took, more = ended.Sub(began), err != nil || stats.Removed > 0 || stats.Ended
	}
}

func (m *Engine) sweepOnce() (content.SweepStats, error) {
	v := m.fsm.View() // clock and rows of one moment
	defer v.Close()
	return m.sweepAt(v, v.Tables.Applied().Time)
}

func (m *Engine) sweepAt(v *fsm.View, now mail.Time) (content.SweepStats, error) {
	m.pins.mu.RLock() // until the end: what was answered with no is not asked for again
	defer m.pins.mu.RUnlock()
	live := func(c mail.Content) bool {
		if _, ok := v.HasContent(c.ID); ok || m.pins.names(c.ID) {
			return true
		}
		return now < c.NotAfter
	}
	stats, err := m.content.Sweep(live, func() error { m.fsm.Sync(); return nil })
	for _, c := range stats.Damaged {
		m.damaged(c)
	}
	if stats.Removed > 0 {
		m.log.Info("content swept", "segments", stats.Removed, "bytes", stats.Freed)
	}
	return stats, err
}

// peers are the other members, for content replication.
func (m *Engine) peers() []replica.Peer {
	s := m.fsm.Settings()
	ps := make([]replica.Peer, 0, len(s.Members))
	for _, p := range s.Members {
		if p.ID != m.id.ID && p.Retired == 0 {
			voter := s.Voter(p.ID) || slices.Contains(s.Boundary.Next, p.ID)
			ps = append(ps, replica.Peer{ID: p.ID, Name: p.Name, Addr: p.Addr, Voter: voter})
		}
	}
	return ps
}

func peerOf(c net.Conn) (mail.MemberID, bool) {
	p, ok := c.(*port.Conn)
	if !ok {
		return 0, false
	}
	return p.Peer().Member, true
}

// needHolders is how many voters must hold a content before it is proposed.
// With fewer than a majority the state machine accepts it only where a
// parameter says so, and marks it.
func (m *Engine) needHolders(voters int) int {
	p := &m.fsm.Settings().Params
	if !p.ShadowRedundancyEnabled || !p.RejectMessageOnShadowFailure {
		return 1
	}
	return voters/2 + 1
}

// wish is what the holders should be where time allows: a majority, even if
// fewer would do, and one that shadow-message-preference wants as shadow server.
func (m *Engine) wish(holders []mail.MemberID) bool {
	s := m.fsm.Settings()
	p := &s.Params
	if !p.ShadowRedundancyEnabled {
		return true
	}
	if !s.Boundary.Quorum(func(id mail.MemberID) bool { return slices.Contains(holders, id) }) {
		return false
	}
	return m.preferredHolder(s, p.ShadowMessagePreference == "local-only", holders)
}

// enough reports whether the holders are a majority of the voters, the old set
// and the new one while these change, where that is asked for at all.
func (m *Engine) enough(holders []mail.MemberID) bool {
	s := m.fsm.Settings()
	p, b := &s.Params, &s.Boundary
	if !p.ShadowRedundancyEnabled || !p.RejectMessageOnShadowFailure {
		return true
	}
	return b.NextAt == 0 || b.Quorum(func(id mail.MemberID) bool { return slices.Contains(holders, id) })
}

// preferredHolder reports whether a holder is of this member's site (local) or
// of another. Who is down is not waited for, and if nobody is left to wait for
// that is as good.
func (m *Engine) preferredHolder(s *fsm.Settings, local bool, holders []mail.MemberID) bool {
	self := s.Member(m.id.ID)
	if self == nil {
		return true
	}
	waited := false
	for _, mb := range s.Members {
		if mb.ID == self.ID || !mb.Takes() || (mb.Site == self.Site) != local {
			continue
		}
		waited = true
		if slices.Contains(holders, mb.ID) {
			return true
		}
	}
	return !waited
}

func (m *Engine) isDown(id mail.MemberID) bool {
	mb := m.fsm.Settings().Member(id)
	return mb == nil || !mb.Up || mb.Retired != 0
}

func (m *Engine) longestSpan() time.Duration {
	v := m.fsm.View()
	defer v.Close()
	return v.LongestSpan()
}

// damaged drops a copy that did not pass its checksum, so that it is fetched
// again from a peer; not one that was fetched since.
func (m *Engine) damaged(err error) {
	d := new(content.Damage)
	if !errors.As(err, &d) || !m.content.Forget(d) {
		return
	}
	m.log.Error("stored content is damaged and will be fetched from another member", "error", err)
	m.refill.lost(d.ID)
}

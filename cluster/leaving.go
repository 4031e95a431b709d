package cluster

import (
	"context"
	"time"

	"mailraft/fsm"
)

const (
	walkRows  = 500             // messages looked at in one entry
	walkPause = 2 * time.Second // between two passes over all messages, at least
)

// walked is a pass over all messages for one member.
type walked struct{ began, ended time.Duration }

// endRetired declares members down that are former ones, as soon as their last
// lease is over: nobody waits for them.
func (s *Steward) endRetired(ctx context.Context, term uint64) error {
	for _, m := range s.members() {
		if m.Retired == 0 || !m.Up || !s.node.Deciding(m.ID) {
			continue // the mark stays: it is granted nothing any more
		}
		if _, err := s.propose(ctx, term, fsm.KindMemberDown, fsm.MemberChange{Member: m.ID, Term: term}); err != nil {
			return err
		}
		s.log.Info("former member is down: its messages are taken over", "member", m.Name, "id", m.ID)
	}
	return nil
}

// relieve takes from members that are drained or retired what they hold: a
// part of a pass over all messages in each round, and passes until one finds
// nothing. Between two there is a pause, ten times as long as a pass takes.
func (s *Steward) relieve(ctx context.Context, term uint64) error {
	for _, m := range s.members() {
		draining := m.Draining && m.Drained == 0 && m.Retired == 0 && (m.Up || m.Phase == fsm.PhaseDone)
		if !draining && m.Phase != fsm.PhaseHolders {
			continue
		}
		now, w := s.node.clock.Boot(), s.walked[m.ID]
		if m.Walk == nil {
			if m.Left > 0 && w.ended != 0 && now-w.ended < max(walkPause, 10*(w.ended-w.began)) {
				continue
			}
			w.began = now
		}
		err := s.some(ctx, term, fsm.KindTakeover, fsm.MemberChange{Member: m.ID, Rows: walkRows})
		w.ended = s.node.clock.Boot()
		s.walked[m.ID] = w
		if err != nil {
			return err
		}
	}
	return nil
}

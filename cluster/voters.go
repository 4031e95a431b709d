package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/fsm"
	"mailraft/mail"
)

const (
	// changeWait is how long the content of a majority of the new voters may
	// take to be complete. Meanwhile a message needs a majority of both sets.
	changeWait = time.Minute
	// changePause is how long after such an attempt there is no other.
	changePause = 30 * time.Second
)

// change is what this term knows of the change of voters under way.
type change struct {
	at      uint64        // index at which it was announced
	since   time.Duration // when this term first saw it
	entered bool          // Raft was asked: whatever it said, it may come about
	pause   time.Duration // no other change before
}

// conform brings the Raft configuration in line with the members: one that has
// joined becomes a non-voter, and a voter when it has the state and the content
// of undelivered mail as of when it was first seen; one that has left leaves
// it. One change at a time, and none before the last is applied here.
func (s *Steward) conform(ctx context.Context, term uint64) error {
	ctx, cancel := context.WithTimeout(ctx, pieceTime)
	defer cancel()
	v := s.state.View()
	b, _ := v.Boundary()
	v.Close()
	c := s.node.Configuration() // after the view: it is not older
	switch {
	case b.ConfigAt == 0:
		return nil
	case !slices.Equal(c.Servers, raft.DecodeConfiguration(b.Config).Servers):
		return nil // a change is under way; two at a time there cannot be
	case b.NextAt != 0:
		return s.enterVoters(ctx, term, b)
	case s.node.clock.Boot() < s.change.pause:
		return nil
	}
	servers := map[raft.ServerID]raft.Server{}
	for _, v := range c.Servers {
		servers[v.ID] = v
	}
	members := s.members()
	for _, m := range members { // first, since a successor may have the same address
		if sv, ok := servers[raft.ServerID(m.ID.String())]; ok && leaves(m) {
			return s.letGo(ctx, term, b, m, sv)
		}
	}
	for _, m := range members {
		sv, ok := servers[raft.ServerID(m.ID.String())]
		if done, err := s.conformOne(ctx, term, b, m, sv, ok); done || err != nil {
			return err
		}
	}
	return nil
}

// leaves reports whether a member is to be out of the configuration.
func leaves(m fsm.Member) bool {
	return m.Retired != 0 || m.Leaving && m.Drained != 0
}

// conformOne makes the next change that a member needs; done: it made one.
func (s *Steward) conformOne(ctx context.Context, term uint64, b fsm.Boundary, m fsm.Member, sv raft.Server, configured bool) (done bool, err error) {
	switch {
	case m.Leaving && (!configured && m.Drained != 0 || !m.Up && m.Phase == fsm.PhaseDone):
		// Out of the configuration, or dead while it was drained.
		err = s.ask(ctx, term, fsm.KindMemberRemove, fsm.MemberRemove{Member: m.ID, Now: true})
	case leaves(m):
		return false, nil
	case !configured:
		if _, err = s.node.AddNonvoter(ctx, m.ID, m.Addr, b.ConfigAt); err == nil {
			s.log.Info("member joins as a non-voter", "member", m.Name)
		}
	case sv.Suffrage == raft.Nonvoter && !m.Leaving && s.filled(m.ID, append(slices.Clone(b.Voters), m.ID)):
		err = s.ask(ctx, term, fsm.KindVotersChange, fsm.VotersChange{Voters: append(slices.Clone(b.Voters), m.ID), Prev: b.ConfigAt})
	case string(sv.Address) != m.Addr:
		change := s.node.AddVoter
		if sv.Suffrage == raft.Nonvoter {
			change = s.node.AddNonvoter
		}
		if _, err = change(ctx, m.ID, m.Addr, b.ConfigAt); err == nil {
			s.log.Info("member has another address", "member", m.Name, "address", m.Addr)
		}
	default:
		return false, nil
	}
	return true, err
}

// ask proposes; what is refused now is not asked for again at once.
func (s *Steward) ask(ctx context.Context, term uint64, k fsm.Kind, body any) error {
	a, err := s.propose(ctx, term, k, body)
	if err == nil && a.Refused != nil {
		s.change.pause = s.node.clock.Boot() + changePause
		s.log.Warn("the members cannot be changed now", "reason", a.Refused.String())
	}
	return err
}

// filled reports whether a learner can vote: it has the state and the content
// of undelivered mail as of when it was first seen. The Safety Net it fetches
// as a voter. But all content must be on a majority with it (enterVoters), so
// where the others are no majority of the new voters it has to have all.
func (s *Steward) filled(id mail.MemberID, voters []mail.MemberID) bool {
	reports := s.node.Reports()
	i := slices.IndexFunc(reports, func(r Report) bool { return r.Member == id })
	if i < 0 {
		return false
	}
	r := reports[i]
	if _, ok := s.learned[id]; !ok {
		s.learned[id] = r.Applied + r.Lag
	}
	if r.Stalled || s.node.clock.Boot()-r.At > freshTime || r.Active < s.learned[id] {
		return false
	}
	return majorityComplete(reports, voters, s.learned[id])
}

// majorityComplete reports whether a majority of voters say that they have all
// content that was accepted up to an index.
func majorityComplete(reports []Report, voters []mail.MemberID, index uint64) bool {
	n := 0
	for _, r := range reports {
		if slices.Contains(voters, r.Member) && !r.Stalled && r.Complete >= index {
			n++
		}
	}
	return n > len(voters)/2
}

// letGo begins to take a member out of the configuration. A leader has another
// lead first.
func (s *Steward) letGo(ctx context.Context, term uint64, b fsm.Boundary, m fsm.Member, sv raft.Server) error {
	switch {
	case m.ID == s.node.cfg.ID:
		s.log.Info("this member leaves the boundary: another shall lead")
		return s.node.TransferLeadership(0)
	case sv.Suffrage != raft.Voter:
		_, err := s.node.RemoveServer(ctx, m.ID, b.ConfigAt)
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(b.Voters), func(id mail.MemberID) bool { return id == m.ID })
	return s.ask(ctx, term, fsm.KindVotersChange, fsm.VotersChange{Voters: rest, Prev: b.ConfigAt})
}

// enterVoters tells Raft of the announced voters once a majority of them has
// all content that was accepted before the announcement. What came after it
// was counted for both sets. If that takes too long the change is called off:
// only here, where Raft's latest configuration is the committed one, and only
// if this term has not asked Raft yet.
func (s *Steward) enterVoters(ctx context.Context, term uint64, b fsm.Boundary) error {
	now := s.node.clock.Boot()
	if s.change.at != b.NextAt {
		s.change = change{at: b.NextAt, since: now}
	}
	if !majorityComplete(s.node.Reports(), b.Next, b.NextAt) {
		if s.change.entered || now-s.change.since < changeWait {
			return nil
		}
		s.change.pause = now + changePause
		s.log.Warn("the voters are not changed: too few of the new ones have all content", "voters", len(b.Next))
		_, err := s.propose(ctx, term, fsm.KindVotersAbort, fsm.VotersAbort{At: b.NextAt, Term: term})
		return err
	}
	err := s.enter(ctx, b)
	s.change.entered = s.change.entered || err == nil || !errors.Is(err, ErrNotLeader)
	return err
}

// enter asks Raft for the announced change of the configuration that it was
// announced for, and of no other.
func (s *Steward) enter(ctx context.Context, b fsm.Boundary) error {
	if id, ok := missing(b.Voters, b.Next); ok {
		if _, err := s.node.RemoveServer(ctx, id, b.NextPrev); err != nil {
			return err
		}
		s.log.Info("member is no voter any more", "member", id)
		return nil
	}
	id, _ := missing(b.Next, b.Voters)
	for _, m := range s.members() {
		if m.ID != id {
			continue
		}
		if _, err := s.node.AddVoter(ctx, m.ID, m.Addr, b.NextPrev); err != nil {
			return err
		}
		s.log.Info("member is a voter", "member", m.Name)
	}
	return nil
}

// missing is the one of a that is not in b.
func missing(a, b []mail.MemberID) (mail.MemberID, bool) {
	for _, id := range a {
		if !slices.Contains(b, id) {
			return id, true
		}
	}
	return 0, false
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailraft/fsm"
	"mailraft/mail"

	"github.com/hashicorp/go-hclog"
)

// Pieces of bounded work, in rows: an entry of this size is applied in
// milliseconds, which new mail waits for, and any leader goes on from where one
// left off.
const (
	takeoverRows = 250
	expireRows   = 150 // each a row that is read, and eight keys that go
	protectRows  = 250
)

const (
	stewardBeat = 200 * time.Millisecond // how often a leader looks for work
	tickEvery   = time.Second            // how often time passes in an idle boundary
	pieceTime   = 10 * time.Second       // how long one proposal of the steward may take
	freshTime   = 2 * time.Second        // a report that is older says nothing of now
	lagMax      = 1000                   // entries; who is further behind cannot use a lease yet
)

// State gives views of the replicated state.
type State interface {
	View() *fsm.View
}

// Steward is what a leader does for the boundary as a whole: time passes,
// silent members are declared down and their messages handed over, returning
// ones are let in, messages that lack a shadow get one, hold times end, large
// groups are expanded, and the voters become those that they should be.
//
// It decides from the state and the leases, and proposes; it keeps nothing
// that a new leader would need.
type Steward struct {
	node  *Node
	state State
	log   hclog.Logger

	ticked  time.Duration                   // boot time of the last Tick
	mended  time.Duration                   // of the last Protect
	learned map[mail.MemberID]uint64        // learners: our applied index when this term first saw them
	unclear []mail.MemberID                 // marked, and whether MemberDown was applied is not known
	downed  map[mail.MemberID]time.Duration // when this term declared them down
	walked  map[mail.MemberID]walked        // members that are drained or retired
	change  change
}

// NewSteward makes the leader's side of a node. Run it with node.OnLeader.
func NewSteward(n *Node, s State, log hclog.Logger) *Steward {
	return &Steward{node: n, state: s, log: log.Named("steward")}
}

// Run works until ctx, the leadership, ends.
func (s *Steward) Run(ctx context.Context, term uint64) {
	s.ticked, s.mended, s.unclear = 0, 0, nil
	s.learned, s.downed = map[mail.MemberID]uint64{}, map[mail.MemberID]time.Duration{}
	s.walked, s.change = map[mail.MemberID]walked{}, change{}
	beat := time.NewTicker(stewardBeat)
	defer beat.Stop()
	for ctx.Err() == nil {
		if err := s.round(ctx, term); err != nil && ctx.Err() == nil {
			s.log.Debug("not done, will be tried again", "error", err)
		}
		select {
		case <-beat.C:
		case <-ctx.Done():
		}
	}
}

// round does what there is to do, most urgent first. An error ends the round:
// what was not reached comes in the next.
func (s *Steward) round(ctx context.Context, term uint64) error {
	for _, duty := range []func(context.Context, uint64) error{
		s.declareDown, s.endRetired, s.takeOver, s.letIn, s.tick, s.conform, s.useCA, s.protect, s.relieve, s.expand, s.expire,
	} {
		if err := duty(ctx, term); err != nil {
			return err
		}
	}
	return nil
}

// propose proposes in this term only, and decodes the answer.
func (s *Steward) propose(ctx context.Context, term uint64, k fsm.Kind, body any) (fsm.Answer, error) {
	entry, err := fsm.Encode(k, body)
	if err != nil {
		return fsm.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, pieceTime)
	defer cancel()
	b, err := s.node.ProposeTerm(ctx, term, entry)
	if err != nil {
		return fsm.Answer{}, fmt.Errorf("propose %d: %w", k, err)
	}
	return fsm.DecodeAnswer(b)
}

// roundTime bounds what can wait in one round, so that nobody who is silent is
// noticed late because much expires at once. State and cursors go on.
const roundTime = time.Second

// some proposes pieces until there are no more, or the round has had enough.
func (s *Steward) some(ctx context.Context, term uint64, k fsm.Kind, body any) error {
	end := s.node.clock.Boot() + roundTime
	for {
		a, err := s.propose(ctx, term, k, body)
		if err != nil || !a.More || s.node.clock.Boot() >= end {
			return err
		}
	}
}

// pieces proposes until an answer says that there is no more.
func (s *Steward) pieces(ctx context.Context, term uint64, k fsm.Kind, body any) (n int, err error) {
	for {
		a, err := s.propose(ctx, term, k, body)
		if err != nil {
			return n, err
		}
		if n += a.Count; !a.More {
			return n, nil
		}
	}
}

// declareDown proposes MemberDown for members whose leases are over. After an
// unknown outcome the mark stays: the member is granted nothing in this term.
func (s *Steward) declareDown(ctx context.Context, term uint64) error {
	v := s.state.View()
	span := v.Params().ShadowResubmitTimeSpan
	v.Close()
	for _, id := range append(slices.Clone(s.unclear), s.node.Overdue(span)...) {
		if !s.node.Deciding(id) {
			s.node.Decided(id)
			continue
		}
		_, err := s.propose(ctx, term, fsm.KindMemberDown, fsm.MemberChange{Member: id, Term: term})
		if err != nil {
			if nq := new(NoQuorumError); errors.As(err, &nq) && !nq.Unknown && !slices.Contains(s.unclear, id) {
				s.node.Decided(id)
			} else if !slices.Contains(s.unclear, id) {
				s.unclear = append(s.unclear, id) // asked again: that answer settles this one too
			}
			return err
		}
		s.unclear = slices.DeleteFunc(s.unclear, func(u mail.MemberID) bool { return u == id })
		s.downed[id] = s.node.clock.Boot()
		s.node.Decided(id)
		s.log.Warn("member is down: its messages are taken over", "member", id)
	}
	return nil
}

// takeOver hands over what members that are down own and shadow, piece by
// piece; also what an earlier leader began.
func (s *Steward) takeOver(ctx context.Context, term uint64) error {
	for _, m := range s.members() {
		if m.Up || m.Phase != fsm.PhasePrimaries && m.Phase != fsm.PhaseShadows {
			continue
		}
		n, err := s.pieces(ctx, term, fsm.KindTakeover, fsm.MemberChange{Member: m.ID, Rows: takeoverRows})
		if err != nil {
			return err
		}
		s.log.Info("takeover done", "member", m.Name, "messages", n)
	}
	return nil
}

// letIn proposes MemberUp for members that are down, have been heard of since,
// and keep up; their takeover is over by then.
func (s *Steward) letIn(ctx context.Context, term uint64) error {
	now := s.node.clock.Boot()
	for _, m := range s.members() {
		if m.Up || m.Phase != fsm.PhaseDone || m.Retired != 0 {
			continue
		}
		for _, r := range s.node.Reports() {
			if r.Member != m.ID || r.Stalled || r.Lag > lagMax || now-r.At > freshTime || r.At <= s.downed[m.ID] {
				continue
			}
			if _, err := s.propose(ctx, term, fsm.KindMemberUp, fsm.MemberChange{Member: m.ID}); err != nil {
				return err
			}
			s.log.Info("member is up", "member", m.Name)
		}
	}
	return nil
}

// tick lets time pass in the log, and records whose content is complete up to
// where: what decides who may take a message over.
func (s *Steward) tick(ctx context.Context, term uint64) error {
	now := s.node.clock.Boot()
	if s.ticked != 0 && now-s.ticked < tickEvery {
		return nil
	}
	known := map[mail.MemberID]fsm.Member{}
	for _, m := range s.members() {
		known[m.ID] = m
	}
	var t fsm.Tick
	for _, r := range s.node.Reports() {
		if was, ok := known[r.Member]; ok && (r.Complete > was.Complete || r.Active > was.CompleteActive || r.Commit > was.Commit || r.Starts > was.Starts) {
			t.Complete = append(t.Complete, fsm.Complete{Member: r.Member, Index: r.Complete, Active: r.Active, Commit: r.Commit, Starts: r.Starts})
		}
	}
	s.ticked = now
	_, err := s.propose(ctx, term, fsm.KindTick, t)
	return err
}

// protect gives messages what they lack. What nobody can give now is looked at
// again a second later.
func (s *Steward) protect(ctx context.Context, term uint64) error {
	now := s.node.clock.Boot()
	v := s.state.View()
	needy, every := v.Needy(), tickEvery
	if !v.Params().ShadowRedundancyEnabled {
		every = 10 * tickEvery // no message has a shadow; some may wait for an owner who is up
	}
	v.Close()
	if now-s.mended < every {
		return nil
	}
	s.mended = now
	if !needy {
		return nil
	}
	return s.some(ctx, term, fsm.KindProtect, fsm.Limit{Rows: protectRows})
}

func (s *Steward) expand(ctx context.Context, term uint64) error {
	v := s.state.View()
	var ids []mail.ID
	for id := range v.Expanding() {
		if ids = append(ids, id); len(ids) == 100 {
			break
		}
	}
	v.Close()
	for _, id := range ids {
		if err := s.some(ctx, term, fsm.KindExpand, fsm.Expand{ID: id}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Steward) expire(ctx context.Context, term uint64) error {
	now, ok := s.node.Time()
	if !ok {
		return ErrNotLeader
	}
	v := s.state.View()
	found := v.Expirable(now)
	v.Close()
	if !found {
		return nil
	}
	return s.some(ctx, term, fsm.KindExpire, fsm.Limit{Rows: expireRows})
}

func (s *Steward) members() []fsm.Member {
	v := s.state.View()
	defer v.Close()
	var ms []fsm.Member
	for m := range v.Members() {
		ms = append(ms, m)
	}
	return ms
}

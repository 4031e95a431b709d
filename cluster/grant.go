package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"mailraft/cluster/pki"
	"mailraft/mail"
)

// HandleLease answers a member's request for a lease.
func (n *Node) HandleLease(ctx context.Context, peer pki.Identity, body []byte) ([]byte, error) {
	var req leaseRequest
	if err := cbor.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("read lease request: %w", err)
	}
	if peer.Role != pki.RoleMember || peer.Member != req.Member || req.Member == 0 {
		return nil, fmt.Errorf("lease request of %v: not from that member", req.Member)
	}
	return cbor.Marshal(n.answerLease(ctx, req))
}

// answerLease is the leader's side of a lease. The order matters:
//
//  1. the index that the member must reach is read, of our own state, which
//     contains the entry that opened our term;
//  2. then a quorum confirms that we still lead;
//  3. then, under one lock with Deciding, the lease is entered in the account.
//
// Were 2 before 1, a successor could have changed owners in between, at an
// index that the member need not have reached.
func (n *Node) answerLease(ctx context.Context, req leaseRequest) leaseAnswer {
	l := n.leading()
	if l == nil {
		return leaseAnswer{Refused: "not the leader, or not yet"}
	}
	span := n.cfg.Span()
	index, _ := n.cfg.Machine.Applied()
	ticket := l.grants.heard(Report{
		Member: req.Member, Applied: req.Applied, Complete: req.Complete, Active: max(req.Active, req.Complete),
		Commit: req.Commit, Starts: req.Starts, Wall: req.Wall,
	}, index, n.clock.Boot(), span)
	l.time.report(req.Member, req.Wall, n.Voters())
	if index < l.index {
		return leaseAnswer{Refused: "the leader's state went back"} // cannot be; but then nothing must be granted
	}
	why := l.grants.refuses(req.Member, ticket)
	switch {
	case why != "":
	case n.cfg.Down(req.Member):
		why = "this member is down"
	case !slices.Contains(n.members(false), req.Member):
		why = "not a member of this boundary" // removed: its messages are others'
	}
	if why != "" {
		return leaseAnswer{Refused: why}
	}
	if err := n.confirm(ctx, l); err != nil {
		return leaseAnswer{Refused: err.Error()}
	}
	length := leaseTime(span)
	if why := l.grants.grant(req.Member, ticket, n.clock.Boot(), length); why != "" {
		return leaseAnswer{Refused: why}
	}
	return leaseAnswer{Index: index, Length: length}
}

// The rest is for those who decide about members. Everything is about the
// present term: on a member that does not lead, nothing is known.

// LastGrant is when a lease was last granted to the member, in boot time.
func (n *Node) LastGrant(id mail.MemberID) (time.Duration, bool) {
	l := n.leading()
	if l == nil {
		return 0, false
	}
	return l.grants.lastGrant(id)
}

// Overdue are the members, not yet down, that are to be declared down: they
// were granted nothing for span, and no lease of theirs can be good any more.
// It is a proposal: call Deciding, and go on only if that says true. Ask often:
// for a member that came up, time counts from when it was last seen here down.
func (n *Node) Overdue(span time.Duration) []mail.MemberID {
	l := n.leading()
	if l == nil {
		return nil
	}
	var up, down []mail.MemberID
	for _, id := range n.members(false) {
		if n.cfg.Down(id) {
			down = append(down, id)
		} else {
			up = append(up, id)
		}
	}
	return l.grants.overdue(up, down, n.clock.Boot(), span)
}

// Deciding marks a member: from now on it is granted nothing, until Decided or
// the end of the term. It reports whether no lease of the member's is good any
// more; if one is, wait for LeaseOver, or call Decided to leave it at that.
// Every entry that changes the owner of messages against the owner's will is
// proposed between Deciding and Decided, after true, with ProposeTerm.
func (n *Node) Deciding(id mail.MemberID) (over bool) {
	l := n.leading()
	return l != nil && l.grants.decide(id, true, n.clock.Boot())
}

// Decided takes the mark away. Call it when the entry was applied, so that the
// member's being down is in the state, or when it surely never will be; after
// an unknown outcome the mark must stay, and the end of the term removes it.
func (n *Node) Decided(id mail.MemberID) {
	if l := n.leading(); l != nil {
		l.grants.decide(id, false, n.clock.Boot())
	}
}

// LeaseOver reports whether no lease of a marked member's is good any more.
func (n *Node) LeaseOver(id mail.MemberID) bool {
	l := n.leading()
	return l != nil && l.grants.leaseOver(id, n.clock.Boot())
}

// Reports are what the members last said in this term, by id.
func (n *Node) Reports() []Report {
	l := n.leading()
	if l == nil {
		return nil
	}
	return l.grants.reports()
}

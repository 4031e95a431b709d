package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/mail"
)

// Bootstrap makes the first configuration of a boundary that has none. A
// boundary begins with one server; the others are added.
func (n *Node) Bootstrap(ctx context.Context, servers []raft.Server) error {
	_, err := await(ctx, n, func() raft.Future {
		return n.raft.BootstrapCluster(raft.Configuration{Servers: servers})
	})
	if err != nil {
		return fmt.Errorf("bootstrap raft: %w", err)
	}
	return nil
}

// Configuration is Raft's latest configuration, committed or not. Raft knows
// its index and does not say it: the state has that of the one applied.
func (n *Node) Configuration() raft.Configuration {
	return n.raft.GetConfiguration().Configuration() // answered from memory, never blocks
}

// Voters are the ids of all voters in the latest configuration.
func (n *Node) Voters() []mail.MemberID { return n.members(true) }

func (n *Node) members(voters bool) []mail.MemberID {
	c := n.Configuration()
	var ids []mail.MemberID
	for _, s := range c.Servers {
		id, err := mail.ParseMemberID(string(s.ID))
		if err == nil && (!voters || s.Suffrage == raft.Voter) {
			ids = append(ids, id)
		}
	}
	return ids
}

// AddNonvoter adds a member that gets the log and has no vote. For all three
// changes: only on the leader; prev, if not zero, is the index of the only
// configuration that may be changed; the index of the new one is returned. On
// an error that is not ErrNotLeader the change may still come about.
func (n *Node) AddNonvoter(ctx context.Context, id mail.MemberID, addr string, prev uint64) (uint64, error) {
	return n.change(ctx, "add non-voter", id, func(server raft.ServerID, wait time.Duration) raft.IndexFuture {
		return n.raft.AddNonvoter(server, raft.ServerAddress(addr), prev, wait)
	})
}

// AddVoter gives a member its vote, at once and however empty it is: its
// content and state must be complete before.
func (n *Node) AddVoter(ctx context.Context, id mail.MemberID, addr string, prev uint64) (uint64, error) {
	return n.change(ctx, "add voter", id, func(server raft.ServerID, wait time.Duration) raft.IndexFuture {
		return n.raft.AddVoter(server, raft.ServerAddress(addr), prev, wait)
	})
}

// RemoveServer takes a member out of the configuration.
func (n *Node) RemoveServer(ctx context.Context, id mail.MemberID, prev uint64) (uint64, error) {
	return n.change(ctx, "remove server", id, func(server raft.ServerID, wait time.Duration) raft.IndexFuture {
		return n.raft.RemoveServer(server, prev, wait)
	})
}

func (n *Node) change(ctx context.Context, what string, id mail.MemberID, ask func(raft.ServerID, time.Duration) raft.IndexFuture) (uint64, error) {
	wait := changeTime
	if end, ok := ctx.Deadline(); ok {
		wait = max(time.Until(end), time.Millisecond) // zero would wait for ever
	}
	f, err := await(ctx, n, func() raft.IndexFuture { return ask(raft.ServerID(id.String()), wait) })
	switch {
	case err == nil:
		return f.Index(), nil
	case notEntered(err):
		return 0, fmt.Errorf("%s %v: %w", what, id, ErrNotLeader)
	}
	return 0, fmt.Errorf("%s %v: %w", what, id, err)
}

// changeTime is how long a change of the configuration waits for the one
// before it to be committed, if its caller has no bound of his own.
const changeTime = 30 * time.Second

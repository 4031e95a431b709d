package cluster

import (
	"context"
	"fmt"
)

// Linearize waits until this member's own state contains everything that was
// committed when it was called, and returns the applied index to read at. It
// is for reads that decide something, and works only on the leader: the index
// is chosen first and leadership confirmed after it, since a leader that was
// deposed in between would otherwise answer from an old state.
func (n *Node) Linearize(ctx context.Context) (uint64, error) {
	l := n.leading()
	if l == nil {
		return 0, fmt.Errorf("read: %w", ErrNotLeader)
	}
	// Behind the entry that opened the term there are only commands and
	// configurations, so the machine does reach the commit index.
	index := max(n.raft.CommitIndex(), l.index)
	if err := n.confirm(ctx, l); err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	applied, err := n.reach(ctx, index)
	if err != nil {
		return 0, fmt.Errorf("read at index %d: %w", index, err)
	}
	return applied, nil
}

// reach waits until the machine has applied index, and returns where it is.
func (n *Node) reach(ctx context.Context, index uint64) (uint64, error) {
	for {
		changed := n.cfg.Machine.Changed()
		if applied, _ := n.cfg.Machine.Applied(); applied >= index {
			return applied, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-n.ctx.Done():
			return 0, n.ctx.Err()
		}
	}
}

package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// Raft counts the log in entries, and the disk in bytes: entries are small,
// but how small is for those to say who send mail.
const (
	logCheckEvery = 10 * time.Second
	compactTime   = time.Minute
	trailingLeast = 64 // never none: hashicorp/raft #86
)

// keepLogSmall shortens the log when it has grown too large: as much of it is
// kept as fits, for members that were away. The others get a snapshot.
func (n *Node) keepLogSmall() {
	t := time.NewTicker(logCheckEvery)
	defer t.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-t.C:
		}
		if err := n.fitLog(n.cfg.LogFit()); err != nil && n.ctx.Err() == nil {
			n.log.Warn("the raft log could not be shortened yet", "error", err)
		}
	}
}

// fitLog makes Raft keep so many entries behind a snapshot, or as many as it
// is set to keep if that is less; over: take that snapshot now.
func (n *Node) fitLog(entries uint64, over bool) error {
	keep := n.cfg.TrailingLogs
	if over {
		keep = min(keep, max(entries, trailingLeast))
	}
	if c := n.raft.ReloadableConfig(); c.TrailingLogs != keep {
		c.TrailingLogs = keep
		if err := n.raft.ReloadConfig(c); err != nil {
			return err
		}
	}
	if !over {
		return nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, compactTime)
	defer cancel()
	_, err := await(ctx, n, n.raft.Snapshot)
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

package member

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"mailraft/cluster"
	"mailraft/mail"
	"mailraft/mail/reply"
)

// kindFresh asks the leader for an index to read at.
const kindFresh byte = 0x22

// freshPause is how long a member waits before it asks again who leads.
const freshPause = 50 * time.Millisecond

// fresh returns when this member's own state contains everything that was
// committed when it was called: the leader names the index, after a quorum has
// confirmed that it still leads.
func (m *Member) fresh(ctx context.Context) error {
	for {
		index, err := m.freshIndex(ctx)
		if err == nil {
			return m.waitApplied(ctx, index)
		}
		select {
		case <-time.After(freshPause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// verifyTime bounds how long a RCPT waits for the leader's word.
const verifyTime = 5 * time.Second

// Verify implements smtpd.Directory. A lease says that this member was not far
// behind a moment ago, not that it knows a mailbox that was made since: before
// a 5xx its state is brought up to what is committed now.
func (m *Member) Verify(ctx context.Context, rcpt mail.Address, relay bool) error {
	err := m.Engine.Verify(ctx, rcpt, relay)
	if r := (*mail.Reply)(nil); !errors.As(err, &r) || !r.Permanent() {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	if err := m.fresh(ctx); err != nil {
		return reply.Unverified.Reply()
	}
	return m.Engine.Verify(ctx, rcpt, relay)
}

func (m *Member) freshIndex(ctx context.Context) (uint64, error) {
	leader, addr := m.node.Leader()
	switch leader {
	case m.id.ID:
		return m.node.Linearize(ctx)
	case 0:
		return 0, cluster.ErrNotLeader
	}
	b, err := m.link.Call(ctx, addr, kindFresh, nil)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, mail.Replyf(451, "4.3.0", "malformed answer of the leader")
	}
	return binary.BigEndian.Uint64(b), nil
}

func (m *Member) handleFresh(ctx context.Context) ([]byte, error) {
	index, err := m.node.Linearize(ctx)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(nil, index), nil
}

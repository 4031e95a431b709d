package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"mailraft/cluster/pki"
)

// handleTime is how long a forwarded proposal is waited for at most.
const handleTime = 30 * time.Second

// A forwarded proposal is four bytes, the milliseconds that the sender will
// wait, and the entry. The answer is one byte and the result or a text.
const (
	answerResult    byte = 1
	answerNotLeader byte = 2 // surely not committed
	answerUnknown   byte = 3
	answerRefused   byte = 4 // never will be
)

func forward(ctx context.Context, entry []byte) []byte {
	wait := handleTime
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(end), 0))
	}
	body := make([]byte, 4, 4+len(entry))
	binary.BigEndian.PutUint32(body, uint32(wait.Milliseconds()))
	return append(body, entry...)
}

func parseAnswer(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("empty answer: %w", errUnknown)
	}
	switch b[0] {
	case answerResult:
		return b[1:], nil
	case answerNotLeader:
		return nil, fmt.Errorf("%w: %s", ErrNotLeader, b[1:])
	case answerRefused:
		return nil, fmt.Errorf("%w: %s", ErrEntry, b[1:])
	}
	return nil, fmt.Errorf("%w: %s", errUnknown, b[1:])
}

// HandlePropose answers a proposal that another member forwarded. It forwards
// nothing on: who is not the leader says so.
func (n *Node) HandlePropose(ctx context.Context, peer pki.Identity, body []byte) ([]byte, error) {
	if peer.Role != pki.RoleMember {
		return nil, fmt.Errorf("propose: %q is not a member", peer.Name)
	}
	if len(body) < 4 || checkEntry(body[4:]) != nil {
		return append([]byte{answerRefused}, fmt.Sprintf("%d bytes", len(body))...), nil
	}
	wait := time.Duration(binary.BigEndian.Uint32(body)) * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, min(wait, handleTime))
	defer cancel()
	l := n.lead.Load()
	if l == nil {
		return []byte{answerNotLeader}, nil
	}
	result, err := n.proposeHere(ctx, l, body[4:])
	switch {
	case err == nil:
		return append([]byte{answerResult}, result...), nil
	case errors.Is(err, errUnknown):
		return append([]byte{answerUnknown}, err.Error()...), nil
	}
	return append([]byte{answerNotLeader}, err.Error()...), nil
}

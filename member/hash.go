package member

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"time"

	"mailraft/admin"
	"mailraft/fsm"
	"mailraft/mail"
)

// Kinds of requests between members that are answered here; those of package
// cluster are below.
const (
	kindHash   byte = 0x20 // the hash of the state at a Mark
	kindStatus byte = 0x21 // how the member is
)

// hashTime is how long a member is waited for that has yet to reach the entry.
const hashTime = 30 * time.Second

// StateHash marks the log, and asks every member for its hash there.
func (m *Member) StateHash(ctx context.Context) ([]admin.MemberHash, error) {
	a, err := m.Propose(ctx, fsm.KindMark, fsm.Mark{})
	if err != nil {
		return nil, err
	}
	v := m.fsm.View()
	var members []fsm.Member
	for mb := range v.Members() {
		if mb.Retired == 0 {
			members = append(members, mb)
		}
	}
	v.Close()
	ctx, cancel := context.WithTimeout(ctx, hashTime)
	defer cancel()
	out := make([]admin.MemberHash, len(members))
	done := make(chan struct{}, len(members))
	for i, mb := range members {
		go func() {
			defer func() { done <- struct{}{} }()
			out[i] = admin.MemberHash{Member: mb.Name, Index: a.Index}
			sum, err := m.hashOf(ctx, mb, a.Index)
			if err != nil {
				out[i].Error = err.Error()
				return
			}
			out[i].Hash = hex.EncodeToString(sum)
		}()
	}
	for range members {
		<-done
	}
	return out, nil
}

func (m *Member) hashOf(ctx context.Context, mb fsm.Member, index uint64) ([]byte, error) {
	body := binary.BigEndian.AppendUint64(nil, index)
	if mb.ID == m.id.ID {
		return m.handleHash(ctx, body)
	}
	return m.link.Call(ctx, mb.Addr, kindHash, body)
}

// handleHash answers with this member's hash at a Mark, once it is there.
func (m *Engine) handleHash(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) != 8 {
		return nil, mail.Replyf(501, "5.5.4", "malformed request for a hash")
	}
	index := binary.BigEndian.Uint64(body)
	if err := m.waitApplied(ctx, index); err != nil {
		return nil, err
	}
	_, wait, ok := m.fsm.HashAt(index)
	if !ok {
		return nil, mail.Replyf(450, "4.3.0", "this member was started after entry %d, or got it by a snapshot; ask again", index)
	}
	select {
	case <-wait:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	sum, _, _ := m.fsm.HashAt(index)
	return sum[:], nil
}

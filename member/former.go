package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"mailraft/cluster"
	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/fsm"
	"mailraft/mail"
)

// ErrFormer refuses a queue database id that is no member any more.
var ErrFormer = errors.New("is no member of this boundary any more")

// allow is asked at every handshake of the cluster port, on both sides.
func (m *Member) allow(peer pki.Identity) error {
	switch peer.Role {
	case pki.RoleMember:
	case pki.RoleFrontend:
		return m.allowFrontend(peer)
	default:
		return nil
	}
	v := m.fsm.View()
	defer v.Close()
	if f, was := v.Former(peer.Member); was {
		return port.Gone(fmt.Errorf("%s (%s) was %s and %w; join anew with: mailraft boundary token%s", f.Name, f.ID, f.How, ErrFormer, replacing(f)))
	}
	return nil
}

// replacing is what makes a token bring a former member back under its name.
func replacing(f fsm.Former) string {
	if f.How == fsm.HowRemoved {
		return "" // its name is free
	}
	return " --replace " + f.Name
}

// gone is told that a member of the boundary knows this one as a former one.
func (m *Member) gone(peer pki.Identity, reason error) {
	m.disown(fmt.Errorf("%s refuses it for ever: %w: %w", peer.Name, reason, ErrUnusable))
}

// followFormers closes what former members and front ends have open, as soon as
// this member has applied that they are. Handshakes are refused from then on.
func (m *Member) followFormers() {
	const formersEvery = 20 * time.Millisecond
	known := ""
	for m.pause(formersEvery) {
		changed := m.fsm.Changed()
		if now := m.shutOut(); now != known {
			known = now
			m.port.Drop(func(peer pki.Identity) bool { return m.allow(peer) != nil })
		}
		select {
		case <-changed:
		case <-m.ctx.Done():
			return
		}
	}
}

// shutOut changes whenever somebody is shut out.
func (m *Member) shutOut() string {
	v := m.fsm.View()
	defer v.Close()
	n, certificates := 0, ""
	for range v.Formers() {
		n++
	}
	for f := range v.Frontends() {
		certificates += f.Serial + f.Was
	}
	return fmt.Sprint(n, certificates)
}

// kindLead asks the leader to let another lead.
const kindLead byte = 0x23

// TransferLeader has another member lead: the given one, or with zero the one
// that has come furthest. It returns when that one does.
func (m *Member) TransferLeader(ctx context.Context, to mail.MemberID) (mail.MemberID, error) {
	was, addr := m.node.Leader()
	body := binary.BigEndian.AppendUint64(nil, uint64(to))
	var err error
	switch was {
	case 0:
		return 0, cluster.ErrNotLeader
	case to:
		return to, nil
	case m.id.ID:
		_, err = m.handleLead(body)
	default:
		_, err = m.link.Call(ctx, addr, kindLead, body)
	}
	for err == nil {
		if id, _ := m.node.Leader(); id != 0 && id != was {
			return id, nil
		}
		select {
		case <-time.After(freshPause):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return 0, fmt.Errorf("transfer leadership: %w", err)
}

func (m *Member) handleLead(body []byte) ([]byte, error) {
	if len(body) != 8 {
		return nil, mail.Replyf(501, "5.5.4", "malformed request for another leader")
	}
	return nil, m.node.TransferLeadership(mail.MemberID(binary.BigEndian.Uint64(body)))
}

package member

import (
	"errors"
	"fmt"
	"testing"

	"mailraft/cluster/replica"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/mail/reply"
)

// What a client is told by a member that takes no mail, has no room, or has
// lost the others.
func TestReplies(t *testing.T) {
	h := newHouse(t, 3)
	m := h.members[0]
	is := func(what string, got error, want *reply.Entry, args ...any) {
		t.Helper()
		var r *mail.Reply
		if !errors.As(got, &r) || *r != *want.Reply(args...) {
			t.Errorf("%s: %v, want %v", what, got, want.Reply(args...))
		}
	}
	is("disk", m.full("disk"), reply.DiskFull, m.cfg.Hostname)
	is("disk, as the content is stored", m.uploadError(fmt.Errorf("write: %w", replica.ErrFull)), reply.DiskFull, m.cfg.Hostname)
	is("memory", m.full("memory"), reply.MemoryShort, m.cfg.Hostname)
	is("queue", m.full("queue"), reply.QueueLong, m.cfg.Hostname)
	h.until("members are known by their names in mail", func() bool { return m.isMember("M2.example.test") && m.isMember(m.cfg.Hostname) })
	if m.isMember("m2.example.org") || m.isMember("") {
		t.Error("everybody is a member")
	}
	h.until("a lease", m.node.Lease().Valid)
	is("no majority", m.uploadError(replica.ErrNoMajority), reply.NoMajority)

	h.propose(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"shadow-redundancy-enabled": "false", "commit-timeout": "1s"}})
	h.propose(fsm.KindDrain, fsm.Drain{Member: m.id.ID})
	h.until("it is drained", func() bool { return m.Ready() != nil })
	is("drained", m.Ready(), reply.NotTaking)
	h.propose(fsm.KindDrain, fsm.Drain{Member: m.id.ID, Stop: true})
	h.ready()

	h.stop(1)
	h.stop(2)
	h.until("the lease is over", func() bool { return !m.node.Lease().Valid() })
	is("cut off", m.Ready(), reply.NoContact)
	is("a recipient who may be new", m.Verify(h.ctx, mail.Address{Local: "u", Domain: "elsewhere.example"}, false), reply.Unverified)
	is("no majority, no lease", m.uploadError(replica.ErrNoMajority), reply.NoQuorum)
	u, err := m.Begin(h.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write([]byte("x\r\n")); err != nil {
		t.Fatal(err)
	}
	_, err = u.Commit(h.ctx, mail.Submission{Envelope: mail.Envelope{Recipients: []string{"u1@example.test"}}})
	is("whole, and no quorum", err, reply.NoAnswer)

	m.draining.Store(true)
	is("stopping", m.Ready(), reply.ShuttingDown)
}

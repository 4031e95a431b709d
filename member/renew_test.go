package member

import (
	"crypto"
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/cluster/enroll"
	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/fsm"
)

func (h *house) ca() *pki.CA {
	h.t.Helper()
	m := h.any()
	v := m.fsm.View()
	defer v.Close()
	b, _ := v.Boundary()
	ca, err := pki.OpenCA(b.CA, b.CAKey, m.id.secret)
	if err != nil {
		h.t.Fatal(err)
	}
	return ca
}

// certify puts another certificate into the directory of a member that does
// not run, as made at a given time.
func (h *house) certify(i int, ca *pki.CA, made time.Time) (serial string) {
	h.t.Helper()
	id, err := openIdentity(h.configs[i].Dir)
	if err != nil {
		h.t.Fatal(err)
	}
	csr, err := pki.RequestFor(id.credentials.Load().Cert.PrivateKey.(crypto.Signer), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	cert, serial, err := issue(ca, csr, id, made)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := enroll.WriteFile(filepath.Join(id.dir, fileCert), pki.EncodeCert(cert)); err != nil {
		h.t.Fatal(err)
	}
	return serial
}

// The whole boundary was off until every certificate was over: each member
// makes itself another, and they know each other again.
func TestAllCertificatesAreOver(t *testing.T) {
	h := newHouse(t, 3)
	h.send(5)
	ca := h.ca()
	for i := range h.members {
		h.stop(i)
	}
	over := map[string]bool{}
	for i := range h.members {
		over[h.certify(i, ca, time.Now().Add(-pki.CertLife-30*time.Minute))] = true
	}
	for i := range h.members {
		h.start(i)
	}
	h.ready()
	h.until("the new serial numbers are in the state", func() bool {
		v := h.members[1].fsm.View()
		defer v.Close()
		for m := range v.Members() {
			if over[m.Serial] {
				return false
			}
		}
		return true
	})
	for _, m := range h.members {
		if leaf := m.id.credentials.Load().Cert.Leaf; time.Until(leaf.NotAfter) < pki.CertLife/2 {
			t.Errorf("%s: ends %s", m.cfg.Name, leaf.NotAfter)
		}
	}
	h.send(5)
	h.sameState()
}

// A removed member is out at once: what it has open is closed, and its
// certificate, good for months, opens nothing any more.
func TestRemovedMemberIsOut(t *testing.T) {
	h := newHouse(t, 3)
	removed, others := h.members[2], h.members[:2]
	closed := make(chan error, len(others))
	for _, m := range others {
		conn, err := removed.port.Dial(h.ctx, m.cfg.Cluster.Listen, port.Content)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			_, err := conn.Read(make([]byte, 1))
			closed <- err
		}()
	}
	h.propose(fsm.KindMemberRemove, fsm.MemberRemove{Member: removed.id.ID, Now: true})
	for range others {
		select {
		case <-closed:
		case <-h.ctx.Done():
			t.Fatal("a connection stays open")
		}
	}
	for _, m := range others {
		if conn, err := removed.port.Dial(h.ctx, m.cfg.Cluster.Listen, port.Content); err == nil || !strings.Contains(err.Error(), "is no member of this boundary any more") {
			t.Errorf("%s: %v, %v", m.cfg.Name, conn, err)
		}
	}
}

package member

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"path/filepath"
	"time"

	"mailraft/cluster"
	"mailraft/cluster/enroll"
	"mailraft/cluster/pki"
	"mailraft/fsm"
)

const (
	renewEvery = time.Hour
	renewTime  = time.Minute            // for the entry that records it
	renewPause = 10 * time.Second       // after this member could not do its part
	caEvery    = 250 * time.Millisecond // between two looks at the boundary's CA
)

// keepCertificate renews this member's certificate after two thirds of its
// life. Every member has what opens the CA's key in its own state, so it needs
// nobody for that: also one that was away until its certificate was over.
//
// Between two looks at the time it does its part in an exchange of the CA.
func (m *Member) keepCertificate() {
	for looked := (time.Time{}); ; {
		if time.Since(looked) >= renewEvery && !m.behindCA() {
			m.renewInTime()
			looked = time.Now()
		}
		if err := m.conformCA(); err != nil && m.ctx.Err() == nil {
			m.log.Warn("the exchange of the CA does not go on here yet", "error", err)
			m.pause(renewPause)
		}
		if !m.pause(caEvery) {
			return
		}
	}
}

func (m *Member) renewInTime() {
	now := m.certTime()
	leaf := m.id.credentials.Load().Cert.Leaf
	if now.Before(pki.RenewAt(leaf)) {
		return
	}
	if err := m.renew(now); err != nil && !now.Before(pki.WarnAt(leaf)) {
		m.log.Error("the certificate ends soon, and cannot be renewed", "ends", leaf.NotAfter, "error", err)
	} else if err != nil {
		m.log.Warn("the certificate is not renewed yet", "ends", leaf.NotAfter, "error", err)
	}
}

// certTime is when a certificate is made, and judged to be old: the later of
// the wall clock and the boundary's time. A clock that is behind must not make
// one that is over for everybody else.
func (m *Member) certTime() time.Time {
	_, applied := m.fsm.Applied()
	if wall := cluster.WallTime(); wall.After(applied.Std()) {
		return wall
	}
	return applied.Std()
}

// renew signs the member's key once more, and uses the certificate from the
// next handshake on.
func (m *Member) renew(now time.Time) error {
	v := m.fsm.View()
	b, ok := v.Boundary()
	v.Close()
	if !ok || b.CA == nil {
		return errors.New("the state has no CA yet")
	}
	ca, err := pki.OpenCA(b.CA, b.CAKey, m.id.secret)
	if err != nil {
		return err
	}
	key, ok := m.id.credentials.Load().Cert.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("the member's key cannot sign")
	}
	csr, err := pki.RequestFor(key, rand.Reader)
	if err != nil {
		return err
	}
	cert, serial, err := issue(ca, csr, m.id, now)
	if err != nil {
		return err
	}
	if err := enroll.WriteFile(filepath.Join(m.id.dir, fileCert), pki.EncodeCert(cert)); err != nil {
		return err
	}
	credentials, err := enroll.Read(m.id.dir)
	if err != nil {
		return err
	}
	m.id.credentials.Store(&credentials)
	m.log.Info("certificate renewed", "serial", serial, "ends", credentials.Cert.Leaf.NotAfter)
	return nil
}

// recordSerial puts the serial number into the state, where it is not yet.
func (m *Member) recordSerial() {
	peer, err := pki.IdentityOf(m.id.credentials.Load().Cert.Leaf)
	v := m.fsm.View()
	self, ok := v.Member(m.id.ID)
	b, _ := v.Boundary()
	v.Close()
	newest, signer := m.believes(&b)
	if err != nil || !ok || self.Serial == peer.Serial && self.Believes == newest && self.Signer == signer {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, renewTime)
	defer cancel()
	if _, err := m.Propose(ctx, fsm.KindMemberCert, fsm.MemberCert{Member: m.id.ID, Serial: peer.Serial, Signer: signer, Believes: newest}); err != nil {
		m.log.Debug("the renewed certificate is not recorded yet", "error", err)
	}
}

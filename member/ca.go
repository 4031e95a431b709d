package member

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"mailraft/cluster/enroll"
	"mailraft/cluster/pki"
	"mailraft/fsm"
	"mailraft/mail"
)

// behindCA reports whether the state is older than the certificates here: one
// that is being filled or replayed has CAs of long ago, and their keys.
func (m *Member) behindCA() bool {
	at, _ := m.fsm.Applied()
	return at < m.id.CAIndex
}

// conformCA does this member's part when the boundary's CA is exchanged: it
// believes whom the state says, renews with the one that signs, and tells. It
// goes in an order in which the files, read after a crash at any
// step, hold a certificate and the CA that signed it.
func (m *Member) conformCA() error {
	v := m.fsm.View()
	b, _ := v.Boundary()
	at := v.Tables.Applied().Index
	v.Close()
	if b.CA == nil || at < m.id.CAIndex {
		return nil
	}
	want := [][]byte{b.CA}
	if b.Rotation != nil {
		want = append(want, b.Rotation.CA)
	}
	creds := m.id.credentials.Load()
	signed, err := signedBy(creds.Cert.Leaf, b.CA)
	if err != nil {
		return err
	}
	if !signed && (b.Rotation == nil || b.Rotation.Used) {
		if err := m.believe(append(slices.Clone(want), creds.CADER), at); err != nil {
			return err
		}
		if err := m.renew(m.certTime()); err != nil {
			return err
		}
	}
	if err := m.believe(want, at); err != nil {
		return err
	}
	m.recordSerial()
	return nil
}

// believe has this member take the certificates of these CAs, and of no other:
// also on connections that are open. at is the entry that says so.
func (m *Member) believe(cas [][]byte, at uint64) error {
	cas = slices.CompactFunc(slices.SortedFunc(slices.Values(cas), bytes.Compare), bytes.Equal)
	was := slices.SortedFunc(slices.Values(m.id.credentials.Load().CAs), bytes.Compare)
	if slices.EqualFunc(cas, was, bytes.Equal) {
		return nil
	}
	var text []byte
	for _, der := range cas {
		text = append(text, pki.EncodeCert(der)...)
	}
	m.id.CAIndex = at
	if err := m.id.write(); err != nil {
		return err
	}
	if err := enroll.WriteFile(filepath.Join(m.id.dir, fileCA), text); err != nil {
		return err
	}
	credentials, err := enroll.Read(m.id.dir)
	if err != nil {
		return err
	}
	m.id.credentials.Store(&credentials)
	m.log.Info("the CAs that are believed have changed", "now", len(credentials.CAs))
	m.port.Recheck()
	return nil
}

func signedBy(leaf *x509.Certificate, caDER []byte) (bool, error) {
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		return false, fmt.Errorf("read CA certificate: %w", err)
	}
	return leaf.CheckSignatureFrom(ca) == nil, nil
}

// believes is the pin of the newest CA that this member has on its disk, and
// signer that of the one that signed its certificate.
func (m *Member) believes(b *fsm.Boundary) (newest, signer string) {
	creds := m.id.credentials.Load()
	newest, signer = pki.Pin(b.CA), pki.Pin(creds.CADER)
	if r := b.Rotation; r != nil && !r.Used && slices.ContainsFunc(creds.CAs, func(o []byte) bool { return bytes.Equal(o, r.CA) }) {
		newest = r.Pin
	}
	return newest, signer
}

// NewCA makes a CA for the boundary, sealed as the present one is.
func (m *Member) NewCA() (c fsm.CAChange, err error) {
	b := m.fsm.Settings().Boundary
	if b.CA == nil {
		return c, errors.New("the state has no CA yet")
	}
	ca, err := pki.NewCA(b.Boundary, m.certTime(), rand.Reader)
	if err != nil {
		return c, err
	}
	sealed, err := ca.Seal(m.id.secret)
	if err != nil {
		return c, err
	}
	return fsm.CAChange{Op: fsm.CARotate, Pin: pki.Pin(ca.Cert()), WasPin: pki.Pin(b.CA), CA: ca.Cert(), CAKey: sealed}, nil
}

// CAEnd is the pin of a CA certificate, and when it ends.
func (m *Member) CAEnd(der []byte) (pin string, end mail.Time) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", 0
	}
	return pki.Pin(der), mail.At(cert.NotAfter)
}

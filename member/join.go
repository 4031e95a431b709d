package member

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"mailraft/cluster/enroll"
	"mailraft/cluster/pki"
	"mailraft/fsm"
	"mailraft/mail"
)

// Join makes this host a member of the boundary that the token is from. The
// member at addr does not get the token before its CA is proved, and never
// gets the key.
func Join(ctx context.Context, c Config, addr, tokenText string) (*Identity, error) {
	token, err := pki.ParseToken(tokenText)
	if err != nil {
		return nil, err
	}
	release, err := lockDir(c.Dir)
	if err != nil {
		return nil, err
	}
	defer release()
	id, key, csr, err := pendingIdentity(c)
	if err != nil {
		return nil, err
	}
	a, err := enroll.Ask(ctx, addr, token, enroll.Request{Member: c.row(id.ID, ""), CSR: csr})
	if err != nil {
		return nil, err
	}
	id.Boundary, id.Generation, id.CAIndex = a.Boundary, a.Generation, a.Index
	if err := id.create(c.Dir, map[string][]byte{fileKey: key, fileCert: pki.EncodeCert(a.Cert), fileCA: a.Bundle(), fileSecret: a.Secret}); err != nil {
		return nil, err
	}
	return id, os.Remove(filepath.Join(id.dir, filePending))
}

func otherCA(b *fsm.Boundary) []byte {
	if b.Rotation == nil {
		return nil
	}
	return b.Rotation.CA
}

// pendingIdentity is the identity that this directory asks to join with: the
// same one each time. Were the answer to the first request lost, another id
// would find the name taken, by itself.
func pendingIdentity(c Config) (id *Identity, keyPEM, csr []byte, err error) {
	dir := identityDir(c.Dir)
	path := filepath.Join(dir, filePending)
	var p struct {
		ID       mail.MemberID `json:"queue_database_id"`
		Name     string        `json:"name"`
		Key, CSR []byte
	}
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &p) == nil && p.Name == c.Name {
		return &Identity{ID: p.ID, Name: p.Name, Addr: c.Cluster.Advertise}, p.Key, p.CSR, nil
	}
	if id, keyPEM, csr, err = newIdentity(c, ""); err != nil {
		return nil, nil, nil, err
	}
	p.ID, p.Name, p.Key, p.CSR = id.ID, id.Name, keyPEM, csr
	b, err := json.Marshal(p)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, nil, fmt.Errorf("make identity: %w", err)
	}
	return id, keyPEM, csr, enroll.WriteFile(path, b)
}

// serveJoins answers joiners until the listener ends.
func (m *Member) serveJoins(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		m.work.Go(func() {
			defer conn.Close()
			enroll.Serve(conn, func(r enroll.Request) enroll.Answer { return m.answerJoin(conn.RemoteAddr().String(), r) })
		})
	}
}

func (m *Member) answerJoin(from string, r enroll.Request) enroll.Answer {
	let, name := m.letJoin, r.Member.Name
	if r.Frontend != "" {
		let, name = m.letFrontendJoin, r.Frontend
	}
	a, err := let(r)
	if err != nil {
		m.log.Warn("join refused", "name", name, "from", from, "error", err)
		return enroll.Answer{Error: err.Error()}
	}
	return a
}

// letJoin signs the joiner's key once the state has taken its token. The
// certificate is made first, so that its serial number is in the row.
func (m *Member) letJoin(req enroll.Request) (enroll.Answer, error) {
	v := m.fsm.View()
	b, _ := v.Boundary()
	at := v.Tables.Applied().Index
	v.Close()
	ca, err := pki.OpenCA(b.CA, b.CAKey, m.id.secret)
	if err != nil {
		return enroll.Answer{}, err
	}
	if req.Member.ID == 0 || req.Member.Name == "" || req.Member.Addr == "" {
		return enroll.Answer{}, errors.New("the request names no member")
	}
	cert, serial, err := issue(ca, req.CSR, &Identity{ID: req.Member.ID, Name: req.Member.Name, Boundary: b.Boundary}, m.certTime())
	if err != nil {
		return enroll.Answer{}, err
	}
	req.Member.Serial = serial
	token, err := pki.ParseToken(req.Token)
	if err != nil {
		return enroll.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(m.ctx, enroll.Time)
	defer cancel()
	a, err := m.Propose(ctx, fsm.KindMemberAdd, fsm.MemberAdd{Member: req.Member, Token: token.Hash()})
	if err != nil {
		return enroll.Answer{}, err
	}
	if a.Refused != nil {
		return enroll.Answer{}, errors.New(a.Refused.Text)
	}
	m.log.Info("member joined", "member", req.Member.Name, "address", req.Member.Addr)
	return enroll.Answer{Boundary: b.Boundary, Cert: cert, CA: b.CA, Secret: m.id.secret, Generation: b.Generation, OtherCA: otherCA(&b), Index: at}, nil
}

func serialOf(certDER []byte) (string, error) {
	c, err := x509.ParseCertificate(certDER)
	if err != nil {
		return "", fmt.Errorf("read certificate: %w", err)
	}
	id, err := pki.IdentityOf(c)
	return id.Serial, err
}

// NewToken makes an invitation and records it. It is shown once.
func (m *Member) NewToken(ctx context.Context, role, replace string, uses int, life time.Duration) (string, error) {
	v := m.fsm.View()
	b, _ := v.Boundary()
	now := v.Tables.Applied().Time
	v.Close()
	token, err := pki.NewToken(pki.Pin(b.CA), rand.Reader)
	if err != nil {
		return "", err
	}
	a, err := m.Propose(ctx, fsm.KindToken, fsm.TokenAdd{Hash: token.Hash(), Role: role, Until: now.Add(life), Uses: uses, Replace: replace})
	if err != nil {
		return "", err
	}
	if a.Refused != nil {
		return "", a.Refused
	}
	return token.String(), nil
}

package member

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mailraft/cluster"
	"mailraft/cluster/enroll"
	"mailraft/cluster/pki"
	"mailraft/fsm"
	"mailraft/mail"

	"github.com/hashicorp/raft"
)

// Init makes a new boundary with this member as its first: its identity, the
// CA, and the founding command, which the first start carries out. set are
// parameters that the boundary begins with.
func Init(c Config, boundaryName string, set map[string]string) (*Identity, error) {
	if err := checkParameters(set); err != nil {
		return nil, err
	}
	release, err := lockDir(c.Dir)
	if err != nil {
		return nil, err
	}
	defer release()
	boundary := newBoundaryID()
	ca, sealed, secret, err := newCA(boundary)
	if err != nil {
		return nil, err
	}
	id, key, csr, err := newIdentity(c, boundary)
	if err != nil {
		return nil, err
	}
	cert, serial, err := issue(ca, csr, id, cluster.WallTime())
	if err != nil {
		return nil, err
	}
	entry, err := fsm.Encode(fsm.KindFound, fsm.Found{Boundary: boundary, Name: boundaryName, CA: ca.Cert(), CAKey: sealed,
		First: c.row(id.ID, serial), Set: set})
	if err != nil {
		return nil, err
	}
	return id, id.create(c.Dir, map[string][]byte{fileKey: key, fileCert: pki.EncodeCert(cert), fileCA: pki.EncodeCert(ca.Cert()),
		fileSecret: secret, fileFound: entry})
}

// checkParameters says now what applying the founding command would refuse.
func checkParameters(set map[string]string) error {
	p := fsm.Defaults()
	for name, text := range set {
		d, ok := fsm.FindParameter(name)
		if !ok {
			return fmt.Errorf("there is no parameter %q", name)
		}
		if err := d.Set(&p, text); err != nil {
			return err
		}
	}
	return nil
}

func newIdentity(c Config, boundary string) (id *Identity, keyPEM, csr []byte, err error) {
	m, err := mail.NewMemberID(rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	keyPEM, csr, err = pki.NewRequest(rand.Reader)
	return &Identity{ID: m, Name: c.Name, Boundary: boundary, Addr: c.Cluster.Advertise}, keyPEM, csr, err
}

func issue(ca *pki.CA, csr []byte, id *Identity, now time.Time) (cert []byte, serial string, err error) {
	cert, err = ca.Issue(csr, pki.Identity{Boundary: id.Boundary, Role: pki.RoleMember, Member: id.ID, Name: id.Name}, now, pki.CertLife)
	if err != nil {
		return nil, "", err
	}
	serial, err = serialOf(cert)
	return cert, serial, err
}

// row is how the state knows this member.
func (c Config) row(id mail.MemberID, serial string) fsm.Member {
	return fsm.Member{ID: id, Name: c.Name, Site: c.Site, Addr: c.Cluster.Advertise, SMTP: c.SMTP.MX(), Host: c.Hostname, Serial: serial}
}

// found carries out what Init left to do, on the first start: a Raft
// configuration of one, and the founding command. Done twice it does no harm.
func (m *Member) found(ctx context.Context) error {
	path := filepath.Join(m.id.dir, fileFound)
	entry, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("found the boundary: %w", err)
	}
	if c := m.node.Configuration(); len(c.Servers) == 0 {
		err := m.node.Bootstrap(ctx, []raft.Server{{ID: raft.ServerID(m.id.ID.String()), Address: raft.ServerAddress(m.id.Addr)}})
		if err != nil {
			return err
		}
	}
	b, err := m.node.Propose(ctx, entry)
	if err != nil {
		return fmt.Errorf("found the boundary: %w", err)
	}
	v := m.fsm.View()
	known, ok := v.Boundary()
	v.Close()
	a, err := fsm.DecodeAnswer(b)
	if err != nil {
		return fmt.Errorf("found the boundary: %w", err)
	}
	if a.Refused != nil && !(ok && known.Boundary == m.id.Boundary) { // refused when done before
		return fmt.Errorf("found the boundary: %w", a.Refused)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("found the boundary: %w", err)
	}
	return enroll.SyncDir(m.id.dir)
}

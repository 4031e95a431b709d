package member

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/fsm"
	"mailraft/mail"

	"github.com/fxamacker/cbor/v2"
)

// The join protocol is one request and one answer, each CBOR behind a length
// of four bytes, on a connection whose CA the joiner has checked.
const (
	joinSizeMax = 64 << 10
	joinTime    = 30 * time.Second
)

type joinRequest struct {
	Token  string     `cbor:"1,keyasint"`
	Member fsm.Member `cbor:"2,keyasint"`
	CSR    []byte     `cbor:"3,keyasint"`
}

type joinAnswer struct {
	Error    string `cbor:"1,keyasint,omitempty"`
	Boundary string `cbor:"2,keyasint"`
	Cert     []byte `cbor:"3,keyasint"`
	CA       []byte `cbor:"4,keyasint"`
	Secret   []byte `cbor:"5,keyasint"`
	// Generation of the boundary, as of the member that answers.
	Generation uint64 `cbor:"6,keyasint,omitempty"`
	// OtherCA is believed too, while the CA is exchanged.
	OtherCA []byte `cbor:"7,keyasint,omitempty"`
	Index   uint64 `cbor:"8,keyasint,omitempty"` // as of which the CAs are these
}

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
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	conn, err := port.DialJoin(ctx, addr, token.Pin())
	if err != nil {
		return nil, fmt.Errorf("join at %s: %w", addr, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var a joinAnswer
	err = errors.Join(writeCBOR(conn, joinRequest{Token: token.String(), Member: c.row(id.ID, ""), CSR: csr}), readCBOR(conn, &a))
	if err != nil {
		return nil, fmt.Errorf("join at %s: %w", addr, err)
	}
	if a.Error != "" {
		return nil, fmt.Errorf("join at %s: %s", addr, a.Error)
	}
	if pki.Pin(a.CA) != token.Pin() {
		return nil, fmt.Errorf("join at %s: it handed out another CA than it proved to have", addr)
	}
	id.Boundary, id.Generation, id.CAIndex = a.Boundary, a.Generation, a.Index
	if err := id.create(c.Dir, map[string][]byte{fileKey: key, fileCert: pki.EncodeCert(a.Cert), fileCA: a.bundle(), fileSecret: a.Secret}); err != nil {
		return nil, err
	}
	return id, os.Remove(filepath.Join(id.dir, filePending))
}

// bundle is whom a new member believes.
func (a *joinAnswer) bundle() []byte {
	text := pki.EncodeCert(a.CA)
	if a.OtherCA != nil {
		text = append(text, pki.EncodeCert(a.OtherCA)...)
	}
	return text
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
	return id, keyPEM, csr, writeFile(path, b)
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
			_ = conn.SetDeadline(time.Now().Add(joinTime))
			var req joinRequest
			if err := readCBOR(conn, &req); err != nil {
				return
			}
			a, err := m.letJoin(req)
			if err != nil {
				m.log.Warn("join refused", "member", req.Member.Name, "from", conn.RemoteAddr().String(), "error", err)
				a = joinAnswer{Error: err.Error()}
			}
			_ = writeCBOR(conn, a)
		})
	}
}

// letJoin signs the joiner's key once the state has taken its token. The
// certificate is made first, so that its serial number is in the row.
func (m *Member) letJoin(req joinRequest) (joinAnswer, error) {
	v := m.fsm.View()
	b, _ := v.Boundary()
	at := v.Tables.Applied().Index
	v.Close()
	ca, err := pki.OpenCA(b.CA, b.CAKey, m.id.secret)
	if err != nil {
		return joinAnswer{}, err
	}
	if req.Member.ID == 0 || req.Member.Name == "" || req.Member.Addr == "" {
		return joinAnswer{}, errors.New("the request names no member")
	}
	cert, serial, err := issue(ca, req.CSR, &Identity{ID: req.Member.ID, Name: req.Member.Name, Boundary: b.Boundary}, m.certTime())
	if err != nil {
		return joinAnswer{}, err
	}
	req.Member.Serial = serial
	token, err := pki.ParseToken(req.Token)
	if err != nil {
		return joinAnswer{}, err
	}
	ctx, cancel := context.WithTimeout(m.ctx, joinTime)
	defer cancel()
	a, err := m.Propose(ctx, fsm.KindMemberAdd, fsm.MemberAdd{Member: req.Member, Token: token.Hash()})
	if err != nil {
		return joinAnswer{}, err
	}
	if a.Refused != nil {
		return joinAnswer{}, errors.New(a.Refused.Text)
	}
	m.log.Info("member joined", "member", req.Member.Name, "address", req.Member.Addr)
	return joinAnswer{Boundary: b.Boundary, Cert: cert, CA: b.CA, Secret: m.id.secret, Generation: b.Generation, OtherCA: otherCA(&b), Index: at}, nil
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

func writeCBOR(w io.Writer, v any) error {
	b, err := cbor.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readCBOR(r io.Reader, v any) error {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return err
	}
	if size := binary.BigEndian.Uint32(n[:]); size > joinSizeMax {
		return fmt.Errorf("%d bytes are too many", size)
	}
	b := make([]byte, binary.BigEndian.Uint32(n[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return cbor.Unmarshal(b, v)
}

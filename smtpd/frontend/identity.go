package frontend

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/cluster/enroll"
	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/smtpd/handover"

	"github.com/hashicorp/go-hclog"
)

// identity is who the front end is to one boundary: all that is in its
// directory.
type identity struct {
	Boundary string   `json:"boundary"` // its identity
	Name     string   `json:"name"`     // of the front end
	Members  []string `json:"members"`  // their cluster addresses, when they were heard of last

	dir         string
	mu          sync.Mutex // guards Members and the files
	credentials atomic.Pointer[port.Credentials]
}

const (
	fileIdentity = "frontend.json"
	filePending  = "pending.pem" // the key that a join asks with, until it is answered
)

// ErrNoIdentity reports a directory that no boundary has let in yet.
var ErrNoIdentity = errors.New("this front end has no certificate yet: run mailraft frontend join")

func readIdentity(dir string) (*identity, error) {
	b, err := os.ReadFile(filepath.Join(dir, fileIdentity))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoIdentity)
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	id := &identity{dir: dir}
	if err := json.Unmarshal(b, id); err != nil {
		return nil, fmt.Errorf("read identity %s: %w", filepath.Join(dir, fileIdentity), err)
	}
	creds, err := enroll.Read(dir)
	if err != nil {
		return nil, err
	}
	id.credentials.Store(&creds)
	return id, nil
}

func (id *identity) load() port.Credentials { return *id.credentials.Load() }

func (id *identity) write() error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return enroll.WriteFile(filepath.Join(id.dir, fileIdentity), append(b, '\n'))
}

// remember keeps the members' addresses, for a start at which those in the
// configuration are gone.
func (id *identity) remember(addrs []string, log hclog.Logger) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if slices.Equal(id.Members, addrs) {
		return
	}
	id.Members = addrs
	if err := id.write(); err != nil {
		log.Warn("the members' addresses are not kept", "error", err)
	}
}

// Join has a boundary let this front end in, by the token of an operator and
// any member's cluster port. Boundary is the name in the configuration; empty:
// the only one.
func Join(ctx context.Context, c Config, boundaryName, addr, tokenText string) (boundaryID string, err error) {
	b, err := c.boundary(boundaryName)
	if err != nil {
		return "", err
	}
	token, err := pki.ParseToken(tokenText)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(b.Dir, fileIdentity)); err == nil {
		return "", fmt.Errorf("%s has a certificate already: remove the directory to join anew", b.Dir)
	}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	key, csr, err := pendingKey(b.Dir)
	if err != nil {
		return "", err
	}
	a, err := enroll.Ask(ctx, addr, token, enroll.Request{CSR: csr, Frontend: c.Name, Site: c.Site})
	if err != nil {
		return "", err
	}
	id := &identity{Boundary: a.Boundary, Name: c.Name, Members: []string{addr}, dir: b.Dir}
	for _, f := range []struct {
		name string
		text []byte
	}{{enroll.FileKey, key}, {enroll.FileCert, pki.EncodeCert(a.Cert)}, {enroll.FileCA, a.Bundle()}} {
		if err := enroll.WriteFile(filepath.Join(b.Dir, f.name), f.text); err != nil {
			return "", err
		}
	}
	if err := id.write(); err != nil { // last: it makes the others count
		return "", err
	}
	return a.Boundary, os.Remove(filepath.Join(b.Dir, filePending))
}

// pendingKey is the key that this directory asks with: the same one each time,
// so that a repetition makes no difference.
func pendingKey(dir string) (keyPEM, csr []byte, err error) {
	path := filepath.Join(dir, filePending)
	if keyPEM, err = os.ReadFile(path); err == nil {
		if key, err := pki.ParseKey(keyPEM); err == nil {
			csr, err = pki.RequestFor(key, rand.Reader)
			return keyPEM, csr, err
		}
	}
	if keyPEM, csr, err = pki.NewRequest(rand.Reader); err != nil {
		return nil, nil, err
	}
	return keyPEM, csr, enroll.WriteFile(path, keyPEM)
}

const renewTime = 30 * time.Second

// keepCertificate renews the certificate after two thirds of its life, and when
// the boundary exchanges its CA.
func (b *boundary) keepCertificate(ctx context.Context) error {
	if time.Now().Before(pki.RenewAt(b.id.load().Cert.Leaf)) && b.agrees() {
		return nil
	}
	p, err := b.choose(nil)
	if err != nil {
		return err
	}
	key, ok := b.id.load().Cert.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("the key cannot sign")
	}
	csr, err := pki.RequestFor(key, rand.Reader)
	if err != nil {
		return err
	}
	r, err := call[handover.Renewal](ctx, b, p, handover.KindRenew, handover.RenewRequest{CSR: csr}, renewTime)
	if err != nil {
		return err
	}
	return b.id.renew(r, b.log)
}

// agrees reports whether whom this front end believes, and who has signed for
// it, is as the members say.
func (b *boundary) agrees() bool {
	for _, p := range b.list() {
		p.mu.Lock()
		pins, ready := slices.Clone(p.state.CAs), p.err == nil && len(p.state.CAs) > 0
		p.mu.Unlock()
		if !ready {
			continue
		}
		creds := b.id.load()
		var own []string
		for _, der := range creds.CAs {
			own = append(own, pki.Pin(der))
		}
		signer := pins[0]
		slices.Sort(own)
		slices.Sort(pins)
		return slices.Equal(own, pins) && pki.Pin(creds.CADER) == signer
	}
	return true
}

// renew puts another certificate in place of this one.
func (id *identity) renew(r handover.Renewal, log hclog.Logger) error {
	var cas bytes.Buffer
	for _, der := range r.CAs {
		cas.Write(pki.EncodeCert(der))
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if err := enroll.WriteFile(filepath.Join(id.dir, enroll.FileCA), cas.Bytes()); err != nil {
		return err
	}
	if err := enroll.WriteFile(filepath.Join(id.dir, enroll.FileCert), pki.EncodeCert(r.Cert)); err != nil {
		return err
	}
	creds, err := enroll.Read(id.dir)
	if err != nil {
		return err
	}
	id.credentials.Store(&creds)
	log.Info("certificate renewed", "boundary", id.Boundary, "ends", creds.Cert.Leaf.NotAfter)
	return nil
}

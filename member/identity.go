package member

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"mailraft/cluster/port"
	"mailraft/mail"
)

// Identity is who a data directory is. It is made once, by init or join; a
// directory that is lost comes back as another one.
type Identity struct {
	ID       mail.MemberID `json:"queue_database_id"`
	Name     string        `json:"name"`
	Boundary string        `json:"boundary"`
	Addr     string        `json:"address"`
	Starts   uint64        `json:"starts"` // how often the directory was opened
	// Generation is that of the boundary when this member joined it: until it
	// has the state it must not listen to members of an earlier one.
	Generation uint64 `json:"generation,omitempty"`
	// CAIndex is the entry as of which the certificates here are: a state that is
	// behind it, since it is being filled or replayed, says nothing about them.
	CAIndex uint64 `json:"ca_index,omitempty"`

	dir         string
	credentials atomic.Pointer[port.Credentials]
	secret      []byte
}

// Files below DIR/identity.
const (
	fileMember  = "member.json"
	fileKey     = "key.pem"
	fileCert    = "cert.pem"
	fileCA      = "ca.pem"
	fileSecret  = "boundary.secret" // seals the CA key in the state
	filePending = "pending.json"    // what join asks with, until it is answered
	fileFound   = "found.entry"     // the first command of the boundary, until it is applied
)

// ErrNoIdentity reports a data directory that belongs to no boundary yet.
var ErrNoIdentity = errors.New("the data directory belongs to no boundary: run mailraft boundary init for the first member, or mailraft boundary join")

func identityDir(dir string) string { return filepath.Join(dir, "identity") }

// lockDir makes sure that one process uses the directory.
func lockDir(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory %s is in use by another mailraft process: stop that one, or choose another dir", dir)
	}
	return func() { f.Close() }, nil
}

// openIdentity reads who the directory is, and counts the start.
func openIdentity(dir string) (*Identity, error) {
	id, err := readIdentity(dir)
	if err != nil {
		return nil, err
	}
	id.Starts++
	return id, id.write()
}

func readIdentity(dir string) (*Identity, error) {
	d := identityDir(dir)
	b, err := os.ReadFile(filepath.Join(d, fileMember))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if err := usable(d); err != nil {
		return nil, err
	}
	id := &Identity{dir: d}
	if err := json.Unmarshal(b, id); err != nil {
		return nil, fmt.Errorf("read identity %s: %w", filepath.Join(d, fileMember), err)
	}
	if id.secret, err = os.ReadFile(filepath.Join(d, fileSecret)); err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	credentials, err := readCredentials(d)
	if err != nil {
		return nil, err
	}
	id.credentials.Store(&credentials)
	return id, nil
}

func readCredentials(d string) (port.Credentials, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(d, fileCert), filepath.Join(d, fileKey))
	if err != nil {
		return port.Credentials{}, fmt.Errorf("read certificate: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(d, fileCA))
	if err != nil {
		return port.Credentials{}, fmt.Errorf("read CA certificate: %w", err)
	}
	creds := port.Credentials{Cert: cert, CA: x509.NewCertPool()}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) { // two while the CA is exchanged
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return port.Credentials{}, fmt.Errorf("read CA certificate: %w", err)
		}
		creds.CA.AddCert(ca)
		creds.CAs = append(creds.CAs, ca.Raw)
		if creds.CADER == nil || cert.Leaf.CheckSignatureFrom(ca) == nil {
			creds.CADER = ca.Raw
		}
	}
	if creds.CADER == nil {
		return port.Credentials{}, fmt.Errorf("%s holds no certificate", filepath.Join(d, fileCA))
	}
	return creds, nil
}

func (id *Identity) write() error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return writeFile(filepath.Join(id.dir, fileMember), append(b, '\n'))
}

// create lays down the files of a new identity; the member's own last, since
// that one makes the directory a member.
func (id *Identity) create(dir string, files map[string][]byte) error {
	id.dir = identityDir(dir)
	if _, err := os.Stat(filepath.Join(id.dir, fileMember)); err == nil {
		return fmt.Errorf("data directory %s is a member already: choose another dir, or remove it if it may lose its queues", dir)
	}
	if err := os.MkdirAll(id.dir, 0o700); err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	for _, name := range []string{fileKey, fileCert, fileCA, fileSecret, fileFound} {
		if b, ok := files[name]; ok {
			if err := writeFile(filepath.Join(id.dir, name), b); err != nil {
				return err
			}
		}
	}
	return id.write()
}

// writeFile puts a small file in place, durably: all of it or the old one.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// newBoundaryID draws the identity of a new boundary.
func newBoundaryID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return fmt.Sprintf("%x", b)
}

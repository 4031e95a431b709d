package member

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"mailraft/cluster/enroll"
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
	fileKey     = enroll.FileKey
	fileCert    = enroll.FileCert
	fileCA      = enroll.FileCA
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
	credentials, err := enroll.Read(d)
	if err != nil {
		return nil, err
	}
	id.credentials.Store(&credentials)
	return id, nil
}

func (id *Identity) write() error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return enroll.WriteFile(filepath.Join(id.dir, fileMember), append(b, '\n'))
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
			if err := enroll.WriteFile(filepath.Join(id.dir, name), b); err != nil {
				return err
			}
		}
	}
	return id.write()
}

// newBoundaryID draws the identity of a new boundary.
func newBoundaryID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return fmt.Sprintf("%x", b)
}

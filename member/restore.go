package member

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"mailraft/backup"
	"mailraft/cluster"
	"mailraft/cluster/enroll"
	"mailraft/cluster/pki"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/content"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// RestoreOrder is what an operator says to Restore.
type RestoreOrder struct {
	Name     string // of the new boundary; empty: as it was
	By       string
	Reason   string
	Progress func(h backup.Head, contents, bytes int64) // nil: nobody is told
}

// Restoration is what was restored.
type Restoration struct {
	Boundary string        `json:"boundary"` // identity of the new one
	Name     string        `json:"name"`
	Member   string        `json:"member"`
	MemberID mail.MemberID `json:"queue_database_id"`
	Of       backup.Head   `json:"backup"`
	Counts   backup.Counts `json:"counts"`
	Unheld   int           `json:"unheld"` // messages whose content is not in the backup
}

// fileRestoring marks a directory in which a restore was begun: what it made
// there is of no use to anybody.
const fileRestoring = "RESTORING"

// Restore makes a new boundary of a backup, with this directory as its first
// member: it has an identity, a CA and a Raft configuration of its own, the
// state and the content of the backup, and delivers nothing before somebody
// says so. The other members join it, as any.
//
// The commit point is the identity, which is written last: before that the
// directory is no member, and another Restore begins anew.
func Restore(c Config, in io.Reader, o RestoreOrder, log hclog.Logger) (r Restoration, err error) {
	release, err := lockDir(c.Dir)
	if err != nil {
		return r, err
	}
	defer release()
	if err := c.clearForRestore(); err != nil {
		return r, err
	}
	m := &Member{Engine: newEngine(c, nil, log, func(err error) {
		fmt.Fprintf(os.Stderr, "mailraft: the backup is not restored: %v\n", err)
		os.Exit(1)
	})}
	defer m.cancel()
	files, err := m.restore(in, o, &r)
	m.close()
	if err != nil {
		return r, err
	}
	if err := m.id.create(c.Dir, files); err != nil {
		return r, err
	}
	return r, os.Remove(c.path(fileRestoring))
}

// clearForRestore refuses a directory that somebody uses, and removes what a
// restore that did not come to its end has left.
func (c *Config) clearForRestore() error {
	if _, err := os.Stat(identityDir(c.Dir)); err == nil {
		return fmt.Errorf("data directory %s is a member already, or joins: choose another dir, or remove it if it may lose its queues", c.Dir)
	}
	_, err := os.Stat(c.path(fileRestoring))
	begun := err == nil
	if err := enroll.WriteFile(c.path(fileRestoring), nil); err != nil {
		return err
	}
	for _, name := range []string{dirState, dirContent, dirLog, "snapshots"} {
		if _, err := os.Stat(c.path(name)); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if !begun {
			return errors.Join(fmt.Errorf("%s is there: a backup is restored into an empty data directory", c.path(name)), os.Remove(c.path(fileRestoring)))
		}
		if err := os.RemoveAll(c.path(name)); err != nil {
			return fmt.Errorf("clear data directory: %w", err)
		}
	}
	return nil
}

// restore fills the stores, and returns the files of the identity.
func (m *Member) restore(in io.Reader, o RestoreOrder, r *Restoration) (files map[string][]byte, err error) {
	if err := m.openTables(vfs.Default); err != nil {
		return nil, err
	}
	b, err := backup.NewReader(in)
	if err != nil {
		return nil, err
	}
	r.Of = b.Head
	rows := b.State()
	if err := m.fsm.ReadBackup(rows); err != nil {
		return nil, fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	if _, err := io.Copy(io.Discard, rows); err != nil { // what follows the rows: nothing
		return nil, err
	}
	if err := m.restoreContents(b, o.Progress); err != nil {
		return nil, err
	}
	if err := b.Close(); err != nil {
		return nil, err
	}
	r.Counts = b.Tail.Counts
	if err := m.checkRestored(b.Head); err != nil {
		return nil, err
	}
	return m.refound(o, r)
}

// restoreContents stores all content, synced.
func (m *Member) restoreContents(b *backup.Reader, progress func(backup.Head, int64, int64)) error {
	const pendingMax = 256 // whose sync is waited for at once
	pending := make(chan error, pendingMax)
	var w *content.Writer
	open := 0
	wait := func() error { open--; return <-pending }
	take := func(c mail.Content, p []byte) (err error) {
		if w == nil {
			if w, err = m.content.Create(c.ID); err != nil {
				return fmt.Errorf("restore content %s: %w", c.ID, err)
			}
		}
		_, err = w.Write(p)
		return err
	}
	done := func(c mail.Content, whole bool) (err error) {
		if err := take(c, nil); err != nil { // an empty one has no pieces
			return err
		}
		if !whole {
			w.Abort()
			w = nil
			return nil
		}
		if open == pendingMax {
			err = wait()
		}
		open++
		w.Commit(c.NotAfter, func(err error) { pending <- err })
		w = nil
		if progress != nil {
			progress(b.Head, b.Tail.Contents+1, b.Tail.Bytes+c.Size)
		}
		return err
	}
	err := b.Contents(take, done)
	for open > 0 {
		err = errors.Join(err, wait())
	}
	return err
}

// checkRestored compares the state with what the backup says that it is.
func (m *Member) checkRestored(h backup.Head) error {
	v := m.fsm.View()
	defer v.Close()
	b, _ := v.Boundary()
	if at := v.Tables.Applied(); at.Index != h.Index || at.Term != h.Term || b.Boundary != h.Boundary {
		return errNotWhole("its state is of entry %d of term %d of boundary %s, and should be of entry %d of term %d of %s",
			at.Index, at.Term, b.Boundary, h.Index, h.Term, h.Boundary)
	}
	return nil
}

// refound draws the identity of the new boundary and its first member, and
// makes it of the state: the first entries of its log are a configuration of
// that member alone, what is given up for lost, and Refound.
func (m *Member) refound(o RestoreOrder, r *Restoration) (files map[string][]byte, err error) {
	boundary := newBoundaryID()
	ca, sealed, secret, err := newCA(boundary)
	if err != nil {
		return nil, err
	}
	id, key, csr, err := newIdentity(m.cfg, boundary)
	if err != nil {
		return nil, err
	}
	cert, serial, err := issue(ca, csr, id, cluster.WallTime())
	if err != nil {
		return nil, err
	}
	m.id = id
	f := fsm.Refound{Boundary: boundary, Name: o.Name, CA: ca.Cert(), CAKey: sealed, First: m.cfg.row(id.ID, serial), Index: r.Of.Index, By: o.By, Reason: o.Reason}
	logs, err := m.firstEntries(f, r)
	if err != nil {
		return nil, err
	}
	if m.raftLog, err = m.openLogFile(); err != nil {
		return nil, err
	}
	m.onClose(func() { m.closed("log", m.raftLog.Close()) })
	if err := m.raftLog.Extend(r.Of.Index, r.Of.Term, logs); err != nil {
		return nil, err
	}
	m.fsm.Replay(m.entriesOf(r.Of.Index+1, r.Of.Index+uint64(len(logs))))
	v := m.fsm.View()
	defer v.Close()
	b, _ := v.Boundary()
	if b.Boundary != boundary {
		return nil, errNotWhole("its state does not let another boundary be made of it")
	}
	r.Boundary, r.Name, r.Member, r.MemberID = boundary, b.Name, id.Name, id.ID
	id.Generation, id.CAIndex = b.Generation, v.Tables.Applied().Index
	return map[string][]byte{fileKey: key, fileCert: pki.EncodeCert(cert), fileCA: pki.EncodeCert(ca.Cert()), fileSecret: secret}, nil
}

// firstEntries are what the log of the new boundary begins with.
func (m *Member) firstEntries(f fsm.Refound, r *Restoration) ([]*raft.Log, error) {
	logs := []*raft.Log{{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{
		Servers: []raft.Server{{ID: raft.ServerID(f.First.ID.String()), Address: raft.ServerAddress(f.First.Addr)}}})}}
	add := func(k fsm.Kind, body any) error {
		e, err := fsm.Encode(k, body)
		if err == nil {
			fsm.Stamp(e, r.Of.Time)
			logs = append(logs, &raft.Log{Type: raft.LogCommand, Data: e})
		}
		return err
	}
	v := m.fsm.View()
	defer v.Close()
	var absent []mail.ID
	for id, c := range v.MessageContents(mail.ID{}) {
		if _, ok := m.content.Stat(c.ID); !ok {
			absent = append(absent, id)
		}
	}
	r.Unheld = len(absent)
	for ids := range slices.Chunk(absent, lostChunk) {
		if err := add(fsm.KindContentLost, fsm.ContentLost{IDs: ids, By: f.By, Reason: "it was not in the backup"}); err != nil {
			return nil, err
		}
	}
	err := add(fsm.KindRefound, f) // before logs is read
	return logs, err
}

// newCA makes the CA of a boundary, its key sealed for the state, and the secret
// that it is sealed with.
func newCA(boundary string) (ca *pki.CA, sealed, secret []byte, err error) {
	if ca, err = pki.NewCA(boundary, cluster.WallTime(), rand.Reader); err != nil {
		return nil, nil, nil, err
	}
	secret = make([]byte, 32)
	_, _ = rand.Read(secret)
	sealed, err = ca.Seal(secret)
	return ca, sealed, secret, err
}

// errNotWhole reports a backup whose parts are whole, and do not fit.
func errNotWhole(format string, a ...any) error {
	return fmt.Errorf("the backup cannot be restored: "+format, a...)
}

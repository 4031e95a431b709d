package fsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"
)

// A snapshot on the wire is a magic, then rows in key order as (key length,
// value length, key, value), then zero lengths and a CRC-32C of everything
// before. Lengths are 4 bytes, big endian.
const (
	streamMagic = "mailraft state 1\n"
	keyMax      = 2 * entrySizeMax // a key is made of parts of one entry
	valueMax    = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// liveSnapshot stands for the tables as they are.
type liveSnapshot struct{}

// Persist returns when the tables are durable. They may end before what Raft
// calls applied, because its no-ops do not come here: then the log is still
// needed from there, and the next attempt does it. Nor is the log shortened
// while another member receives the tables: it will ask for what follows them.
func (liveSnapshot) Persist(sink raft.SnapshotSink) error {
	if k, ok := sink.(*liveSink); ok {
		k.live = true
		if at, _ := k.s.f.Applied(); at < k.meta.Index {
			return fmt.Errorf("the state ends at entry %d as yet, before %d", at, k.meta.Index)
		}
		if n := k.s.sending(); n > 0 {
			return fmt.Errorf("the state is being sent to %d members", n)
		}
	}
	return sink.Close()
}

func (liveSnapshot) Release() {}

// Snapshots is the snapshot store over the live tables: taking a snapshot only
// makes them durable, and what is sent to another member is streamed from a
// view. Position, configuration and rows of a stream come from one view.
// Implements raft.SnapshotStore.
type Snapshots struct {
	f   *FSM
	dir string // of what was received and is not yet installed

	mu       sync.Mutex
	received map[string]raft.SnapshotMeta // guarded by mu
	n        int                          // guarded by mu
	streams  int                          // guarded by mu; that are being read
}

func (s *Snapshots) sending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams
}

func (s *Snapshots) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams += n
}

// NewSnapshots makes the store; dir takes streams being received, and what an
// earlier process left there is removed.
func NewSnapshots(f *FSM, dir string) (*Snapshots, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("clear snapshot directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make snapshot directory: %w", err)
	}
	return &Snapshots{f: f, dir: dir, received: map[string]raft.SnapshotMeta{}}, nil
}

const liveID = "live"

// Create begins a local snapshot, or the receiving of one: which, is known
// when Persist or Write is called.
func (s *Snapshots) Create(_ raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	id := fmt.Sprintf("received-%d", s.n)
	return &liveSink{s: s, meta: raft.SnapshotMeta{Version: raft.SnapshotVersionMax, ID: id, Index: index, Term: term,
		Configuration: c, ConfigurationIndex: ci}}, nil
}

// List returns the one snapshot that there is: the tables.
func (s *Snapshots) List() ([]*raft.SnapshotMeta, error) {
	v := s.f.View()
	defer v.Close()
	m, ok := v.meta()
	if !ok {
		return nil, nil
	}
	return []*raft.SnapshotMeta{&m}, nil
}

// Open returns a stream of the tables, or what was received under the id.
func (s *Snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id == liveID {
		return s.openLive()
	}
	s.mu.Lock()
	m, ok := s.received[id]
	s.mu.Unlock()
	if !ok {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, os.ErrNotExist)
	}
	f, err := os.Open(filepath.Join(s.dir, id))
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	return &m, &receivedFile{File: f, s: s, id: id}, nil
}

func (s *Snapshots) openLive() (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.count(1) // before the view: no log that follows it may go
	v := s.f.View()
	end := func() { v.Close(); s.count(-1) }
	m, ok := v.meta()
	if !ok {
		end()
		return nil, nil, fmt.Errorf("open snapshot: the state is empty: %w", os.ErrNotExist)
	}
	size := counter(0)
	if err := writeStream(&size, v.Tables); err != nil { // raft wants the exact size first
		end()
		return nil, nil, err
	}
	m.Size = int64(size)
	r, w := io.Pipe()
	s.f.streams.Go(func() {
		defer end()
		b := bufio.NewWriterSize(w, 256<<10)
		err := writeStream(b, v.Tables)
		_ = w.CloseWithError(errors.Join(err, b.Flush()))
	})
	return &m, r, nil
}

// meta is the snapshot that the view is.
func (v *View) meta() (raft.SnapshotMeta, bool) {
	a := v.Tables.Applied()
	b, ok := v.Boundary()
	if !ok || a.Index == 0 || b.Config == nil {
		return raft.SnapshotMeta{}, false
	}
	return raft.SnapshotMeta{Version: raft.SnapshotVersionMax, ID: liveID, Index: a.Index, Term: a.Term,
		Configuration: raft.DecodeConfiguration(b.Config), ConfigurationIndex: b.ConfigAt}, true
}

// liveSink takes a local snapshot, or receives one into a file.
type liveSink struct {
	s    *Snapshots
	meta raft.SnapshotMeta
	live bool
	f    *os.File
}

func (k *liveSink) ID() string { return k.meta.ID }

func (k *liveSink) Write(p []byte) (int, error) {
	if k.f == nil {
		f, err := os.OpenFile(filepath.Join(k.s.dir, k.meta.ID), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, fmt.Errorf("receive snapshot: %w", err)
		}
		k.f = f
	}
	n, err := k.f.Write(p)
	k.meta.Size += int64(n)
	return n, err
}

// Close returns when the snapshot is durable: the log up to it may be
// compacted right after.
func (k *liveSink) Close() error {
	if k.live {
		k.s.f.Sync()
		return nil
	}
	if k.f == nil {
		return errors.New("receive snapshot: nothing came")
	}
	if err := errors.Join(k.f.Sync(), k.f.Close()); err != nil {
		return fmt.Errorf("receive snapshot: %w", err)
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.received[k.meta.ID] = k.meta
	return nil
}

func (k *liveSink) Cancel() error {
	if k.f == nil {
		return nil
	}
	return errors.Join(k.f.Close(), os.Remove(k.f.Name()))
}

// receivedFile is removed once it was read to install it.
type receivedFile struct {
	*os.File
	s  *Snapshots
	id string
}

func (r *receivedFile) Close() error {
	r.s.mu.Lock()
	delete(r.s.received, r.id)
	r.s.mu.Unlock()
	return errors.Join(r.File.Close(), os.Remove(r.File.Name()))
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// writeStream writes all replicated rows.
func writeStream(w io.Writer, t Tables) error {
	return writeRows(w, t.Scan(ReplicatedLow, ReplicatedHigh))
}

func writeRows(w io.Writer, rows iter.Seq2[[]byte, []byte]) error {
	sum := crc32.New(castagnoli)
	out := io.MultiWriter(w, sum)
	if _, err := io.WriteString(out, streamMagic); err != nil {
		return err
	}
	for k, v := range rows {
		if err := writeRow(out, k, v); err != nil {
			return err
		}
	}
	if err := writeRow(out, nil, nil); err != nil {
		return err
	}
	_, err := w.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

func writeRow(w io.Writer, k, v []byte) error {
	b := make([]byte, 8, 8+len(k)+len(v))
	binary.BigEndian.PutUint32(b, uint32(len(k)))
	binary.BigEndian.PutUint32(b[4:], uint32(len(v)))
	_, err := w.Write(append(append(b, k...), v...))
	return err
}

package raftlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrInUse says that another process has the log open.
var ErrInUse = errors.New("another process holds the data directory")

const (
	hangDefault = 10 * time.Second
	lockTimeout = time.Second
)

// ErrNotFound is what a log's file says of a key that it does not hold.
var ErrNotFound = raftboltdb.ErrKeyNotFound

// Options say where the log is and what to do when it breaks.
type Options struct {
	Path  string
	Salt  uint64        // a number that nobody can guess, another one at each start
	Hang  time.Duration // a write that lasts longer stops the process; 0 is 10 s
	Fatal func(error)   // a broken promise; nil prints and exits
	// Ticker makes the watchdog's clock; nil is time.NewTicker.
	Ticker func(time.Duration) *time.Ticker
	Logger hclog.Logger
}

// Bolt is what the guard needs of raft-boltdb; tests put a disk that fails or
// hangs in its place.
type Bolt interface {
	raft.LogStore
	Set(key, val []byte) error
	Get(key []byte) ([]byte, error)
	RunMetrics(ctx context.Context, interval time.Duration)
	Close() error
}

// Store is the log and the vote of one member. It implements raft.LogStore
// and raft.StableStore.
type Store struct {
	path  string
	db    Bolt
	fatal func(error)
	dog   *watchdog
	sizes sizes

	mu       sync.Mutex
	broken   error  // the first failed write: nothing is written after it
	voteTerm uint64 // LastVoteTerm given, its candidate not yet
	voteHeld bool
}

// Open opens the log at o.Path, or makes it.
func Open(o Options) (*Store, error) {
	var sizes sizes
	fresh, err := inspect(o.Path, func(index uint64, value []byte) { sizes.add(index, int64(len(value))+pageElementLen) })
	if err != nil {
		return nil, fmt.Errorf("open raft log %s: %w", o.Path, err)
	}
	db, err := openBolt(o.Path)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open raft log %s: %w", o.Path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open raft log %s: %w", o.Path, err)
	}
	if fresh {
		// Without this a power loss may take the whole file, and with it a
		// vote that was given: bbolt syncs the file, not its name.
		if err := syncDir(filepath.Dir(o.Path)); err != nil {
			return nil, errors.Join(fmt.Errorf("open raft log %s: %w", o.Path, err), db.Close())
		}
	}
	j, err := openJournal(db, vfs.Default, journalPath(o.Path), o.Salt)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := Guard(j, o)
	s.sizes.blocks = sizes.blocks
	s.sizes.stored(j.found)
	s.Unload()
	return s, nil
}

// journalPath is where the journal of a log lies.
func journalPath(path string) string { return strings.TrimSuffix(path, ".db") + ".journal" }

// openBolt reads the whole file, since the freelist is not on disk.
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	return raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout: lockTimeout,
			// With the freelist on disk every append rewrites it, and after a
			// large DeleteRange that takes ten times as long.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
}

// Guard puts the guard around a log that is open already.
func Guard(db Bolt, o Options) *Store {
	if o.Hang <= 0 {
		o.Hang = hangDefault
	}
	if o.Fatal == nil {
		o.Fatal = exit
	}
	if o.Ticker == nil {
		o.Ticker = time.NewTicker
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	stop := func(err error) {
		o.Logger.Error("raft log failed, stopping", "path", o.Path, "error", err)
		o.Fatal(err)
	}
	s := &Store{path: o.Path, db: db, fatal: stop}
	s.dog = newWatchdog(o.Hang, o.Ticker, stop)
	return s
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, "mailraft:", err)
	os.Exit(1)
}

// Close ends the watchdog and closes the file.
func (s *Store) Close() error {
	s.dog.stop()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close raft log: %w", err)
	}
	return nil
}

// Bytes is what the entries take, about.
func (s *Store) Bytes() int64 { return s.sizes.total() }

// Newest is how many of the newest entries take at most so many bytes, about.
func (s *Store) Newest(limit int64) uint64 { return s.sizes.newest(limit) }

// Size is the size of the file in bytes. It never shrinks: space that
// DeleteRange frees is used again.
func (s *Store) Size() int64 {
	fi, err := os.Stat(s.path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// RunMetrics sends raft-boltdb's own gauges until ctx ends.
func (s *Store) RunMetrics(ctx context.Context, interval time.Duration) {
	s.db.RunMetrics(ctx, interval)
}

// FirstIndex implements raft.LogStore.
func (s *Store) FirstIndex() (uint64, error) { return s.db.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *Store) LastIndex() (uint64, error) { return s.db.LastIndex() }

// GetLog implements raft.LogStore. raft.ErrLogNotFound is passed on as it is:
// Raft compares it. A damaged entry stops the process: applied or passed on it
// would be another command than the one that was agreed on.
func (s *Store) GetLog(index uint64, log *raft.Log) error {
	err := s.db.GetLog(index, log)
	if err == raft.ErrLogNotFound {
		return err
	}
	if err != nil {
		err = damaged("entry %d cannot be read: %w", index, err)
	} else {
		err = unseal(index, log)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", s.path, err)
		s.fatal(err)
	}
	return err
}

// StoreLog implements raft.LogStore.
func (s *Store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore: one transaction, synced.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	err := s.write("append to the raft log", func() error { return s.db.StoreLogs(sealed(logs)) })
	if err == nil {
		s.sizes.stored(logs)
	}
	return err
}

// pieceEntries is how much of the log's beginning goes in one transaction.
// Appends wait for one: with 50,000 entries, longer than a heartbeat may take.
const pieceEntries = 1000

// DeleteRange implements raft.LogStore; both ends are included. The beginning
// of the log goes in pieces, so that appends come in between; a crash leaves
// less of it away. Its end goes in one: a crash between two pieces would leave
// a hole, or entries behind it that nobody vouches for.
func (s *Store) DeleteRange(lo, hi uint64) error {
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if lo > first || hi >= last {
		return s.remove(lo, hi)
	}
	for lo = first; lo <= hi; lo += pieceEntries {
		if err := s.remove(lo, min(hi, lo+pieceEntries-1)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) remove(lo, hi uint64) error {
	err := s.write("shorten the raft log", func() error { return s.db.DeleteRange(lo, hi) })
	if err == nil {
		s.sizes.removed(lo, hi)
	}
	return err
}

// write runs one change of the file under the watchdog. After the first
// failure nothing is written any more, whatever Fatal does: Raft's idea of the
// end of the log may be wrong from then on (after a conflicting end was removed
// and StoreLogs failed), and what the file holds is not known.
func (s *Store) write(what string, change func() error) error {
	if err := s.state(); err != nil {
		return err
	}
	done := s.dog.begin(what)
	err := change()
	done()
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s %s: %w", what, s.path, err)
	s.mu.Lock()
	if s.broken == nil {
		s.broken = err
	}
	s.mu.Unlock()
	s.fatal(err)
	return err
}

func (s *Store) state() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return fmt.Errorf("not written after an earlier failure: %w", s.broken)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

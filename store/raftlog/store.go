package raftlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

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

// Options say where the log is and what to do when it breaks.
type Options struct {
	Path  string
	Hang  time.Duration // a write that lasts longer stops the process; 0 is 10 s
	Fatal func(error)   // a broken promise; nil prints and exits
	// Ticker makes the watchdog's clock; nil is time.NewTicker.
	Ticker func(time.Duration) *time.Ticker
	Logger hclog.Logger
}

// bolt is what the guard needs of raft-boltdb; tests put a disk that fails or
// hangs in its place.
type bolt interface {
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
	db    bolt
	fatal func(error)
	dog   *watchdog

	mu       sync.Mutex
	broken   error  // the first failed write: nothing is written after it
	voteTerm uint64 // LastVoteTerm given, its candidate not yet
	voteHeld bool
}

// Open opens the log at o.Path, or makes it.
func Open(o Options) (*Store, error) {
	fresh := false
	if _, err := os.Stat(o.Path); errors.Is(err, os.ErrNotExist) {
		fresh = true
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
	return guard(db, o), nil
}

// openBolt reads the whole file, since the freelist is not on disk. A damaged
// page ends the process by a panic of bbolt, in a goroutine of its own that
// nobody can recover: loud, and before Raft has said anything.
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

func guard(db bolt, o Options) *Store {
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
// Raft compares it.
func (s *Store) GetLog(index uint64, log *raft.Log) error { return s.db.GetLog(index, log) }

// StoreLog implements raft.LogStore.
func (s *Store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore: one transaction, synced.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	return s.write("append to the raft log", func() error { return s.db.StoreLogs(logs) })
}

// DeleteRange implements raft.LogStore; both ends are included.
func (s *Store) DeleteRange(lo, hi uint64) error {
	return s.write("shorten the raft log", func() error { return s.db.DeleteRange(lo, hi) })
}

// write runs one change of the file under the watchdog. After the first
// failure nothing is written any more, whatever Fatal does: Raft's idea of the
// end of the log is wrong from then on (raft.go, appendEntries, the TODO after
// StoreLogs), and what the file holds is not known.
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

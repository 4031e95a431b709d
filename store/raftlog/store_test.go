package raftlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

var (
	_ raft.LogStore    = (*Store)(nil)
	_ raft.StableStore = (*Store)(nil)
)

// fatals records what Fatal was told.
type fatals struct {
	mu  sync.Mutex
	all []error
}

func (f *fatals) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, err)
}

func (f *fatals) list() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]error(nil), f.all...)
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(Options{Path: path, Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func logs(from, to uint64) []*raft.Log {
	var l []*raft.Log
	for i := from; i <= to; i++ {
		l = append(l, &raft.Log{Index: i, Term: 3, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d", i)})
	}
	return l
}

func TestLogSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := open(t, path)
	if err := s.StoreLogs(logs(1, 9)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(1, 3); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(logs(10, 10)[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	defer s.Close()
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil || first != 4 || last != 10 {
		t.Fatalf("log is %d to %d, %v; want 4 to 10", first, last, err)
	}
	var l raft.Log
	if err := s.GetLog(7, &l); err != nil || string(l.Data) != "entry 7" || l.Term != 3 {
		t.Fatalf("entry 7: %+v, %v", l, err)
	}
	if err := s.GetLog(2, &l); err != raft.ErrLogNotFound {
		t.Fatalf("deleted entry: %v", err)
	}
	if s.Size() == 0 {
		t.Fatal("size is 0")
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := open(t, path)
	defer s.Close()
	if _, err := Open(Options{Path: path}); !errors.Is(err, ErrInUse) {
		t.Fatalf("second open: %v", err)
	}
}

func TestForeignFileIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 8192)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: path}); err == nil {
		t.Fatal("opened")
	}
}

// disk is a store in memory that fails or hangs when told to.
type disk struct {
	*raft.InmemStore
	fail   error
	hang   chan struct{}
	writes int
}

func (d *disk) write() error {
	d.writes++
	if d.hang != nil {
		<-d.hang
	}
	return d.fail
}

func (d *disk) StoreLogs(l []*raft.Log) error {
	if err := d.write(); err != nil {
		return err
	}
	return d.InmemStore.StoreLogs(l)
}

func (d *disk) DeleteRange(lo, hi uint64) error {
	if err := d.write(); err != nil {
		return err
	}
	return d.InmemStore.DeleteRange(lo, hi)
}

func (d *disk) Set(k, v []byte) error {
	if err := d.write(); err != nil {
		return err
	}
	return d.InmemStore.Set(k, v)
}

func (d *disk) Get(k []byte) ([]byte, error) {
	v, err := d.InmemStore.Get(k)
	if err != nil {
		return nil, raftboltdb.ErrKeyNotFound
	}
	return v, nil
}

func (d *disk) RunMetrics(context.Context, time.Duration) {}
func (d *disk) Close() error                              { return nil }

func TestFailedWriteIsFatalAndNeverRetried(t *testing.T) {
	eio := errors.New("input/output error")
	for name, write := range map[string]func(*Store) error{
		"append": func(s *Store) error { return s.StoreLogs(logs(1, 1)) },
		"delete": func(s *Store) error { return s.DeleteRange(1, 1) },
		"set":    func(s *Store) error { return s.Set([]byte("k"), []byte("v")) },
		"term":   func(s *Store) error { return s.SetUint64([]byte("CurrentTerm"), 7) },
		"vote": func(s *Store) error {
			return errors.Join(s.SetUint64(keyVoteTerm, 7), s.Set(keyVoteCand, []byte("a")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &disk{InmemStore: raft.NewInmemStore(), fail: eio}
			var f fatals
			s := Guard(d, Options{Path: "x", Fatal: f.add})
			defer s.Close()
			if err := write(s); !errors.Is(err, eio) {
				t.Fatalf("got %v", err)
			}
			if all := f.list(); len(all) != 1 || !errors.Is(all[0], eio) {
				t.Fatalf("fatal was told %v", all)
			}
			d.fail = nil
			if err := write(s); !errors.Is(err, eio) || d.writes != 1 {
				t.Fatalf("written again: %v, %d writes", err, d.writes)
			}
		})
	}
}

// The same with the real file under it: closed, so that the write fails.
func TestFailedFileIsFatal(t *testing.T) {
	var f fatals
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "raft.db"), Fatal: f.add})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLogs(logs(1, 1)); err == nil || len(f.list()) != 1 {
		t.Fatalf("%v, fatal was told %v", err, f.list())
	}
}

func TestHangingWriteStopsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{InmemStore: raft.NewInmemStore(), hang: make(chan struct{})}
		var f fatals
		s := Guard(d, Options{Path: "x", Fatal: f.add, Hang: 10 * time.Second})
		go s.StoreLogs(logs(1, 1))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if all := f.list(); len(all) != 0 {
			t.Fatalf("too early: %v", all)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if all := f.list(); len(all) != 1 || !strings.Contains(all[0].Error(), "append to the raft log: not done after 10s") {
			t.Fatalf("fatal was told %v", all)
		}
		close(d.hang)
		s.Close()
	})
}

func TestSlowAndIdleWritesAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{InmemStore: raft.NewInmemStore()}
		s := Guard(d, Options{Path: "x", Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
		for range 5 {
			d.hang = make(chan struct{})
			time.AfterFunc(9*time.Second, func() { close(d.hang) })
			if err := s.StoreLogs(logs(1, 1)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		s.Close()
	})
}

// A stopped process gets one late tick on waking, however long it slept.
func TestWakingProcessDoesNotKillItself(t *testing.T) {
	ticks := make(chan time.Time)
	d := &disk{InmemStore: raft.NewInmemStore(), hang: make(chan struct{})}
	s := Guard(d, Options{
		Path:  "x",
		Fatal: func(err error) { t.Errorf("fatal: %v", err) },
		Ticker: func(time.Duration) *time.Ticker {
			tk := time.NewTicker(time.Hour)
			tk.C = ticks
			return tk
		},
	})
	done := make(chan error)
	go func() { done <- s.StoreLogs(logs(1, 1)) }()
	start := time.Unix(0, 0)
	ticks <- start
	ticks <- start.Add(time.Hour) // the clock jumped while we were stopped
	ticks <- start.Add(time.Hour + time.Second)
	close(d.hang)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.Close()
}

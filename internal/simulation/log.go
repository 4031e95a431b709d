package simulation

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/store/raftlog"
)

// logDisk is the file of the log: every change is one transaction, which is
// there as a whole or not at all. (Bolt itself cannot be put on a file system
// of ours.)
type logDisk struct {
	mu     sync.Mutex
	logs   map[uint64]raft.Log
	values map[string]string
	low    uint64
	high   uint64
	under  map[*change]struct{} // changes under way
}

// change is a transaction that is being written.
type change struct{ apply func(*logDisk) }

func newLogDisk() *logDisk {
	return &logDisk{logs: map[uint64]raft.Log{}, values: map[string]string{}, under: map[*change]struct{}{}}
}

// crash is the file as it is found afterwards: of what was under way at most
// one change was written, for there is one writer.
func (d *logDisk) crash(rng *rand.Rand) *logDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &logDisk{logs: maps.Clone(d.logs), values: maps.Clone(d.values), low: d.low, high: d.high, under: map[*change]struct{}{}}
	for x := range d.under {
		if rng.IntN(2) == 0 {
			x.apply(c)
		}
		break
	}
	return c
}

// bound finds the ends of the log anew.
func (d *logDisk) bound() {
	d.low, d.high = 0, 0
	for i := range d.logs {
		if d.low == 0 || i < d.low {
			d.low = i
		}
		d.high = max(d.high, i)
	}
}

// logHandle is one process's access to the file. It stands in for raft-boltdb
// behind the guard of package raftlog.
type logHandle struct {
	*logDisk
	handle *handle
	fatal  func(error)
}

func (l *logHandle) write(apply func(*logDisk)) error {
	c := &change{apply}
	l.mu.Lock()
	l.under[c] = struct{}{}
	l.mu.Unlock()
	err := l.handle.sync()
	if err == nil && l.handle.disk.is(diskFullest) && !l.handle.over() {
		err = syscall.ENOSPC
	}
	l.mu.Lock()
	delete(l.under, c)
	if err == nil {
		apply(l.logDisk) // of a process that has ended: to a file that nobody opens again
	}
	l.mu.Unlock()
	if err != nil {
		// The guard would do the same. But here the process lives on for a moment,
		// and Raft panics where its term cannot be written.
		l.fatal(err)
	}
	return nil
}

// FirstIndex implements raft.LogStore.
func (l *logHandle) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.low, nil
}

// LastIndex implements raft.LogStore.
func (l *logHandle) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.high, nil
}

// GetLog implements raft.LogStore.
func (l *logHandle) GetLog(index uint64, log *raft.Log) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.logs[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*log = e
	return nil
}

// StoreLog implements raft.LogStore.
func (l *logHandle) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (l *logHandle) StoreLogs(logs []*raft.Log) error {
	copies := make([]raft.Log, len(logs))
	for i, e := range logs {
		copies[i] = *e
	}
	return l.write(func(d *logDisk) {
		for _, e := range copies {
			d.logs[e.Index] = e
			d.high = max(d.high, e.Index)
			if d.low == 0 || e.Index < d.low {
				d.low = e.Index
			}
		}
	})
}

// DeleteRange implements raft.LogStore.
func (l *logHandle) DeleteRange(low, high uint64) error {
	return l.write(func(d *logDisk) {
		for i := low; i <= high; i++ {
			delete(d.logs, i)
		}
		d.bound()
	})
}

// Set is half of raft.StableStore; the guard has the rest.
func (l *logHandle) Set(key, value []byte) error {
	k, v := string(key), string(value)
	return l.write(func(d *logDisk) { d.values[k] = v })
}

// Get returns what raft-boltdb returns, the error for what is not there included.
func (l *logHandle) Get(key []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.values[string(key)]
	if !ok {
		return nil, raftlog.ErrNotFound
	}
	return []byte(v), nil
}

// RunMetrics has nothing to tell.
func (l *logHandle) RunMetrics(context.Context, time.Duration) {}

// Close leaves the file as it is.
func (l *logHandle) Close() error { return nil }

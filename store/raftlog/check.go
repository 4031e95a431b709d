package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// inspect walks the file before it is opened: every page that can be reached,
// the order of the keys, the checksums of term and vote, and that no entry is
// missing between the first and the last. Those of the entries are checked
// when they are read: all of them would take seconds. fresh: there is no file.
func inspect(path string, entry func(index uint64, value []byte)) (fresh bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	// The lock that bbolt takes: a file being written looks damaged.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return false, ErrInUse
	} else if err != nil {
		return false, err
	}
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() == 0 {
		return true, nil // made, and not yet written
	}
	var last uint64
	return false, walk(f, info.Size(), func(bucket, key, value []byte) error {
		switch string(bucket) {
		case "conf":
			return checkRecord(key, value)
		case "logs":
		default:
			return damaged("bucket %q", bucket)
		}
		if len(key) != 8 {
			return damaged("an index of %d bytes", len(key))
		}
		index := binary.BigEndian.Uint64(key)
		if last != 0 && index != last+1 {
			return damaged("entries %d to %d are missing", last+1, index-1)
		}
		last = index
		entry(index, value)
		return nil
	})
}

// Report is what a check of a log that is not open found.
type Report struct {
	First, Last uint64 // indexes
	LastTerm    uint64
	Term        uint64 // current
}

// Check reads the whole log at path through, with the checksum of every entry.
// It changes nothing.
func Check(path string) (r Report, err error) {
	fresh, err := inspect(path, func(index uint64, _ []byte) {
		if r.First == 0 {
			r.First = index
		}
		r.Last = index
	})
	if err != nil || fresh {
		return r, err
	}
	db, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{Timeout: lockTimeout, ReadOnly: true}})
	if err != nil {
		return r, fmt.Errorf("open raft log %s: %w", path, err)
	}
	defer db.Close()
	var found []error
	s := &Store{path: path, db: db, fatal: func(err error) { found = append(found, err) }}
	for i := r.First; i <= r.Last && r.First > 0; i++ {
		var l raft.Log
		_ = s.GetLog(i, &l) // goes to found
		r.LastTerm = l.Term
	}
	r.Term, err = s.GetUint64([]byte("CurrentTerm"))
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		err = nil
	}
	return r, errors.Join(append(found, err)...)
}

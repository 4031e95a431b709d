package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
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
	fresh, err := inspect(path, func(uint64, []byte) {})
	if err != nil || fresh {
		return r, err
	}
	db, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{Timeout: lockTimeout, ReadOnly: true}})
	if err != nil {
		return r, fmt.Errorf("open raft log %s: %w", path, err)
	}
	defer db.Close()
	j, err := looked(db, journalPath(path))
	if err != nil {
		return r, fmt.Errorf("read journal %s: %w", journalPath(path), err)
	}
	first, err1 := j.FirstIndex()
	last, err2 := j.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return r, err
	}
	r.First, r.Last = first, last
	var found []error
	s := &Store{path: path, db: j, fatal: func(err error) { found = append(found, err) }}
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

// looked is a log with what its journal has beside it, to be read.
func looked(db Bolt, path string) (*journal, error) {
	j := &journal{Bolt: db}
	_, there, err := journalOf(db, vfs.Default, path)
	if err != nil || !there {
		return j, err
	}
	f, err := vfs.Default.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, logs, err := readJournal(f)
	if err == nil {
		j.tail, err = behind(db, logs)
	}
	return j, err
}

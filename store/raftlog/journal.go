package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// journal stands before bbolt. Entries are appended to a small file, with one
// sync that changes no metadata, and go to bbolt many at a time: an append
// there is two syncs, one after the other, and half a dozen pages. All else
// goes to bbolt as it comes. Reading sees no difference.
//
// The file has a fixed length and is overwritten from its beginning, turn by
// turn; a turn begins when bbolt has all that was in the last one. Everything
// is in it twice, at the same place of its two halves, so that one damaged
// place can be told from a write that was under way.
type journal struct {
	Bolt
	file  vfs.File
	salt  uint64
	found []*raft.Log // what open brought to bbolt

	write chan struct{} // has room for one: who changes a file; guards what follows
	turn  uint64
	end   int64 // of the frames of this turn
	buf   []byte
	err   error // the first failure: nothing is written any more

	mu   sync.RWMutex
	tail []*raft.Log // guarded by mu and changed under write: in the journal, and not in bbolt
}

const (
	journalHalf = 512 << 10
	// frameMax is what one append may take. Longer ones go to bbolt at once:
	// its price is of the append, not of the byte.
	frameMax = journalHalf / 8
)

// keyJournal is set in bbolt as soon as there is a journal: from then on the
// one without the other is damage.
var keyJournal = []byte("Journal")

// Journaled puts a journal at path in fs before a log, and brings what the
// last process left in it to the log. salt is a number that nobody can guess,
// another one each time.
func Journaled(db Bolt, fs vfs.FS, path string, salt uint64) (Bolt, error) {
	return openJournal(db, fs, path, salt)
}

func openJournal(db Bolt, fs vfs.FS, path string, salt uint64) (*journal, error) {
	j := &journal{Bolt: db, salt: salt, write: make(chan struct{}, 1)}
	if err := j.open(fs, path); err != nil {
		if j.file != nil {
			err = errors.Join(err, j.file.Close())
		}
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	return j, nil
}

func (j *journal) open(fs vfs.FS, path string) error {
	known, found, err := journalOf(j.Bolt, fs, path)
	if err != nil {
		return err
	}
	if !found {
		if err := makeJournal(fs, path); err != nil {
			return err
		}
	}
	if j.file, err = fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified); err != nil {
		return err
	}
	turn, logs, err := readJournal(j.file)
	if err != nil {
		return err
	}
	j.turn = turn
	if !known {
		if len(logs) > 0 {
			return fmt.Errorf("%w: the journal is that of another log", ErrApart)
		}
		if err := j.Set(keyJournal, sealNumber(keyJournal, make([]byte, 8))); err != nil {
			return err
		}
	}
	if j.found, err = behind(j.Bolt, logs); err != nil {
		return err
	}
	j.tail = j.found
	return j.next()
}

// journalOf says whether a log has a journal, and whether it is there.
func journalOf(db Bolt, fsys vfs.FS, path string) (known, found bool, err error) {
	mark, err := db.Get(keyJournal)
	switch {
	case err == nil:
		if _, err := unsealNumber(keyJournal, mark); err != nil {
			return true, false, err
		}
		known = true
	case !errors.Is(err, ErrNotFound):
		return false, false, err
	}
	_, err = fsys.Stat(path)
	switch {
	case err == nil:
		return known, true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return known, false, err
	case known:
		return true, false, damaged("the journal is missing")
	}
	return false, false, nil
}

// behind is what of a journal's entries the log does not have yet.
func behind(db Bolt, logs []*raft.Log) ([]*raft.Log, error) {
	first, err1 := db.FirstIndex()
	last, err2 := db.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	for i, l := range logs {
		switch {
		case last == 0 || l.Index == last+1:
			return logs[i:], nil
		case l.Index > last:
			return nil, damaged("entries %d to %d are missing", last+1, l.Index-1)
		case l.Index < first:
			continue // it was removed since
		}
		var have raft.Log
		if err := db.GetLog(l.Index, &have); err != nil {
			return nil, damaged("entry %d cannot be read: %w", l.Index, err)
		}
		if have.Term != l.Term {
			return nil, fmt.Errorf("%w: entry %d of the journal is of term %d, and that of the log of term %d", ErrApart, l.Index, l.Term, have.Term)
		}
	}
	return nil, nil
}

// StoreLog implements raft.LogStore.
func (j *journal) StoreLog(l *raft.Log) error { return j.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. Its commit point is the sync of the
// frame.
func (j *journal) StoreLogs(logs []*raft.Log) error {
	return j.change(func() error {
		follow, err := j.follows(logs)
		if err != nil {
			return err
		}
		if !follow || frameLen(logs) > frameMax {
			if err := j.flush(); err != nil {
				return err
			}
			return j.Bolt.StoreLogs(logs)
		}
		j.buf = appendFrame(j.buf[:0], logs)
		if j.end+int64(len(j.buf)) > journalHalf {
			if err := j.next(); err != nil {
				return err
			}
		}
		sealFrame(j.buf, j.turn, j.salt, j.end)
		if err := j.put(j.buf, j.end, journalHalf+j.end); err != nil {
			return err
		}
		j.end += int64(len(j.buf))
		j.mu.Lock()
		defer j.mu.Unlock()
		j.tail = append(j.tail, logs...)
		return nil
	})
}

// follows reports whether entries go on where the log ends. After a snapshot
// was installed they need not; a journal that is read after a crash must.
func (j *journal) follows(logs []*raft.Log) (bool, error) {
	last, err := j.LastIndex()
	return err == nil && len(logs) > 0 && (last == 0 || logs[0].Index == last+1), err
}

// DeleteRange implements raft.LogStore. Where the end of the log goes, the
// journal must not bring it back after a crash.
func (j *journal) DeleteRange(lo, hi uint64) error {
	return j.change(func() error {
		last, err := j.LastIndex()
		switch {
		case err != nil:
			return err
		case hi >= last:
			err = j.next()
		case len(j.tail) > 0 && hi >= j.tail[0].Index:
			err = j.flush()
		}
		if err != nil {
			return err
		}
		return j.Bolt.DeleteRange(lo, hi)
	})
}

func (j *journal) change(do func() error) error {
	j.write <- struct{}{}
	defer func() { <-j.write }()
	if j.err == nil {
		j.err = do()
	}
	return j.err
}

// next brings all entries to bbolt and begins another turn. One half after the
// other, each with its sync: at any moment one of them tells which turn it is.
func (j *journal) next() error {
	if err := j.flush(); err != nil {
		return err
	}
	mark := appendFrame(nil, nil)
	sealFrame(mark, j.turn+1, j.salt, 0)
	for _, half := range []int64{0, journalHalf} {
		if err := j.put(mark, half); err != nil {
			return err
		}
	}
	j.turn, j.end = j.turn+1, int64(len(mark))
	return nil
}

// flush brings all entries to bbolt. They stay in the journal too, where they
// do no harm: a start finds that bbolt has them.
func (j *journal) flush() error {
	if len(j.tail) == 0 {
		return nil
	}
	if err := j.Bolt.StoreLogs(j.tail); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tail = nil
	return nil
}

// put writes b at some places, with one sync.
func (j *journal) put(b []byte, at ...int64) error {
	for _, off := range at {
		if _, err := j.file.WriteAt(b, off); err != nil {
			return err
		}
	}
	return syncData(j.file)
}

// GetLog implements raft.LogStore.
func (j *journal) GetLog(index uint64, log *raft.Log) error {
	j.mu.RLock()
	if n := len(j.tail); n > 0 && index >= j.tail[0].Index && index <= j.tail[n-1].Index {
		*log = *j.tail[index-j.tail[0].Index]
		j.mu.RUnlock()
		return nil
	}
	j.mu.RUnlock()
	return j.Bolt.GetLog(index, log)
}

// FirstIndex implements raft.LogStore.
func (j *journal) FirstIndex() (uint64, error) {
	j.mu.RLock() // what bbolt does not have yet is not taken from the tail meanwhile
	defer j.mu.RUnlock()
	first, err := j.Bolt.FirstIndex()
	if err == nil && first == 0 && len(j.tail) > 0 {
		first = j.tail[0].Index
	}
	return first, err
}

// LastIndex implements raft.LogStore.
func (j *journal) LastIndex() (uint64, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if n := len(j.tail); n > 0 {
		return j.tail[n-1].Index, nil
	}
	return j.Bolt.LastIndex()
}

// Close brings all entries to bbolt and closes both.
func (j *journal) Close() error {
	err := j.change(j.flush)
	return errors.Join(err, j.file.Close(), j.Bolt.Close())
}

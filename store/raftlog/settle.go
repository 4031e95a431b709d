package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// ErrApart says that the log and the state are not of one moment.
var ErrApart = errors.New("the raft log and the state do not belong together")

// Settle brings the log in line with a state that ends at (index, term). What
// a state says is committed, so the log is right up to there if it has that
// very entry (the log matching property). It can lack it in two ways that are
// in order: it begins behind it, because it was compacted; or the state was
// installed from another member's snapshot. Then nothing in the log is known
// to be right: not what lies behind (hashicorp/raft #697), and not what lies
// before, which Raft leaves there and would hand on as committed if this
// member came to lead. So all of it goes, as the Raft paper has it (§7).
//
// installed says that a snapshot was being installed. stale: the log is to be
// emptied (Empty); behind says whether Raft, if it runs, counts on entries that
// the state is behind of, and has to be started anew.
func (s *Store) Settle(index, term uint64, installed bool) (stale, behind bool, err error) {
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	current, err3 := s.GetUint64([]byte("CurrentTerm"))
	if errors.Is(err3, raftboltdb.ErrKeyNotFound) {
		err3 = nil
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return false, false, fmt.Errorf("settle the raft log: %w", err)
	}
	switch {
	case index == 0 && first <= 1:
		return false, false, nil
	case first > index+1:
		return false, false, fmt.Errorf("%w: the state ends at entry %d, and the log begins at %d", ErrApart, index, first)
	case current < term:
		return false, false, fmt.Errorf("%w: the state is of term %d, and the log knows only %d", ErrApart, term, current)
	case first == index+1 || first == 0: // emptied here before, by a term that it still knows
		return false, false, nil
	case last >= index:
		var l raft.Log
		if err := s.GetLog(index, &l); err != nil {
			return false, false, fmt.Errorf("settle the raft log: %w", err)
		}
		if l.Term == term {
			return false, false, nil
		}
	}
	if !installed {
		return false, false, fmt.Errorf("%w: the state ends at entry %d of term %d, and the log, %d to %d, does not have it", ErrApart, index, term, first, last)
	}
	return true, last >= index, nil
}

// Empty removes all entries. l is what Raft reads through, so that no cache
// keeps any.
func Empty(l raft.LogStore) error {
	first, err1 := l.FirstIndex()
	last, err2 := l.LastIndex()
	if err := errors.Join(err1, err2); err != nil || first == 0 {
		return err
	}
	return l.DeleteRange(first, last)
}

package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// Extend appends entries behind the last one, in a term of their own that
// nobody was given a vote in, and only while no Raft runs. (index, term) is the
// end of the state: the log may have been emptied up to there. All of them are
// in the log when it returns nil; after a crash all or none are.
//
// It is no append as Raft knows it: nobody agreed to it. Whoever calls it says
// that nobody else has a word in this log any more.
func (s *Store) Extend(index, term uint64, logs []*raft.Log) error {
	last, err1 := s.LastIndex()
	current, err2 := s.GetUint64([]byte("CurrentTerm"))
	if errors.Is(err2, raftboltdb.ErrKeyNotFound) {
		err2 = nil
	}
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("extend the raft log: %w", err)
	}
	if last > 0 {
		var l raft.Log
		if err := s.GetLog(last, &l); err != nil {
			return fmt.Errorf("extend the raft log: %w", err)
		}
		term = max(term, l.Term)
	}
	term, index = max(term, current)+1, max(last, index)
	// First the term. Alone it does nothing but make the next election skip one.
	if err := s.SetUint64([]byte("CurrentTerm"), term); err != nil {
		return err
	}
	for i, l := range logs {
		l.Index, l.Term = index+1+uint64(i), term
	}
	return s.StoreLogs(logs)
}

package raftlog

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// Entries come behind what is there, in a term above all that the log, the
// state or a vote knows; on a log that was emptied, behind the state.
func TestExtend(t *testing.T) {
	for name, c := range map[string]struct {
		fill        func(s *Store) error
		index, term uint64 // of the state
		first       uint64
		wantTerm    uint64
	}{
		"behind the log": {func(s *Store) error { return s.StoreLogs(logs(1, 9)) }, 5, 3, 10, 4},
		"a vote was given since": {func(s *Store) error {
			return errors.Join(s.StoreLogs(logs(1, 9)), s.SetUint64([]byte("CurrentTerm"), 7))
		}, 9, 3, 10, 8},
		"the log was emptied":      {func(s *Store) error { return s.SetUint64([]byte("CurrentTerm"), 2) }, 20, 6, 21, 7},
		"nothing is there at all":  {func(*Store) error { return nil }, 0, 0, 1, 1},
		"the state is of the same": {func(s *Store) error { return s.StoreLogs(logs(1, 2)) }, 2, 3, 3, 4},
	} {
		path := filepath.Join(t.TempDir(), "raft.db")
		s := open(t, path)
		err := c.fill(s)
		if err == nil {
			err = s.Extend(c.index, c.term, []*raft.Log{{Type: raft.LogConfiguration, Data: []byte("c")}, {Type: raft.LogCommand, Data: []byte("r")}})
		}
		if err = errors.Join(err, s.Close()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s = open(t, path)
		var one, two raft.Log
		if err := errors.Join(s.GetLog(c.first, &one), s.GetLog(c.first+1, &two)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		last, _ := s.LastIndex()
		current, _ := s.GetUint64([]byte("CurrentTerm"))
		if last != c.first+1 || one.Term != c.wantTerm || two.Term != c.wantTerm || current != c.wantTerm || one.Type != raft.LogConfiguration || string(two.Data) != "r" {
			t.Errorf("%s: last %d, current term %d, %+v, %+v", name, last, current, one, two)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

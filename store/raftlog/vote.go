package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// The keys that Raft v1.7.3 uses for its vote (raft.go:27). It writes the
// term with SetUint64, then the candidate with Set, always in this order and
// always both (persistVote). A crash between the two would leave the new term
// beside the old candidate, and that candidate's request would then be granted
// as a duplicate, without a look at its log (#661). So the term is held back,
// and one record of both is written when the candidate comes.
//
// Until then both keys are answered from the record on disk: a reader never
// sees half a vote, in this process or after a restart.
var (
	keyVoteTerm = []byte("LastVoteTerm")
	keyVoteCand = []byte("LastVoteCand")
	keyVote     = []byte("Vote") // ours: 8 bytes of term, big endian, then the candidate; sealed
)

var errNoTerm = errors.New("a vote's candidate came without its term")

// SetUint64 implements raft.StableStore.
func (s *Store) SetUint64(key []byte, val uint64) error {
	if bytes.Equal(key, keyVoteTerm) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.voteTerm, s.voteHeld = val, true
		return nil
	}
	return s.Set(key, sealNumber(key, binary.BigEndian.AppendUint64(nil, val)))
}

// Set implements raft.StableStore.
func (s *Store) Set(key, val []byte) error {
	if !bytes.Equal(key, keyVoteCand) {
		return s.write("write to the raft store", func() error { return s.db.Set(key, val) })
	}
	s.mu.Lock()
	term, held := s.voteTerm, s.voteHeld
	s.voteHeld = false
	s.mu.Unlock()
	return s.write("write the vote", func() error {
		if !held {
			return errNoTerm // another version of Raft: the record would name a wrong term
		}
		return s.db.Set(keyVote, sealVote(append(binary.BigEndian.AppendUint64(nil, term), val...)))
	})
}

// GetUint64 implements raft.StableStore.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	if bytes.Equal(key, keyVoteTerm) {
		term, _, err := s.vote()
		return term, err
	}
	val, err := s.db.Get(key)
	if err != nil {
		return 0, err
	}
	if val, err = unsealNumber(key, val); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(val), nil
}

// Get implements raft.StableStore. A missing key is raftboltdb.ErrKeyNotFound,
// unwrapped: Raft compares its text.
func (s *Store) Get(key []byte) ([]byte, error) {
	if bytes.Equal(key, keyVoteCand) {
		_, cand, err := s.vote()
		return cand, err
	}
	return s.db.Get(key)
}

func (s *Store) vote() (term uint64, cand []byte, err error) {
	rec, err := s.db.Get(keyVote)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil, raftboltdb.ErrKeyNotFound
	}
	if err != nil {
		return 0, nil, err
	}
	if rec, err = unsealVote(rec); err != nil {
		return 0, nil, err
	}
	return binary.BigEndian.Uint64(rec), rec[8:], nil
}

package raftlog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

func wantVote(t *testing.T, s *Store, term uint64, cand string) {
	t.Helper()
	gotTerm, err1 := s.GetUint64(keyVoteTerm)
	gotCand, err2 := s.Get(keyVoteCand)
	if term == 0 {
		if err1 != raftboltdb.ErrKeyNotFound || err2 != raftboltdb.ErrKeyNotFound {
			t.Fatalf("vote %d %q, %v, %v; want none", gotTerm, gotCand, err1, err2)
		}
		return
	}
	if err := errors.Join(err1, err2); err != nil || gotTerm != term || string(gotCand) != cand {
		t.Fatalf("vote is %d %q, %v; want %d %q", gotTerm, gotCand, err, term, cand)
	}
}

// The crash of #661: the term was given, the candidate was not.
func TestCrashBetweenTermAndCandidateKeepsTheOldVote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := open(t, path)
	wantVote(t, s, 0, "")
	if err := s.SetUint64(keyVoteTerm, 4); err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 0, "")
	if err := s.Set(keyVoteCand, []byte("one:7")); err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 4, "one:7")
	if err := s.SetUint64([]byte("CurrentTerm"), 5); err != nil {
		t.Fatal(err)
	}
	if err := s.SetUint64(keyVoteTerm, 5); err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 4, "one:7")
	// The crash: what is in the files now is what a restart finds.
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
	s.Close()

	s = open(t, filepath.Join(crashed, "raft.db"))
	defer s.Close()
	wantVote(t, s, 4, "one:7")
	if term, err := s.GetUint64([]byte("CurrentTerm")); err != nil || term != 5 {
		t.Fatalf("current term %d, %v", term, err)
	}
	if err := errors.Join(s.SetUint64(keyVoteTerm, 5), s.Set(keyVoteCand, []byte("two:7"))); err != nil {
		t.Fatal(err)
	}
	wantVote(t, s, 5, "two:7")
}

func TestVoteIsOneRecord(t *testing.T) {
	d := &disk{InmemStore: raft.NewInmemStore()}
	s := Guard(d, Options{Path: "x", Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	defer s.Close()
	if err := s.SetUint64(keyVoteTerm, 9); err != nil || d.writes != 0 {
		t.Fatalf("the term alone: %v, %d writes", err, d.writes)
	}
	if err := s.Set(keyVoteCand, []byte("me")); err != nil || d.writes != 1 {
		t.Fatalf("the candidate: %v, %d writes", err, d.writes)
	}
	wantVote(t, s, 9, "me")
}

func TestCandidateWithoutTermIsFatal(t *testing.T) {
	d := &disk{InmemStore: raft.NewInmemStore()}
	var f fatals
	s := Guard(d, Options{Path: "x", Fatal: f.add})
	defer s.Close()
	if err := s.Set(keyVoteCand, []byte("me")); !errors.Is(err, errNoTerm) {
		t.Fatal(err)
	}
	if len(f.list()) != 1 || d.writes != 0 {
		t.Fatalf("fatal %v, %d writes", f.list(), d.writes)
	}
}

// Raft itself must find its vote again: a real single node is started twice.
func TestRaftFindsItsState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := open(t, path)
	addr, trans := raft.NewInmemTransport("")
	conf := raft.DefaultConfig()
	conf.LocalID, conf.LogOutput = "one", t.Output()
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	snaps := raft.NewInmemSnapshotStore()
	err := raft.BootstrapCluster(conf, s, s, snaps, trans,
		raft.Configuration{Servers: []raft.Server{{ID: "one", Address: addr}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for range 2 {
		s := open(t, path)
		r, err := raft.NewRaft(conf, &raft.MockFSM{}, s, s, snaps, trans)
		if err != nil {
			t.Fatal(err)
		}
		if !<-r.LeaderCh() {
			t.Fatal("not elected")
		}
		term := r.CurrentTerm()
		if err := r.Shutdown().Error(); err != nil {
			t.Fatal(err)
		}
		wantVote(t, s, term, string(addr))
		s.Close()
	}
}

package raftlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// written is a log with a vote and a tree of several levels, as bytes.
func written(t *testing.T, entries uint64) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raft.db")
	s := open(t, path)
	if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), 7), s.SetUint64(keyVoteTerm, 7), s.Set(keyVoteCand, []byte("one:7"))); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= entries; i += 100 {
		if err := s.StoreLogs(logs(i, min(i+99, entries))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readThrough opens a file and reads all that Raft would. right: everything is
// as it was written. An error must be ErrDamaged.
func readThrough(t *testing.T, path string, b []byte, entries uint64) (right bool) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, b, 0o600), os.WriteFile(journalPath(path), emptyJournal(), 0o600)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Path: path, Fatal: func(error) {}})
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("got %v, want %v", err, ErrDamaged)
		}
		return false
	}
	defer s.Close()
	term, err1 := s.GetUint64([]byte("CurrentTerm"))
	voted, err2 := s.GetUint64(keyVoteTerm)
	cand, err3 := s.Get(keyVoteCand)
	first, err4 := s.FirstIndex()
	last, err5 := s.LastIndex()
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("got %v, want %v", err, ErrDamaged)
		}
		return false
	}
	if term != 7 || voted != 7 || string(cand) != "one:7" || first != 1 || last != entries {
		t.Fatalf("served term %d, vote %d %q, entries %d to %d", term, voted, cand, first, last)
	}
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); errors.Is(err, ErrDamaged) {
			return false
		} else if err != nil || string(l.Data) != fmt.Sprintf("entry %d", i) || l.Term != 3 || l.Index != i || l.Extensions != nil {
			t.Fatalf("served entry %d: %+v, %v", i, l, err)
		}
	}
	return true
}

// Whatever bit flips: it is found before anything wrong is served, or it lies
// where nothing is. bbolt alone would panic in a goroutine of its own.
func TestFlippedBitIsFound(t *testing.T) {
	const entries = 700
	b := written(t, entries)
	path := filepath.Join(t.TempDir(), "raft.db")
	if !readThrough(t, path, b, entries) {
		t.Fatal("damaged without damage")
	}
	found := 0
	for at := 0; at < len(b); at += 1021 {
		b[at] ^= 1 << (at % 8)
		if !readThrough(t, path, b, entries) {
			found++
		}
		b[at] ^= 1 << (at % 8)
	}
	// Each meta page: the newer one damaged would silently take back an append.
	for _, at := range []int{16, 40, 70, 4096 + 16, 4096 + 40, 4096 + 70} {
		b[at] ^= 4
		if readThrough(t, path, b, entries) {
			t.Errorf("meta page, byte %d: not found", at)
		}
		b[at] ^= 4
	}
	t.Logf("%d of %d flips mattered", found, len(b)/1021)
	if found == 0 {
		t.Error("nothing was found")
	}
}

func TestCutFileIsFound(t *testing.T) {
	b := written(t, 700)
	path := filepath.Join(t.TempDir(), "raft.db")
	for _, n := range []int{1, 100, 4096, 5000, 8192, len(b) / 2, len(b) - 4096} {
		if n <= 8192 && readThrough(t, path, b[:n], 700) {
			t.Errorf("cut to %d bytes: not found", n)
		}
		readThrough(t, path, b[:n], 700) // it may have lost only what is free
	}
	zeroed := append([]byte(nil), b...)
	clear(zeroed[2*4096 : 12*4096])
	if readThrough(t, path, zeroed, 700) {
		t.Error("zeroed pages: not found")
	}
}

func TestCheckReadsAndChangesNothing(t *testing.T) {
	b := written(t, 50)
	path := filepath.Join(t.TempDir(), "raft.db")
	if err := errors.Join(os.WriteFile(path, b, 0o400), os.WriteFile(journalPath(path), emptyJournal(), 0o400)); err != nil {
		t.Fatal(err)
	}
	r, err := Check(path)
	if want := (Report{First: 1, Last: 50, LastTerm: 3, Term: 7}); err != nil || r != want {
		t.Fatalf("got %+v, %v, want %+v", r, err, want)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(b) {
		t.Fatalf("changed: %v", err)
	}
}

// An entry, a term and a vote of an older build have no checksums.
func TestOldRecordsAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	db, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(db.StoreLogs(logs(1, 3)), db.SetUint64([]byte("CurrentTerm"), 5),
		db.Set(keyVote, append([]byte{0, 0, 0, 0, 0, 0, 0, 4}, "one:7"...)), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	defer s.Close()
	wantVote(t, s, 4, "one:7")
	var l raft.Log
	if term, err := s.GetUint64([]byte("CurrentTerm")); err != nil || term != 5 || s.GetLog(2, &l) != nil || string(l.Data) != "entry 2" {
		t.Fatalf("term %d, %v, entry %+v", term, err, l)
	}
}

func TestBeginningGoesInPieces(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "raft.db"))
	defer s.Close()
	if err := s.StoreLogs(logs(1, 5000)); err != nil {
		t.Fatal(err)
	}
	all := s.Bytes()
	if err := s.DeleteRange(1, 4000); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 5000; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); (err == raft.ErrLogNotFound) != (i <= 4000) || err != nil && err != raft.ErrLogNotFound {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	if part := s.Bytes(); part < all/6 || part > all/4 {
		t.Errorf("a fifth of %d bytes is left: %d", all, part)
	}
	if n := s.Newest(1 << 40); n < 900 || n > 1100 {
		t.Errorf("%d entries, want about 1000", n)
	}
	if n := s.Newest(s.Bytes() / 2); n == 0 || n > 1000 {
		t.Errorf("half of the bytes is %d entries", n)
	}
}

// What Raft does not do after a snapshot was installed (#697), at every place
// where the log can end or differ.
func TestSettle(t *testing.T) {
	for name, c := range map[string]struct {
		from, to    uint64 // entries of term 3
		index, term uint64 // of the state
		current     uint64
		installed   bool
		emptied     bool
		apart       bool
	}{
		"empty":                        {current: 3},
		"empty, snapshot":              {index: 9, term: 3, current: 3, installed: true},
		"emptied before":               {index: 9, term: 3, current: 4},
		"state behind":                 {from: 1, to: 9, index: 5, term: 3, current: 3},
		"state at the end":             {from: 1, to: 9, index: 9, term: 3, current: 3},
		"compacted up to the state":    {from: 6, to: 9, index: 5, term: 3, current: 3},
		"conflict":                     {from: 1, to: 9, index: 5, term: 4, current: 4, installed: true, emptied: true},
		"conflict, log ends before":    {from: 1, to: 4, index: 5, term: 4, current: 4, installed: true, emptied: true},
		"conflict without a snapshot":  {from: 1, to: 9, index: 5, term: 4, current: 4, apart: true},
		"log set back":                 {from: 1, to: 4, index: 5, term: 3, current: 3, apart: true},
		"term set back":                {from: 1, to: 4, index: 5, term: 4, current: 3, installed: true, apart: true},
		"log put back empty":           {index: 5, term: 3, apart: true},
		"state set back, or lost":      {from: 6, to: 9, index: 4, term: 3, current: 3, apart: true},
		"state lost, log compacted":    {from: 6, to: 9, current: 3, apart: true},
		"installed, and log agrees":    {from: 1, to: 9, index: 5, term: 3, current: 4, installed: true},
		"installed, and log is behind": {from: 9, to: 12, index: 5, term: 3, current: 4, installed: true, apart: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "raft.db"))
			defer s.Close()
			if c.from > 0 {
				if err := s.StoreLogs(logs(c.from, c.to)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.SetUint64([]byte("CurrentTerm"), c.current); err != nil {
				t.Fatal(err)
			}
			stale, behind, err := s.Settle(c.index, c.term, c.installed)
			if errors.Is(err, ErrApart) != c.apart || err != nil && !c.apart || stale != c.emptied || behind != (stale && c.to >= c.index) {
				t.Fatalf("stale %v, behind %v, %v", stale, behind, err)
			}
			if stale {
				if err := Empty(s); err != nil {
					t.Fatal(err)
				}
			}
			if last, _ := s.LastIndex(); (last == 0) != (c.emptied || c.from == 0) {
				t.Fatalf("log ends at %d", last)
			}
		})
	}
}

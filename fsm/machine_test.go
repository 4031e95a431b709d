package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"mailraft/directory"
	"mailraft/mail"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// machine is a state machine on a disk in memory, whose log the test writes
// and keeps.
type machine struct {
	t     testing.TB
	fs    *vfs.MemFS
	db    *state.DB
	f     *FSM
	log   []*raft.Log
	now   mail.Time // stamped into the next entry
	heard mail.Time // the last entry's time, or the end of a silence
	fatal error     // what the process would have stopped for
	term  uint64    // of the log; 1 at first
}

const m1, m2, m3 = mail.MemberID(1), mail.MemberID(2), mail.MemberID(3)

var begin = mail.At(time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC))

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, now: begin, term: 1}
	m.open(vfs.NewCrashableMem())
	t.Cleanup(m.close)
	return m
}

func (m *machine) open(fs *vfs.MemFS) {
	m.t.Helper()
	m.fs = fs
	m.openDir(fs, "state")
}

func (m *machine) openDir(fs vfs.FS, dir string) {
	m.t.Helper()
	fatal := func(err error) { m.fatal = err }
	db, err := state.Open(state.Options{FS: fs, Dir: dir, Fatal: fatal, Logger: hclog.NewNullLogger()})
	if err != nil {
		m.t.Fatal(err)
	}
	m.db, m.f = db, New(db, fatal, hclog.NewNullLogger())
}

func (m *machine) close() {
	m.f.Close()
	if err := m.db.Close(); err != nil {
		m.t.Error(err)
	}
}

// add appends an entry to the log and applies it.
func (m *machine) add(l *raft.Log) Answer {
	m.t.Helper()
	l.Index, l.Term = uint64(len(m.log))+1, m.term
	m.log = append(m.log, l)
	a, err := DecodeAnswer(m.f.ApplyBatch([]*raft.Log{l})[0].([]byte))
	if err != nil {
		m.t.Fatal(err)
	}
	return a
}

// do proposes a command as a leader would: while it has a quorum time passes in
// the log, TermStart opens a term of the log, and MemberDown names the present
// one if it names none.
func (m *machine) do(k Kind, body any) Answer {
	m.t.Helper()
	for m.heard != 0 && m.now > m.heard.Add(silenceMax) {
		m.heard = m.heard.Add(silenceMax)
		m.stamped(KindTick, Tick{}, m.heard)
	}
	m.heard = m.now
	switch b := body.(type) {
	case TermStart:
		m.term = max(m.term, b.Term)
	case MemberChange:
		if k == KindMemberDown && b.Term == 0 {
			b.Term = m.term
			body = b
		}
	}
	return m.stamped(k, body, m.now)
}

func (m *machine) stamped(k Kind, body any, at mail.Time) Answer {
	m.t.Helper()
	e, err := Encode(k, body)
	if err != nil {
		m.t.Fatal(err)
	}
	Stamp(e, at)
	return m.add(&raft.Log{Type: raft.LogCommand, Data: e})
}

// silent lets time pass without a quorum.
func (m *machine) silent(d time.Duration) {
	m.now = m.now.Add(d)
	m.heard = m.now
}

func (m *machine) must(k Kind, body any) Answer {
	m.t.Helper()
	a := m.do(k, body)
	if a.Refused != nil {
		m.t.Fatalf("kind %d: refused: %v", k, a.Refused)
	}
	return a
}

func (m *machine) voters(voters, learners []mail.MemberID) Answer {
	m.t.Helper()
	var c raft.Configuration
	for _, id := range voters {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id.String()), Address: "x"})
	}
	for _, id := range learners {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id.String()), Address: "x", Suffrage: raft.Nonvoter})
	}
	return m.add(&raft.Log{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)})
}

// replay applies the rest of a log in batches of up to sizeMax entries.
func (m *machine) replay(log []*raft.Log, sizeMax int, rng *rand.Rand) {
	for len(log) > 0 {
		n := min(1+rng.IntN(sizeMax), len(log))
		m.f.ApplyBatch(log[:n])
		log = log[n:]
	}
}

// crash loses what the disk had not synced, or some of it, and opens again. It
// returns the index that the state has then.
func (m *machine) crash(rng *rand.Rand) uint64 {
	m.t.Helper()
	fs := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rng})
	m.close()
	m.open(fs)
	index, _ := m.f.Applied()
	return index
}

// install sends the state to another machine as a snapshot.
func (m *machine) install(to *machine) {
	m.t.Helper()
	s, err := NewSnapshots(m.f, m.t.TempDir())
	if err != nil {
		m.t.Fatal(err)
	}
	meta, r, err := s.Open(liveID)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != meta.Size {
		m.t.Fatalf("stream of %d bytes, announced %d: %v", len(b), meta.Size, err)
	}
	if err := to.f.Restore(io.NopCloser(bytes.NewReader(b))); err != nil {
		m.t.Fatal(err)
	}
	if at, _ := to.f.Applied(); at != meta.Index {
		m.t.Fatalf("installed at %d, announced %d", at, meta.Index)
	}
}

func (m *machine) hash() [sha256.Size]byte {
	v := m.f.View()
	defer v.Close()
	return v.Hash()
}

func (m *machine) row(id mail.ID) *Message {
	v := m.f.View()
	defer v.Close()
	r, ok := v.Message(id)
	if !ok {
		return nil
	}
	return r
}

// boundary makes one of three members that are up, with a domain and DB1.
func (m *machine) boundary() {
	m.t.Helper()
	m.must(KindFound, Found{Boundary: "b", Name: "test", First: Member{ID: m1, Name: "m1", Addr: "a1"}})
	m.voters([]mail.MemberID{m1, m2, m3}, nil)
	m.must(KindToken, TokenAdd{Role: "member", Until: m.now.Add(time.Hour), Uses: 9})
	m.must(KindMemberAdd, MemberAdd{Member: Member{ID: m2, Name: "m2"}})
	m.must(KindMemberAdd, MemberAdd{Member: Member{ID: m3, Name: "m3"}})
	for _, id := range []mail.MemberID{m1, m2, m3} {
		m.must(KindMemberUp, MemberChange{Member: id, Addr: "a" + id.String()})
	}
	m.must(KindDatabase, DatabaseChange{Op: "add", Name: "DB1", Copies: []Copy{{Name: "a", Addr: "maildir:/x"}}})
	m.must(KindDirectory, Directory{Domains: []directory.Domain{{Name: "example.test", Kind: directory.Accepted, AnyMailbox: true, Database: "DB1"}}})
}

func (m *machine) submission(n byte, primary mail.MemberID, holders ...mail.MemberID) mail.Submission {
	return mail.Submission{
		Content:  mail.Content{ID: mail.ContentID{15: n}, Size: 10, NotAfter: m.now.Add(10 * time.Minute)},
		Envelope: mail.Envelope{ReversePath: "s@example.org", Recipients: []string{"alice@example.test"}},
		Primary:  primary, Holders: holders,
	}
}

func largeGroup() Directory {
	g := directory.Group{Address: "big@example.test"}
	for n := range 1010 {
		g.Members = append(g.Members, fmt.Sprintf("u%d@example.test", n))
	}
	return Directory{Groups: []directory.Group{g}}
}

func reportOf(by mail.MemberID, id mail.ID) Report {
	return Report{Member: by, Reports: []mail.Report{{ID: id, Outcomes: []mail.Outcome{{Result: mail.Delivered, Activation: 1}}}}}
}

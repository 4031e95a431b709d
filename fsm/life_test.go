package fsm

import (
	"testing"
	"time"

	"mailraft/directory"
	"mailraft/mail"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// machine is a state machine whose log the test writes.
type machine struct {
	t     *testing.T
	f     *FSM
	index uint64
	now   mail.Time
}

const m1, m2, m3 = mail.MemberID(1), mail.MemberID(2), mail.MemberID(3)

func newMachine(t *testing.T) *machine {
	t.Helper()
	fatal := func(err error) { t.Helper(); panic(err) }
	db, err := state.Open(state.Options{FS: vfs.NewMem(), Dir: "state", Fatal: fatal, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, f: New(db, fatal, hclog.NewNullLogger()), now: mail.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	t.Cleanup(func() { m.f.Close(); db.Close() })
	return m
}

func (m *machine) log(l *raft.Log) Answer {
	m.t.Helper()
	m.index++
	l.Index, l.Term = m.index, 1
	a, err := DecodeAnswer(m.f.ApplyBatch([]*raft.Log{l})[0].([]byte))
	if err != nil {
		m.t.Fatal(err)
	}
	return a
}

func (m *machine) do(k Kind, body any) Answer {
	m.t.Helper()
	e, err := Encode(k, body)
	if err != nil {
		m.t.Fatal(err)
	}
	Stamp(e, m.now)
	return m.log(&raft.Log{Type: raft.LogCommand, Data: e})
}

func (m *machine) must(k Kind, body any) Answer {
	m.t.Helper()
	a := m.do(k, body)
	if a.Refused != nil {
		m.t.Fatalf("kind %d: refused: %v", k, a.Refused)
	}
	return a
}

// boundary makes one of three members that are up, with a domain and DB1.
func (m *machine) boundary() {
	m.must(KindFound, Found{Boundary: "b", Name: "test", First: Member{ID: m1, Name: "m1", Addr: "a1"}})
	var c raft.Configuration
	for _, id := range []mail.MemberID{m1, m2, m3} {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id.String()), Address: "x"})
	}
	m.log(&raft.Log{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)})
	m.must(KindToken, TokenAdd{Role: "member", Until: m.now.Add(time.Hour), Uses: 9})
	for id, name := range map[mail.MemberID]string{m2: "m2", m3: "m3"} {
		m.must(KindMemberAdd, MemberAdd{Member: Member{ID: id, Name: name}})
	}
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

func (m *machine) row(id mail.ID) *Message {
	m.t.Helper()
	v := m.f.View()
	defer v.Close()
	r, ok := v.Message(id)
	if !ok {
		return nil
	}
	return r
}

func TestLifeOfAMessage(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	s := m.submission(1, m1, m1, m2)
	id := m.must(KindAccept, Accept{Submission: s}).ID
	if again := m.must(KindAccept, Accept{Submission: s}).ID; again != id {
		t.Fatalf("the same submission again: got %s, want %s", again, id)
	}
	if r := m.row(id); r.Shadow != m2 || r.Primary != m1 || len(r.Recipients) != 1 || r.Recipients[0].Database != "DB1" {
		t.Fatalf("row: %+v", r)
	}
	m.now = m.now.Add(time.Second)
	m.must(KindReport, Report{Member: m1, Reports: []mail.Report{{ID: id, Outcomes: []mail.Outcome{{Result: mail.Delivered, Reply: mail.Reply{Code: 250}, Copy: "a", Activation: 1}}}}})
	if r := m.row(id); r.Active() || r.Acked {
		t.Fatalf("row: %+v", r)
	}
	if n := m.must(KindDiscard, Discard{Member: m2, IDs: []mail.ID{id}}).Count; n != 1 {
		t.Fatalf("acknowledged %d", n)
	}
	m.now = m.now.Add(2*24*time.Hour - time.Second)
	m.must(KindExpire, Limit{Rows: 100})
	if m.row(id) == nil {
		t.Fatal("expired early")
	}
	m.now = m.now.Add(2 * time.Second)
	m.must(KindExpire, Limit{Rows: 100})
	if m.row(id) != nil {
		t.Fatal("not expired")
	}
	v := m.f.View()
	defer v.Close()
	for k := range v.Scan(tab(tabContent), tab(tabContent).end()) {
		t.Errorf("content row left: %q", k)
	}
}

func TestTakeoverGivesEachMessageOneOwner(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	var ids []mail.ID
	for n := range byte(10) {
		ids = append(ids, m.must(KindAccept, Accept{Submission: m.submission(n, m1, m1, m2, m3)}).ID)
	}
	m.must(KindMemberDown, MemberChange{Member: m1})
	if a := m.do(KindMemberUp, MemberChange{Member: m1}); a.Refused == nil {
		t.Fatal("up before its takeover is over")
	}
	for i := 0; m.must(KindTakeover, MemberChange{Member: m1, Rows: 3}).More; i++ {
		if i > 20 {
			t.Fatal("no end")
		}
	}
	for _, id := range ids {
		if r := m.row(id); r.Primary == m1 || r.Shadow == m1 || r.Shadow == 0 || r.Shadow == r.Primary {
			t.Errorf("row: primary %s shadow %s", r.Primary, r.Shadow)
		}
	}
	m.must(KindMemberUp, MemberChange{Member: m1})
	m.must(KindReport, Report{Member: m1, Reports: []mail.Report{{ID: ids[0], Outcomes: []mail.Outcome{{Result: mail.Failed}}}}})
	if r := m.row(ids[0]); !r.Active() {
		t.Error("a failure said by a member that does not own the message counted")
	}
	m.must(KindReport, Report{Member: m1, Reports: []mail.Report{{ID: ids[0], Outcomes: []mail.Outcome{{Result: mail.Delivered, Activation: 1}}}}})
	if r := m.row(ids[0]); r.Active() {
		t.Error("a delivery said by the former owner did not count")
	}
}

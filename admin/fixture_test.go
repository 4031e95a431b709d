package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// boundary is a state machine whose log the test writes, with three members
// that are up and everything that the API wants of a member.
type boundary struct {
	t     *testing.T
	f     *fsm.FSM
	mu    sync.Mutex
	index uint64
	now   mail.Time

	lost   bool // no quorum
	status MemberStatus
	checks []Check
	hashes []MemberHash
	unheld []Unheld
	bytes  map[mail.ContentID]string
}

var start = mail.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

const m1, m2, m3 = mail.MemberID(1), mail.MemberID(2), mail.MemberID(3)

func newBoundary(t *testing.T) *boundary {
	t.Helper()
	fatal := func(err error) { panic(err) }
	db, err := state.Open(state.Options{FS: vfs.NewMem(), Dir: "state", Fatal: fatal, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	b := &boundary{t: t, f: fsm.New(db, fatal, hclog.NewNullLogger()), now: start, bytes: map[mail.ContentID]string{}}
	t.Cleanup(func() { b.f.Close(); db.Close() })
	b.status = MemberStatus{ID: m1, Name: "m1", Version: "1.2.3", Role: "leader", Leader: m1, Term: 4, CommitIndex: 99,
		AppliedIndex: 98, Lag: 1, LeaseLeft: 7000, TimeTrusted: true, DiskFree: 5 << 30, DiskTotal: 9 << 30,
		Pressure: Pressure{Level: PressureNormal, Resources: []Resource{{Name: "disk", Value: 5 << 30, Level: PressureNormal, Medium: 2 << 30, High: 1 << 30, Left: 3 << 30},
			{Name: "memory", Value: -1, Level: PressureNormal}}},
		ContentBytes: 1 << 20, ContentSegments: 3, Sessions: 2, Uptime: 60_000, CertNotAfter: start.Add(60 * 24 * time.Hour),
		Peers: []PeerStatus{{ID: m2, AppliedIndex: 97}, {ID: m3, AppliedIndex: 96}}}
	b.checks = []Check{{Name: "quorum", OK: true}, {Name: "disk", OK: true}}
	b.found()
	return b
}

func (b *boundary) found() {
	b.must(fsm.KindFound, fsm.Found{Boundary: "b1", Name: "test", First: fsm.Member{ID: m1, Name: "m1", Addr: "127.0.0.1:1", Site: "north"}})
	var c raft.Configuration
	for _, id := range []mail.MemberID{m1, m2, m3} {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id.String()), Address: "x"})
	}
	b.apply(&raft.Log{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)})
	b.must(fsm.KindToken, fsm.TokenAdd{Role: "member", Until: b.now.Add(time.Hour), Uses: 9})
	b.must(fsm.KindMemberAdd, fsm.MemberAdd{Member: fsm.Member{ID: m2, Name: "m2"}})
	b.must(fsm.KindMemberAdd, fsm.MemberAdd{Member: fsm.Member{ID: m3, Name: "m3"}})
	for i, id := range []mail.MemberID{m1, m2, m3} {
		b.must(fsm.KindMemberUp, fsm.MemberChange{Member: id, Addr: fmt.Sprintf("127.0.0.1:%d", i+1), SMTP: "127.0.0.1:2525", Site: "north"})
	}
	b.must(fsm.KindDatabase, fsm.DatabaseChange{Op: "add", Name: "DB1", Copies: []fsm.Copy{{Name: "a", Addr: "lmtp://127.0.0.1:24"}}})
	b.must(fsm.KindDirectory, fsm.Directory{Domains: []Domain{{Name: "example.test", Kind: 1, AnyMailbox: true, Database: "DB1"}}})
}

func (b *boundary) apply(l *raft.Log) fsm.Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.index++
	l.Index, l.Term = b.index, 1
	a, err := fsm.DecodeAnswer(b.f.ApplyBatch([]*raft.Log{l})[0].([]byte))
	if err != nil {
		b.t.Error(err)
	}
	return a
}

func (b *boundary) must(k fsm.Kind, body any) fsm.Answer {
	b.t.Helper()
	a, err := b.Propose(b.t.Context(), k, body)
	if err != nil || a.Refused != nil {
		b.t.Fatalf("kind %d: %v %v", k, err, a.Refused)
	}
	return a
}

// accept takes a message of m1, a minute after the last.
// onlyM1, as the last recipient, says that no other member holds the content.
const onlyM1 = "only m1"

func (b *boundary) accept(n byte, from string, size int64, to ...string) mail.ID {
	b.t.Helper()
	b.now = b.now.Add(time.Minute)
	holders := []mail.MemberID{m1, m2, m3}
	if to[len(to)-1] == onlyM1 {
		holders, to = holders[:1], to[:len(to)-1]
	}
	s := mail.Submission{Content: mail.Content{ID: mail.ContentID{15: n}, Size: size, Sum: 7, NotAfter: b.now.Add(10 * time.Minute)},
		Envelope: mail.Envelope{ReversePath: from, Recipients: to}, Primary: m1, Holders: holders,
		Trace:  mail.Trace{Helo: "client.test", Address: "192.0.2.1", By: "m1.test", Protocol: "ESMTP"},
		Fields: mail.Fields{MessageID: fmt.Sprintf("<%d@client.test>", n), Subject: "hello"}}
	return b.must(fsm.KindAccept, fsm.Accept{Submission: s}).ID
}

func (b *boundary) report(id mail.ID, o ...mail.Outcome) {
	b.t.Helper()
	b.now = b.now.Add(time.Second)
	b.must(fsm.KindReport, fsm.Report{Member: m1, Reports: []mail.Report{{ID: id, Outcomes: o}}})
}

// finds has a majority find a copy healthy or dead.
func (b *boundary) finds(database, copy string, healthy bool) {
	b.t.Helper()
	v := b.View()
	d, _ := v.Database(database)
	v.Close()
	for _, c := range d.Copies {
		if c.Name == copy {
			h := fsm.CopyHealth{Database: database, Copy: copy, Addr: c.Addr, Healthy: healthy}
			if !healthy {
				h.Text = "connection refused"
			}
			b.must(fsm.KindHealth, fsm.Health{Term: 1, Copies: []fsm.CopyHealth{h}})
		}
	}
}

// pass lets time go by without a silence.
func (b *boundary) pass(d time.Duration) {
	for end := b.now.Add(d); b.now < end; {
		b.now = min(b.now.Add(9*time.Minute), end)
		b.must(fsm.KindTick, fsm.Tick{})
	}
}

// mailbag: one message of each kind that views tell apart.
func (b *boundary) mailbag() (delivered, deferred, ready, suspended mail.ID) {
	delivered = b.accept(1, "ann@client.test", 1000, "bob@example.test", "cy@example.test")
	b.report(delivered,
		mail.Outcome{Recipient: 0, Result: mail.Delivered, Reply: mail.Reply{Code: 250, Text: "ok"}, Copy: "a", Activation: 1},
		mail.Outcome{Recipient: 1, Result: mail.Delivered, Reply: mail.Reply{Code: 250, Text: "ok"}, Copy: "a", Activation: 1})
	deferred = b.accept(2, "ann@client.test", 5<<20, "dan@example.test")
	b.report(deferred, mail.Outcome{Recipient: 0, Result: mail.Deferred, Next: b.now.Add(time.Hour), Copy: "a", Activation: 1,
		Reply: mail.Reply{Code: 451, Enhanced: "4.3.0", Text: "mailbox busy"}})
	ready = b.accept(3, "", 2000, "eve@example.test")
	suspended = b.accept(4, "fay@other.test", 3000, "bob@example.test")
	b.must(fsm.KindMessage, fsm.MessageChange{Op: "suspend", IDs: []mail.ID{suspended}})
	return delivered, deferred, ready, suspended
}

func (b *boundary) View() *fsm.View              { return b.f.View() }
func (b *boundary) Changed() <-chan struct{}     { return b.f.Changed() }
func (b *boundary) Applied() (uint64, mail.Time) { return b.f.Applied() }

func (b *boundary) Propose(ctx context.Context, k fsm.Kind, body any) (fsm.Answer, error) {
	if b.lost {
		return fsm.Answer{}, fmt.Errorf("propose: %w", ErrNoQuorum)
	}
	e, err := fsm.Encode(k, body)
	if err != nil {
		return fsm.Answer{}, err
	}
	fsm.Stamp(e, b.now)
	return b.apply(&raft.Log{Type: raft.LogCommand, Data: e}), nil
}

type closer struct{ io.ReadSeeker }

func (closer) Close() error { return nil }

func (b *boundary) Open(_ context.Context, id mail.ContentID) (io.ReadSeekCloser, error) {
	s, ok := b.bytes[id]
	if !ok {
		return nil, fmt.Errorf("no peer has %s", id)
	}
	return closer{bytes.NewReader([]byte(s))}, nil
}

func (b *boundary) Unheld(context.Context, mail.MemberID) ([]Unheld, error) { return b.unheld, nil }

func (b *boundary) Status(context.Context) MemberStatus { return b.status }
func (b *boundary) Ready() []Check                      { return b.checks }

func (b *boundary) NewCA() (fsm.CAChange, error) {
	return fsm.CAChange{Op: fsm.CARotate, Pin: "new", WasPin: "old", CA: []byte("new"), CAKey: []byte("key")}, nil
}

func (b *boundary) CAEnd(der []byte) (string, mail.Time) { return string(der), b.now }

func (b *boundary) TransferLeader(_ context.Context, to mail.MemberID) (mail.MemberID, error) {
	return to, nil
}

func (b *boundary) NewToken(_ context.Context, role, _ string, uses int, life time.Duration) (string, error) {
	return fmt.Sprintf("token-%s-%d-%s", role, uses, life), nil
}

func (b *boundary) StateHash(context.Context) ([]MemberHash, error) { return b.hashes, nil }

func (b *boundary) server() *Server {
	return New(Config{State: b, Proposer: b, Contents: b, Host: b, Boundary: b, CA: b, Logger: hclog.NewNullLogger()})
}

func (b *boundary) client() *Client { return b.clientOf(b.server()) }

// clientOf serves the API on a Unix socket and returns a client of it.
func (b *boundary) clientOf(s *Server) *Client {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		b.t.Fatal(err)
	}
	serve(b.t, l, s.API())
	c := NewClient(path)
	b.t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

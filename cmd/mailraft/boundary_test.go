package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/admin"
	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// boundary is what scripts talk to: the API of member m1 over a state machine
// whose log is written here, so that every id and time is the same each time.
type boundary struct {
	f        *fsm.FSM
	mu       sync.Mutex
	index    uint64
	now      mail.Time
	lost     atomic.Bool // no quorum
	full     atomic.Bool // disk
	odd      atomic.Bool // the states differ
	squeezed atomic.Bool // the disk is nearly full
}

const m1, m2, m3 = mail.MemberID(0x11), mail.MemberID(0x22), mail.MemberID(0x33)

func newBoundary() (*boundary, func() error, error) {
	fatal := func(err error) { panic(err) }
	db, err := state.Open(state.Options{FS: vfs.NewMem(), Dir: "state", Fatal: fatal, Logger: hclog.NewNullLogger()})
	if err != nil {
		return nil, nil, err
	}
	b := &boundary{f: fsm.New(db, fatal, hclog.NewNullLogger()), now: mail.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	b.found()
	b.mailbag()
	return b, func() error { b.f.Close(); return db.Close() }, nil
}

// listen serves the API on a socket; the returned function ends it.
func (b *boundary) listen(path string) (func(), error) {
	l, err := admin.Listen(path)
	if err != nil {
		return nil, err
	}
	s := admin.New(admin.Config{State: b.f, Proposer: b, Contents: b, Host: b, Boundary: b, CA: b, Logger: hclog.NewNullLogger()})
	srv, done := &http.Server{Handler: s.API()}, make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	return func() { srv.Close(); <-done }, nil
}

func (b *boundary) found() {
	b.must(fsm.KindFound, fsm.Found{Boundary: "b1", Name: "test", CA: []byte("oldpin"), First: fsm.Member{ID: m1, Name: "m1"}})
	var c raft.Configuration
	for _, id := range []mail.MemberID{m1, m2, m3} {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id.String()), Address: "x"})
	}
	b.apply(&raft.Log{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)})
	b.must(fsm.KindToken, fsm.TokenAdd{Role: "member", Until: b.now.Add(time.Hour), Uses: 9})
	b.must(fsm.KindMemberAdd, fsm.MemberAdd{Member: fsm.Member{ID: m2, Name: "m2"}})
	b.must(fsm.KindMemberAdd, fsm.MemberAdd{Member: fsm.Member{ID: m3, Name: "m3"}})
	for i, id := range []mail.MemberID{m1, m2, m3} {
		b.must(fsm.KindMemberUp, fsm.MemberChange{Member: id, Addr: fmt.Sprintf("127.0.0.1:500%d", i), SMTP: fmt.Sprintf("127.0.0.1:252%d", i), Site: "north"})
	}
	b.must(fsm.KindDatabase, fsm.DatabaseChange{Op: "add", Name: "DB1", Copies: []fsm.Copy{{Name: "a", Addr: "lmtp://127.0.0.1:24"}}})
	b.must(fsm.KindDirectory, fsm.Directory{Domains: []directory.Domain{{Name: "example.test", Kind: 1, AnyMailbox: true, Database: "DB1"}}})
}

// mailbag: one message delivered, one deferred, one not tried, one suspended.
func (b *boundary) mailbag() {
	delivered := b.accept(1, "ann@client.test", 1000, "bob@example.test", "cy@example.test")
	ok := mail.Outcome{Result: mail.Delivered, Reply: mail.Reply{Code: 250, Enhanced: "2.0.0", Text: "saved"}, Remote: "127.0.0.1:24", Copy: "a", Activation: 1}
	second := ok
	second.Recipient = 1
	b.report(delivered, ok, second)
	deferred := b.accept(2, "ann@client.test", 5<<20, "dan@example.test")
	b.report(deferred, mail.Outcome{Result: mail.Deferred, Next: b.now.Add(time.Hour), Copy: "a", Activation: 1, Reply: mail.Reply{Code: 451, Enhanced: "4.3.0", Text: "mailbox busy"}})
	b.accept(3, "", 2000, "eve@example.test")
	suspended := b.accept(4, "fay@other.test", 3000, "bob@example.test")
	b.must(fsm.KindMessage, fsm.MessageChange{Op: "suspend", IDs: []mail.ID{suspended}, By: "op", Reason: "looks odd"})
}

func (b *boundary) accept(n byte, from string, size int64, to ...string) mail.ID {
	b.now = b.now.Add(time.Minute)
	return b.must(fsm.KindAccept, fsm.Accept{Submission: mail.Submission{
		Content:  mail.Content{ID: mail.ContentID{15: n}, Size: size, Sum: 7, NotAfter: b.now.Add(10 * time.Minute)},
		Envelope: mail.Envelope{ReversePath: from, Recipients: to}, Primary: m1, Holders: []mail.MemberID{m1, m2, m3},
		Trace:  mail.Trace{Helo: "client.test", Address: "192.0.2.1", By: "m1.test", Protocol: "ESMTP"},
		Fields: mail.Fields{MessageID: fmt.Sprintf("<%d@client.test>", n), Subject: "hello"}}}).ID
}

func (b *boundary) report(id mail.ID, o ...mail.Outcome) {
	b.now = b.now.Add(time.Second)
	b.must(fsm.KindReport, fsm.Report{Member: m1, Reports: []mail.Report{{ID: id, Outcomes: o}}})
}

func (b *boundary) must(k fsm.Kind, body any) fsm.Answer {
	a, err := b.Propose(context.Background(), k, body)
	if err != nil || a.Refused != nil {
		panic(fmt.Sprint(k, err, a.Refused))
	}
	return a
}

func (b *boundary) apply(l *raft.Log) fsm.Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.index++
	l.Index, l.Term = b.index, 1
	a, err := fsm.DecodeAnswer(b.f.ApplyBatch([]*raft.Log{l})[0].([]byte))
	if err != nil {
		panic(err)
	}
	return a
}

func (b *boundary) Propose(_ context.Context, k fsm.Kind, body any) (fsm.Answer, error) {
	if b.lost.Load() {
		return fsm.Answer{}, fmt.Errorf("propose: %w", admin.ErrNoQuorum)
	}
	e, err := fsm.Encode(k, byOp(body))
	if err != nil {
		return fsm.Answer{}, err
	}
	fsm.Stamp(e, b.now)
	return b.apply(&raft.Log{Type: raft.LogCommand, Data: e}), nil
}

// byOp: who typed a command differs from host to host.
func byOp(body any) any {
	v := reflect.New(reflect.TypeOf(body)).Elem()
	v.Set(reflect.ValueOf(body))
	if by := v.FieldByName("By"); by.IsValid() && by.String() != "" {
		by.SetString("op")
	}
	return v.Interface()
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func (b *boundary) Open(_ context.Context, id mail.ContentID) (io.ReadSeekCloser, error) {
	if id != (mail.ContentID{15: 1}) {
		return nil, errors.New("no peer has it")
	}
	body := "Subject: hello\r\n\r\n"
	return nopCloser{strings.NewReader(body + strings.Repeat("x", 1000-len(body)))}, nil
}

// Unheld: m3 takes the content of its first message with it.
func (b *boundary) Unheld(_ context.Context, but mail.MemberID) (list []admin.Unheld, _ error) {
	v := b.f.View()
	defer v.Close()
	for m := range v.Messages(mail.ID{}) {
		if but == m3 && m.Active() {
			return []admin.Unheld{{ID: m.ID, Sender: m.Envelope.ReversePath, Size: m.Content.Size, Active: true}}, nil
		}
	}
	return nil, nil
}

func (b *boundary) Status(context.Context) admin.MemberStatus {
	index, _ := b.f.Applied()
	s := admin.MemberStatus{ID: m1, Name: "m1", Version: "1.2.3", Role: "leader", Leader: m1, Term: 1, CommitIndex: index, AppliedIndex: index,
		LeaseLeft: 7000, TimeTrusted: true, DiskFree: 5 << 30, DiskTotal: 9 << 30, ContentBytes: 1 << 20, ContentSegments: 1, StateBytes: 4096,
		Pressure: pressure(b.squeezed.Load()), LogBytes: 65536, CertNotAfter: b.now.Add(60 * 24 * time.Hour), Uptime: 3_600_000,
		Peers: []admin.PeerStatus{{ID: m1, AppliedIndex: index}, {ID: m2, AppliedIndex: index}, {ID: m3, AppliedIndex: index - 2}}}
	if b.lost.Load() {
		s.Role, s.Leader = "follower", 0
	}
	return s
}

func pressure(squeezed bool) admin.Pressure {
	p := admin.Pressure{Level: "normal", Resources: []admin.Resource{
		{Name: "disk", Value: 5 << 30, Level: "normal", Medium: 2 << 30, High: 1 << 30, Left: 3 << 30},
		{Name: "memory", Value: 1 << 29, Level: "normal", Medium: math.MaxInt64, High: math.MaxInt64, Left: math.MaxInt64 - 1<<29},
		{Name: "queue", Value: 3, Level: "normal", Medium: 100_000, High: 1_000_000, Left: 99_997}}}
	if squeezed {
		p.Level = "medium"
		p.Resources[0] = admin.Resource{Name: "disk", Value: 3 << 29, Level: "medium", Medium: 2 << 30, High: 1 << 30, Left: 1 << 29}
	}
	return p
}

func (b *boundary) Ready() []admin.Check {
	return []admin.Check{{Name: "quorum", OK: !b.lost.Load(), Reason: "no lease"}, {Name: "disk", OK: !b.full.Load(), Reason: "1 GiB is free, 2 GiB must be"}}
}

// NewCA and CAEnd: a CA is its pin.
func (b *boundary) NewCA() (fsm.CAChange, error) {
	return fsm.CAChange{Op: fsm.CARotate, Pin: "newpin", WasPin: "oldpin", CA: []byte("newpin"), CAKey: []byte("key")}, nil
}

func (b *boundary) CAEnd(der []byte) (string, mail.Time) {
	return string(der), b.now.Add(24 * time.Hour)
}

func (b *boundary) TransferLeader(_ context.Context, to mail.MemberID) (mail.MemberID, error) {
	if to == 0 {
		to = m2
	}
	return to, nil
}

func (b *boundary) NewToken(_ context.Context, role, replace string, uses int, _ time.Duration) (string, error) {
	if replace != "" {
		return "secret-for-" + replace, nil
	}
	return fmt.Sprintf("secret-%s-%d", role, uses), nil
}

func (b *boundary) StateHash(context.Context) ([]admin.MemberHash, error) {
	index, _ := b.f.Applied()
	list := []admin.MemberHash{{Member: "m1", Index: index, Hash: "aa11"}, {Member: "m2", Index: index, Hash: "aa11"}}
	if b.odd.Load() {
		list[1].Hash = "bb22"
	}
	return list, nil
}

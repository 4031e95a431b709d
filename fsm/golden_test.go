package fsm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailraft/directory"
	"mailraft/mail"
)

var (
	goldenID  = mail.NewID(begin, 4711, 2)
	goldenSub = mail.Submission{
		Content: mail.Content{ID: mail.ContentID{1, 2, 15: 16}, Size: 150 << 20, Sum: 1<<63 + 5, NotAfter: begin.Add(10 * time.Minute)},
		Envelope: mail.Envelope{ReversePath: "s@example.org", Recipients: []string{"a@example.test", `"b c"@example.test`},
			EightBit: true, UTF8: true},
		Trace:   mail.Trace{Helo: "client", Name: "client.example", Address: "192.0.2.1", By: "m1.example", Protocol: "ESMTPS", Session: "s1"},
		Fields:  mail.Fields{MessageID: "<1@example.org>", Date: "Thu, 1 Jan 2026 10:00:00 +0000", Subject: "Gr\xfc\xdfe"},
		Primary: m1, Holders: []mail.MemberID{m1, 1<<64 - 1},
	}
	goldenFiltered = func() mail.Submission {
		s := goldenSub
		s.Overlay = &mail.Overlay{Grown: -7, Edits: []mail.Edit{{Text: "X-Spam: no\r\n"}, {At: 3, Drop: true}, {At: 5, Drop: true, Text: "Subject: \xfc\r\n"}}}
		s.Quarantine, s.Filtered = "virus", []string{"rspamd: 3 header changes", "clamav: quarantine"}
		return s
	}()
	goldenMember = Member{ID: m2, Name: "m2", Site: "west", Addr: "192.0.2.2:8025", SMTP: "192.0.2.2:25", Host: "m2.example", Serial: "1f"}
)

// golden has a body of every kind with all its fields set.
var golden = map[Kind]struct {
	name string
	body any
}{
	KindTermStart: {"term-start", TermStart{Term: 7, Leader: m3}},
	KindTick:      {"tick", Tick{Complete: []Complete{{Member: m1, Index: 9}, {Member: m2, Index: 8}}}},
	KindAccept:    {"accept", Accept{Submission: goldenSub}},
	KindWithdraw:  {"withdraw", Withdraw{Content: goldenSub.Content.ID}},
	KindReport: {"report", Report{Member: m1, Reports: []mail.Report{{ID: goldenID, DSN: &goldenSub, Outcomes: []mail.Outcome{
		{Recipient: 1, Result: mail.Deferred, Reply: mail.Reply{Code: 451, Enhanced: "4.2.0", Text: "later"}, Remote: "host", Copy: "a",
			Activation: 3, Next: begin.Add(time.Hour), Duplicate: true, Took: 12},
		{Recipient: 2, Result: mail.Failed, Reply: mail.Reply{Code: 550}}}}}}},
	KindDiscard:    {"discard", Discard{Member: m2, IDs: []mail.ID{goldenID}}},
	KindExpire:     {"expire", Limit{Rows: 500}},
	KindMemberAdd:  {"member-add", MemberAdd{Member: goldenMember, Token: [32]byte{1, 31: 2}}},
	KindMemberDown: {"member-down", MemberChange{Member: m1, Term: 7}},
	KindMemberUp:   {"member-up", MemberChange{Member: m1, Addr: "192.0.2.1:8025", SMTP: "192.0.2.1:25", Host: "m1.example", Site: "east"}},
	KindTakeover:   {"takeover", MemberChange{Member: m1, Rows: 250}},
	KindProtect:    {"protect", Limit{Rows: 250}},
	KindExpand:     {"expand", Expand{ID: goldenID}},
	KindConfigure:  {"configure", Configure{Set: map[string]string{"min-voters": "3", "commit-timeout": "", "failover-after": "3s"}, Reason: "test"}},
	KindDirectory: {"directory", Directory{
		Domains: []directory.Domain{{Name: "example.test", Kind: directory.Accepted, AnyMailbox: true, Database: "DB1"},
			{Name: "*", Kind: directory.Relay, NextHop: "smtp://hop.example:25"}},
		Mailboxes: []directory.Mailbox{{Address: "a@example.test", Database: "DB1", Aliases: []string{"b@example.test"}}},
		Groups:    []directory.Group{{Address: "g@example.test", Members: []string{"a@example.test"}}},
		Remove:    []ObjectName{{Kind: "domain", Name: "old.example"}}}},
	KindNextHop: {"next-hop", NextHops{Put: []directory.NextHop{{Address: "smtp://hop.example:587", TLS: directory.TLSVerified,
		CA: "-----BEGIN CERTIFICATE-----", TLSName: "mail.example", Credential: "isp"}}, Remove: []string{"mx:old.example"}}},
	KindDatabase: {"database", DatabaseChange{Op: "copy-add", Name: "DB1", Copies: []Copy{{Name: "b", Addr: "lmtp://host:24", Site: "west",
		Lag: 3_600_000, Preference: 2, Slack: 60_000, DataThrough: begin, Live: true}}}},
	KindToken:        {"token", TokenAdd{Hash: [32]byte{9}, Role: "member", Until: begin, Uses: 3}},
	KindQueue:        {"queue", QueueChange{Key: "db/DB1", Suspend: true, Reason: "full", By: "op"}},
	KindMessage:      {"message", MessageChange{Op: "delete", IDs: []mail.ID{goldenID}, Reason: "spam", By: "op"}},
	KindVotersChange: {"voters-change", VotersChange{Voters: []mail.MemberID{m1, m2, 1<<64 - 1}, Prev: 17}},
	KindVotersAbort:  {"voters-abort", VotersAbort{At: 18, Term: 7}},
	KindMemberRemove: {"member-remove", MemberRemove{Member: m2, Now: true, By: "op", Reason: "sold"}},
	KindDrain:        {"drain", Drain{Member: m2, Stop: true, By: "op", Reason: "disk"}},
	KindMemberCert:   {"member-cert", MemberCert{Member: m2, Serial: "4f"}},
	KindMemberSet:    {"member-set", MemberSet{Member: m2, Addr: "192.0.2.9:8025", By: "op", Reason: "moved"}},
	KindHandOver:     {"hand-over", HandOver{Member: m2, IDs: []mail.ID{goldenID}, After: 3}},
	KindActivate:     {"activate", Activate{Database: "DB1", Copy: "b", Through: begin, From: "a", Activation: 3, Auto: true, Term: 7, Reason: "dead", By: "op"}},
	KindHealth: {"health", Health{Term: 7, Copies: []CopyHealth{{Database: "DB1", Copy: "a", Addr: "lmtp://host:24", Healthy: true},
		{Database: "DB1", Copy: "b", Addr: "lmtp://other:24", Text: "no answer"}}}},
	KindRequestAdd: {"request-add", RequestAdd{Database: "DB1", Recipient: "a@example.test", Sender: "<>", MessageID: "<1@example.org>", Start: begin,
		End: begin.Add(time.Hour), ResubmitTo: "b@example.test", Unresponsive: "m2", Correlation: "ticket 7", Rate: 50, Again: true, Reason: "restored", By: "op"}},
	KindAdvance:       {"advance", Advance{Request: 7, Rows: 64}},
	KindRequestChange: {"request-change", RequestChange{Op: "suspend", Request: 7, Auto: true, Reason: "disk", By: "op"}},
	KindRecover:       {"recover", Recover{Generation: 2, Survivor: m3, Certain: 4700, By: "op", Reason: "fire"}},
	KindContentLost:   {"content-lost", ContentLost{IDs: []mail.ID{goldenID}, Found: m2, By: "op", Reason: "fire"}},
	KindCA:            {"ca", CAChange{Op: CARotate, Pin: "new", CA: []byte{1}, CAKey: []byte{2}, WasPin: "old", Now: true, By: "op", Reason: "stolen"}},
	KindDelays:        {"delays", Delays{IDs: []mail.ID{goldenID}}},
	KindCrashes:       {"crashes", Crashes{Member: m2, Starts: 7, IDs: []mail.ID{goldenID}, Last: goldenID}},
	KindRefound:       {"refound", Refound{Boundary: "b2", Name: "other", CA: []byte{1}, CAKey: []byte{2}, First: goldenMember, Index: 4700, By: "op", Reason: "fire"}},
	KindFrontend:      {"frontend", FrontendChange{Op: FrontendJoin, Name: "fe1", Serial: "4f", Was: "3e", Site: "west", Token: [32]byte{1, 31: 2}, By: "op", Reason: "new"}},
	KindMark:          {"mark", Mark{}},
	KindFound: {"found", Found{Boundary: "b1", Name: "test", CA: []byte{1}, CAKey: []byte{2}, First: goldenMember,
		Set: map[string]string{"min-voters": "1", "failover-after": "3s"}}},
}

// grown has bodies of kinds that got fields later: their first encoding is the
// one in golden.
var grown = []struct {
	kind Kind
	name string
	body any
}{
	{KindAccept, "accept-filtered", Accept{Submission: goldenFiltered}},
	{KindDatabase, "database-report", DatabaseChange{Op: "report", Name: "DB1", Copies: []Copy{{Name: "b", DataThrough: begin}}, By: "op", Reason: "backup"}},
	{KindAccept, "accept-relay", Accept{Submission: mail.Submission{Content: goldenSub.Content, Primary: m1, Holders: goldenSub.Holders,
		Envelope: mail.Envelope{ReversePath: "s@example.org", Recipients: []string{"a@elsewhere.example"}, Relay: true},
		Trace:    mail.Trace{Address: "192.0.2.1", By: "m1.example", Protocol: "ESMTPSA", User: "s@example.org"}}}},
	{KindReport, "report-told", Report{Member: m1, Reports: []mail.Report{{ID: goldenID, Notice: &goldenSub, Told: []mail.Told{{Recipient: 3, Event: mail.NotifyDelay}, {Recipient: 1}},
		Outcomes: []mail.Outcome{{Recipient: 1, Result: mail.Relayed, Passed: true}}}}}},
	{KindMessage, "message-redirect", MessageChange{Op: "redirect", IDs: []mail.ID{goldenID}, Reason: "moved", By: "op", Database: "DB2", To: "b@example.test"}},
	{KindMessage, "message-retry-queue", MessageChange{Op: "retry", IDs: []mail.ID{goldenID}, Queue: "db/DB1"}},
	{KindReport, "report-fault", Report{Member: m1, Reports: []mail.Report{{ID: goldenID, Outcomes: []mail.Outcome{{Result: mail.Deferred, Fault: true}}}}}},
	{KindAccept, "accept-dsn", Accept{Submission: goldenAsks()}},
}

// goldenAsks is goldenSub with DSN parameters.
func goldenAsks() mail.Submission {
	s := goldenSub
	s.Envelope.EnvelopeID, s.Envelope.Return = "QQ314159", mail.ReturnHeaders
	s.Envelope.Asked = []mail.Asked{{}, {Notify: mail.NotifySuccess | mail.NotifyDelay, Original: "rfc822;bob@example.org"}}
	return s
}

// Every log and every disk has these bytes: they decode for ever to the same
// value, and are what is written today. A new version of a body adds a file
// and leaves the old one.
func TestGoldenEncodings(t *testing.T) {
	for kind := range handlers {
		g, ok := golden[kind]
		if !ok {
			t.Errorf("kind %d has no golden encoding", kind)
			continue
		}
		checkGolden(t, kind, g.name, g.body)
	}
	for _, g := range grown {
		checkGolden(t, g.kind, g.name, g.body)
	}
}

func checkGolden(t *testing.T, kind Kind, name string, body any) {
	t.Helper()
	e, err := Encode(kind, body)
	if err != nil {
		t.Fatal(err)
	}
	Stamp(e, begin)
	file := filepath.Join("../testdata/entries", name+"-v1.hex")
	if _, err := os.Stat(file); *rewrite && os.IsNotExist(err) {
		if err := os.WriteFile(file, []byte(hex.EncodeToString(e)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := readGolden(t, file)
	if !bytes.Equal(e, want) {
		t.Errorf("%s: encoded as\n%x, and on disks as\n%x", name, e, want)
	}
	k, at, b, err := header(want)
	if err != nil || k != kind || at != begin {
		t.Errorf("%s: header of kind %d at %v: %v", name, k, at, err)
	}
	got := reflect.New(reflect.TypeOf(body))
	if err := dec.Unmarshal(b, got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), body) {
		t.Errorf("%s: decoded as\n%+v, not\n%+v (%v)", name, got.Elem().Interface(), body, err)
	}
}

// What is on disks can be applied, whatever it finds there.
func TestGoldenEntriesApply(t *testing.T) {
	files, _ := filepath.Glob("../testdata/entries/*.hex")
	if len(files) < len(handlers) {
		t.Fatalf("%d files for %d kinds", len(files), len(handlers))
	}
	for _, prepared := range []bool{false, true} {
		m := newMachine(t)
		if prepared {
			m.boundary()
		}
		for _, file := range files {
			m.apply(readGolden(t, file))
			m.check()
		}
	}
}

func readGolden(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", file, err))
	}
	return b
}

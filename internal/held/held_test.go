package held

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/content"
	"mailraft/store/raftlog"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// found writes the log of a new boundary of three members with a database.
func found(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "raft"), 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := raftlog.Open(raftlog.Options{Path: filepath.Join(dir, "raft", "raft.db"), Salt: 1})
	if err != nil {
		t.Fatal(err)
	}
	var logs []*raft.Log
	add := func(k raft.LogType, data []byte) {
		logs = append(logs, &raft.Log{Index: uint64(len(logs)) + 1, Term: 2, Type: k, Data: data})
	}
	entry := func(k fsm.Kind, body any) {
		e, err := fsm.Encode(k, body)
		if err != nil {
			t.Fatal(err)
		}
		fsm.Stamp(e, mail.At(time.Now()))
		add(raft.LogCommand, e)
	}
	entry(fsm.KindFound, fsm.Found{Boundary: "b", Name: "test", First: fsm.Member{ID: 1, Name: "m1", Addr: "a1"}})
	var c raft.Configuration
	for _, id := range []mail.MemberID{1, 2, 3} {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id.String()), Address: raft.ServerAddress("a" + id.String())})
	}
	add(raft.LogConfiguration, raft.EncodeConfiguration(c))
	entry(fsm.KindToken, fsm.TokenAdd{Role: "member", Until: mail.At(time.Now().Add(time.Hour)), Uses: 9})
	for _, id := range []mail.MemberID{2, 3} {
		entry(fsm.KindMemberAdd, fsm.MemberAdd{Member: fsm.Member{ID: id, Name: "m" + id.String()}})
	}
	for _, id := range []mail.MemberID{1, 2, 3} {
		entry(fsm.KindMemberUp, fsm.MemberChange{Member: id, Addr: "a" + id.String()})
	}
	entry(fsm.KindDatabase, fsm.DatabaseChange{Op: "add", Name: "DB1", Copies: []fsm.Copy{{Name: "a", Addr: "maildir:/x"}}})
	entry(fsm.KindDirectory, fsm.Directory{Domains: []directory.Domain{{Name: "example.test", Kind: directory.Accepted, AnyMailbox: true, Database: "DB1"}}})
	if err := log.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// What was filled is what mail would have left, on every member: rows with
// their content, deliveries that can be sent again, nothing to be done.
func TestFill(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	found(t, one)
	const n = batch + 200
	text := make([]byte, 500)
	for i := range text {
		text[i] = 'x'
	}
	o := Options{Messages: n, Size: 400, Recipients: []string{"a@example.test", "b@example.test"}, Text: func() []byte { return text }}
	if err := Fill(t.Context(), one, []string{two}, o); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{one, two} {
		fatal := func(err error) { t.Error(err) }
		db, err := state.Open(state.Options{FS: vfs.Default, Dir: filepath.Join(dir, "state"), Fatal: fatal, Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		store, err := content.Open(content.Options{FS: vfs.Default, Dir: filepath.Join(dir, "content"), Fatal: fatal})
		if err != nil {
			t.Fatal(err)
		}
		v := fsm.New(db, fatal, hclog.NewNullLogger()).View()
		held := 0
		for d := range v.SafetyNet("DB1", 0, 0) {
			m, ok := v.Message(d.ID)
			if !ok || m.Active() || !m.Acked || m.Content.Size != int64(o.Size) {
				t.Fatalf("delivery of %s: %+v", d.ID, m)
			}
			if c, ok := store.Stat(m.Content.ID); !ok || c != m.Content {
				t.Fatalf("content of %s: %+v, the row says %+v", d.ID, c, m.Content)
			}
			held++
		}
		if held != n {
			t.Errorf("%d deliveries, want %d", held, n)
		}
		v.Close()
		for _, err := range []error{store.Close(), db.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	}
}

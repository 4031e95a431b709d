package main

import (
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailraft/fsm"
	"mailraft/mail"

	"github.com/rogpeppe/go-internal/testscript"
)

var rewrite = flag.Bool("rewrite", false, "write what commands print into the scripts in testdata/cli")

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"mailraft": main}) }

// Each script in testdata/cli has a boundary of its own to talk to. Besides
// the commands of testscript it knows
//
//	exits CODE COMMAND…  run a command that ends with this exit code
//	happens WHAT…        lost, found, full, squeezed, eased, odd, down (m3), gone (m1),
//	                     later (an hour), healthy DATABASE/COPY, dead DATABASE/COPY,
//	                     sent (what requests ask for), and that arrived or bounced,
//	                     poisoned (two processes died with the deferred messages in hand)
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "..", "testdata", "cli"), UpdateScripts: *rewrite, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			b, stop, err := newBoundary()
			if err != nil {
				return err
			}
			socket := filepath.Join(e.WorkDir, "m1.sock")
			done, err := b.listen(socket)
			if err != nil {
				return err
			}
			e.Defer(func() { done(); _ = stop() })
			e.Setenv("MAILRAFT_SOCKET", socket)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else a second for every command under -race
			e.Values["boundary"] = b
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "happens": happens},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var e *exec.ExitError
		if !errors.As(err, &e) {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func happens(ts *testscript.TestScript, _ bool, args []string) {
	b := ts.Value("boundary").(*boundary)
	for len(args) > 0 {
		what := args[0]
		args = args[1:]
		switch what {
		case "lost", "found":
			b.lost.Store(what == "lost")
		case "full":
			b.full.Store(true)
		case "squeezed", "eased":
			b.squeezed.Store(what == "squeezed")
		case "odd":
			b.odd.Store(true)
		case "down":
			b.must(fsm.KindMemberDown, fsm.MemberChange{Member: m3, Term: 1})
		case "gone":
			b.must(fsm.KindMemberDown, fsm.MemberChange{Member: m1, Term: 1})
		case "later":
			b.now = b.now.Add(time.Hour)
		case "sent":
			b.advance()
		case "poisoned":
			b.poison()
		case "arrived", "bounced":
			b.finish(what == "arrived")
		case "healthy", "dead":
			b.finds(ts, args[0], what == "healthy")
			args = args[1:]
		default:
			ts.Fatalf("happens %s: unknown", what)
		}
	}
}

// poison has two processes die with the deferred messages in hand.
func (b *boundary) poison() {
	v := b.f.View()
	var ids []mail.ID
	for m := range v.Messages(mail.ID{}) {
		if m.Active() && m.Recipients[0].Attempts > 0 {
			ids = append(ids, m.ID)
		}
	}
	v.Close()
	for _, id := range ids {
		b.must(fsm.KindCrashes, fsm.Crashes{Member: m1, Starts: 1, IDs: []mail.ID{id}})
		b.must(fsm.KindCrashes, fsm.Crashes{Member: m1, Starts: 2, IDs: []mail.ID{id}, Last: id})
	}
}

// advance has every open request send what it can.
func (b *boundary) advance() {
	v := b.f.View()
	ids := slices.Collect(v.OpenRequests())
	v.Close()
	for _, r := range ids {
		for b.must(fsm.KindAdvance, fsm.Advance{Request: r.ID, Rows: 64}).More {
		}
	}
}

// finish has every resubmission that is not finished delivered, or given up.
func (b *boundary) finish(arrives bool) {
	v := b.f.View()
	var list []*fsm.Message
	for _, m := range []mail.MemberID{m1, m2, m3} {
		list = append(list, slices.Collect(v.Active(m))...)
	}
	databases := slices.Collect(v.Databases())
	v.Close()
	for _, m := range list {
		if m.Request == 0 {
			continue
		}
		r := mail.Report{ID: m.ID}
		for i, rc := range m.Recipients {
			d := databases[slices.IndexFunc(databases, func(d fsm.Database) bool { return d.Name == rc.Database })]
			o := mail.Outcome{Recipient: i, Result: mail.Delivered, Reply: mail.Reply{Code: 250, Text: "saved"}, Copy: d.Active, Activation: d.Activation}
			if !arrives {
				o.Result, o.Reply = mail.Failed, mail.Reply{Code: 550, Enhanced: "5.2.1", Text: "mailbox disabled"}
			}
			r.Outcomes = append(r.Outcomes, o)
		}
		b.now = b.now.Add(time.Second)
		b.must(fsm.KindReport, fsm.Report{Member: m.Primary, Reports: []mail.Report{r}})
	}
}

// finds has a majority find a copy, "DATABASE/COPY", healthy or dead.
func (b *boundary) finds(ts *testscript.TestScript, name string, healthy bool) {
	database, copy, _ := strings.Cut(name, "/")
	v := b.f.View()
	defer v.Close()
	d, _ := v.Database(database)
	i := slices.IndexFunc(d.Copies, func(c fsm.Copy) bool { return c.Name == copy })
	if i < 0 {
		ts.Fatalf("there is no copy %s", name)
	}
	h := fsm.CopyHealth{Database: d.Name, Copy: copy, Addr: d.Copies[i].Addr, Healthy: healthy}
	if !healthy {
		h.Text = "connection refused"
	}
	b.must(fsm.KindHealth, fsm.Health{Term: 1, Copies: []fsm.CopyHealth{h}})
}

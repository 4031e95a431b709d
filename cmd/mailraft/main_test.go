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

	"github.com/rogpeppe/go-internal/testscript"
)

var rewrite = flag.Bool("rewrite", false, "write what commands print into the scripts in testdata/cli")

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"mailraft": main}) }

// Each script in testdata/cli has a boundary of its own to talk to. Besides
// the commands of testscript it knows
//
//	exits CODE COMMAND…  run a command that ends with this exit code
//	happens WHAT…        lost, found, full, squeezed, eased, odd, down, later (an
//	                     hour), healthy DATABASE/COPY, dead DATABASE/COPY
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
		case "later":
			b.now = b.now.Add(time.Hour)
		case "healthy", "dead":
			b.finds(ts, args[0], what == "healthy")
			args = args[1:]
		default:
			ts.Fatalf("happens %s: unknown", what)
		}
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

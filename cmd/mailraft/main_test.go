package main

import (
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"mailraft/fsm"

	"github.com/rogpeppe/go-internal/testscript"
)

var rewrite = flag.Bool("rewrite", false, "write what commands print into the scripts in testdata/cli")

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"mailraft": main}) }

// Each script in testdata/cli has a boundary of its own to talk to. Besides
// the commands of testscript it knows
//
//	exits CODE COMMAND…  run a command that ends with this exit code
//	happens WHAT         lost, found, full, odd, or down
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
	for _, what := range args {
		switch what {
		case "lost", "found":
			b.lost.Store(what == "lost")
		case "full":
			b.full.Store(true)
		case "odd":
			b.odd.Store(true)
		case "down":
			b.must(fsm.KindMemberDown, fsm.MemberChange{Member: m3, Term: 1})
		default:
			ts.Fatalf("happens %s: unknown", what)
		}
	}
}

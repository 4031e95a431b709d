package fsm

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailraft/mail"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts put out into them")

// TestScripts runs testdata/fsm/*.txt. A script is blocks of command lines, a
// line "----", what they put out, and an empty line. Lines that begin with #
// are for the reader. The rules of invariant_test.go are checked after every
// command; at the end the log is applied once more, in other batches and
// through crashes, and as a snapshot with the rest behind it.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../testdata/fsm/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	used := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{machine: newMachine(t), used: used, ids: map[string]mail.ID{}, names: map[mail.ID]string{}, subs: map[string]mail.Submission{}}
			if got := s.run(file, string(b)); got != string(b) {
				if *rewrite {
					err = os.WriteFile(file, []byte(got), 0o644)
				} else {
					err = fmt.Errorf("%s: other output than expected; look at it with -rewrite", file)
				}
			}
			if err != nil {
				t.Error(err)
			}
			s.again()
		})
	}
	for name := range commands {
		if !used[name] && !t.Failed() {
			t.Errorf("no script uses %s", name)
		}
	}
}

// script is a machine that commands are read for. Messages and contents have
// names, given by accept and report; members are m1 to m9.
type script struct {
	*machine
	used  map[string]bool
	ids   map[string]mail.ID
	names map[mail.ID]string
	subs  map[string]mail.Submission // uploads by name
	where string                     // file and line, for errors
}

// run returns the script with the output that it has now.
func (s *script) run(file, text string) string {
	var out, block strings.Builder
	skipping, unfinished := false, false
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		s.where = fmt.Sprintf("%s:%d", file, i+1)
		switch {
		case skipping && line != "":
		case line == "----":
			got := block.String()
			out.WriteString("----\n" + got)
			if !skipping {
				s.compare(text, i+1, got)
			}
			block.Reset()
			skipping, unfinished = true, false
		case line == "" || strings.HasPrefix(line, "#"):
			skipping = false
			out.WriteString(line + "\n")
		default:
			out.WriteString(line + "\n")
			block.WriteString(s.command(line))
			unfinished = true
		}
	}
	if unfinished {
		out.WriteString("----\n" + block.String())
	}
	return out.String()
}

// compare says where the first other output is.
func (s *script) compare(text string, from int, got string) {
	var want []string
	for _, l := range strings.Split(text, "\n")[from:] {
		if l == "" {
			break
		}
		want = append(want, l+"\n")
	}
	if w := strings.Join(want, ""); w != got && !*rewrite {
		s.t.Errorf("%s: got\n%swant\n%s", s.where, got, w)
	}
}

func (s *script) command(line string) string {
	s.t.Helper()
	name, rest, _ := strings.Cut(line, " ")
	f, ok := commands[name]
	if !ok {
		s.fail("there is no command %q", name)
	}
	s.used[name] = true
	out := f(s, parseArgs(rest))
	s.nameNew()
	s.check()
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	return out
}

func (s *script) fail(format string, a ...any) {
	s.t.Helper()
	s.t.Fatalf("%s: %s", s.where, fmt.Sprintf(format, a...))
}

// nameNew names the rows that a command made on the way: reports of A are
// A-dsn1, A-dsn2, its pieces, its resubmissions A-again1, A-again2.
func (s *script) nameNew() {
	v := s.f.View()
	defer v.Close()
	for m := range v.Messages(mail.ID{}) {
		if s.names[m.ID] != "" {
			continue
		}
		base := s.names[m.Parent] + "-"
		switch {
		case m.Request != 0:
			base = s.names[m.Origin] + "-again"
		case !m.Origin.IsZero():
			base = s.names[m.Origin] + "-dsn"
		}
		for n := 1; s.names[m.ID] == ""; n++ {
			if name := base + strconv.Itoa(n); s.ids[name].IsZero() {
				s.ids[name], s.names[m.ID] = m.ID, name
			}
		}
	}
}

// again applies the log of the script in other ways; all lead to one state.
func (s *script) again() {
	s.t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(len(s.log))))
	want := s.hash()
	b := newMachine(s.t)
	b.replay(s.log, 7, rng)
	if b.hash() != want {
		s.t.Error("applied in batches: another state")
	}
	c := newMachine(s.t)
	for top := 0; top < len(s.log); {
		at, _ := c.f.Applied()
		from := int(at) - rng.IntN(min(int(at), 3)+1) // from further back is harmless
		top = min(int(at)+1+rng.IntN(len(s.log)/2+1), len(s.log))
		c.replay(s.log[from:top], 5, rng)
		if rng.IntN(2) == 0 {
			c.f.Sync()
		}
		if c.crash(rng) > uint64(top) {
			s.t.Fatal("a crash led forward")
		}
		at, _ = c.f.Applied()
		top = int(at)
	}
	if c.hash() != want {
		s.t.Error("applied through crashes: another state")
	}
	s.throughSnapshot(want, rng)
}

// throughSnapshot installs the state at half the log over another state, and
// goes on from there.
func (s *script) throughSnapshot(want [32]byte, rng *rand.Rand) {
	s.t.Helper()
	half := len(s.log) / 2
	d, e := newMachine(s.t), newMachine(s.t)
	d.replay(s.log[:half], 3, rng)
	v := d.f.View()
	_, ok := v.meta()
	v.Close()
	if !ok {
		return // no configuration in that half
	}
	e.replay(s.log[:min(2, half)], 3, rng)
	d.install(e)
	e.replay(s.log[half:], 4, rng)
	if e.hash() != want {
		s.t.Error("installed and continued: another state")
	}
}

// args are what follows a command: words, and key=value pairs.
type args struct {
	words []string
	pairs [][2]string
}

func parseArgs(s string) (a args) {
	for _, w := range fields(s) {
		if k, v, ok := strings.Cut(w, "="); ok {
			a.pairs = append(a.pairs, [2]string{k, v})
		} else {
			a.words = append(a.words, w)
		}
	}
	return a
}

// fields splits at spaces outside double quotes, which are dropped.
func fields(s string) (out []string) {
	var b strings.Builder
	quoted, any := false, false
	for _, r := range s + " " {
		switch {
		case r == '"':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				out = append(out, b.String())
			}
			b.Reset()
			any = false
		default:
			b.WriteRune(r)
			any = true
		}
	}
	return out
}

func (a args) word(i int) string {
	if i < len(a.words) {
		return a.words[i]
	}
	return ""
}

func (a args) get(k, otherwise string) string {
	for _, p := range a.pairs {
		if p[0] == k {
			return p[1]
		}
	}
	return otherwise
}

func (a args) has(k string) bool {
	return slices.ContainsFunc(a.pairs, func(p [2]string) bool { return p[0] == k })
}

func (s *script) member(w string) mail.MemberID {
	n, err := strconv.Atoi(strings.TrimPrefix(w, "m"))
	if err != nil {
		s.fail("%q is no member", w)
	}
	return mail.MemberID(n)
}

func (s *script) memberList(w string) (ids []mail.MemberID) {
	for x := range strings.SplitSeq(w, ",") {
		if x != "" {
			ids = append(ids, s.member(x))
		}
	}
	return ids
}

func (s *script) id(name string) mail.ID {
	id, ok := s.ids[name]
	if !ok {
		s.fail("there is no message %s", name)
	}
	return id
}

func (s *script) idList(names []string) (ids []mail.ID) {
	for _, n := range names {
		ids = append(ids, s.id(n))
	}
	return ids
}

func (s *script) int(w string) int {
	n, err := strconv.Atoi(w)
	if err != nil {
		s.fail("%q is no number", w)
	}
	return n
}

func (s *script) span(w string) time.Duration {
	neg := strings.HasPrefix(w, "-")
	d, err := mail.ParseDuration(strings.TrimPrefix(w, "-"))
	if err != nil {
		s.fail("%v", err)
	}
	if neg {
		return -d
	}
	return d
}

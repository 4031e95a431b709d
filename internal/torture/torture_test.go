package torture

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"testing"

	"mailraft/internal/ledger"
)

// A seed has the same steps each time, another has others; all faults come, and
// none asks for more than there is.
func TestPlan(t *testing.T) {
	same, other := 0, 0
	a, b, c := newPlan(7), newPlan(7), newPlan(8)
	seen := map[Fault]int{}
	for range 2000 {
		s := a.next()
		seen[s.Fault]++
		if s.Beside != "" && s.Beside.damages() {
			t.Fatalf("%s beside %s", s.Beside, s.Fault)
		}
		if s.Member < 0 || s.Member >= members || s.For <= 0 || s.Pause < 0 {
			t.Fatalf("%+v", s)
		}
		if s == b.next() {
			same++
		}
		if s != c.next() {
			other++
		}
	}
	if same != 2000 || other < 1900 {
		t.Errorf("%d of 2000 steps are the same again, %d differ from another seed's", same, other)
	}
	for _, f := range faults {
		if seen[f.fault] == 0 {
			t.Errorf("%s never comes", f.fault)
		}
	}
}

// The mailbox server writes down what it takes, and whether it was asked for.
func TestSink(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{name: "a", addr: l.Addr().String(), l: l, conns: map[net.Conn]bool{}, got: map[string][]taken{}}
	go s.accept(l)
	defer s.die()
	body := ledger.Marker + ": m1\nSubject: x\n\ntext\n.dot\n"
	for _, head := range []string{"Received: by x\n", "X-Mailraft-Resubmit: 4\n"} {
		deliver(t, s.addr, head+body)
	}
	got := s.deliveries("m1")
	if len(got) != 2 || got[0].resent || !got[1].resent || got[0].sum != sha256.Sum256([]byte(body)) || got[1].sum != got[0].sum {
		t.Errorf("%+v", got)
	}
}

func deliver(t *testing.T, addr, text string) {
	t.Helper()
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _, err = c.ReadResponse(220)
	for _, step := range []struct {
		line string
		want int
	}{{"LHLO x", 250}, {"MAIL FROM:<s@x>", 250}, {"RCPT TO:<u@x>", 250}, {"DATA", 354}} {
		if err == nil {
			if err = c.PrintfLine("%s", step.line); err == nil {
				_, _, err = c.ReadResponse(step.want)
			}
		}
	}
	if err == nil {
		w := c.DotWriter()
		_, err = fmt.Fprint(w, text)
		_ = w.Close()
	}
	if err == nil {
		_, _, err = c.ReadResponse(250)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A message that is in no mailbox, twice while nothing failed, or changed, is
// seen: what is checked can fail.
func TestCheckSees(t *testing.T) {
	s := &sink{name: "a", got: map[string][]taken{}}
	r := &run{ledger: ledger.New(), Options: Options{Out: os.Stderr}, sinks: []*sink{s}}
	r.report.Windows = map[string]int{}
	e := ledger.Entry{Marker: "m1", Attempts: 1}
	s.take([]byte(ledger.Marker + ": m1\n\nx\n"))
	r.twice(s, e)
	if len(r.report.Violations) != 0 {
		t.Errorf("once: %v", r.report.Violations)
	}
	s.take([]byte(ledger.Marker + ": m1\n\nx\n"))
	r.twice(s, e)
	if len(r.report.Violations) != 1 {
		t.Errorf("twice, and nothing failed: %v", r.report.Violations)
	}
	e.Attempts = 2
	r.twice(s, e)
	if len(r.report.Violations) != 1 || r.report.Windows["the client sent it again"] != 1 {
		t.Errorf("sent twice: %v, %v", r.report.Violations, r.report.Windows)
	}
	if err := (level{500, 40}).beyond(level{80, 40}, "m1"); err == nil {
		t.Error("400 goroutines more go unseen")
	}
	if err := (level{}).beyond(level{80, 40}, "m1"); err == nil {
		t.Error("a member that does not answer goes unseen")
	}
}

// Damage changes the file, and a cut shortens it.
func TestSpoil(t *testing.T) {
	for _, cut := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "f")
		whole := make([]byte, 100_000)
		if err := os.WriteFile(file, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := spoil(file, cut, rand.New(rand.NewPCG(1, 2))); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil || cut != (len(b) < len(whole)) || string(b) == string(whole) {
			t.Errorf("cut %v: %d bytes, %v", cut, len(b), err)
		}
	}
}

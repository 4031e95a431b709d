package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// taker is an SMTP server that takes everything, in one goroutine a session.
func taker(t *testing.T) (addr string, took *atomic.Int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	took = new(atomic.Int64)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); take(c, took) })
		}
	})
	return l.Addr().String(), took
}

func take(c net.Conn, took *atomic.Int64) {
	r := bufio.NewReader(c)
	fmt.Fprint(c, "220 here\r\n")
	for data := false; ; {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return
		case data && line == ".\r\n":
			data = false
			took.Add(1)
			fmt.Fprint(c, "250 taken\r\n")
		case data:
		case strings.HasPrefix(line, "EHLO"):
			fmt.Fprint(c, "250-here\r\n250 PIPELINING\r\n")
		case strings.HasPrefix(line, "DATA"):
			data = true
			fmt.Fprint(c, "354 go on\r\n")
		default:
			fmt.Fprint(c, "250 ok\r\n")
		}
	}
}

func TestLoad(t *testing.T) {
	addr, took := taker(t)
	for _, oneByOne := range []bool{false, true} {
		ctx, enough := context.WithCancel(t.Context())
		l := Load{Targets: []string{addr}, Sessions: 3, Size: 5000, Time: time.Hour, To: Recipient, OneByOne: oneByOne}
		l.Progress = func(n int) {
			if n == 50 {
				enough()
			}
		}
		r := l.Run(ctx)
		if r.Messages < 50 || len(r.Latencies) != r.Messages || r.Percentile(50) > r.Percentile(99) {
			t.Errorf("%d messages, %d latencies, error %v", r.Messages, len(r.Latencies), r.Err)
		}
		if n := took.Load(); n < int64(r.Messages) {
			t.Errorf("%d counted, %d taken", r.Messages, n)
		}
	}
}

func TestLoadToNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := Load{Targets: []string{l.Addr().String()}, Sessions: 1, Size: 1000, Time: 20 * time.Millisecond, To: Recipient}.Run(t.Context())
	if r.Messages != 0 || r.Err == nil || r.Percentile(50) != 0 {
		t.Errorf("%d messages, error %v", r.Messages, r.Err)
	}
}

func TestMessage(t *testing.T) {
	for _, size := range []int{1, 1000, 10 << 10, 75 << 10, 1 << 20, 12 << 20} {
		var b bytes.Buffer
		bufs := message(Recipient, size)
		_, _ = bufs.WriteTo(&b)
		text := b.String()
		if n := b.Len() - len(".\r\n"); size >= 1000 && (n < size-2 || n > size) {
			t.Errorf("%d bytes, want %d", n, size)
		}
		if bare := strings.ReplaceAll(text, "\r\n", ""); strings.ContainsAny(bare, "\r\n") {
			t.Errorf("size %d: a bare CR or LF", size)
		}
		if i := strings.Index(text, "\r\n."); !strings.HasSuffix(text, "\r\n.\r\n") || i != len(text)-5 {
			t.Errorf("size %d: ends at %d of %d", size, i, len(text))
		}
	}
}

func TestParseCell(t *testing.T) {
	for text, want := range map[string]Cell{"10KB:50": {10 << 10, 50}, "75KB:1": {75 << 10, 1}, "1 MB:100": {1 << 20, 100}} {
		c, err := ParseCell(text)
		if err != nil || c != want {
			t.Errorf("%q: %v, %v", text, c, err)
		}
		if back, err := ParseCell(c.String()); err != nil || back != c {
			t.Errorf("%q: back from %q: %v, %v", text, c, back, err)
		}
	}
	for _, text := range []string{"", "10KB", "10KB:0", ":5x", "x:5", "10KB:x"} {
		if c, err := ParseCell(text); err == nil {
			t.Errorf("%q is %v", text, c)
		}
	}
}

func TestTable(t *testing.T) {
	run := func(n int) Run { return Run{Result: Result{Messages: n, Time: time.Second}} }
	c := Cell{10 << 10, 50}
	rows := []Row{{"Postfix", c, []Run{run(100), run(300), run(200)}}, {"mailraft", c, []Run{run(200), run(300), run(600)}}}
	if got := Ratio(rows[1], rows[0]); got != 2 {
		t.Errorf("ratio %v, want the median of 2, 1 and 3", got)
	}
	var b bytes.Buffer
	Table(&b, rows)
	for _, want := range []string{"| 10 KB | 50 | Postfix | 200 (100 to 300) |", "| 10 KB | 50 | mailraft | 300 (200 to 600) |", "| 2.00 |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	relays := []Relay{{"Postfix", 100, time.Second, 2 * time.Second}, {"mailraft", 100, time.Second, time.Second}}
	Plan{Out: io.Discard}.write(&b, "here", rows, Figures{}, besides{slow: rows, relays: relays, relayCell: c, commitsCell: c}, []byte(handHeading))
	if strings.Contains(b.String(), "%!") {
		t.Errorf("badly formatted:\n%s", b.String())
	}
}

// What is written by hand outlives a new report.
func TestHandwritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	if notes, err := handwritten(file); err != nil || notes != nil {
		t.Errorf("a new file: %q, %v", notes, err)
	}
	for text, want := range map[string]string{"# B\n\n" + handHeading + "kept\n": handHeading + "kept\n", "# B\n": ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if notes, err := handwritten(file); string(notes) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, notes, err)
		}
	}
}

func TestRelayRatio(t *testing.T) {
	run := func(system string, s int) Relay {
		return Relay{system, 100, time.Second, time.Duration(s) * time.Second}
	}
	all := []Relay{run("Postfix", 4), run("mailraft", 2), run("mailraft", 1), run("Postfix", 3), run("Postfix", 10), run("mailraft", 1)}
	if got := RelayRatio(all); got != 3 {
		t.Errorf("ratio %v, want the median of 2, 3 and 10", got)
	}
}

// The counters of smtp-sink come as one line that never ends, in any pieces.
func TestSinkCount(t *testing.T) {
	const text = "sess=0 quit=0 mesg=0\rsess=1 quit=0 mesg=9\rsess=1 quit=0 mesg=10\rsess=1 quit=1 mesg=1234\r"
	for size := 1; size <= len(text); size++ {
		var s smtpSink
		s.count(iotest.OneByteReader(strings.NewReader(text)))
		if n := s.messages.Load(); n != 1234 {
			t.Fatalf("counted %d", n)
		}
		s.count(&pieces{text, size})
		if n := s.messages.Load(); n != 1234 {
			t.Fatalf("in pieces of %d: counted %d", size, n)
		}
	}
}

// pieces is a text that is read size bytes at a time.
type pieces struct {
	text string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b, p.text[:min(p.size, len(p.text))])
	if p.text = p.text[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Every session is answered, and only what most files have counts.
func TestCommits(t *testing.T) {
	for _, files := range []int{1, 3} {
		rate, err := commits(t.Context(), t.TempDir(), files, Cell{Size: 100, Sessions: 7}, 50*time.Millisecond)
		if err != nil || rate <= 0 {
			t.Errorf("%d files: %v a second, %v", files, rate, err)
		}
	}
}

// A publisher is asked, says that it is ready, is told to go, and answers.
func TestPublisher(t *testing.T) {
	answers, ask := strings.NewReader("\n{\"Messages\":3,\"Latencies\":[1,2,3]}\n\n{\"Error\":\"nack\",\"Errors\":1}\n!no such host\n"), new(bytes.Buffer)
	p := publisher{&child{in: nopCloser{ask}, out: bufio.NewReader(answers)}}
	var got []Result
	for range 2 {
		run, err := p.prepare(Load{Size: 10, Sessions: 2})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, run(t.Context()))
	}
	if got[0].Messages != 3 || len(got[0].Latencies) != 3 || got[0].Err != nil || got[1].Errors != 1 || got[1].Err == nil {
		t.Errorf("answers: %+v", got)
	}
	if _, err := p.prepare(Load{}); err == nil || err.Error() != "no such host" {
		t.Errorf("a publisher that cannot connect: %v", err)
	}
	if want := `{"Size":10,"Sessions":2,"Warm":0,"Time":0}` + "\n\n"; !strings.HasPrefix(ask.String(), want) {
		t.Errorf("asked %q", ask)
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

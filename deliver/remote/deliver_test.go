package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/deliver"
	"mailraft/mail"
)

// brief is an answer in a few characters: code, then d(own), u(ncertain).
func brief(answers []deliver.Answer) string {
	var out []string
	for _, a := range answers {
		s := fmt.Sprint(a.Reply.Code)
		if a.Down {
			s += "d"
		}
		if a.Uncertain {
			s += "u"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// Every place where a server may refuse, hang up, or answer for some only.
func TestAnswers(t *testing.T) {
	const a, b, c = "a@x.test", "b@x.test", "c@x.test"
	for name, row := range map[string]struct {
		script     script
		lmtp, smtp string // what a, b and c get
		taken      int    // messages the server has, of both protocols together
	}{
		"all well":           {script{}, "250 250 250", "250 250 250", 2},
		"no greeting":        {script{"connect": "cut"}, "451d 451d 451d", "451d 451d 451d", 0},
		"busy greeting":      {script{"connect": "421 4.3.2 later"}, "451d 451d 451d", "451d 451d 451d", 0},
		"hostile greeting":   {script{"connect": "554 5.3.2 no service"}, "451d 451d 451d", "451d 451d 451d", 0},
		"cut at hello":       {script{"LHLO": "cut", "EHLO": "cut"}, "451d 451d 451d", "451d 451d 451d", 0},
		"cut at MAIL":        {script{"MAIL": "cut"}, "451d 451d 451d", "451d 451d 451d", 0},
		"sender refused":     {script{"MAIL": "550 5.7.1 no"}, "550 550 550", "550 550 550", 0},
		"sender deferred":    {script{"MAIL": "451 4.7.1 later"}, "451 451 451", "451 451 451", 0},
		"421 at MAIL":        {script{"MAIL": "421 4.3.2 bye"}, "421d 421d 421d", "421d 421d 421d", 0},
		"one unknown":        {script{"RCPT " + b: "550 5.1.1 unknown"}, "250 550 250", "250 550 250", 2},
		"one over quota":     {script{"RCPT " + b: "452 4.2.2 full"}, "250 452 250", "250 452 250", 2},
		"quota for good":     {script{"RCPT " + b: "552 5.2.2 full"}, "250 552 250", "250 552 250", 2},
		"too many by 552":    {script{"RCPT " + b: "552 too many"}, "250 452 250", "250 452 250", 4}, // the rest in a second transaction
		"all unknown":        {script{"RCPT " + a: "550 no", "RCPT " + b: "550 no", "RCPT " + c: "450 no"}, "550 550 450", "550 550 450", 0},
		"cut at second RCPT": {script{"RCPT " + b: "cut"}, "451d 451d 451d", "451d 451d 451d", 0},
		"refused, then cut":  {script{"RCPT " + a: "550 no", "RCPT " + b: "cut"}, "550 451d 451d", "550 451d 451d", 0},
		"421 at RCPT":        {script{"RCPT " + c: "421 4.3.2 bye"}, "421d 421d 421d", "421d 421d 421d", 0},
		"cut at DATA":        {script{"DATA": "cut"}, "451d 451d 451d", "451d 451d 451d", 0},
		"DATA deferred":      {script{"DATA": "451 4.3.0 no"}, "451 451 451", "451 451 451", 0},
		"DATA refused":       {script{"DATA": "554 5.0.0 no"}, "554 554 554", "554 554 554", 0},
		"odd answer to DATA": {script{"DATA": "250 ok"}, "451 451 451", "451 451 451", 0},
		"cut at the dot":     {script{"DOT": "cut", "DOT " + a: "cut"}, "451u 451u 451u", "451u 451u 451u", 2},
		"421 at the dot":     {script{"DOT": "421 4.3.2 bye", "DOT " + a: "421 4.3.2 bye"}, "421d 451u 451u", "421d 421d 421d", 2},
		"refused at the dot": {script{"DOT": "554 5.6.0 spam", "DOT " + a: "554 5.6.0 spam"}, "554 250 250", "554 554 554", 2},
		"251 at the dot":     {script{"DOT": "251 ok", "DOT " + a: "251 ok"}, "251 250 250", "251 251 251", 2},
		"LMTP dies halfway":  {script{"DOT " + b: "cut"}, "250 451u 451u", "250 250 250", 2},
		"LMTP no, then dies": {script{"DOT " + a: "550 5.2.1 off", "DOT " + b: "cut"}, "550 451u 451u", "250 250 250", 2},
		"LMTP differs":       {script{"DOT " + a: "452 4.2.2 full", "DOT " + c: "550 5.2.1 off"}, "452 250 550", "250 250 250", 2},
	} {
		t.Run(name, func(t *testing.T) {
			taken := 0
			for scheme, want := range map[string]string{"lmtp": row.lmtp, "smtp": row.smtp} {
				f := &fake{script: row.script, lmtp: scheme == "lmtp"}
				tr := newTransport(t)
				answers := send(t, tr, attempt(scheme+"://"+f.listen(t), a, b, c))
				if got := brief(answers); got != want {
					t.Errorf("%s: %s, want %s (%v)", scheme, got, want, answers)
				}
				taken += len(f.messages())
			}
			if taken != row.taken {
				t.Errorf("%d messages arrived, want %d", taken, row.taken)
			}
		})
	}
}

func TestMessageOnTheWire(t *testing.T) {
	f := &fake{lmtp: true}
	tr := newTransport(t)
	a := attempt("lmtp://"+f.listen(t), "a@x.test", `"b> c"@x.test`, "bad@@x", "A@x.test", "a@x.test")
	answers := send(t, tr, a)
	if got := brief(answers); got != "250 250 553 250 250" {
		t.Fatal(got)
	}
	if answers[0].Reply.Enhanced != "2.0.0" || answers[0].Remote == "" {
		t.Errorf("answer %+v", answers[0])
	}
	m := f.messages()[0]
	if !slices.Equal(m.to, []string{"a@x.test", `"b> c"@x.test`, "A@x.test"}) || m.from != "s@example.org" {
		t.Errorf("envelope %q %q", m.from, m.to)
	}
	if !strings.HasPrefix(m.data, "Received: from c.example.org") || !strings.HasSuffix(m.data, "X-Mailraft-Resubmit: 9\r\n"+text) {
		t.Errorf("data %q", m.data)
	}
	a.ReversePath = ""
	a.Recipients = a.Recipients[:1]
	if got := brief(send(t, tr, a)); got != "250" || f.messages()[1].from != "" {
		t.Errorf("null reverse-path: %s, %q", got, f.messages()[1].from)
	}
	a.ReversePath = "a b@x"
	if got := brief(send(t, tr, a)); got != "553" {
		t.Errorf("odd reverse-path: %s", got)
	}
}

// What the sender asked for goes to a server that offers DSN, by LMTP too, and
// that one tells of the success then. To others it is not said.
func TestParametersArePassedOn(t *testing.T) {
	for name, c := range map[string]struct {
		list   string
		lmtp   bool
		change func(*deliver.Attempt)
		want   []string
		passed string
	}{
		"offered": {"DSN", false, nil, []string{"MAIL FROM:<s@example.org> RET=HDRS ENVID=Q+2B1", "RCPT TO:<a@x.test> NOTIFY=SUCCESS,DELAY ORCPT=RFC822;Bob+2Bx@y.test",
			"RCPT TO:<b@x.test> NOTIFY=NEVER ORCPT=UTF-8;j\\x{F6}rg@y.test", "RCPT TO:<c@x.test>"}, "true false false"},
		"by LMTP":     {"DSN", true, nil, nil, "true false false"},
		"not offered": {"ENHANCEDSTATUSCODES", false, nil, []string{"MAIL FROM:<s@example.org>", "RCPT TO:<a@x.test>", "RCPT TO:<b@x.test>", "RCPT TO:<c@x.test>"}, "false false false"},
		"a resubmission": {"DSN", false, func(a *deliver.Attempt) { a.Quiet = true }, []string{"MAIL FROM:<s@example.org>", "RCPT TO:<a@x.test> NOTIFY=NEVER",
			"RCPT TO:<b@x.test> NOTIFY=NEVER", "RCPT TO:<c@x.test> NOTIFY=NEVER"}, "false false false"},
		"odd": {"DSN", false, func(a *deliver.Attempt) {
			a.EnvelopeID, a.Return = "\r\nQUIT", 77
			a.Recipients[0].Asked = mail.Asked{Notify: 1 << 7, Original: "rfc822;a\r\nb"}
			a.Recipients[1].Asked = mail.Asked{Original: "utf-8;\n"}
		}, []string{"MAIL FROM:<s@example.org>", "RCPT TO:<a@x.test>", "RCPT TO:<b@x.test>", "RCPT TO:<c@x.test>"}, "false false false"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{list: c.list, lmtp: c.lmtp}
			scheme := map[bool]string{true: "lmtp://", false: "smtp://"}[c.lmtp]
			a := attempt(scheme+f.listen(t), "a@x.test", "b@x.test", "c@x.test")
			a.EnvelopeID, a.Return = "Q+1", mail.ReturnHeaders
			a.Recipients[0].Asked = mail.Asked{Notify: mail.NotifySuccess | mail.NotifyDelay, Original: "rfc822;Bob+x@y.test"}
			a.Recipients[1].Asked = mail.Asked{Notify: mail.NotifyNever, Original: "utf-8;jörg@y.test"}
			if c.change != nil {
				c.change(a)
			}
			var passed []string
			for _, ans := range send(t, newTransport(t), a) {
				if ans.Reply.Code != 250 {
					t.Errorf("%+v", ans)
				}
				passed = append(passed, fmt.Sprint(ans.Passed))
			}
			if got := strings.Join(passed, " "); got != c.passed {
				t.Errorf("passed %s", got)
			}
			if got := f.heard(); c.want != nil && !slices.Equal(got[1:len(c.want)+1], c.want) {
				t.Errorf("said\n%q\nwant\n%q", got, c.want)
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	for name, c := range map[string]struct {
		list   string
		change func(*deliver.Attempt)
		want   string
	}{
		"8-bit, not taken":              {"SIZE", func(a *deliver.Attempt) { a.EightBit = true }, "554 5.6.3"},
		"8-bit":                         {"8BITMIME", func(a *deliver.Attempt) { a.EightBit = true }, "250 2.0.0"},
		"8-bit, as said by old servers": {"8bitmime,smtputf8", func(a *deliver.Attempt) { a.EightBit, a.UTF8 = true, true }, "250 2.0.0"},
		"UTF-8, not taken":              {"8BITMIME", func(a *deliver.Attempt) { a.UTF8 = true }, "550 5.6.7"},
		"UTF-8 sender":                  {"8BITMIME", func(a *deliver.Attempt) { a.ReversePath = "jörg@example.org" }, "550 5.6.7"},
		"UTF-8":                         {"8BITMIME,SMTPUTF8", func(a *deliver.Attempt) { a.UTF8 = true }, "250 2.0.0"},
		"too large":                     {"SIZE 200", func(a *deliver.Attempt) { a.Content.Size = 300 }, "552 5.3.4"},
		"SIZE 0":                        {"SIZE 0", func(a *deliver.Attempt) { a.Content.Size = 300 }, "250 2.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{list: c.list}
			a := attempt("smtp://"+f.listen(t), "a@x.test")
			c.change(a)
			got := send(t, newTransport(t), a)[0]
			if s := fmt.Sprint(got.Reply.Code, " ", got.Reply.Enhanced); s != c.want || got.Down {
				t.Errorf("%s, want %s: %v", s, c.want, got)
			}
		})
	}
}

func TestLeaseLostBeforeTheDot(t *testing.T) {
	for _, scheme := range []string{"lmtp", "smtp"} {
		f := &fake{lmtp: scheme == "lmtp", script: script{"RCPT b@x.test": "550 5.1.1 unknown"}}
		a := attempt(scheme+"://"+f.listen(t), "a@x.test", "b@x.test")
		a.Final = func() error { return errLease }
		if got := brief(send(t, newTransport(t), a)); got != "0 550" {
			t.Errorf("%s: %s", scheme, got)
		}
		if len(f.messages()) != 0 || slices.Contains(f.heard(), "QUIT") {
			t.Errorf("%s: the message arrived: %v, %q", scheme, f.messages(), f.heard())
		}
	}
}

type broken struct{ io.ReadSeeker }

func (broken) Read([]byte) (int, error) { return 0, errors.New("damaged record") }
func (broken) Close() error             { return nil }

func TestDamagedContent(t *testing.T) {
	f := &fake{}
	a := attempt("smtp://"+f.listen(t), "a@x.test")
	a.Open = func() (io.ReadSeekCloser, error) { return broken{}, nil }
	tr := newTransport(t)
	if got := send(t, tr, a); brief(got) != "451" || !strings.Contains(got[0].Reply.Text, "damaged") {
		t.Fatalf("%v", got)
	}
	if len(f.messages()) != 0 {
		t.Fatal("a damaged message arrived")
	}
}

func TestReuse(t *testing.T) {
	f := &fake{lmtp: true, script: script{"RCPT no@x.test": "550 5.1.1 unknown"}}
	addr := "lmtp://" + f.listen(t)
	tr := newTransport(t)
	for n := range messagesMax {
		to, want := "a@x.test", "250"
		if n%7 == 3 {
			to, want = "no@x.test", "550"
		}
		if got := brief(send(t, tr, attempt(addr, to))); got != want {
			t.Fatal(n, got)
		}
	}
	if f.connections() != 1 {
		t.Errorf("%d connections for %d messages", f.connections(), messagesMax)
	}
	send(t, tr, attempt(addr, "a@x.test"))
	if f.connections() != 2 {
		t.Errorf("a connection was used more than %d times", messagesMax)
	}
}

// Of an address without kept connections nothing is remembered.
func TestIdleAddressIsForgotten(t *testing.T) {
	f := &fake{script: script{}}
	addr := "smtp://" + f.listen(t)
	tr := newTransport(t)
	send(t, tr, attempt(addr, "a@x.test"))
	if len(tr.idle) != 1 {
		t.Fatalf("%d addresses after a delivery", len(tr.idle))
	}
	f.mu.Lock()
	f.script["DATA"] = "cut"
	f.mu.Unlock()
	send(t, tr, attempt(addr, "a@x.test"))
	if len(tr.idle) != 0 {
		t.Fatalf("%d addresses after the connection was lost", len(tr.idle))
	}
}

// A kept connection that the server has closed meanwhile is no failure.
func TestStaleConnection(t *testing.T) {
	for _, how := range []string{"cut", "421 4.4.2 idle too long"} {
		f := &fake{script: script{}}
		addr := "smtp://" + f.listen(t)
		tr := newTransport(t)
		if got := brief(send(t, tr, attempt(addr, "a@x.test"))); got != "250" {
			t.Fatal(got)
		}
		f.mu.Lock()
		f.script["MAIL"] = how
		f.mu.Unlock()
		if got := brief(send(t, tr, attempt(addr, "a@x.test"))); got != "421d" && got != "451d" {
			t.Fatalf("a fresh connection that does so is down: %s", got)
		}
		if f.connections() != 2 {
			t.Fatalf("%d connections", f.connections())
		}
	}
}

func TestTLS(t *testing.T) {
	config := serverTLS(t)
	roots := x509.NewCertPool()
	roots.AddCert(config.Certificates[0].Leaf)
	t.Run("opportunistic", func(t *testing.T) {
		f := &fake{tls: config}
		if got := brief(send(t, newTransport(t), attempt("smtp://"+f.listen(t), "a@x.test"))); got != "250" || !f.messages()[0].tls {
			t.Fatalf("%s, %+v", got, f.messages())
		}
		if slices.ContainsFunc(f.heard(), func(c string) bool { return strings.Contains(c, "localhost") }) {
			t.Errorf("greeted as localhost: %q", f.heard())
		}
	})
	t.Run("broken at the peer", func(t *testing.T) {
		f := &fake{tls: config, script: script{"STARTTLS": "454 4.7.0 not now"}}
		if got := brief(send(t, newTransport(t), attempt("smtp://"+f.listen(t), "a@x.test"))); got != "250" || f.messages()[0].tls {
			t.Fatalf("%s, %+v", got, f.messages())
		}
	})
	for name, c := range map[string]struct {
		roots *x509.CertPool
		want  string
	}{"implicit": {roots, "250"}, "implicit, unknown issuer": {x509.NewCertPool(), "451d"}} {
		t.Run(name, func(t *testing.T) {
			f := &fake{lmtp: true}
			l, err := tls.Listen("tcp", "127.0.0.1:0", config)
			if err != nil {
				t.Fatal(err)
			}
			f.serve(t, l)
			tr := newTransport(t)
			tr.TLS = &tls.Config{RootCAs: c.roots}
			if got := brief(send(t, tr, attempt("lmtps://"+l.Addr().String(), "a@x.test"))); got != c.want {
				t.Fatal(got)
			}
		})
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lmtp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{lmtp: true}
	f.serve(t, l)
	got := send(t, newTransport(t), attempt("lmtp://"+path, "a@x.test"))
	if brief(got) != "250" || got[0].Remote != path {
		t.Fatalf("%+v", got)
	}
}

func TestTargets(t *testing.T) {
	for addr, want := range map[string]target{
		"lmtp://mx.example:2400":  {network: "tcp", addr: "mx.example:2400", host: "mx.example", lmtp: true},
		"lmtp://mx.example":       {network: "tcp", addr: "mx.example:24", host: "mx.example", lmtp: true},
		"smtp://[2001:db8::1]":    {network: "tcp", addr: "[2001:db8::1]:25", host: "2001:db8::1"},
		"smtps://mx.example/":     {network: "tcp", addr: "mx.example:465", host: "mx.example"},
		"lmtp:///run/lmtp.sock":   {network: "unix", addr: "/run/lmtp.sock", host: "/run/lmtp.sock", lmtp: true},
		"lmtps://mx.example:2401": {network: "tcp", addr: "mx.example:2401", host: "mx.example", lmtp: true},
	} {
		want.hop.Address = addr
		if got, err := parseTarget(addr); err != nil || got != want {
			t.Errorf("%s: %+v, %v", addr, got, err)
		}
	}
	for _, addr := range []string{"", "lmtp:", "lmtp://", "smtp:///path", "http://x", "lmtp://u@x", "lmtp://x/path", "smtp://x?y", "maildir:/x", "smtp://x:port"} {
		if err := Check(addr); err == nil {
			t.Errorf("%q passes", addr)
		}
	}
}

// pipeTransport connects to the fake within the bubble of virtual time.
func pipeTransport(f *fake) *Transport {
	return &Transport{Host: "m1.example.test", Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() { f.session(theirs); theirs.Close() }()
		return pipe{ours}, nil
	}}
}

type pipe struct{ net.Conn }

func (pipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 24} }

func TestTimeouts(t *testing.T) {
	for name, c := range map[string]struct {
		script script
		want   string
		within time.Duration
	}{
		"mute greeting": {script{"connect": "mute"}, "451d", DefaultTimes.Greeting},
		"mute at MAIL":  {script{"MAIL": "mute"}, "451d", DefaultTimes.Greeting},
		"mute at DATA":  {script{"DATA": "mute"}, "451d", DefaultTimes.Data},
		"mute at dot":   {script{"DOT": "mute"}, "451u", DefaultTimes.Answer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := pipeTransport(&fake{script: c.script})
				begin := time.Now()
				got := tr.Deliver(context.Background(), attempt("smtp://mx.example:24", "a@x.test"))
				if took := time.Since(begin); brief(got) != c.want || took != c.within {
					t.Fatalf("%s after %v, want %s after %v", brief(got), took, c.want, c.within)
				}
				tr.Close()
			})
		})
	}
}

// A peer that stops reading in the middle of the body does not hold the delivery for ever.
func TestPeerStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var theirs net.Conn
		tr := &Transport{Host: "m", Dial: func(context.Context, string, string) (net.Conn, error) {
			var ours net.Conn
			ours, theirs = net.Pipe()
			go func() {
				b := make([]byte, 4096)
				for _, answer := range []string{"220 hi", "250 hi", "250 ok", "250 ok", "354 go"} {
					fmt.Fprintf(theirs, "%s\r\n", answer)
					if answer != "354 go" {
						theirs.Read(b)
					}
				}
			}()
			return pipe{ours}, nil
		}}
		a := attempt("smtp://mx.example", "a@x.test")
		a.Open = func() (io.ReadSeekCloser, error) {
			return stored{bytes.NewReader(bytes.Repeat([]byte("x\r\n"), 1<<20))}, nil
		}
		begin := time.Now()
		got := tr.Deliver(context.Background(), a)
		if took := time.Since(begin); brief(got) != "451" || took != DefaultTimes.Block {
			t.Fatalf("%s after %v", brief(got), took)
		}
		tr.Close()
		theirs.Close()
	})
}

func TestIdleConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		tr := pipeTransport(f)
		if got := brief(tr.Deliver(context.Background(), attempt("smtp://mx.example", "a@x.test"))); got != "250" {
			t.Fatal(got)
		}
		time.Sleep(DefaultTimes.Idle + time.Second)
		synctest.Wait()
		if !slices.Contains(f.heard(), "QUIT") || len(tr.idle) != 0 {
			t.Fatalf("commands %q, idle %v", f.heard(), tr.idle)
		}
		tr.Close()
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := pipeTransport(&fake{script: script{"MAIL": "mute"}})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		if got := brief(tr.Deliver(ctx, attempt("smtp://mx.example", "a@x.test"))); got != "451d" || time.Since(begin) != time.Second {
			t.Fatalf("%s after %v", got, time.Since(begin))
		}
		tr.Close()
	})
}

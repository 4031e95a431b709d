package smtpd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailraft/mail/reply"
	"mailraft/smtpd/milter"
)

// The steps of a dialogue that are about milters:
//
//	F: name option=value…   before all others: the listener has this milter; options are
//	             steps (of the protocol, a number), away (its policy), size, timeout
//	X: name stage "text" what…   when it is told of that stage, with text in it, it does that
//	N: name stages "…" "…"   what it was shown of some stages, or of all, since it was asked last
//	K: name      it dies
//	W: "…" "…"   of the message that was in the queue last: what filters did, and why it is set aside
type milterSteps struct {
	fakes map[string]*fakeMilter
	list  []*milter.Filter
	last  message
}

// milters makes those that a dialogue begins with.
func (s *script) milters(text string) []*milter.Filter {
	s.fakes = map[string]*fakeMilter{}
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "F:" {
			continue
		}
		var steps uint64
		cfg := milter.Config{Name: f[1]}
		for _, o := range f[2:] {
			key, value, _ := strings.Cut(o, "=")
			var err error
			switch key {
			case "steps":
				steps, err = strconv.ParseUint(value, 0, 32)
			case "away":
				err = cfg.WhenAway.UnmarshalText([]byte(value))
			case "size":
				cfg.SizeMax, err = strconv.ParseInt(value, 10, 64)
			case "timeout":
				cfg.Command, err = time.ParseDuration(value)
				cfg.Content = cfg.Command
			default:
				err = errors.New("no such option")
			}
			if err != nil {
				s.t.Fatalf("%s: %v", line, err)
			}
		}
		fake := newFakeMilter(s.t, uint32(steps))
		cfg.Address = "inet:" + fake.l.Addr().String()
		filter, err := milter.New(cfg)
		if err != nil {
			s.t.Fatal(err)
		}
		s.fakes[f[1]] = fake
		s.list = append(s.list, filter)
	}
	return s.list
}

// milterStep does a step that is about milters; false: it is about others.
func (s *script) milterStep(op, arg string) (bool, error) {
	name, rest, _ := strings.Cut(arg, " ")
	fake := s.fakes[name]
	if strings.Contains("X: N: K:", op) && fake == nil {
		return false, nil
	}
	switch op {
	case "X:":
		stage, rest, _ := strings.Cut(rest, " ")
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return true, err
		}
		what, _ := strconv.Unquote(quoted)
		fake.mu.Lock()
		fake.rules = append(fake.rules, rule{stage, what, strings.TrimPrefix(rest[len(quoted):], " ")})
		fake.mu.Unlock()
	case "N:":
		which, want, any := strings.Cut(rest, ` "`)
		if any {
			want = `"` + want
		}
		return true, fake.waitSeen(which, want)
	case "K:":
		fake.stop()
	case "W:":
		got := strings.Join(append(quotedAll(s.last.Filtered), strconv.Quote(s.last.Quarantine)), " ")
		if got != arg {
			return true, fmt.Errorf("got %s", got)
		}
	default:
		return false, nil
	}
	return true, nil
}

func quotedAll(list []string) (out []string) {
	for _, s := range list {
		out = append(out, strconv.Quote(s))
	}
	return out
}

// delivered is a message with what milters changed laid over it.
func (m *message) delivered() (string, error) {
	b, err := io.ReadAll(m.Overlay.Over(bytes.NewReader([]byte(m.body))))
	if want := m.Overlay.Size(int64(len(m.body))); err == nil && int64(len(b)) != want {
		err = fmt.Errorf("%d bytes, and %d were announced", len(b), want)
	}
	return string(b), err
}

// What vanishes is counted, and named as the filter knows it.
func TestDiscard(t *testing.T) {
	fake := newFakeMilter(t, 0)
	fake.rules = []rule{{"end", "", "discard"}}
	f, err := milter.New(milter.Config{Name: "a", Address: "inet:" + fake.l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	q := &queue{}
	cfg := testConfig(q)
	cfg.Rand = strings.NewReader("12345678")
	s, addrs := serve(t, cfg, Listener{Milters: []*milter.Filter{f}})
	p := dial(t, addrs[0])
	p.send(hello)
	p.want("250")
	p.send(envelope + "DATA\r\n")
	p.want("250", "250", "354")
	p.send("Subject: x\r\n\r\nbody\r\n.\r\n")
	if got, want := p.reply(), reply.Discarded.Reply("3132333435363738.1").String(); strings.TrimSpace(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if c := s.Counts(); c.Discarded != 1 || c.Received != 0 || q.aborted != 1 || f.State().Verdicts["discard"] != 1 {
		t.Errorf("counted %+v, %d aborted, %v", c, q.aborted, f.State().Verdicts)
	}
}

// The macros that filters go by.
func TestMacros(t *testing.T) {
	fake := newFakeMilter(t, 0)
	f, err := milter.New(milter.Config{Name: "a", Address: "inet:" + fake.l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	q := &queue{}
	cfg := testConfig(q)
	cfg.Rand = strings.NewReader("12345678")
	_, addrs := serve(t, cfg, Listener{Role: Submission, TLS: TLSImplicit, Certificate: serverTLS, Auth: AuthRequired, Milters: []*milter.Filter{f}})
	p := dialRaw(t, addrs[0]).secure()
	p.send(hello + "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("anna\x00anna\x00secret")) + "\r\n")
	p.want("220", "250", "235")
	p.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n")
	p.want("250", "250", "354")
	p.send("Subject: x\r\n\r\n.\r\n")
	p.want("250")
	seen := fake.seen("macro")
	local, remote := p.RemoteAddr().(*net.TCPAddr).Port, p.LocalAddr().(*net.TCPAddr).Port
	for _, want := range []string{
		fmt.Sprintf(`"macro Cj mx.example.org {daemon_name} mx.example.org {daemon_port} %d v mailraft _ unknown [127.0.0.1] {client_addr} 127.0.0.1 {client_port} %d {client_name} unknown {client_ptr} unknown"`, local, remote),
		`"macro H{tls_version} TLSv1.3 {cipher} TLS_`,
		`"macro Mi 3132333435363738.1 {mail_addr} a@b.example {mail_host} b.example {mail_mailer} smtp {auth_type} PLAIN {auth_authen} anna"`,
		`"macro Ri 3132333435363738.1 {rcpt_addr} c@example.org {rcpt_host} example.org {rcpt_mailer} smtp"`,
		`"macro Ti 3132333435363738.1"`, `"macro Ni 3132333435363738.1"`, `"macro Ei 3132333435363738.1"`,
	} {
		if !strings.Contains(seen, want) {
			t.Errorf("%s is not in\n%s", want, seen)
		}
	}
}

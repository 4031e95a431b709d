package smtpd

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailraft/mail"
	"mailraft/smtpd/limit"
	"mailraft/smtpd/wire"
)

// TestScripts runs the dialogues of testdata/smtp. A line is
//
//	# comment
//	C: text      the client sends text and CRLF
//	R: text      the client sends text raw, with Go's escapes
//	Z: n         the client sends n bytes
//	H: n         the client sends n Received fields
//	S: text      the next reply line begins with text; "closed": the connection ends
//	S* code      the next reply, of any number of lines, has the code
//	TLS          handshake
//	NEW          another connection, beside those that there are
//	L: role tls [auth] [check]   before all others: the listener; without it mx may
//	A: text      the client sends text in base64, \0 being NUL, and CRLF
//	V: name value   before all others: a setting of the server
//	Q: what code enhanced text   from here the queue's begin, write, commit, the
//	             directory's verify, the gate's ready, the users answer so; nothing: no error
//	M: sender -> recipients "body"   the next message in the queue; "none": there is none.
//	             as it is delivered, below our Received field.
//	             What DSN parameters asked for stands before the body, as {ENVID RET; NOTIFY ORCPT; …}
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../testdata/smtp/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			runScript(t, string(text))
		})
	}
}

func runScript(t *testing.T, text string) {
	q := &queue{}
	s := &script{t: t, q: q, cfg: testConfig(q), text: text}
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "L: ") || strings.HasPrefix(line, "F: ") {
			continue
		}
		if err := s.step(line); err != nil {
			t.Fatalf("line %d: %s: %v", i+1, line, err)
		}
	}
}

type script struct {
	t       *testing.T
	q       *queue
	cfg     Config
	text    string
	addr    string // once it is started
	lost    bool   // the certificate cannot be read
	proxies []netip.Prefix
	p       *peer
	got     []message
	milterSteps
}

// listener is what an L: line says.
func (s *script) listener(text string) Listener {
	d := Listener{TLS: TLSMay, Certificate: serverTLS, ProxyFrom: s.proxies}
	if s.lost {
		d.Certificate = func() *tls.Config { return nil }
	}
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "L:" {
			continue
		}
		if err := errors.Join(d.Role.UnmarshalText([]byte(f[1])), d.TLS.UnmarshalText([]byte(f[2]))); err != nil {
			s.t.Fatal(err)
		}
		if len(f) > 3 {
			if err := d.Auth.UnmarshalText([]byte(f[3])); err != nil {
				s.t.Fatal(err)
			}
		}
		d.SenderCheck = len(f) > 4
	}
	return d
}

func (s *script) step(line string) error {
	op, arg, _ := strings.Cut(line, " ")
	switch op {
	case "Q:":
		return s.set(arg)
	case "V:":
		return s.setting(arg)
	}
	if s.addr == "" {
		d := s.listener(s.text)
		d.Milters = s.milters(s.text)
		_, addrs := serve(s.t, s.cfg, d)
		s.addr = addrs[0]
	}
	if done, err := s.milterStep(op, arg); done {
		return err
	}
	if s.p == nil {
		s.p = dialRaw(s.t, s.addr)
	}
	switch op {
	case "C:":
		s.p.send(arg + "\r\n")
	case "A:":
		command, secret, cut := strings.Cut(arg, ": ")
		if !cut {
			command, secret = "", arg
		}
		secret = base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(secret, `\0`, "\x00")))
		s.p.send(strings.TrimLeft(command+" "+secret, " ") + "\r\n")
	case "R:":
		raw, err := strconv.Unquote(`"` + strings.ReplaceAll(arg, `"`, `\"`) + `"`)
		s.p.send(raw)
		return err
	case "Z:":
		n, err := strconv.Atoi(arg)
		s.p.send(strings.Repeat("z", n))
		return err
	case "H:":
		n, err := strconv.Atoi(arg)
		s.p.send(strings.Repeat("Received: from a\r\n\tby b; date\r\n", n))
		return err
	case "S:":
		return s.expectLine(arg)
	case "S*":
		if r := s.p.reply(); !strings.HasPrefix(r, arg) {
			return fmt.Errorf("got %q", r)
		}
	case "NEW":
		s.p = dialRaw(s.t, s.addr)
	case "TLS":
		s.p = s.p.secure()
	case "M:":
		return s.expectMessage(arg)
	default:
		return errors.New("no such step")
	}
	return nil
}

func (s *script) expectLine(want string) error {
	line, err := s.p.r.ReadString('\n')
	if want == "closed" && err != nil {
		return nil
	}
	s.p.known(line)
	if want == "closed" || err != nil || !strings.HasPrefix(line, want) {
		return fmt.Errorf("got %q %v", line, err)
	}
	return nil
}

func (s *script) expectMessage(want string) error {
	s.got = append(s.got, s.q.take()...)
	if want == "none" {
		if len(s.got) > 0 {
			return fmt.Errorf("got %+v", s.got)
		}
		return nil
	}
	if len(s.got) == 0 {
		return errors.New("got none")
	}
	m := s.got[0]
	s.got, s.last = s.got[1:], m
	text, err := m.delivered()
	if err != nil {
		return err
	}
	got := strings.TrimSpace(m.Envelope.ReversePath+" -> "+strings.Join(m.Envelope.Recipients, " ")) + parameters(m.Envelope) + " " + strconv.Quote(text)
	body := want[strings.LastIndex(want, ` "`)+1:]
	unquoted, err := strconv.Unquote(body)
	if err != nil {
		return err
	}
	if want = strings.TrimSuffix(want, body) + strconv.Quote(unquoted); got != want {
		return fmt.Errorf("got %s", got)
	}
	return nil
}

// parameters is what the sender asked for, if anything (RFC 3461).
func parameters(env mail.Envelope) string {
	if env.EnvelopeID == "" && env.Return == 0 && len(env.Asked) == 0 {
		return ""
	}
	out := " {" + strings.TrimSpace(env.EnvelopeID+" "+env.Return.String())
	for _, a := range env.Asked {
		out += strings.TrimRight("; "+strings.TrimSpace(a.Notify.String()+" "+a.Original), " ")
	}
	return out + "}"
}

// setting is what a V: line says.
func (s *script) setting(arg string) (err error) {
	l := &s.cfg.Limits
	name, value, _ := strings.Cut(arg, " ")
	number := func(n *int) { *n, err = strconv.Atoi(value) }
	switch name {
	case "recipients-max":
		number(&l.Recipients)
	case "sessions-max":
		number(&l.Sessions)
	case "sessions-per-client":
		number(&l.SessionsPerClient)
	case "messages-per-session":
		number(&l.Messages)
	case "commands-max":
		number(&l.Commands)
	case "errors-max":
		number(&l.Errors)
	case "hops-max":
		number(&l.Hops)
	case "own":
		s.cfg.Own = func(host string) bool { return host == value }
	case "connection-rate":
		l.ConnectionRate, err = limit.ParseRate(value)
	case "message-rate":
		l.MessageRate, err = limit.ParseRate(value)
	case "recipient-rate":
		l.RecipientRate, err = limit.ParseRate(value)
	case "greet-delay":
		l.GreetDelay, err = time.ParseDuration(value)
	case "early-talkers":
		l.EarlyTalkers = true
	case "exempt":
		l.Exempt = []netip.Prefix{netip.MustParsePrefix(value)}
	case "proxy-from":
		s.proxies = []netip.Prefix{netip.MustParsePrefix(value)}
	case "bare-refused":
		s.cfg.Bare = wire.Reject
	case "certificate-lost":
		s.lost = true
	default:
		err = errors.New("no such setting")
	}
	return err
}

// set makes a part of the queue answer with an error.
func (s *script) set(arg string) error {
	what, text, _ := strings.Cut(arg, " ")
	var err error
	switch f := strings.SplitN(text, " ", 3); {
	case len(f) == 3:
		code, bad := strconv.Atoi(f[0])
		if bad != nil {
			return bad
		}
		err = fmt.Errorf("wrapped: %w", mail.Replyf(code, f[1], "%s", f[2]))
	case text != "":
		err = errors.New(text)
	}
	s.q.locked(func() {
		target, ok := map[string]*error{"begin": &s.q.beginErr, "write": &s.q.writeErr, "commit": &s.q.commitErr,
			"verify": &s.q.verifyErr, "ready": &s.q.readyErr, "users": &s.q.usersErr}[what]
		if !ok {
			s.t.Fatalf("no such part %q", what)
		}
		*target = err
	})
	return nil
}

package remote

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/deliver"
	"mailraft/directory"
)

// with sets what holds at every address.
func with(t *testing.T, h directory.NextHop) *Transport {
	tr := newTransport(t)
	tr.Hop = func(addr string) directory.NextHop {
		h.Address = addr
		if err := h.Validate(); err != nil {
			t.Error(err)
		}
		return h
	}
	return tr
}

func TestPolicies(t *testing.T) {
	config := serverTLS(t)
	own := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: config.Certificates[0].Certificate[0]}))
	other := serverTLS(t)
	foreign := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificates[0].Certificate[0]}))
	refuses := script{"STARTTLS": "454 4.7.0 not now"}
	for _, c := range []struct {
		name   string
		hop    directory.NextHop
		offer  *tls.Config
		script script
		want   string
		tls    bool
	}{
		{"off", directory.NextHop{TLS: directory.TLSOff}, config, nil, "250", false},
		{"may", directory.NextHop{TLS: directory.TLSMay}, config, nil, "250", true},
		{"may, not offered", directory.NextHop{TLS: directory.TLSMay}, nil, nil, "250", false},
		{"may, refused", directory.NextHop{TLS: directory.TLSMay}, config, refuses, "250", false},
		{"required", directory.NextHop{TLS: directory.TLSRequired}, config, nil, "250", true},
		{"required, not offered", directory.NextHop{TLS: directory.TLSRequired}, nil, nil, "451d", false},
		{"required, refused", directory.NextHop{TLS: directory.TLSRequired}, config, refuses, "451d", false},
		{"verified", directory.NextHop{TLS: directory.TLSVerified}, config, nil, "451d", false},
		{"verified by its CA", directory.NextHop{TLS: directory.TLSVerified, CA: own}, config, nil, "250", true},
		{"verified by another CA", directory.NextHop{TLS: directory.TLSVerified, CA: foreign}, config, nil, "451d", false},
		{"verified for another name", directory.NextHop{CA: own, TLSName: "mail.example"}, config, nil, "451d", false},
		{"verified, CA that cannot be read", directory.NextHop{CA: "-----BEGIN CERTIFICATE-----"}, config, nil, "451d", false},
	} {
		for _, scheme := range []string{"smtp", "lmtp"} {
			t.Run(scheme+"/"+c.name, func(t *testing.T) {
				f := &fake{tls: c.offer, script: c.script, lmtp: scheme == "lmtp"}
				got := send(t, with(t, c.hop), attempt(scheme+"://"+f.listen(t), "a@x.test"))
				if brief(got) != c.want {
					t.Fatalf("%+v", got)
				}
				if m := f.messages(); len(m) > 0 && (m[0].tls != c.tls || c.want != "250") || len(m) == 0 && c.want == "250" {
					t.Fatalf("%+v", m)
				}
			})
		}
	}
}

// A connection of before a change of the settings is not used after it.
func TestPolicyChanges(t *testing.T) {
	f := &fake{tls: serverTLS(t)}
	h := directory.NextHop{TLS: directory.TLSOff}
	tr := newTransport(t)
	tr.Hop = func(addr string) directory.NextHop { h.Address = addr; return h }
	a := attempt("smtp://"+f.listen(t), "a@x.test")
	send(t, tr, a)
	h.TLS = directory.TLSRequired
	send(t, tr, a)
	if m := f.messages(); len(m) != 2 || m[0].tls || !m[1].tls {
		t.Fatalf("%+v", m)
	}
}

func TestLogin(t *testing.T) {
	config := serverTLS(t)
	plain := base64.StdEncoding.EncodeToString([]byte("\x00isp-user\x00s3cret"))
	user, password := base64.StdEncoding.EncodeToString([]byte("isp-user")), base64.StdEncoding.EncodeToString([]byte("s3cret"))
	for _, c := range []struct {
		name, list string
		offer      *tls.Config
		script     script
		credential error
		want       string
		login      string
	}{
		{"plain", "AUTH LOGIN PLAIN", config, nil, nil, "250", "PLAIN " + plain},
		{"login", "AUTH LOGIN", config, nil, nil, "250", "LOGIN " + user + " " + password},
		{"no mechanism", "AUTH GSSAPI", config, nil, nil, "451d", ""},
		{"no TLS", "AUTH PLAIN", nil, nil, nil, "451d", ""},
		{"refused", "AUTH PLAIN", config, script{"AUTH": "535 5.7.8 no"}, nil, "451d", "PLAIN " + plain},
		{"no password here", "AUTH PLAIN", config, nil, errors.New("no such file"), "451d", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{tls: c.offer, list: c.list, script: c.script}
			tr := with(t, directory.NextHop{Credential: "isp", TLS: directory.TLSRequired})
			tr.Credential = func(name string) (Credential, error) {
				if name != "isp" {
					t.Errorf("asked for %q", name)
				}
				return Credential{"isp-user", "s3cret"}, c.credential
			}
			got := send(t, tr, attempt("smtp://"+f.listen(t), "a@x.test"))
			if brief(got) != c.want || strings.Join(f.logins, ",") != c.login {
				t.Fatalf("%+v, %q", got, f.logins)
			}
			if text := fmt.Sprintf("%+v %#v", got, Credential{"isp-user", "s3cret"}); strings.Contains(text, "s3cret") || strings.Contains(text, plain) {
				t.Errorf("the password is shown: %s", text)
			}
		})
	}
}

// What a server says when it is not logged in to is the operator's to mend.
func TestWantsLogin(t *testing.T) {
	for _, at := range []string{"MAIL", "RCPT a@x.test", "DATA"} {
		f := &fake{script: script{at: "530 5.7.0 authentication required"}}
		if got := send(t, newTransport(t), attempt("smtp://"+f.listen(t), "a@x.test")); brief(got) != "451d" {
			t.Errorf("%s: %+v", at, got)
		}
	}
}

// A server that ends the list of recipients gets the rest at once (RFC 5321
// §4.5.3.1.10), each of them once.
func TestTooManyRecipients(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		f := &fake{most: 3, lmtp: lmtp, script: script{"RCPT c@x.test": "550 5.1.1 unknown"}}
		scheme := map[bool]string{false: "smtp://", true: "lmtp://"}[lmtp]
		to := []string{"a@x.test", "b@x.test", "c@x.test", "d@x.test", "e@x.test", "a@x.test", "f@x.test", "g@x.test", "h@x.test"}
		got := send(t, newTransport(t), attempt(scheme+f.listen(t), to...))
		if brief(got) != "250 250 550 250 250 250 250 250 250" {
			t.Fatalf("%s", brief(got))
		}
		var lists []string
		for _, m := range f.messages() {
			lists = append(lists, strings.Join(m.to, " "))
		}
		if want := []string{"a@x.test b@x.test d@x.test", "e@x.test f@x.test g@x.test", "h@x.test"}; !slices.Equal(lists, want) || f.connections() != 1 {
			t.Fatalf("%q on %d connections", lists, f.connections())
		}
	}
}

// Where the server takes no further transaction, nothing is said of the rest.
func TestTooManyRecipientsAndOff(t *testing.T) {
	f := &fake{most: 1}
	var finals int
	a := attempt("smtp://"+f.listen(t), "a@x.test", "b@x.test")
	a.Final = func() error {
		if finals++; finals == 2 {
			return errLease
		}
		return nil
	}
	if got := send(t, newTransport(t), a); brief(got) != "250 0" {
		t.Fatal(brief(got))
	}
}

// large is content that does not fit into any buffer.
type large struct{ left int }

func (l *large) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, io.EOF
	}
	n := min(len(b), l.left)
	for i := range b[:n] {
		b[i] = 'x'
		if i%60 == 59 {
			b[i-1], b[i] = '\r', '\n'
		}
	}
	l.left -= n
	return n, nil
}
func (l *large) Seek(int64, int) (int64, error) { return 0, nil }
func (l *large) Close() error                   { return nil }

// A reply before the end of the body is believed, and nothing more is sent.
func TestEarlyReply(t *testing.T) {
	for said, want := range map[string]string{
		"552 5.3.4 too large":                   "552 5.3.4 too large",
		"451 4.3.0 our disk is gone":            "451 4.3.0 our disk is gone",
		"421 4.3.2 going down":                  "421d 4.3.2 going down",
		"550-5.7.1 this looks\r\n550 5.7.1 bad": "550 5.7.1 this looks\n5.7.1 bad",
		"250 2.0.0 taken":                       "451 4.4.2",
		"cut":                                   "451 4.4.2",
	} {
		for _, lmtp := range []bool{false, true} {
			f := &fake{lmtp: lmtp, script: script{"BODY": said}}
			a := attempt(map[bool]string{false: "smtp://", true: "lmtp://"}[lmtp]+f.listenDeaf(t), "a@x.test", "b@x.test")
			a.Open = func() (io.ReadSeekCloser, error) { return &large{left: 64 << 20}, nil }
			a.Final = func() error { t.Error("asked for the final step"); return nil }
			got := send(t, newTransport(t), a)
			for _, g := range got {
				text := strings.Replace(g.Reply.String(), " ", map[bool]string{true: "d ", false: " "}[g.Down], 1)
				if !strings.HasPrefix(text, want) || g.Uncertain {
					t.Errorf("%q: %+v, want %s", said, g, want)
				}
			}
			if len(f.messages()) != 0 {
				t.Error("a whole message came")
			}
		}
	}
}

// listenDeaf serves connections that end with the test, however long they sleep.
func (f *fake) listenDeaf(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { f.session(c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

// A peer that never ends its reply is cut off, and costs no memory.
func TestEndlessReply(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for err == nil {
			_, err = io.WriteString(c, "220-"+strings.Repeat("talk ", 80)+"\r\n")
		}
	}()
	if got := send(t, newTransport(t), attempt("smtp://"+l.Addr().String(), "a@x.test")); brief(got) != "451d" || !strings.Contains(got[0].Reply.Text, errReplySize.Error()) {
		t.Fatalf("%+v", got)
	}
}

func TestTimesAreSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for at, want := range map[string]time.Duration{"connect": time.Second, "MAIL": 2 * time.Second, "RCPT a@x.test": 3 * time.Second, "DATA": 4 * time.Second, "DOT": 5 * time.Second} {
			tr := pipeTransport(&fake{script: script{at: "mute"}})
			tr.Times = Times{Greeting: time.Second, Mail: 2 * time.Second, Rcpt: 3 * time.Second, Data: 4 * time.Second, Answer: 5 * time.Second}
			begin := time.Now()
			tr.Deliver(t.Context(), attempt("smtp://mx.example", "a@x.test"))
			if took := time.Since(begin); took != want {
				t.Errorf("%s: %s, want %s", at, took, want)
			}
			tr.Close()
			synctest.Wait()
		}
	})
}

// Too many connections: the server is there, and has enough.
func TestBusy(t *testing.T) {
	f := &fake{script: script{"connect": "421 4.7.0 too many connections"}}
	got := send(t, newTransport(t), attempt("smtp://"+f.listen(t), "a@x.test"))
	if len(got) != 1 || !got[0].Down || !got[0].Busy {
		t.Fatalf("%+v", got)
	}
	gone := &fake{script: script{"connect": "cut"}}
	if got := send(t, newTransport(t), attempt("smtp://"+gone.listen(t), "a@x.test")); !got[0].Down || got[0].Busy {
		t.Fatalf("%+v", got)
	}
}

var _ deliver.Transport = (*Transport)(nil)

package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// mailCommands are those that a probe has no business with.
func mailCommands(f *fake) []string {
	return slices.DeleteFunc(f.heard(), func(c string) bool {
		verb, _, _ := strings.Cut(c, " ")
		return slices.Contains([]string{"LHLO", "EHLO", "HELO", "QUIT"}, verb)
	})
}

func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		script script
		ok     bool
	}{
		"answers":            {script{}, true},
		"no greeting":        {script{"connect": "cut"}, false},
		"busy greeting":      {script{"connect": "421 4.3.2 later"}, false},
		"hostile greeting":   {script{"connect": "554 5.3.2 no service"}, false},
		"cut at hello":       {script{"LHLO": "cut", "EHLO": "cut"}, false},
		"hello refused":      {script{"LHLO": "421 4.3.2 later", "EHLO": "421 4.3.2 later"}, false},
		"hangs up at QUIT":   {script{"QUIT": "cut"}, true},
		"takes no mail now":  {script{"MAIL": "451 4.3.0 later"}, true}, // its mail is deferred, not the copy dead
		"STARTTLS is broken": {script{"STARTTLS": "454 4.7.0 not now"}, true},
	} {
		for _, scheme := range []string{"lmtp", "smtp"} {
			f := &fake{script: c.script, lmtp: scheme == "lmtp", tls: serverTLS(t)}
			addr := scheme + "://" + f.listen(t)
			err := newTransport(t).Probe(t.Context(), addr)
			if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), addr) {
				t.Errorf("%s, %s: %v", name, scheme, err)
			}
			if got := mailCommands(f); len(got) > 0 || len(f.messages()) > 0 {
				t.Errorf("%s, %s: a probe said %q", name, scheme, got)
			}
			if c.ok && !slices.Contains(f.heard(), "QUIT") {
				t.Errorf("%s, %s: parted without QUIT: %q", name, scheme, f.heard())
			}
		}
	}
}

func TestProbeTLS(t *testing.T) {
	config := serverTLS(t)
	roots := x509.NewCertPool()
	roots.AddCert(config.Certificates[0].Leaf)
	f := &fake{lmtp: true}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, l)
	tr := newTransport(t)
	if err := tr.Probe(t.Context(), "lmtps://"+l.Addr().String()); err == nil {
		t.Error("a certificate of nobody we know passes")
	}
	tr.TLS = &tls.Config{RootCAs: roots}
	if err := tr.Probe(t.Context(), "lmtps://"+l.Addr().String()); err != nil {
		t.Error(err)
	}
}

func TestProbeOfNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, addr := range []string{"lmtp://" + addr, "lmtp:///nowhere/lmtp.sock", "smtp://"} {
		if err := newTransport(t).Probe(t.Context(), addr); err == nil {
			t.Errorf("%s answers", addr)
		}
	}
}

// A probe ends with its context, wherever the peer falls silent; who is silent
// at QUIT has answered.
func TestProbeOfTheMute(t *testing.T) {
	for at, ok := range map[string]bool{"connect": false, "EHLO": false, "QUIT": true} {
		synctest.Test(t, func(t *testing.T) {
			tr := pipeTransport(&fake{script: script{at: "mute"}})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			begin := time.Now()
			err := tr.Probe(ctx, "smtp://mx.example:25")
			if took := time.Since(begin); (err == nil) != ok || took > 3*time.Second {
				t.Errorf("mute at %s: %v after %v", at, err, took)
			}
			tr.Close()
		})
	}
}

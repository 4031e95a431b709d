package users

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

const dovecotHello = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t7\nCUID\t8\nCOOKIE\tdeadbeef\nDONE\n"

// dovecot serves a socket whose answer to AUTH is answer, and returns what it
// was asked last.
func dovecot(t *testing.T, hello, answer string) (Dovecot, chan string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, hello) // who hangs up early has seen enough
			in := bufio.NewScanner(c)
			for in.Scan() {
				if strings.HasPrefix(in.Text(), "AUTH\t") {
					asked <- in.Text()
					_, _ = io.WriteString(c, answer)
					break
				}
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return Dovecot{Socket: path}, asked
}

func TestDovecot(t *testing.T) {
	login := Login{Name: "anna", Password: "s3 cret", Client: netip.MustParseAddr("192.0.2.1")}
	for _, c := range []struct{ name, hello, answer, want string }{
		{"right", dovecotHello, "OK\t1\tuser=anna@example.test\tx=y\n", "anna@example.test"},
		{"escaped", dovecotHello, "OK\t1\tuser=an\x01\x01na\n", "!it names no user"},
		{"wrong", dovecotHello, "FAIL\t1\tuser=anna\tauthz\n", "!wrong name or password"},
		{"away", dovecotHello, "FAIL\t1\tuser=anna\ttemp\n", "!cannot tell at the moment"},
		{"away, newer", dovecotHello, "FAIL\t1\tuser=anna\tcode=temp_fail\n", "!cannot tell at the moment"},
		{"of another", dovecotHello, "OK\t2\tuser=anna\n", "!unexpected answer"},
		{"to be continued", dovecotHello, "CONT\t1\t\n", "!unexpected answer"},
		{"nobody", dovecotHello, "OK\t1\n", "!it names no user"},
		{"hangs up", dovecotHello, "", "!unexpected EOF"},
		{"endless line", dovecotHello, strings.Repeat("x", dovecotLineMax+1), "!token too long"},
		{"another version", "VERSION\t2\t0\nDONE\n", "", "!another version"},
		{"no PLAIN", "VERSION\t1\t2\nMECH\tCRAM-MD5\nDONE\n", "", "!does not offer PLAIN"},
		{"no end", "VERSION\t1\t2\n" + strings.Repeat("MECH\tPLAIN\n", dovecotLinesMax), "", "!does not come to an end"},
		{"nothing", "", "", "!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, asked := dovecot(t, c.hello, c.answer)
			if c.name == "nothing" {
				d.Socket += "-not-there"
			}
			u, err := d.Authenticate(context.Background(), login)
			got := u.Name
			if err != nil {
				got = "!" + err.Error()
			}
			wrong, is := strings.CutPrefix(c.want, "!")
			if is != (err != nil) || !strings.Contains(got, wrong) || strings.Contains(got, "s3 cret") || errors.Is(err, ErrDenied) != (c.name == "wrong") {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.name == "right" {
				want := "AUTH\t1\tPLAIN\tservice=smtp\tnologin\tsecured\trip=192.0.2.1\tresp=" + base64.StdEncoding.EncodeToString([]byte("\x00anna\x00s3 cret"))
				if got := <-asked; got != want {
					t.Errorf("asked %q", got)
				}
			}
		})
	}
	for _, l := range []Login{{Name: "a\tb", Password: "x"}, {Name: "a", Password: "x\x00y"}, {Name: "", Password: "x"}} {
		if _, err := (Dovecot{Socket: "/nowhere"}).Authenticate(context.Background(), l); !errors.Is(err, ErrDenied) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// Who does not answer is given up.
func TestDovecotHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, its := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, its) }()
		ctx, cancel := context.WithTimeout(context.Background(), dovecotTime)
		defer cancel()
		stop := context.AfterFunc(ctx, func() { ours.Close() })
		defer stop()
		if _, err := dovecotLogin(ours, Login{Name: "a", Password: "b"}); err == nil || errors.Is(err, ErrDenied) {
			t.Error(err)
		}
		its.Close()
	})
}

func FuzzDovecot(f *testing.F) {
	for _, s := range []string{"OK\t1\tuser=a\n", "FAIL\t1\ttemp\n", "CONT\t1\tAAAA\n", "OK\t1\tuser=\x01t\x010\n"} {
		f.Add(dovecotHello + s)
	}
	f.Fuzz(func(t *testing.T, says string) {
		u, err := dovecotLogin(struct {
			io.Reader
			io.Writer
		}{strings.NewReader(says), io.Discard}, Login{Name: "anna", Password: "x"})
		if (err == nil) != validName(u.Name) {
			t.Errorf("%q: %+v %v", says, u, err)
		}
		if err == nil && !strings.Contains(says, "\nOK\t1\t") && !strings.HasPrefix(says, "OK\t1\t") {
			t.Error(fmt.Errorf("%q is taken for a yes", says))
		}
	})
}

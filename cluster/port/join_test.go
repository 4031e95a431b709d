package port_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/cluster/port/porttest"
)

func TestJoinVerifiesThePinFirst(t *testing.T) {
	a, mallory := porttest.New(t, "mail-a"), porttest.New(t, "mail-a")
	good := a.Open(1)
	echo(t, good, port.Join)
	pin := pki.Pin(a.CA.Cert())
	c, err := port.DialJoin(context.Background(), good.Addr().String(), pin)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := say(c); err != nil || got != " said hello\n" {
		t.Fatalf("%q, %v", got, err)
	}
	if chain := c.(*port.Conn).PeerCertificates(); !bytes.Equal(chain[1].Raw, a.CA.Cert()) {
		t.Fatal("the CA's certificate is not in the chain")
	}

	fake := mallory.Issue(mallory.Member(1), pki.CertLife)
	client := a.Issue(pki.Identity{Boundary: "mail-a", Role: pki.RoleClient, Name: "op"}, pki.CertLife)
	with := func(cert tls.Certificate, more ...[]byte) tls.Certificate {
		cert.Certificate = append([][]byte{cert.Certificate[0]}, more...)
		return cert
	}
	for name, cert := range map[string]tls.Certificate{
		"its own CA":                    with(fake.Cert, fake.CADER),
		"no CA":                         with(fake.Cert),
		"the true CA beside its own":    with(fake.Cert, a.CA.Cert(), fake.CADER),
		"the true CA, not its issuer":   with(fake.Cert, a.CA.Cert()),
		"a client's certificate":        with(client.Cert, client.CADER),
		"a member's without its CA":     with(a.Issue(a.Member(3), pki.CertLife).Cert),
		"an expired one with the CA":    with(a.Issue(a.Member(3), -time.Hour).Cert, a.CA.Cert()),
		"leaf that is its own root, CA": with(fake.Cert, fake.Cert.Certificate[0], a.CA.Cert()),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{port.Join}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			heard := make(chan []byte)
			go func() {
				c, err := l.Accept()
				if err != nil {
					heard <- []byte(err.Error())
					return
				}
				defer c.Close()
				c.Write([]byte{0}) // welcome, says the impostor
				b, _ := io.ReadAll(c)
				heard <- b
			}()
			c, err := port.DialJoin(context.Background(), l.Addr().String(), pin)
			if err == nil {
				c.Close()
				t.Error("believed")
			}
			if b := <-heard; len(b) != 0 {
				t.Errorf("it heard %q", b)
			}
		})
	}
}

func TestJoinersAreBounded(t *testing.T) {
	b := porttest.New(t, "mail-a")
	p := b.Open(1)
	l := p.Listener(port.Join)
	pin := pki.Pin(b.CA.Cert())
	for i := range 33 {
		c, err := port.DialJoin(context.Background(), p.Addr().String(), pin)
		if i == 32 {
			if !errors.Is(err, port.ErrRefused) {
				t.Fatalf("one too many: %v", err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	c, err := port.DialJoin(context.Background(), p.Addr().String(), pin)
	if err != nil {
		t.Fatalf("a place was free: %v", err)
	}
	c.Close()
}

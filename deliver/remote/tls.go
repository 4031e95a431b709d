package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"mailraft/directory"
	"mailraft/mail"
)

// startTLS upgrades by itself, because go-smtp would say hello as "localhost"
// first. The new connection greets once more from memory: go-smtp expects it.
func startTLS(raw net.Conn, config *tls.Config, within time.Duration) (net.Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	defer raw.SetDeadline(time.Time{})
	if _, err := io.WriteString(raw, "STARTTLS\r\n"); err != nil {
		return nil, err
	}
	answer, err := readLine(raw)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(answer, "220 ") && answer != "220" {
		return nil, fmt.Errorf("answer to STARTTLS: %q", answer)
	}
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return &greeted{Conn: c, greeting: strings.NewReader("220 encrypted\r\n")}, nil
}

// handshake is TLS from the first byte. The connection is closed if it fails.
func handshake(raw net.Conn, config *tls.Config, within time.Duration) (net.Conn, error) {
	_ = raw.SetDeadline(time.Now().Add(within))
	defer raw.SetDeadline(time.Time{})
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// readLine reads no byte beyond the line: what follows is TLS.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < 512; line = append(line, b[0]) {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
	}
	return "", errors.New("answer too long")
}

type greeted struct {
	net.Conn
	greeting *strings.Reader
}

func (g *greeted) Read(b []byte) (int, error) {
	if g.greeting.Len() > 0 {
		return g.greeting.Read(b)
	}
	return g.Conn.Read(b)
}

// tlsConfig checks chain and name where the policy is verified. Below it nobody
// is checked: opportunistic TLS that did would send in the clear instead.
func (t *Transport) tlsConfig(to target) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.TLS != nil {
		c = t.TLS.Clone()
	}
	switch {
	case to.hop.TLSName != "":
		c.ServerName = to.hop.TLSName
	case c.ServerName == "":
		c.ServerName = to.host
	}
	if to.hop.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(to.hop.CA)) {
			return nil, mail.Replyf(451, "4.3.5", "the CA that is set for %s cannot be read", to.hop.Address)
		}
	}
	c.InsecureSkipVerify = to.hop.Policy() < directory.TLSVerified
	return c, nil
}

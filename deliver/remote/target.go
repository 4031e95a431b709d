package remote

import (
	"errors"
	"fmt"
	"net"
	"net/url"

	"mailraft/directory"
)

// target is a parsed address: lmtp://host:port, lmtp:///path/of/socket,
// smtp://host:port, and lmtps and smtps with TLS from the first byte. A host
// that MX records name is one too. With the settings that hold there it tells
// connections apart: after a change none of before is used.
type target struct {
	network string // "tcp" or "unix"
	addr    string // as for net.Dial
	host    string // for TLS and for the name of the peer
	lmtp    bool
	hop     directory.NextHop
}

// Schemes are the schemes that this package serves.
var Schemes = []string{"lmtp", "lmtps", "smtp", "smtps", directory.MX}

var defaultPorts = map[string]string{"lmtp": "24", "lmtps": "24", "smtp": "25", "smtps": "465"}

var errTarget = errors.New("not an address of a mail server")

func parseTarget(addr string) (target, error) {
	u, err := url.Parse(addr)
	if err != nil {
		return target{}, fmt.Errorf("%q: %w", addr, errTarget)
	}
	port, known := defaultPorts[u.Scheme]
	if !known || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return target{}, fmt.Errorf("%q: %w", addr, errTarget)
	}
	t := target{network: "tcp", lmtp: u.Scheme[0] == 'l', host: u.Hostname(), hop: directory.NextHop{Address: addr}}
	switch {
	case u.Host == "" && u.Path != "" && u.Scheme == "lmtp":
		t.network, t.addr, t.host = "unix", u.Path, u.Path
	case u.Hostname() == "" || u.Path != "" && u.Path != "/":
		return target{}, fmt.Errorf("%q: %w", addr, errTarget)
	default:
		if u.Port() != "" {
			port = u.Port()
		}
		t.addr = net.JoinHostPort(u.Hostname(), port)
	}
	return t, nil
}

// target is an address with the settings that hold there now.
func (t *Transport) target(addr string) (target, error) {
	to, err := parseTarget(addr)
	if err == nil && t.Hop != nil {
		to.hop = t.Hop(addr)
	}
	return to, err
}

// Check reports whether addr is one that this package can deliver to.
func Check(addr string) error {
	_, err := parseTarget(addr)
	return err
}

// peerName is how reports and logs call the peer: host[address]:port.
func (t target) peerName(c net.Conn) string {
	ip, port, err := net.SplitHostPort(c.RemoteAddr().String())
	if t.network == "unix" || err != nil || ip == t.host {
		return t.addr
	}
	return t.host + "[" + ip + "]:" + port
}

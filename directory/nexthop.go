package directory

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"mailraft/mail"
)

// MX is the scheme of a next hop that is found by MX records: "mx:example.org",
// and "mx:" for whatever domain the recipient has.
const MX = "mx"

// NextHop is how mail is handed over at one address: that of a next hop or of a
// copy of a mailbox database. It belongs to the address, so it holds for mail
// that waits already, and for every domain and copy that leads there.
type NextHop struct {
	// Address is smtp://, smtps://, lmtp:// or lmtps://host:port, "mx:DOMAIN", or
	// "mx:" for all domains of which nothing else is said.
	Address string    `cbor:"1,keyasint" json:"address"`
	TLS     TLSPolicy `cbor:"2,keyasint,omitempty" json:"tls,omitempty"` // 0: by the scheme, see Policy
	// CA are the certificates (PEM) that alone are believed there; empty: the
	// roots of the host.
	CA string `cbor:"3,keyasint,omitempty" json:"ca,omitempty"`
	// TLSName is what the certificate is to be for, where that is not the host.
	TLSName string `cbor:"4,keyasint,omitempty" json:"tls_name,omitempty"`
	// Credential names what to log in with. User and password are in no
	// replicated state: each member reads its own.
	Credential string `cbor:"5,keyasint,omitempty" json:"credential,omitempty"`
}

// TLSPolicy is how much encryption is insisted on. The values are on disk.
type TLSPolicy uint8

// The policies.
const (
	TLSOff      TLSPolicy = 1 // STARTTLS is not used
	TLSMay      TLSPolicy = 2 // used where it is offered and works (RFC 7435)
	TLSRequired TLSPolicy = 3 // encrypted, with whoever answers
	TLSVerified TLSPolicy = 4 // and the certificate is for the host's name
)

var tlsPolicies = [...]string{TLSOff: "off", TLSMay: "may", TLSRequired: "required", TLSVerified: "verified"}

// String is the policy in lower case, empty for none.
func (p TLSPolicy) String() string {
	if int(p) >= len(tlsPolicies) {
		return strconv.Itoa(int(p))
	}
	return tlsPolicies[p]
}

// MarshalText implements encoding.TextMarshaler.
func (p TLSPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *TLSPolicy) UnmarshalText(b []byte) error {
	for i, name := range tlsPolicies {
		if name == string(b) {
			*p = TLSPolicy(i)
			return nil
		}
	}
	return fmt.Errorf("tls: %q is none of off, may, required and verified; dane is not offered", b)
}

var ports = map[string]string{"smtp": "25", "smtps": "465", "lmtp": "24", "lmtps": "24"}

// NextHopKey is an address in the one form that it is looked up by: with its
// port, the host in lower case. What is no address stays as it is.
func NextHopKey(address string) string {
	if domain, ok := strings.CutPrefix(address, MX+":"); ok {
		return MX + ":" + DomainKey(domain)
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || ports[u.Scheme] == "" {
		return address
	}
	port := u.Port()
	if port == "" {
		port = ports[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// Key is the key of the next hop's row.
func (h NextHop) Key() string { return NextHopKey(h.Address) }

func (h NextHop) scheme() string { s, _, _ := strings.Cut(h.Address, ":"); return s }

// Implicit reports whether TLS begins with the first byte (RFC 8314 §3).
func (h NextHop) Implicit() bool { return h.scheme() == "smtps" || h.scheme() == "lmtps" }

// Policy is the policy that holds. Where none is set: verified for a server that
// gets a password, that has a CA of its own, or that speaks TLS at once; by SMTP
// what can be had; by LMTP, which is spoken nearby, none.
func (h NextHop) Policy() TLSPolicy {
	switch {
	case h.TLS != 0:
		return h.TLS
	case h.Credential != "" || h.CA != "" || h.TLSName != "" || h.Implicit():
		return TLSVerified
	case h.scheme() == "lmtp":
		return TLSOff
	}
	return TLSMay
}

// caMax bounds the certificates of one next hop.
const caMax = 64 << 10

// Validate reports the first field that cannot stand. Whether CA can be read as
// certificates is for whoever puts it there to say: that may change with the
// library that reads them, and this runs while an entry is applied.
func (h NextHop) Validate() error {
	if err := validHop(h.Address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	p := h.Policy()
	switch {
	case int(p) >= len(tlsPolicies):
		return fmt.Errorf("tls: there is no policy %d", p)
	case h.Implicit() && p < TLSRequired:
		return fmt.Errorf("tls: %s is encrypted from its first byte: required or verified", h.scheme())
	case (h.CA != "" || h.TLSName != "") && p != TLSVerified:
		return errors.New("tls: a CA and a name are for verified")
	case len(h.CA) > caMax || h.CA != "" && !strings.HasPrefix(h.CA, "-----BEGIN CERTIFICATE-----"):
		return fmt.Errorf("ca: want certificates in PEM, %d bytes at most", caMax)
	case h.TLSName != "" && !validDomain(h.TLSName):
		return fmt.Errorf("tls_name: %q is no name of a host", h.TLSName)
	case h.Credential != "" && h.scheme() == MX:
		return errors.New("credential: for one server, not for those that MX records name")
	case h.Credential != "" && p < TLSRequired:
		return errors.New("tls: a password is sent encrypted only: required or verified")
	case h.Credential != "":
		return validName("credential", h.Credential)
	}
	return nil
}

// validHop is an address that settings may be kept for.
func validHop(s string) error {
	if domain, ok := strings.CutPrefix(s, MX+":"); ok {
		return validMX(domain)
	}
	u, err := url.Parse(s)
	if err != nil || ports[u.Scheme] == "" || u.Hostname() == "" || u.String() != u.Scheme+"://"+u.Host {
		return fmt.Errorf("%q is none of smtp://, smtps://, lmtp:// and lmtps://host:port, mx: and mx:DOMAIN", s)
	}
	return validPort(s, u)
}

func validMX(domain string) error {
	if domain != "" && !validDomain(domain) {
		return fmt.Errorf("mx:%s: %q is not a domain name", domain, domain)
	}
	return nil
}

func validPort(s string, u *url.URL) error {
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return fmt.Errorf("%q has no port from 1 to 65535", s)
	}
	return nil
}

// validNextHop is an address that a domain may be passed on to.
func validNextHop(s string) error {
	if domain, ok := strings.CutPrefix(s, MX+":"); ok {
		if err := validMX(domain); err != nil {
			return fmt.Errorf("next_hop: %w", err)
		}
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || u.String() != u.Scheme+"://"+u.Host {
		return fmt.Errorf("next_hop: %q is none of smtp://host:port, smtps://host:port, mx: and mx:DOMAIN", s)
	}
	if err := validPort(s, u); err != nil {
		return fmt.Errorf("next_hop: %w", err)
	}
	return nil
}

// nextHop is where mail for a goes by its domain: one queue for each domain that
// is looked up, so that one that cannot be reached holds up no other.
func (d Domain) nextHop(a mail.Address) string {
	switch domain, ok := strings.CutPrefix(d.NextHop, MX+":"); {
	case ok && domain == "":
		return MX + ":" + DomainKey(a.Domain)
	case ok:
		return MX + ":" + DomainKey(domain)
	}
	return d.NextHop
}

package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"mailraft/mail"
)

// The roles. A member speaks to members; a front end asks where mail may go,
// and hands it over; a client speaks to the API only.
const (
	RoleMember   = "member"
	RoleFrontend = "frontend"
	RoleClient   = "client"
)

const (
	scheme      = "mailraft"
	boundaryMax = 63
	nameMax     = 128
)

// ErrIdentity reports a certificate or text that names nobody of a boundary.
var ErrIdentity = errors.New("no mailraft identity")

// Identity is who a certificate speaks for. It stands in the certificate as
// one URI name (RFC 5280 §4.2.1.6): mailraft://boundary/role/member id/name.
// Host names and addresses are not part of it, so a member may move.
type Identity struct {
	Boundary string
	Role     string        // RoleMember, RoleFrontend or RoleClient
	Member   mail.MemberID // zero unless the role is member
	Name     string
	Serial   string // of the certificate, 32 hexadecimal digits; what a revocation list names
}

// String is the identity as a URI, without the serial number.
func (id Identity) String() string { return id.uri().String() }

func (id Identity) uri() *url.URL {
	u := &url.URL{Scheme: scheme, Host: id.Boundary}
	return u.JoinPath(id.Role, id.Member.String(), url.PathEscape(id.Name))
}

// check reports why the identity cannot stand in a certificate.
func (id Identity) check() error {
	switch {
	case !validBoundary(id.Boundary):
		return fmt.Errorf("%w: boundary %q", ErrIdentity, id.Boundary)
	case id.Role != RoleMember && id.Role != RoleFrontend && id.Role != RoleClient:
		return fmt.Errorf("%w: role %q", ErrIdentity, id.Role)
	case (id.Role == RoleMember) != (id.Member != 0):
		return fmt.Errorf("%w: role %s with member id %s", ErrIdentity, id.Role, id.Member)
	case !validName(id.Name):
		return fmt.Errorf("%w: name %q", ErrIdentity, id.Name)
	}
	return nil
}

// validBoundary allows what stands unescaped, and in one way only, in the
// host part of a URI. Case is kept.
func validBoundary(s string) bool {
	if s == "" || len(s) > boundaryMax || s[0] == '.' || s[0] == '-' {
		return false
	}
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}

func validName(s string) bool {
	if s == "" || len(s) > nameMax || !utf8.ValidString(s) || s == "." || s == ".." {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// parseIdentity reads what String writes, and nothing else: a URI that could
// be written in another way is refused, so that two parsers cannot disagree
// about it.
func parseIdentity(u *url.URL) (Identity, error) {
	bad := fmt.Errorf("%w: %q", ErrIdentity, u)
	parts := strings.Split(u.EscapedPath(), "/")
	if u.Scheme != scheme || len(parts) != 4 || parts[0] != "" {
		return Identity{}, bad
	}
	var member mail.MemberID
	if parts[2] != mail.MemberID(0).String() {
		m, err := mail.ParseMemberID(parts[2])
		if err != nil {
			return Identity{}, bad
		}
		member = m
	}
	name, err := url.PathUnescape(parts[3])
	if err != nil {
		return Identity{}, bad
	}
	id := Identity{Boundary: u.Host, Role: parts[1], Member: member, Name: name}
	if err := id.check(); err != nil {
		return Identity{}, err
	}
	if id.String() != u.String() {
		return Identity{}, bad
	}
	return id, nil
}

// IdentityOf reads the identity of a certificate. It does not verify the
// certificate. Exactly one name of any kind must be in it.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	if cert == nil || len(cert.URIs) != 1 || len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) != 0 {
		return Identity{}, fmt.Errorf("%w: the certificate must have one URI name", ErrIdentity)
	}
	id, err := parseIdentity(cert.URIs[0])
	if err != nil {
		return Identity{}, err
	}
	id.Serial = fmt.Sprintf("%032x", cert.SerialNumber)
	return id, nil
}

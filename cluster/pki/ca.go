package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"time"
)

// Lives and margins.
const (
	CALife   = 10 * 365 * 24 * time.Hour
	CertLife = 90 * 24 * time.Hour

	warnBefore = 14 * 24 * time.Hour
	// A certificate is good a little before it was made: the clock of the
	// member that sees it first may be behind.
	backdate = time.Hour

	secretMin = 16 // bytes
)

// Errors of the CA.
var (
	ErrSeal    = errors.New("the CA key does not open: wrong boundary secret, or damaged")
	ErrRequest = errors.New("unusable certificate request")
)

// CA signs the certificates of one boundary.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	id   string // boundary
}

// NewCA makes the CA of a boundary, good for ten years.
func NewCA(boundary string, now time.Time, rand io.Reader) (*CA, error) {
	if !validBoundary(boundary) {
		return nil, fmt.Errorf("make CA: %w: boundary %q", ErrIdentity, boundary)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("make CA key: %w", err)
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "mailraft boundary " + boundary},
		URIs:                  []*url.URL{{Scheme: scheme, Host: boundary, Path: "/ca"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(CALife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs leaves only
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	return newCA(der, key)
}

func newCA(der []byte, key *ecdsa.PrivateKey) (*CA, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	if !cert.IsCA || len(cert.URIs) != 1 || !validBoundary(cert.URIs[0].Host) {
		return nil, fmt.Errorf("read CA certificate: %w", ErrIdentity)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("read CA: key and certificate do not belong together")
	}
	return &CA{cert: cert, key: key, id: cert.URIs[0].Host}, nil
}

// Cert is the CA certificate in DER.
func (c *CA) Cert() []byte { return c.cert.Raw }

// Boundary is the boundary that the CA signs for.
func (c *CA) Boundary() string { return c.id }

// Issue signs the key of a request for an identity. Of the request only the
// key counts: what it says about names is not looked at. A certificate is
// never good outside the life of the CA.
func (c *CA) Issue(csrDER []byte, id Identity, now time.Time, life time.Duration) ([]byte, error) {
	pub, err := requestKey(csrDER)
	if err != nil {
		return nil, err
	}
	if err := id.check(); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	if id.Boundary != c.id {
		return nil, fmt.Errorf("issue certificate: %w: boundary %q, the CA is of %q", ErrIdentity, id.Boundary, c.id)
	}
	serial, err := newSerial(rand.Reader)
	if err != nil {
		return nil, err
	}
	start, end := now.Add(-backdate), now.Add(life)
	if start.Before(c.cert.NotBefore) {
		start = c.cert.NotBefore
	}
	if end.After(c.cert.NotAfter) {
		end = c.cert.NotAfter
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id.Name},
		URIs:         []*url.URL{id.uri()},
		NotBefore:    start,
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  usage(id.Role),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return der, nil
}

// usage: only a member may be on the listening side, so a stolen front-end
// certificate cannot pose as a member even where nobody looks at the role.
func usage(role string) []x509.ExtKeyUsage {
	if role == RoleMember {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

func newSerial(rand io.Reader) (*big.Int, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40 // positive, and always 16 bytes (RFC 5280 §4.1.2.2)
	return new(big.Int).SetBytes(b[:]), nil
}

// RenewAt is when a certificate should be replaced: after two thirds of its
// life.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}

// WarnAt is from when on an operator must be told that a certificate ends:
// renewal has failed for weeks.
func WarnAt(cert *x509.Certificate) time.Time { return cert.NotAfter.Add(-warnBefore) }

// sealVersion is the first byte of a sealed key: AES-256-GCM, a random nonce
// of 12 bytes in front, the CA certificate as additional data. The replicated
// state keeps it for ever: a new form gets a new number.
const sealVersion = 1

// Seal encrypts the CA's key with a secret of the boundary: random bytes, 16
// at least, not a passphrase.
func (c *CA) Seal(secret []byte) ([]byte, error) {
	aead, err := sealer(secret)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, fmt.Errorf("seal CA key: %w", err)
	}
	return aead.Seal([]byte{sealVersion}, nil, key, c.cert.Raw), nil
}

// OpenCA is the reverse of Seal. A sealed key opens only beside the
// certificate that it was sealed with.
func OpenCA(certDER, sealed, secret []byte) (*CA, error) {
	aead, err := sealer(secret)
	if err != nil {
		return nil, err
	}
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, ErrSeal
	}
	der, err := aead.Open(nil, nil, sealed[1:], certDER)
	if err != nil {
		return nil, ErrSeal
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("open CA key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, ErrSeal
	}
	return newCA(certDER, ec)
}

func sealer(secret []byte) (cipher.AEAD, error) {
	if len(secret) < secretMin {
		return nil, fmt.Errorf("CA key: the boundary secret has %d bytes, %d are needed", len(secret), secretMin)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "mailraft CA key 1", 32)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

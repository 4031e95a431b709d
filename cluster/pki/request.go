package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
)

// requestMax bounds a certificate request before it is parsed; ours have
// about 250 bytes.
const requestMax = 4 << 10

// NewRequest makes a key, in PEM (PKCS #8), and a request for a certificate.
// The key never leaves the host.
func NewRequest(rand io.Reader) (keyPEM, csrDER []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	csrDER, err = x509.CreateCertificateRequest(rand, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), csrDER, nil
}

// RequestFor makes another request for a key that there is, to renew its
// certificate.
func RequestFor(key crypto.Signer, rand io.Reader) (csrDER []byte, err error) {
	csrDER, err = x509.CreateCertificateRequest(rand, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return csrDER, nil
}

// EncodeCert is a certificate in PEM, as files hold it beside their key.
func EncodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// requestKey verifies that the sender of a request holds its key.
func requestKey(csrDER []byte) (*ecdsa.PublicKey, error) {
	if len(csrDER) > requestMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrRequest, len(csrDER))
	}
	req, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	pub, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: the key is not ECDSA P-256", ErrRequest)
	}
	return pub, nil
}

// Pin is the text by which a CA is known: SHA-256 of its public key info, as
// in HPKP (RFC 7469 §2.4). It stays the same when the certificate is renewed
// with the same key. It is empty for bytes that are no certificate.
func Pin(caDER []byte) string {
	cert, err := x509.ParseCertificate(caDER)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return text.EncodeToString(sum[:])
}

// PinMatches reports whether a certificate has the given pin. No certificate
// has the empty one.
func PinMatches(cert *x509.Certificate, pin string) bool {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return subtle.ConstantTimeCompare([]byte(text.EncodeToString(sum[:])), []byte(pin)) == 1
}

// ParseKey reads a key as NewRequest writes it.
func ParseKey(keyPEM []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, fmt.Errorf("%w: no key in it", ErrRequest)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: the key cannot sign", ErrRequest)
	}
	return signer, nil
}

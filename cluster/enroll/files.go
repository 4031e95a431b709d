package enroll

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mailraft/cluster/port"
)

// The files of an identity, in a directory of their own.
const (
	FileKey  = "key.pem"
	FileCert = "cert.pem"
	FileCA   = "ca.pem"
)

// Read reads the credentials in a directory.
func Read(dir string) (port.Credentials, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, FileCert), filepath.Join(dir, FileKey))
	if err != nil {
		return port.Credentials{}, fmt.Errorf("read certificate: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, FileCA))
	if err != nil {
		return port.Credentials{}, fmt.Errorf("read CA certificate: %w", err)
	}
	creds := port.Credentials{Cert: cert, CA: x509.NewCertPool()}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) { // two while the CA is exchanged
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return port.Credentials{}, fmt.Errorf("read CA certificate: %w", err)
		}
		creds.CA.AddCert(ca)
		creds.CAs = append(creds.CAs, ca.Raw)
		if creds.CADER == nil || cert.Leaf.CheckSignatureFrom(ca) == nil {
			creds.CADER = ca.Raw
		}
	}
	if creds.CADER == nil {
		return port.Credentials{}, fmt.Errorf("%s holds no certificate", filepath.Join(dir, FileCA))
	}
	return creds, nil
}

// WriteFile puts a small file in place, durably: all of it or the old one.
func WriteFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

package member

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// certificates are those that SMTP shows, by their files.
type certificates struct {
	log  hclog.Logger
	mu   sync.Mutex
	list []*certificate
}

// get reads a certificate and its key, or finds them among those that are read.
func (s *certificates) get(certFile, keyFile string) (*certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.list {
		if c.files == [2]string{certFile, keyFile} {
			return c, nil
		}
	}
	c := &certificate{files: [2]string{certFile, keyFile}, log: s.log}
	if err := c.load(c.look()); err != nil {
		return nil, err
	}
	s.list = append(s.list, c)
	return c, nil
}

// all are those that are read.
func (s *certificates) all() []*certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[:len(s.list):len(s.list)]
}

// certificate is a certificate and its key, read again when a file changes.
type certificate struct {
	files [2]string // certificate, key
	log   hclog.Logger

	mu     sync.Mutex
	seen   [2]stamp // of the files when they were last read, or tried
	loaded *tls.Config
	until  time.Time
}

// stamp tells two states of a file apart. A replaced file may be as old and as
// long as the one before, but not the same.
type stamp struct {
	modified time.Time
	size     int64
	file     os.FileInfo
}

func (a stamp) same(b stamp) bool {
	return a.modified.Equal(b.modified) && a.size == b.size && (a.file == b.file || os.SameFile(a.file, b.file))
}

func (c *certificate) look() (now [2]stamp) {
	for i, name := range c.files {
		if info, err := os.Stat(name); err == nil {
			now[i] = stamp{info.ModTime(), info.Size(), info}
		}
	}
	return now
}

// config is what the next handshake goes by. A pair that cannot be read leaves
// the one before in use, and is told once.
func (c *certificate) config() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.look()
	if now[0].same(c.seen[0]) && now[1].same(c.seen[1]) {
		return c.loaded
	}
	if err := c.load(now); err != nil {
		c.log.Error("the new SMTP certificate is no good, the one before stays in use", "error", err, "ends", c.until)
	} else {
		c.log.Info("SMTP certificate read again", "file", c.files[0], "ends", c.until)
	}
	return c.loaded
}

func (c *certificate) load(now [2]stamp) error {
	c.seen = now
	pair, err := tls.LoadX509KeyPair(c.files[0], c.files[1])
	if err != nil {
		return fmt.Errorf("read tls-cert %s and tls-key %s: %w", c.files[0], c.files[1], err)
	}
	c.loaded = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	c.until = pair.Leaf.NotAfter
	return nil
}

// ends is when the certificate in use does.
func (c *certificate) ends() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until
}

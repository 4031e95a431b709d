package ingress

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Certificates are those that SMTP shows, by their files.
type Certificates struct {
	Log  hclog.Logger
	mu   sync.Mutex
	list []*certificate
}

// get reads a certificate and its key, or finds them among those that are read.
//
// asks: clients are asked for theirs. What a stranger shows is no reason to
// turn him away, so it is not verified in the handshake.
func (s *Certificates) get(certFile, keyFile string, asks bool) (*certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.list {
		if c.files == [2]string{certFile, keyFile} && c.asks == asks {
			return c, nil
		}
	}
	c := &certificate{files: [2]string{certFile, keyFile}, asks: asks, log: s.Log}
	if err := c.load(c.look()); err != nil {
		return nil, err
	}
	s.list = append(s.list, c)
	return c, nil
}

// all are those that are read.
func (s *Certificates) all() []*certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[:len(s.list):len(s.list)]
}

// certificate is a certificate and its key, read again when a file changes.
type certificate struct {
	files [2]string // certificate, key
	asks  bool      // clients for their certificate
	log   hclog.Logger

	mu     sync.Mutex
	seen   [2]stamp // of the files when they were last read, or tried
	loaded *tls.Config
	from   time.Time
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
		now[i] = stampOf(name)
	}
	return now
}

// stampOf is the zero stamp for a file that is not there.
func stampOf(name string) stamp {
	info, err := os.Stat(name)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size(), info}
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
	if c.asks {
		c.loaded.ClientAuth = tls.RequestClientCert
	}
	c.from, c.until = pair.Leaf.NotBefore, pair.Leaf.NotAfter
	return nil
}

// life is that of the certificate in use.
func (c *certificate) life() (from, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from, c.until
}

// Life is how long a certificate in use is good.
type Life struct {
	File        string
	From, Until time.Time
}

// Lives are those in use, by their files: one may serve listeners of two kinds.
func (s *Certificates) Lives() []Life {
	var list []Life
	for _, c := range s.all() {
		if !slices.ContainsFunc(list, func(x Life) bool { return x.File == c.files[0] }) {
			from, until := c.life()
			list = append(list, Life{File: c.files[0], From: from, Until: until})
		}
	}
	return list
}

package maildir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"mailraft/mail"
)

// Options say which copy, and for how long a message counts as had.
type Options struct {
	Dir    string               // PATH of the copy
	Host   string               // goes into file names
	Retain func() time.Duration // hold time + expiration timeout; asked at every delivery
	Now    func() mail.Time
	Create bool // make PATH if it is missing; not for a mount, which may be away
}

// Store is one copy. It holds nothing open between deliveries.
type Store struct {
	dir    string
	host   string
	retain func() time.Duration
	now    func() mail.Time
	create bool
	step   func(name string) error // tests cut deliveries here; nil otherwise
}

// New returns the store for a copy; nothing is touched before the first delivery.
func New(o Options) *Store {
	return &Store{dir: filepath.Clean(o.Dir), host: fileHost(o.Host), retain: o.Retain, now: o.Now, create: o.Create}
}

// Message is one message for one mailbox.
type Message struct {
	Mailbox     mail.Address
	ReversePath string
	Header      []byte       // our fields, whole lines with CRLF, laid above the content
	Content     io.Reader    // as received
	Final       func() error // asked before the message becomes visible; may be nil
}

// Receipt says where the message went.
type Receipt struct {
	Dir       string // the mailbox's folder
	Duplicate bool   // the mailbox had it already: nothing was added
}

// Deliver returns when the message is in new/, with its bytes and its name on
// disk. The record is written after that; a process that is killed between the
// two leaves its intent, and the next delivery writes the record.
func (s *Store) Deliver(m Message) (Receipt, error) {
	if err := s.root(); err != nil {
		return Receipt{}, err
	}
	dir, err := s.folder(m.Mailbox)
	if err != nil {
		return Receipt{}, err
	}
	r := Receipt{Dir: dir}
	tmp, fp, err := s.write(dir, m)
	if err != nil {
		return r, err
	}
	defer os.Remove(tmp.name)
	unlock, err := s.lock(dir)
	if err != nil {
		return r, err
	}
	defer unlock()
	if err := s.settle(dir); err != nil {
		return r, err
	}
	had, err := readSeen(dir, fp.sum, s.now().Add(-s.retain()))
	if err != nil {
		return r, err
	}
	if r.Duplicate = fp.comparable && had.found; r.Duplicate {
		return r, nil
	}
	if m.Final != nil {
		if err := m.Final(); err != nil {
			return r, err
		}
	}
	i := intent{at: s.now(), sum: fp.sum, name: unique(s.host, tmp.size)}
	if fp.comparable {
		if err := s.intend(dir, i); err != nil {
			return r, err
		}
	}
	if err := s.publish(dir, tmp, i.name); err != nil {
		return r, err
	}
	if fp.comparable {
		s.record(dir, had, i)
	}
	return r, nil
}

// record notes what was made visible. The message is delivered, whatever becomes
// of its record: what fails here is left to settle.
func (s *Store) record(dir string, had *seen, i intent) {
	if s.at("record") != nil || had.add(i.at, i.sum) != nil || s.at("settled") != nil {
		return
	}
	_ = os.Truncate(filepath.Join(dir, intentFile), 0)
}

type tmpFile struct {
	name string
	size int64
}

type digest struct {
	sum        fingerprint
	comparable bool
}

// write puts the whole message into tmp/, synced.
func (s *Store) write(dir string, m Message) (t tmpFile, p digest, err error) {
	t.name = filepath.Join(dir, "tmp", unique(s.host, 0))
	f, err := os.OpenFile(t.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return t, p, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(t.name)
		}
	}()
	sum := newFingerprinter()
	w := io.MultiWriter(f, sum)
	head := "Return-Path: <" + m.ReversePath + ">\r\nDelivered-To: " + m.Mailbox.String() + "\r\n"
	if _, err = io.WriteString(w, head); err != nil {
		return t, p, err
	}
	if _, err = w.Write(m.Header); err != nil {
		return t, p, err
	}
	n, err := io.CopyBuffer(w, onlyReader{m.Content}, make([]byte, 64<<10))
	if err != nil {
		return t, p, err
	}
	t.size = n + int64(len(head)+len(m.Header))
	p.sum, p.comparable = sum.result()
	if err = s.at("sync"); err != nil {
		return t, p, err
	}
	return t, p, f.Sync()
}

// publish links the file into new/ under a name that nobody has, and makes
// the name durable.
func (s *Store) publish(dir string, t tmpFile, name string) error {
	if err := s.at("link"); err != nil {
		return err
	}
	to := filepath.Join(dir, "new", name)
	if err := os.Link(t.name, to); err != nil {
		// Some file systems have no links; the name is new, so nothing is overwritten.
		if err := os.Rename(t.name, to); err != nil {
			return err
		}
	}
	if err := s.at("name"); err != nil {
		return err
	}
	return syncDir(filepath.Join(dir, "new"))
}

// root checks that PATH is there.
func (s *Store) root() error {
	fi, err := os.Stat(s.dir)
	if errors.Is(err, os.ErrNotExist) && s.create {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return &downError{err}
		}
		return syncDir(filepath.Dir(s.dir))
	}
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%s: %w", s.dir, syscall.ENOTDIR)
	}
	if err != nil {
		return &downError{err}
	}
	return nil
}

// Probe writes a file, syncs it and removes it: the copy can take mail. The
// name is one for each host, so that a crash leaves one file behind at most.
func (s *Store) Probe() error {
	if err := s.root(); err != nil {
		return fmt.Errorf("probe %s: %w", s.dir, err)
	}
	name := filepath.Join(s.dir, ".mailraft-probe-"+s.host)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("probe %s: %w", s.dir, err)
	}
	if _, err = f.WriteString("probe\n"); err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if gone := os.Remove(name); !errors.Is(gone, os.ErrNotExist) { // it may be another process of this host that was quicker
		err = errors.Join(err, gone)
	}
	if err != nil {
		return fmt.Errorf("probe %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) at(step string) error {
	if s.step == nil {
		return nil
	}
	return s.step(step)
}

var counter atomic.Uint64

// unique is a Maildir file name: time, process, counter and chance, then the
// host, and the size as Dovecot and Courier write it.
func unique(host string, size int64) string {
	var r [6]byte
	rand.Read(r[:])
	t := time.Now()
	name := fmt.Sprintf("%d.M%dP%dQ%dR%s.%s", t.Unix(), t.Nanosecond()/1000, os.Getpid(), counter.Add(1), hex.EncodeToString(r[:]), host)
	if size > 0 {
		name += fmt.Sprintf(",S=%d", size)
	}
	return name
}

// fileHost is the host name without what a Maildir name must not hold.
func fileHost(h string) string {
	h = strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, h)
	if h == "" {
		return "localhost"
	}
	return h[:min(len(h), 64)]
}

// onlyReader hides WriterTo, so that the buffer bounds each write.
type onlyReader struct{ io.Reader }

// Package ledger sends mail and keeps, outside the boundary, a record of every
// message that was acknowledged; afterwards it compares the mailboxes with it.
//
// A message carries a marker and random content, so that one that is missing,
// changed or there twice is found. The sender behaves like a mail server: what
// was not acknowledged is sent again, to another member. It knows SMTP and
// Maildirs, and nothing of mailraft.
package ledger

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Marker is the header field that tells messages apart. It is the first field
// of what is sent, so whatever lies above it in a mailbox is trace.
const Marker = "X-Ledger"

// Entry is one message.
type Entry struct {
	Marker   string
	Sum      [sha256.Size]byte // of the content, line ends as LF
	Size     int
	Acked    time.Time // zero: never acknowledged
	QueueID  string    // from the 250
	Target   string    // who acknowledged it
	Attempts int       // times that its content was sent, or might have been
}

// Ledger is the record. Its methods may be called at once.
type Ledger struct {
	mu      sync.Mutex
	entries map[string]*Entry
	acks    []time.Time
	refused []string // permanent replies, which no sound message should get
}

// New makes an empty ledger.
func New() *Ledger { return &Ledger{entries: map[string]*Entry{}} }

func (l *Ledger) add(e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[e.Marker] = e
}

func (l *Ledger) attempt(e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Attempts++
}

func (l *Ledger) ack(e *Entry, target, id string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Acked, e.Target, e.QueueID = at, target, id
	l.acks = append(l.acks, at)
}

func (l *Ledger) refusal(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = append(l.refused, text)
}

// Refusals are the 5xx replies that were got.
func (l *Ledger) Refusals() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.refused)
}

// Accepted is the number of acknowledged messages.
func (l *Ledger) Accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acks)
}

// FirstAck is the first acknowledgement after t.
func (l *Ledger) FirstAck(t time.Time) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var first time.Time
	for _, a := range l.acks {
		if a.After(t) && (first.IsZero() || a.Before(first)) {
			first = a
		}
	}
	return first, !first.IsZero()
}

// Audit is what the mailboxes hold, held against the ledger.
type Audit struct {
	Accepted   int      // acknowledged
	Delivered  int      // acknowledged, and in the mailboxes unchanged
	Lost       []string // markers: acknowledged, and not there
	Damaged    []string // markers: there with other content
	Duplicates int      // copies beyond the first
	// Explained are the duplicates of messages that were sent more than once,
	// because an answer did not come or was temporary.
	Explained int
	Unclear   int // delivered without an acknowledgement
}

// Audit reads every Maildir below dirs.
func (l *Ledger) Audit(dirs ...string) (Audit, error) {
	seen := map[string]int{}
	var a Audit
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			folder := filepath.Base(filepath.Dir(path))
			if errors.Is(err, fs.ErrNotExist) || err == nil && (!d.Type().IsRegular() || folder != "new" && folder != "cur") {
				return nil
			}
			if err != nil {
				return err
			}
			marker, sum, err := read(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || marker == "" {
				return err
			}
			seen[marker]++
			if e := l.entry(marker); e != nil && e.Sum != sum {
				a.Damaged = append(a.Damaged, marker)
			}
			return nil
		})
		if err != nil {
			return a, fmt.Errorf("audit %s: %w", dir, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for marker, e := range l.entries {
		n := seen[marker]
		switch {
		case e.Acked.IsZero():
			if n > 0 {
				a.Unclear++
			}
		case n == 0:
			a.Lost = append(a.Lost, marker)
		default:
			a.Delivered++
		}
		if !e.Acked.IsZero() {
			a.Accepted++
		}
		if n > 1 {
			a.Duplicates += n - 1
			if e.Attempts > 1 {
				a.Explained += n - 1
			}
		}
	}
	return a, nil
}

// Entries are copies of all entries, in the order of their markers.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Entry, 0, len(l.entries))
	for _, e := range l.entries { // sorted below
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Marker, b.Marker) })
	return list
}

func (l *Ledger) entry(marker string) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[marker]
}

func read(path string) (marker string, sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", sum, err
	}
	defer f.Close()
	return Read(f)
}

// Read returns the marker of a delivered message and the checksum of all that
// lies at and below it; no marker: a message of somebody else.
func Read(in io.Reader) (marker string, sum [sha256.Size]byte, err error) {
	r := bufio.NewReaderSize(in, 64<<10)
	h := sha256.New()
	for {
		line, err := r.ReadBytes('\n')
		if line = bytes.Replace(line, []byte("\r\n"), []byte("\n"), 1); marker == "" {
			if len(line) <= 1 {
				return "", sum, nil // end of the header
			}
			if v, ok := strings.CutPrefix(string(line), Marker+": "); ok {
				marker = strings.TrimSpace(v)
			}
		}
		if marker != "" {
			h.Write(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", sum, err
		}
	}
	return marker, [sha256.Size]byte(h.Sum(nil)), nil
}

package maildir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mailraft/mail"
)

// The record of what a mailbox has: a header, then entries of one size,
//
//	8 bytes  time of delivery, milliseconds, big endian
//	32 bytes fingerprint
//	4 bytes  CRC-32C of the 40 before
//
// An entry that is damaged is passed over, a torn one at the end is cut off
// by the next append: both cost at most a duplicate. It is read and written
// under the mailbox's lock.
var seenHead = []byte("mrseen1\n")

const (
	entrySize  = 8 + len(fingerprint{}) + 4
	compactMin = 512 // expired entries before the file is rewritten
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendEntry(b []byte, at mail.Time, fp fingerprint) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = append(b, fp[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// decodeEntry reads one entry; ok is false where it is damaged.
func decodeEntry(b []byte) (at mail.Time, fp fingerprint, ok bool) {
	if len(b) != entrySize || crc32.Checksum(b[:entrySize-4], castagnoli) != binary.BigEndian.Uint32(b[entrySize-4:]) {
		return 0, fp, false
	}
	return mail.Time(binary.BigEndian.Uint64(b)), fingerprint(b[8 : entrySize-4]), true
}

// seen is a mailbox's record as read.
type seen struct {
	file    string
	whole   int64 // size up to the last whole entry; zero where there is no usable file
	found   bool  // the fingerprint asked for is there and still counts
	live    []byte
	expired int
}

// readSeen looks fp up. Entries from before since no longer count.
func readSeen(dir string, fp fingerprint, since mail.Time) (*seen, error) {
	s := &seen{file: filepath.Join(dir, seenFile)}
	b, err := os.ReadFile(s.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s.scan(b, fp, since)
	return s, nil
}

func (s *seen) scan(b []byte, fp fingerprint, since mail.Time) {
	rest, ok := bytes.CutPrefix(b, seenHead)
	if !ok {
		return
	}
	for len(rest) >= entrySize {
		e := rest[:entrySize]
		rest = rest[entrySize:]
		at, have, ok := decodeEntry(e)
		if !ok || at < since {
			s.expired++
			continue
		}
		s.live = append(s.live, e...)
		s.found = s.found || have == fp
	}
	s.whole = int64(len(b) - len(rest))
}

// add appends an entry; the file is rewritten without the expired ones when
// they are the greater part. It is not synced: what a power cut takes from
// the record, the mailbox may see twice, and no delivery waits for it.
func (s *seen) add(at mail.Time, fp fingerprint) error {
	if s.whole == 0 || s.expired >= compactMin && s.expired > len(s.live)/entrySize {
		return s.rewrite(appendEntry(s.live, at, fp))
	}
	f, err := os.OpenFile(s.file, os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = f.Truncate(s.whole); err == nil {
		if _, err = f.Seek(s.whole, io.SeekStart); err == nil {
			_, err = f.Write(appendEntry(nil, at, fp))
		}
	}
	return errors.Join(err, f.Close())
}

func (s *seen) rewrite(entries []byte) error {
	tmp := s.file + ".tmp" // ours alone: we hold the lock
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeSynced(tmp, append(bytes.Clone(seenHead), entries...)); err != nil {
		return err
	}
	return os.Rename(tmp, s.file)
}

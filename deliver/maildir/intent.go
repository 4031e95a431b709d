package maildir

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mailraft/mail"
)

// intentFile says which message is about to become visible under which name.
// It is written under the mailbox's lock before the link into new/, and emptied
// after the record. So a process that is killed between the two leaves it
// behind, and the next delivery to the mailbox can tell whether the link was
// made: it looks for the name. One is enough, since deliveries to a mailbox
// take turns. Like the record it is not synced by itself.
//
// It holds the time and the fingerprint as an entry of the record has them, the
// name, and a CRC-32C of all that.
const intentFile = ".mailraft-intent"

type intent struct {
	at   mail.Time
	sum  fingerprint
	name string // in new/; a reader moves it to cur/ and appends its flags
}

func (i intent) encode() []byte {
	b := append(appendEntry(nil, i.at, i.sum), i.name...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeIntent reads an intent; ok is false for none, and for a torn one: its
// link was never tried, since the write came before.
func decodeIntent(b []byte) (i intent, ok bool) {
	end := len(b) - 4
	if end <= entrySize || crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return i, false
	}
	i.at, i.sum, ok = decodeEntry(b[:entrySize])
	i.name = string(b[entrySize:end])
	return i, ok && !strings.ContainsAny(i.name, "/\x00")
}

// intend writes down what publish is about to do.
func (s *Store) intend(dir string, i intent) error {
	if err := s.at("intent"); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, intentFile), i.encode(), 0o600)
}

// settle finishes what a delivery that was cut off had begun: a message that it
// made visible is entered in the record. The caller holds the lock.
func (s *Store) settle(dir string) error {
	file := filepath.Join(dir, intentFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if i, ok := decodeIntent(b); ok {
		there, err := visible(dir, i.name)
		if err != nil {
			return err
		}
		had, err := readSeen(dir, i.sum, s.now().Add(-s.retain()))
		if err != nil {
			return err
		}
		if there && !had.found {
			if err := had.add(i.at, i.sum); err != nil {
				return err
			}
		}
	}
	return os.Truncate(file, 0)
}

// visible reports whether a message of this name is in new/, or in cur/ with
// whatever flags. Both are looked at twice: a directory that a mail reader
// renames in while it is read may leave the file out.
func visible(dir, name string) (bool, error) {
	for range 2 {
		for _, sub := range []string{"new", "cur"} {
			names, err := readNames(filepath.Join(dir, sub))
			if err != nil {
				return false, err
			}
			for _, n := range names {
				if base, _, _ := strings.Cut(n, ":"); base == name {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// readNames lists a directory without looking at its files.
func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

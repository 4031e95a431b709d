package content

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// name identifies a segment. Number and marker are in the file's name too, so
// that a damaged first page does not make the rest unreadable.
type name struct {
	number uint32
	marker uint64
}

func (n name) String() string { return fmt.Sprintf("%08x-%016x", n.number, n.marker) }

const (
	segmentSuffix = ".seg"
	indexSuffix   = ".idx"
	newSuffix     = ".new" // an index that is not finished
)

// parseName reads a file name; ok is false for files that are not ours.
func parseName(s string) (n name, suffix string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return name{}, "", false
	}
	if _, err := fmt.Sscanf(s[:i], "%08x-%016x", &n.number, &n.marker); err != nil || n.String() != s[:i] {
		return name{}, "", false
	}
	return n, s[i:], true
}

// entry says where a content is: its one record, or its end record.
type entry struct {
	mail.Content
	off  uint32
	span uint32 // how many segments before this one its first piece lies; 0 for nearly all
}

func (e entry) large() bool { return e.Size > chunkMax }

// recordLen is the length of the record that the entry points to.
func (e entry) recordLen() int {
	if e.large() {
		return headerLen + int(chunks(e.Size))*extentLen
	}
	return headerLen + int(e.Size)
}

// file is a segment being written.
type file struct {
	name
	f        vfs.File
	end      int64 // all before it is written
	synced   int64 // all before it is synced
	uncached int64 // all before it is given up in the page cache
}

// createFile makes the next segment. Its header is written, and its name is
// synced, so that only records must be synced before they are acknowledged.
func (s *Store) createFile(first mail.ContentID) (*file, error) {
	s.mu.Lock()
	s.next++
	n := name{number: s.next, marker: markerFor(first, s.next)}
	s.mu.Unlock()
	f := &file{name: n}
	var err error
	// Not FS.Create: WriteAt is promised only for files opened this way.
	if f.f, err = s.FS.OpenReadWrite(s.path(n, segmentSuffix), vfs.WriteCategoryUnspecified); err != nil {
		return nil, fmt.Errorf("create segment %s: %w", n, err)
	}
	if err = f.write(encodeSegmentHeader(n.number, n.marker)); err == nil {
		err = s.syncDir(s.Dir)
	}
	if err != nil {
		f.f.Close()
		s.FS.Remove(s.path(n, segmentSuffix))
		return nil, err
	}
	return f, nil
}

// write appends b. After an error end is unchanged: the next write goes to the
// same place.
func (f *file) write(b []byte) error {
	if _, err := f.f.WriteAt(b, f.end); err != nil {
		return fmt.Errorf("write segment %s at %d: %w", f.name, f.end, err)
	}
	f.end += int64(len(b))
	return nil
}

func (f *file) sync() error {
	if err := syncData(f.f); err != nil {
		return fmt.Errorf("sync segment %s: %w", f.name, err)
	}
	f.synced = f.end
	return nil
}

func (s *Store) path(n name, suffix string) string {
	return s.FS.PathJoin(s.Dir, n.String()+suffix)
}

func (s *Store) syncDir(dir string) error {
	d, err := s.FS.OpenDir(dir)
	if err == nil {
		err = d.Sync()
		if e := d.Close(); err == nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// full tells a disk without space from a disk that fails: nothing was lost.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

package content

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sort"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// The index of a sealed segment is a file of its own beside it: blocks of
// entries sorted by id, then the first id of every block (the fences), then a
// trailer. Fences and trailer are kept in memory, which is a quarter of a byte
// per content; a look-up reads one block.
const (
	entryLen     = contentLen + 8
	blockEntries = 64
	blockLen     = blockEntries*entryLen + 4
	fenceLen     = len(mail.ContentID{})
	trailerLen   = 64
)

var indexMagic = [8]byte{'m', 'r', 'i', 'n', 'd', 'e', 'x', '\n'}

var errRead = errors.New("read index")

// segment is a sealed one. It never changes.
type segment struct {
	name
	end     int64 // of its last record
	count   int
	max     mail.ContentID
	fences  []mail.ContentID
	entries []entry // when the index is not on the disk, for want of space
}

// newSegment makes a segment of entries, which it sorts. Where a content is
// there twice, the later copy counts.
func newSegment(n name, end int64, entries []entry) *segment {
	sortEntries(entries)
	kept := entries[:0]
	for i, e := range entries {
		if i+1 < len(entries) && entries[i+1].ID == e.ID {
			continue
		}
		kept = append(kept, e)
	}
	s := &segment{name: n, end: end, count: len(kept), entries: kept}
	for i := 0; i < len(kept); i += blockEntries {
		s.fences = append(s.fences, kept[i].ID)
	}
	if len(kept) > 0 {
		s.max = kept[len(kept)-1].ID
	}
	return s
}

func sortEntries(es []entry) {
	slices.SortStableFunc(es, func(a, b entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
}

func appendEntry(b []byte, e entry) []byte {
	var c [entryLen]byte
	putContent(c[:], e.Content)
	binary.LittleEndian.PutUint32(c[contentLen:], e.off)
	binary.LittleEndian.PutUint32(c[contentLen+4:], e.span)
	return append(b, c[:]...)
}

// decodeBlock reads a block of the index of segment number.
func decodeBlock(b []byte, number uint32) ([]entry, error) {
	n := (len(b) - 4) / entryLen
	if n <= 0 || len(b) != n*entryLen+4 || binary.LittleEndian.Uint32(b[n*entryLen:]) != blockSum(b[:n*entryLen], number) {
		return nil, fmt.Errorf("index block: %w", errRecord)
	}
	es := make([]entry, n)
	for i := range es {
		c := b[i*entryLen:]
		es[i] = entry{getContent(c), binary.LittleEndian.Uint32(c[contentLen:]), binary.LittleEndian.Uint32(c[contentLen+4:])}
		if es[i].Size < 0 || es[i].Size > contentMax || es[i].span > number {
			return nil, fmt.Errorf("index entry: %w", errRecord)
		}
	}
	return es, nil
}

func blockSum(b []byte, number uint32) uint32 {
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], number)
	return crc32.Update(checksum(b), castagnoli, n[:])
}

// encodeIndex is the whole index file of s.
func encodeIndex(s *segment) []byte {
	var b []byte
	for block := range slices.Chunk(s.entries, blockEntries) {
		at := len(b)
		for _, e := range block {
			b = appendEntry(b, e)
		}
		b = binary.LittleEndian.AppendUint32(b, blockSum(b[at:], s.number))
	}
	at := len(b)
	for _, f := range s.fences {
		b = append(b, f[:]...)
	}
	t := make([]byte, trailerLen)
	le := binary.LittleEndian
	copy(t, indexMagic[:])
	le.PutUint32(t[8:], version)
	le.PutUint32(t[12:], s.number)
	le.PutUint64(t[16:], s.marker)
	le.PutUint64(t[24:], uint64(s.end))
	le.PutUint32(t[32:], uint32(s.count))
	le.PutUint32(t[36:], checksum(b[at:]))
	copy(t[40:], s.max[:])
	le.PutUint32(t[60:], checksum(t[:60]))
	return append(b, t...)
}

// decodeTrailer reads the trailer of an index file; fences is the checksum of
// the fences, which are still to be read.
func decodeTrailer(t []byte) (s *segment, fences uint32, err error) {
	le := binary.LittleEndian
	if len(t) != trailerLen || [8]byte(t[:8]) != indexMagic || le.Uint32(t[60:]) != checksum(t[:60]) {
		return nil, 0, fmt.Errorf("index trailer: %w", errRecord)
	}
	if v := le.Uint32(t[8:]); v != version {
		return nil, 0, fmt.Errorf("index trailer: %w %d", errVersion, v)
	}
	s = &segment{
		name:  name{number: le.Uint32(t[12:]), marker: le.Uint64(t[16:])},
		end:   int64(le.Uint64(t[24:])),
		count: int(le.Uint32(t[32:])),
		max:   mail.ContentID(t[40:56]),
	}
	if s.end < segmentHeaderLen || s.end > 2*contentMax || int64(s.count)*headerLen > s.end {
		return nil, 0, fmt.Errorf("index trailer: %w", errRecord)
	}
	return s, le.Uint32(t[36:]), nil
}

func (s *segment) blocks() int { return (s.count + blockEntries - 1) / blockEntries }

// blockSpan is where block i is in the index file.
func (s *segment) blockSpan(i int) (off int64, n int) {
	n = min(blockEntries, s.count-i*blockEntries)
	return int64(i) * blockLen, n*entryLen + 4
}

// loadIndex reads what is kept in memory of a segment's index.
func (s *Store) loadIndex(n name) (*segment, error) {
	f, err := s.FS.Open(s.path(n, indexSuffix))
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", n, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", n, err)
	}
	t := make([]byte, trailerLen)
	if _, err := f.ReadAt(t, max(0, st.Size()-trailerLen)); err != nil {
		return nil, fmt.Errorf("read index %s: %w", n, err)
	}
	g, sum, err := decodeTrailer(t)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", n, err)
	}
	blocks := int64(0)
	if g.count > 0 {
		off, k := g.blockSpan(g.blocks() - 1)
		blocks = off + int64(k)
	}
	b := make([]byte, g.blocks()*fenceLen)
	if g.name != n || st.Size() != blocks+int64(len(b))+trailerLen {
		return nil, fmt.Errorf("index %s: %w", n, errRecord)
	}
	if _, err := f.ReadAt(b, blocks); err != nil && len(b) > 0 {
		return nil, fmt.Errorf("read index %s: %w", n, err)
	}
	if checksum(b) != sum {
		return nil, fmt.Errorf("index %s: fences: %w", n, errRecord)
	}
	for ; len(b) > 0; b = b[fenceLen:] {
		g.fences = append(g.fences, mail.ContentID(b[:fenceLen]))
	}
	return g, nil
}

// writeIndex makes the index durable and drops the entries from memory. The
// file gets its name when it is complete and synced: an index that is there
// and does not decode is damaged, not torn.
func (s *Store) writeIndex(g *segment) error {
	unnamed := s.path(g.name, newSuffix)
	f, err := s.FS.Create(unnamed, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create index %s: %w", g.name, err)
	}
	if _, err = f.Write(encodeIndex(g)); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = s.FS.Rename(unnamed, s.path(g.name, indexSuffix))
	}
	if err == nil {
		err = s.syncDir(s.Dir)
	}
	if err != nil {
		s.FS.Remove(unnamed) // it may be what fills the disk; else the next start does it
		return fmt.Errorf("write index %s: %w", g.name, err)
	}
	g.entries = nil
	return nil
}

// blockCache remembers the last block read of each segment, for walks, which
// ask for ids in ascending order.
type blockCache map[*segment]cached

type cached struct {
	block   int
	entries []entry
}

// findIn looks an id up in one segment. An error means that the index cannot be read.
func (s *Store) findIn(g *segment, id mail.ContentID, cache blockCache) (entry, bool, error) {
	i := sort.Search(len(g.fences), func(i int) bool { return bytes.Compare(g.fences[i][:], id[:]) > 0 }) - 1
	if i < 0 || bytes.Compare(id[:], g.max[:]) > 0 {
		return entry{}, false, nil
	}
	es, err := s.block(g, i, cache)
	if err != nil {
		return entry{}, false, err
	}
	k, ok := slices.BinarySearchFunc(es, id, func(e entry, id mail.ContentID) int { return bytes.Compare(e.ID[:], id[:]) })
	if !ok {
		return entry{}, false, nil
	}
	return es[k], true, nil
}

func (s *Store) block(g *segment, i int, cache blockCache) ([]entry, error) {
	if g.entries != nil {
		return g.entries[i*blockEntries : min((i+1)*blockEntries, g.count)], nil
	}
	if c, ok := cache[g]; ok && c.block == i {
		return c.entries, nil
	}
	f, err := s.FS.Open(s.path(g.name, indexSuffix))
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", g.name, err)
	}
	defer f.Close()
	off, n := g.blockSpan(i)
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("%w %s: %w", errRead, g.name, err)
	}
	es, err := decodeBlock(b, g.number)
	if err != nil {
		return nil, fmt.Errorf("index %s block %d: %w", g.name, i, err)
	}
	if cache != nil {
		cache[g] = cached{i, es}
	}
	return es, nil
}

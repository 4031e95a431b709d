package content

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"mailraft/mail"
)

// A segment file is a header and then records without gaps; a record is a
// header and its data. The values below are on disk: never change one without
// a new version of the format.
const (
	segmentHeaderLen = 32
	headerLen        = 72
	version          = 1

	chunkMax   = 256 << 10 // bytes of content in one record
	contentMax = 2 << 30   // so that offsets in a segment fit in 32 bits, copies included
)

var segmentMagic = [8]byte{'m', 'r', 'c', 'o', 'n', 't', 's', '\n'}

// kind is the type of a record.
type kind uint8

const (
	kindSmall kind = 1 // a whole content of at most chunkMax bytes
	kindChunk kind = 2 // a piece of a larger one: chunkMax bytes, the last may be shorter
	kindEnd   kind = 3 // closes a larger one; its data says where the pieces are
)

var errRecord = errors.New("malformed record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// header stands before the data of every record.
type header struct {
	kind    kind
	chunk   uint32 // number of the piece, from 0; the number of pieces in an end record
	length  uint32 // of the data
	synced  uint32 // the segment was known to be synced up to here when this was written
	content mail.Content
	dataSum uint32
}

// encode writes the header of a record that goes to offset off. The offset is
// in the checksum but not in the record, so that one that a disk put in the
// wrong place is not taken for the right one.
func (h *header) encode(b []byte, marker uint64, off uint32) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], marker)
	b[8], b[9], b[10], b[11] = byte(h.kind), 0, 0, 0
	le.PutUint32(b[12:], h.chunk)
	le.PutUint32(b[16:], h.length)
	le.PutUint32(b[20:], h.synced)
	putContent(b[24:], h.content)
	le.PutUint32(b[64:], h.dataSum)
	le.PutUint32(b[68:], headerSum(b, off))
}

func headerSum(b []byte, off uint32) uint32 {
	var at [4]byte
	binary.LittleEndian.PutUint32(at[:], off)
	return crc32.Update(checksum(b[:68]), castagnoli, at[:])
}

// decodeHeader reads the header found at offset off of the segment with this
// marker. Nothing of it is believed before its checksum is right.
func decodeHeader(b []byte, marker uint64, off uint32) (header, error) {
	le := binary.LittleEndian
	if len(b) < headerLen || le.Uint64(b) != marker || le.Uint32(b[68:]) != headerSum(b, off) {
		return header{}, errRecord
	}
	h := header{
		kind:    kind(b[8]),
		chunk:   le.Uint32(b[12:]),
		length:  le.Uint32(b[16:]),
		synced:  le.Uint32(b[20:]),
		content: getContent(b[24:]),
		dataSum: le.Uint32(b[64:]),
	}
	if h.length > chunkMax || h.synced > off || h.content.Size < 0 || h.content.Size > contentMax {
		return header{}, errRecord
	}
	size := h.content.Size
	ok := false
	switch h.kind {
	case kindSmall:
		ok = int64(h.length) == size && h.chunk == 0
	case kindChunk:
		ok = h.length > 0 && h.chunk < contentMax/chunkMax
	case kindEnd:
		ok = size > chunkMax && h.chunk == chunks(size) && h.length == h.chunk*extentLen
	}
	if !ok {
		return header{}, errRecord
	}
	return h, nil
}

// chunks is the number of pieces of a content of this size.
func chunks(size int64) uint32 { return uint32((size + chunkMax - 1) / chunkMax) }

const contentLen = 40

func putContent(b []byte, c mail.Content) {
	copy(b, c.ID[:])
	binary.LittleEndian.PutUint64(b[16:], uint64(c.Size))
	binary.LittleEndian.PutUint64(b[24:], c.Sum)
	binary.LittleEndian.PutUint64(b[32:], uint64(c.NotAfter))
}

func getContent(b []byte) mail.Content {
	return mail.Content{
		ID:       mail.ContentID(b[:16]),
		Size:     int64(binary.LittleEndian.Uint64(b[16:])),
		Sum:      binary.LittleEndian.Uint64(b[24:]),
		NotAfter: mail.Time(binary.LittleEndian.Uint64(b[32:])),
	}
}

// extent says where the record of one piece is.
type extent struct {
	segment uint32
	off     uint32 // of the record's header
	length  uint32 // of its data
}

func (x extent) place() place { return place{x.segment, x.off} }

const extentLen = 12

func appendExtents(b []byte, es []extent) []byte {
	for _, e := range es {
		b = binary.LittleEndian.AppendUint32(b, e.segment)
		b = binary.LittleEndian.AppendUint32(b, e.off)
		b = binary.LittleEndian.AppendUint32(b, e.length)
	}
	return b
}

// decodeExtents reads the data of an end record for a content of this size.
func decodeExtents(b []byte, size int64) ([]extent, error) {
	if size <= chunkMax || size > contentMax || len(b) != int(chunks(size))*extentLen {
		return nil, fmt.Errorf("extents: %w", errRecord)
	}
	es := make([]extent, 0, len(b)/extentLen)
	for ; len(b) > 0; b = b[extentLen:] {
		e := extent{
			segment: binary.LittleEndian.Uint32(b),
			off:     binary.LittleEndian.Uint32(b[4:]),
			length:  binary.LittleEndian.Uint32(b[8:]),
		}
		if int64(e.length) != min(size, chunkMax) {
			return nil, fmt.Errorf("extents: %w", errRecord)
		}
		size -= int64(e.length)
		es = append(es, e)
	}
	return es, nil
}

func encodeSegmentHeader(number uint32, marker uint64) []byte {
	b := make([]byte, segmentHeaderLen)
	copy(b, segmentMagic[:])
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], number)
	binary.LittleEndian.PutUint64(b[16:], marker)
	binary.LittleEndian.PutUint32(b[28:], checksum(b[:28]))
	return b
}

// errVersion is a format that a later version of this package wrote.
var errVersion = errors.New("unknown format version")

func decodeSegmentHeader(b []byte) (number uint32, marker uint64, err error) {
	le := binary.LittleEndian
	if len(b) < segmentHeaderLen || [8]byte(b[:8]) != segmentMagic || le.Uint32(b[28:]) != checksum(b[:28]) {
		return 0, 0, fmt.Errorf("segment header: %w", errRecord)
	}
	if v := le.Uint32(b[8:]); v != version {
		return 0, 0, fmt.Errorf("segment header: %w %d", errVersion, v)
	}
	return le.Uint32(b[12:]), le.Uint64(b[16:]), nil
}

// markerFor makes the word that begins every record of a segment. It comes
// from the random part of the first content's id, which no sender of mail
// knows: when a scan has to look for the next record in a damaged place, bytes
// that somebody mailed cannot pass for one.
func markerFor(id mail.ContentID, number uint32) uint64 {
	return binary.BigEndian.Uint64(id[8:]) ^ 0x6d7263_9e3779b97f ^ uint64(number)*0x9e3779b97f4a7c15
}

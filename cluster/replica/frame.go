package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"mailraft/mail"
)

// A frame is four bytes of length (of what follows), one byte of kind, and the
// body; integers are big endian. The numbers are on the wire: never renumber.
const (
	kindHello = 1  // magic 4, version 2, role 1, from 8, to 8
	kindBegin = 2  // id
	kindData  = 3  // id, 1 to dataMax bytes
	kindEnd   = 4  // id, size 8, sum 8, not-after 8
	kindAbort = 5  // id
	kindPut   = 6  // id, sum 8, not-after 8, 0 to dataMax bytes: a whole content
	kindAck   = 7  // id, size 8, sum 8: synced
	kindNack  = 8  // id, reason 1
	kindPull  = 9  // id, size 8, sum 8
	kindPing  = 10 // nothing: "I am here and not stuck"
)

const (
	version   = 1
	magic     = 0x4d524354 // "MRCT"
	dataMax   = 256 << 10
	idSize    = 16
	headSize  = 5
	headMax   = headSize + idSize + 16 // of a PUT, the longest before a payload
	frameMax  = headMax + dataMax
	answerMax = headSize + idSize + 24 // of frames without a payload
)

// Reasons of a NACK, on the wire.
const (
	reasonFull     = 1 // the disk takes no new content
	reasonBusy     = 2 // being written by somebody else, or too many open: try again
	reasonMismatch = 3 // size or checksum differ from what arrived, or from the content of that id
	reasonError    = 4 // the disk failed
	reasonNotFound = 5
	reasonDamaged  = 6
)

// ErrProtocol reports bytes that are not a frame, or a frame out of place. The
// connection is closed.
var ErrProtocol = errors.New("content protocol violated")

// frame is one decoded frame; which fields count depends on the kind.
type frame struct {
	kind     byte
	id       mail.ContentID
	size     int64
	sum      uint64
	notAfter mail.Time
	reason   byte
	data     []byte // valid until the next frame is read
}

// decoder reads frames without copying: its buffer holds the longest frame
// that its side may receive, and nothing is allocated for a length that a peer
// named.
type decoder struct {
	br   *bufio.Reader
	max  int
	used int
}

func newDecoder(r io.Reader, frameSizeMax int) *decoder {
	return &decoder{br: bufio.NewReaderSize(r, frameSizeMax), max: frameSizeMax}
}

// next returns the next frame. io.EOF only between two frames.
func (d *decoder) next() (frame, error) {
	if _, err := d.br.Discard(d.used); err != nil {
		return frame{}, err
	}
	d.used = 0
	head, err := d.br.Peek(headSize)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	n, kind := int64(binary.BigEndian.Uint32(head)), head[4]
	least, most := bodySize(kind)
	if n-1 < least || n-1 > most || n+4 > int64(d.max) {
		return frame{}, fmt.Errorf("%w: kind %d with %d bytes", ErrProtocol, kind, n)
	}
	b, err := d.br.Peek(int(n) + 4)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	d.used = len(b)
	return parse(kind, b[headSize:])
}

// bodySize is the bound for each kind; an unknown kind has none that fits.
func bodySize(kind byte) (least, most int64) {
	switch kind {
	case kindHello:
		return 23, 23
	case kindBegin, kindAbort:
		return idSize, idSize
	case kindData:
		return idSize + 1, idSize + dataMax
	case kindEnd:
		return idSize + 24, idSize + 24
	case kindPut:
		return idSize + 16, idSize + 16 + dataMax
	case kindAck, kindPull:
		return idSize + 16, idSize + 16
	case kindNack:
		return idSize + 1, idSize + 1
	case kindPing:
		return 0, 0
	}
	return 1, 0
}

func parse(kind byte, b []byte) (frame, error) {
	f := frame{kind: kind}
	if kind == kindHello || kind == kindPing {
		f.data = b
		return f, nil
	}
	f.id = mail.ContentID(b[:idSize])
	b = b[idSize:]
	u64 := binary.BigEndian.Uint64
	switch kind {
	case kindData:
		f.data = b
	case kindEnd:
		f.size, f.sum, f.notAfter = int64(u64(b)), u64(b[8:]), mail.Time(u64(b[16:]))
	case kindPut:
		f.sum, f.notAfter, f.data = u64(b), mail.Time(u64(b[8:])), b[16:]
		f.size = int64(len(f.data))
	case kindAck, kindPull:
		f.size, f.sum = int64(u64(b)), u64(b[8:])
	case kindNack:
		f.reason = b[0]
	}
	if f.size < 0 {
		return frame{}, fmt.Errorf("%w: negative size", ErrProtocol)
	}
	return f, nil
}

// append writes the frame behind b: the frames without a payload, and in tests
// all of them.
func (f frame) append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, f.kind)
	if f.kind != kindHello && f.kind != kindPing {
		b = append(b, f.id[:]...)
	}
	u64 := binary.BigEndian.AppendUint64
	switch f.kind {
	case kindEnd:
		b = u64(u64(u64(b, uint64(f.size)), f.sum), uint64(f.notAfter))
	case kindPut:
		b = u64(u64(b, f.sum), uint64(f.notAfter))
	case kindAck, kindPull:
		b = u64(u64(b, uint64(f.size)), f.sum)
	case kindNack:
		b = append(b, f.reason)
	}
	b = append(b, f.data...)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// seal makes a buffer the frame f: without a payload a tiny one, else the
// header is put right before the payload that is there.
func (b *buffer) seal(f frame) {
	if f.kind != kindData && f.kind != kindPut {
		b.b, b.from = f.append(b.b[:0]), 0
		return
	}
	var head [headMax]byte
	h := f.append(head[:0])
	binary.BigEndian.PutUint32(h, uint32(len(h)-4+len(b.payload())))
	b.from = headMax - len(h)
	copy(b.b[b.from:], h)
}

func control(f frame) *buffer {
	b := tiny()
	b.seal(f)
	return b
}

// hello opens a connection, in both directions. Both ids are in it, so that a
// member that came back under the same address with a new queue database id is
// never credited with what the old one held.
type hello struct {
	version  uint16
	role     byte
	from, to mail.MemberID
}

// Roles of a connection.
const (
	roleUpload = 1
	rolePull   = 2
)

func (h hello) frame() frame {
	b := binary.BigEndian.AppendUint32(nil, magic)
	b = append(binary.BigEndian.AppendUint16(b, h.version), h.role)
	b = binary.BigEndian.AppendUint64(b, uint64(h.from))
	return frame{kind: kindHello, data: binary.BigEndian.AppendUint64(b, uint64(h.to))}
}

func (d *decoder) hello() (hello, error) {
	f, err := d.next()
	if err != nil {
		return hello{}, err
	}
	if f.kind != kindHello || binary.BigEndian.Uint32(f.data) != magic {
		return hello{}, fmt.Errorf("%w: no hello", ErrProtocol)
	}
	h := hello{version: binary.BigEndian.Uint16(f.data[4:]), role: f.data[6]}
	h.from = mail.MemberID(binary.BigEndian.Uint64(f.data[7:]))
	h.to = mail.MemberID(binary.BigEndian.Uint64(f.data[15:]))
	return h, nil
}

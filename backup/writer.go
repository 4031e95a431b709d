package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"mailraft/mail"

	"github.com/fxamacker/cbor/v2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Writer writes a backup: the state first, then each content, then the tail.
// The first error stays: nothing is written after it.
type Writer struct {
	w    io.Writer
	sum  hash.Hash
	tail Tail
	err  error
}

// NewWriter begins a backup.
func NewWriter(w io.Writer, h Head) *Writer {
	b := &Writer{w: w, sum: sha256.New()}
	b.write([]byte(magic))
	b.document(kindHead, h)
	return b
}

func (b *Writer) write(p []byte) {
	if b.err == nil {
		b.sum.Write(p)
		_, b.err = b.w.Write(p)
	}
}

func (b *Writer) record(k kind, payload []byte) {
	head := binary.BigEndian.AppendUint32([]byte{byte(k)}, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
	b.write(head)
	b.write(payload)
	b.write(binary.BigEndian.AppendUint32(nil, sum))
}

func (b *Writer) document(k kind, v any) {
	p, err := json.Marshal(v)
	if err == nil && len(p) > pieceMax {
		err = fmt.Errorf("%d bytes", len(p))
	}
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("write backup: %w", err)
	}
	b.record(k, p)
}

// pieces writes a stream as records of one kind.
func (b *Writer) pieces(k kind, r io.Reader) (n int64, readErr error) {
	buf := make([]byte, pieceMax)
	for b.err == nil {
		m, err := io.ReadFull(r, buf)
		if m > 0 {
			b.record(k, buf[:m])
			n += int64(m)
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return n, nil
		default:
			return n, err
		}
	}
	return n, nil
}

// Write implements io.Writer for the rows of the state.
func (b *Writer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && b.err == nil; {
		n := min(len(rest), pieceMax)
		b.record(kindState, rest[:n])
		b.tail.State += int64(n)
		rest = rest[n:]
	}
	return len(p), b.err
}

// Content writes a content. If reading it fails, the backup has none of it, and
// goes on: the error is of the reader, and Err tells of the backup.
func (b *Writer) Content(c mail.Content, r io.Reader) error {
	p, err := cbor.Marshal(c)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	b.record(kindContent, p)
	n, err := b.pieces(kindData, r)
	if err == nil && n != c.Size && b.err == nil {
		err = fmt.Errorf("content %s has %d bytes, not %d", c.ID, n, c.Size)
	}
	if err != nil {
		b.record(kindDrop, nil)
		return err
	}
	b.tail.Contents++
	b.tail.Bytes += c.Size
	return nil
}

// absentShown bounds the names of what is not there.
const absentShown = 100

// Absent notes a content that nobody could give.
func (b *Writer) Absent(id mail.ContentID) {
	if b.tail.Absent++; len(b.tail.AbsentFirst) < absentShown {
		b.tail.AbsentFirst = append(b.tail.AbsentFirst, id)
	}
}

// Expired notes a content that was gone, and that nobody wants any more.
func (b *Writer) Expired() { b.tail.Expired++ }

// Err is the first error of writing.
func (b *Writer) Err() error { return b.err }

// Close ends the backup. Without it a reader refuses what there is.
func (b *Writer) Close(c Counts) error {
	b.tail.Counts, b.tail.SHA256 = c, hex.EncodeToString(b.sum.Sum(nil))
	b.document(kindTail, b.tail)
	return b.err
}

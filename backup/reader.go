package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"mailraft/mail"

	"github.com/cespare/xxhash/v2"
	"github.com/fxamacker/cbor/v2"
)

// Reader reads a backup once, from its beginning. Nothing that it gives may be
// believed before Close has returned nil.
type Reader struct {
	Head Head
	Tail Tail // after Close

	r    *bufio.Reader
	sum  hash.Hash
	next record // that was read and not yet used
	buf  []byte
	err  error
}

type record struct {
	kind    kind
	payload []byte
}

// NewReader reads the head of a backup.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{r: bufio.NewReaderSize(r, pieceMax), sum: sha256.New(), buf: make([]byte, pieceMax)}
	m := make([]byte, len(magic))
	if _, err := io.ReadFull(b.r, m); err != nil || string(m) != magic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrDamaged)
	}
	b.sum.Write(m)
	b.advance()
	if b.err == nil && b.next.kind != kindHead {
		b.fail("it has no head")
	}
	b.document(&b.Head)
	b.advance()
	return b, b.err
}

func (b *Reader) fail(format string, a ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, a...))
	}
}

// advance reads the next record. What it read before is overwritten.
func (b *Reader) advance() {
	b.next = record{}
	if b.err != nil {
		return
	}
	var head [5]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil {
		b.short(err)
		return
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > pieceMax {
		b.fail("a record of %d bytes", n)
		return
	}
	var sum [4]byte
	_, err := io.ReadFull(b.r, b.buf[:n])
	if err == nil {
		_, err = io.ReadFull(b.r, sum[:])
	}
	if err != nil {
		b.short(err)
		return
	}
	if crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, b.buf[:n]) != binary.BigEndian.Uint32(sum[:]) {
		b.fail("the checksum of a record is wrong")
		return
	}
	b.next = record{kind(head[0]), b.buf[:n]}
	if b.next.kind != kindTail {
		b.sum.Write(head[:])
		b.sum.Write(b.buf[:n])
		b.sum.Write(sum[:])
	}
}

// short tells the end of the file from an error of reading it.
func (b *Reader) short(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		b.fail("it ends too early")
	} else if b.err == nil {
		b.err = fmt.Errorf("read backup: %w", err)
	}
}

func (b *Reader) document(v any) {
	if b.err == nil {
		if err := json.Unmarshal(b.next.payload, v); err != nil {
			b.fail("%v", err)
		}
	}
}

// State is the rows, to be read before anything else.
func (b *Reader) State() io.Reader { return &pieces{b: b, kind: kindState} }

// pieces reads the records of one kind as a stream.
type pieces struct {
	b     *Reader
	kind  kind
	begun bool
	rest  []byte
}

func (p *pieces) Read(to []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.begun && p.b.next.kind == p.kind {
			p.b.advance()
		}
		switch p.begun = true; {
		case p.b.err != nil:
			return 0, p.b.err
		case p.b.next.kind != p.kind:
			return 0, io.EOF
		}
		p.rest = p.b.next.payload
	}
	n := copy(to, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Contents reads every content to its end. take gets its bytes in order; done
// says that this was all of it, and that size and sum are right, or, with
// false, that it is not to be used. An error of either ends the reading.
func (b *Reader) Contents(take func(mail.Content, []byte) error, done func(c mail.Content, whole bool) error) error {
	for b.err == nil && b.next.kind == kindContent {
		var c mail.Content
		if err := cbor.Unmarshal(b.next.payload, &c); err != nil {
			b.fail("%v", err)
			break
		}
		if err := b.content(c, take, done); err != nil {
			return err
		}
	}
	return b.err
}

func (b *Reader) content(c mail.Content, take func(mail.Content, []byte) error, done func(mail.Content, bool) error) error {
	size, sum := int64(0), xxhash.New()
	for b.advance(); b.next.kind == kindData; b.advance() {
		size += int64(len(b.next.payload))
		_, _ = sum.Write(b.next.payload)
		if err := take(c, b.next.payload); err != nil {
			return err
		}
	}
	whole := b.err == nil && b.next.kind != kindDrop
	if whole && (size != c.Size || sum.Sum64() != c.Sum) {
		b.fail("content %s is not what the state says", c.ID)
		whole = false
	}
	if err := done(c, whole); err != nil {
		return err
	}
	if whole {
		b.Tail.Contents++
		b.Tail.Bytes += size
	} else if b.err == nil {
		b.advance()
	}
	return b.err
}

// Close reads the tail, and compares.
func (b *Reader) Close() error {
	if b.err == nil && b.next.kind != kindTail {
		b.fail("a record of kind %q where the tail should be", b.next.kind)
	}
	seen := b.Tail
	b.document(&b.Tail)
	switch {
	case b.err != nil:
	case b.Tail.SHA256 != hex.EncodeToString(b.sum.Sum(nil)):
		b.fail("the checksum of the whole is wrong")
	case b.Tail.Contents != seen.Contents || b.Tail.Bytes != seen.Bytes:
		b.fail("%d contents are there, and %d should be", seen.Contents, b.Tail.Contents)
	default:
		if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
			b.fail("something follows its end")
		}
	}
	return b.err
}

// Check reads a backup through, and returns what it says of itself. progress,
// if not nil, is called now and then.
func Check(r io.Reader, progress func(h Head, contents, bytes int64)) (h Head, t Tail, err error) {
	b, err := NewReader(r)
	if err != nil {
		return h, t, err
	}
	if _, err := io.Copy(io.Discard, b.State()); err != nil {
		return b.Head, t, err
	}
	err = b.Contents(func(mail.Content, []byte) error { return nil }, func(mail.Content, bool) error {
		if progress != nil {
			progress(b.Head, b.Tail.Contents, b.Tail.Bytes)
		}
		return nil
	})
	if err == nil {
		err = b.Close()
	}
	return b.Head, b.Tail, err
}

package mail

import (
	"errors"
	"fmt"
	"io"
)

// Overlay is what filters have changed in the header of a message. The content
// stays as it was received; this is laid over it whenever it is read to be
// delivered, sent again, reported on or shown.
type Overlay struct {
	Edits []Edit `cbor:"1,keyasint"`           // by position, at most one at each
	Grown int64  `cbor:"2,keyasint,omitempty"` // bytes by which the message is longer for it; below zero: shorter
}

// Edit is a change at one position of the header.
type Edit struct {
	At   int    `cbor:"1,keyasint,omitempty"` // a field of the header as received, counted from 0; as many as there are: behind the last
	Drop bool   `cbor:"2,keyasint,omitempty"` // that field is left out
	Text string `cbor:"3,keyasint,omitempty"` // whole fields with CRLF: before that field, or in its place
}

// OverlayMax bounds an overlay, in bytes: it is in an entry, and in the row.
const OverlayMax = 64 << 10

// editCost is what an edit counts for besides its text.
const editCost = 16

// ErrOverlay reports changes that cannot be laid over anything.
var ErrOverlay = errors.New("malformed header changes")

// Check refuses what no filter may bring into a message: text that is not
// whole fields, positions out of order, more than OverlayMax.
func (o *Overlay) Check() error {
	if o == nil {
		return nil
	}
	size, last := 0, -1
	for _, e := range o.Edits {
		size += editCost + len(e.Text)
		if e.At <= last || size > OverlayMax {
			return fmt.Errorf("%d bytes at field %d: %w", size, e.At, ErrOverlay)
		}
		if _, err := fields(e.Text); err != nil {
			return fmt.Errorf("at field %d: %w: %w", e.At, ErrOverlay, err)
		}
		last = e.At
	}
	return nil
}

// Size is how long a content of n bytes is under the overlay.
func (o *Overlay) Size(n int64) int64 {
	if o == nil {
		return n
	}
	return n + o.Grown
}

// Changes counts the fields that were added, changed or removed.
func (o *Overlay) Changes() (n int) {
	if o == nil {
		return 0
	}
	for _, e := range o.Edits {
		added, _ := fields(e.Text)
		if e.Drop && added == 0 {
			added = 1
		}
		n += added
	}
	return n
}

// Over is the message: content with the changes laid over it. It can be read
// again from its beginning; no other seek is of use. Without changes it is the
// content itself.
func (o *Overlay) Over(content io.ReadSeeker) io.ReadSeeker {
	if o == nil || len(o.Edits) == 0 {
		return content
	}
	return &overlaid{src: content, edits: o.Edits, left: o.Edits}
}

// overlaid lays edits over a header as it goes by. What it holds is a buffer
// and the text of one edit.
type overlaid struct {
	src   io.ReadSeeker
	edits []Edit

	left []Edit // not yet laid
	scan FieldScanner
	drop bool // the present field is left out
	line bool // the present line is not ended

	buf []byte // of the source
	in  []byte // of buf, not looked at
	out []byte // not handed out
	err error  // of the source
}

const overlayBuffer = 8 << 10

// Read implements io.Reader.
func (r *overlaid) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		switch {
		case !r.scan.Header() && len(r.in) > 0:
			r.out, r.in = r.in, nil
		case r.err != nil:
			return 0, r.err
		case !r.scan.Header():
			return r.src.Read(p)
		case len(r.in) == 0:
			r.fill()
		default:
			r.part()
		}
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

func (r *overlaid) fill() {
	if r.buf == nil {
		r.buf = make([]byte, overlayBuffer)
	}
	n, err := r.src.Read(r.buf)
	r.in = r.buf[:n]
	if r.err = err; err != io.EOF {
		return
	}
	for len(r.in) > 0 && r.scan.Header() {
		r.part()
	}
	if kind, part := r.scan.End(); kind != PartNone {
		r.lay(kind, part)
	}
	if r.scan.Header() { // it is all there is
		r.endLine()
		r.text(int(^uint(0) >> 1))
	}
}

func (r *overlaid) part() {
	var kind FieldPart
	var part []byte
	kind, part, r.in = r.scan.Next(r.in)
	r.lay(kind, part)
}

// lay puts a part of the message out, and before it what belongs there.
func (r *overlaid) lay(kind FieldPart, part []byte) {
	switch kind {
	case PartNone:
		return
	case PartField:
		r.drop = r.text(r.scan.Fields - 1)
	case PartMore:
	case PartSeparator, PartBody:
		r.text(int(^uint(0) >> 1))
		r.drop = false
		if kind == PartBody { // whatever is read as header now, it must not be this
			r.out = append(r.out, '\r', '\n')
		}
	}
	if r.line = !ended(part); !r.drop {
		r.out = append(r.out, part...)
	}
}

// text puts out what belongs up to and at a field; true: that field is dropped.
func (r *overlaid) text(at int) (drop bool) {
	for len(r.left) > 0 && r.left[0].At <= at {
		r.out = append(r.out, r.left[0].Text...)
		drop = r.left[0].Drop
		r.left = r.left[1:]
	}
	return drop
}

// endLine ends a header that ends within a line.
func (r *overlaid) endLine() {
	if r.line && !r.drop {
		r.out = append(r.out, '\r', '\n')
	}
}

// Seek implements io.Seeker, for the beginning.
func (r *overlaid) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, errors.New("a message with changed header is read from its beginning")
	}
	if _, err := r.src.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	*r = overlaid{src: r.src, edits: r.edits, left: r.edits, buf: r.buf}
	return 0, nil
}

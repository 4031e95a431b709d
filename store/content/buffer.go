package content

import "sync"

// Buffers hold a record on its way to or from the disk: room for the header,
// then the data. They come in classes, so that thousands of slow sessions with
// small messages do not hold 256 KiB each.
var classes = [...]int{4 << 10, 16 << 10, 64 << 10, chunkMax}

type buffer struct {
	b     []byte // headerLen bytes, then data as far as there is any
	class int
}

var pools [len(classes)]sync.Pool

// newBuffer returns an empty buffer with room for n bytes of data.
func newBuffer(n int) *buffer {
	class := 0
	for n > classes[class] {
		class++
	}
	if b, ok := pools[class].Get().(*buffer); ok {
		b.b = b.b[:headerLen]
		return b
	}
	return &buffer{b: make([]byte, headerLen, headerLen+classes[class]), class: class}
}

func (b *buffer) free() {
	if b != nil {
		pools[b.class].Put(b)
	}
}

func (b *buffer) data() []byte { return b.b[headerLen:] }

// grown returns a larger buffer with the same data, and room for n bytes in
// all; b is gone.
func (b *buffer) grown(n int) *buffer {
	g := newBuffer(max(n, classes[b.class]+1))
	g.b = append(g.b, b.data()...)
	b.free()
	return g
}

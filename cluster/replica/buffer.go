package replica

import (
	"sync"
	"sync/atomic"
)

// Sizes of buffers, header included. The first bytes of an upload go into a
// small one: most mail never needs more, and a session that has hardly begun
// holds little. A large one is four TLS records.
const (
	tinySize  = 64
	smallSize = 16 << 10
	largeSize = 64 << 10
)

// buffer is one frame in the making: room for the header, then the payload.
// Once it is sealed it is never written again, so that all peers' queues share
// it; the last one to let go gives it back.
type buffer struct {
	b    []byte
	from int // where the sealed frame begins
	refs atomic.Int32
	pool *sync.Pool
}

var tinyPool, smallPool, largePool sync.Pool

func newBuffer(pool *sync.Pool, size int) *buffer {
	b, _ := pool.Get().(*buffer)
	if b == nil {
		b = &buffer{b: make([]byte, size), pool: pool}
	}
	b.b, b.from = b.b[:headMax], 0
	b.refs.Store(1)
	return b
}

func tiny() *buffer  { return newBuffer(&tinyPool, tinySize) }
func small() *buffer { return newBuffer(&smallPool, smallSize) }
func large() *buffer { return newBuffer(&largePool, largeSize) }

// fill copies from p what fits and returns how much.
func (b *buffer) fill(p []byte) int {
	n := copy(b.b[len(b.b):cap(b.b)], p)
	b.b = b.b[:len(b.b)+n]
	return n
}

func (b *buffer) full() bool      { return len(b.b) == cap(b.b) }
func (b *buffer) payload() []byte { return b.b[headMax:] }
func (b *buffer) frame() []byte   { return b.b[b.from:] }
func (b *buffer) cost() int64     { return int64(cap(b.b)) } // memory held, not bytes in use
func (b *buffer) hold()           { b.refs.Add(1) }

func (b *buffer) release() {
	if b.refs.Add(-1) == 0 {
		b.pool.Put(b)
	}
}

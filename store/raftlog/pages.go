package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
)

// ErrDamaged says that the log's file is not what was written to it.
var ErrDamaged = errors.New("the raft log is damaged")

func damaged(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, a...)...)
}

// The format of a bbolt file (bbolt, internal/common). bbolt itself trusts
// what it reads: a wrong page ends the process by a panic in a goroutine of
// its own, a file that was cut by a fault of the memory map, and a damaged
// meta page is passed over in silence, which takes back the last transaction:
// an append or a vote that others were told of. So the file is walked here
// before bbolt sees it.
const (
	pageHeaderLen  = 16 // id, flags, count, overflow
	pageElementLen = 16
	bucketLen      = 16 // root page, sequence
	metaLen        = 64

	pageBranch  = 0x01
	pageLeaf    = 0x02
	pageMeta    = 0x04
	leafBucket  = 0x01
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	depthMax    = 32
)

var native = binary.NativeEndian

// pages walks the trees of one bbolt file.
type pages struct {
	f    io.ReaderAt
	size int64 // of a page
	end  uint64
	seen []uint64 // a bit for each page that was met
}

// meta is the root of one transaction.
type meta struct{ pageSize, root, end, txid uint64 }

func readMeta(f io.ReaderAt, at int64, id uint64) (meta, error) {
	b := make([]byte, pageHeaderLen+metaLen)
	if _, err := f.ReadAt(b, at); err != nil {
		return meta{}, damaged("meta page %d: %w", id, err)
	}
	h := fnv.New64a()
	m := b[pageHeaderLen:]
	h.Write(m[:metaLen-8])
	if native.Uint64(b) != id || native.Uint16(b[8:]) != pageMeta || native.Uint32(m) != boltMagic ||
		native.Uint32(m[4:]) != boltVersion || native.Uint64(m[metaLen-8:]) != h.Sum64() {
		return meta{}, damaged("meta page %d does not pass its checksum", id)
	}
	return meta{uint64(native.Uint32(m[8:])), native.Uint64(m[16:]), native.Uint64(m[40:]), native.Uint64(m[48:])}, nil
}

// walk checks the whole file of this length, and calls visit with every key
// and value of every bucket. Both are valid until it returns.
func walk(f io.ReaderAt, length int64, visit func(bucket, key, value []byte) error) error {
	first, err := readMeta(f, 0, 0)
	if err != nil {
		return err
	}
	if first.pageSize < 1024 || bits.OnesCount64(first.pageSize) != 1 {
		return damaged("pages of %d bytes", first.pageSize)
	}
	m, err := readMeta(f, int64(first.pageSize), 1)
	if err != nil {
		return err
	}
	if m.txid < first.txid {
		m = first
	}
	if m.end > uint64(length)/first.pageSize {
		return damaged("the file has %d bytes of %d", length, m.end*first.pageSize)
	}
	p := &pages{f: f, size: int64(first.pageSize), end: m.end, seen: make([]uint64, m.end/64+1)}
	return p.tree(m.root, func(flags uint32, name, value []byte) error {
		if flags&leafBucket == 0 {
			return damaged("%q is no bucket", name)
		}
		return p.bucket(bytes.Clone(name), bytes.Clone(value), visit)
	})
}

// bucket walks a bucket by its entry in the root; a small one lies in it.
func (p *pages) bucket(name, entry []byte, visit func(bucket, key, value []byte) error) error {
	each := func(flags uint32, key, value []byte) error {
		if flags != 0 {
			return damaged("key %q of bucket %q has flags %x", key, name, flags)
		}
		return visit(name, key, value)
	}
	if len(entry) < bucketLen {
		return damaged("bucket %q has %d bytes", name, len(entry))
	}
	if root := native.Uint64(entry); root != 0 {
		return p.tree(root, each)
	}
	if len(entry) < bucketLen+pageHeaderLen || native.Uint16(entry[bucketLen+8:]) != pageLeaf {
		return damaged("bucket %q is malformed", name)
	}
	var last []byte
	return leaf(entry[bucketLen:], 0, nil, &last, each)
}

func (p *pages) tree(root uint64, visit func(flags uint32, key, value []byte) error) error {
	var last []byte
	return p.node(root, 0, nil, &last, visit)
}

// node walks the tree below a page in order. low is what its keys must not be
// below, last is the key before; keys go up through the whole tree.
func (p *pages) node(id uint64, depth int, low []byte, last *[]byte, visit func(flags uint32, key, value []byte) error) error {
	if depth > depthMax {
		return damaged("the tree is deeper than %d", depthMax)
	}
	b, err := p.page(id)
	if err != nil {
		return err
	}
	if native.Uint16(b[8:]) == pageLeaf {
		return leaf(b, id, low, last, visit)
	}
	n := int(native.Uint16(b[10:]))
	if n == 0 || pageHeaderLen+n*pageElementLen > len(b) {
		return damaged("page %d has %d elements", id, n)
	}
	for i := range n {
		at := pageHeaderLen + i*pageElementLen
		k, ok := slice(b, at, native.Uint32(b[at:]), native.Uint32(b[at+4:]))
		if !ok || bytes.Compare(k, low) < 0 || i > 0 && bytes.Compare(k, *last) <= 0 {
			return damaged("page %d: key %d is out of place", id, i)
		}
		if err := p.node(native.Uint64(b[at+8:]), depth+1, k, last, visit); err != nil {
			return err
		}
	}
	return nil
}

// leaf walks the elements of a leaf page.
func leaf(b []byte, id uint64, low []byte, last *[]byte, visit func(flags uint32, key, value []byte) error) error {
	n := int(native.Uint16(b[10:]))
	if pageHeaderLen+n*pageElementLen > len(b) {
		return damaged("page %d has %d elements", id, n)
	}
	for i := range n {
		at := pageHeaderLen + i*pageElementLen
		flags, pos := native.Uint32(b[at:]), native.Uint32(b[at+4:])
		ks, vs := native.Uint32(b[at+8:]), native.Uint32(b[at+12:])
		k, ok := slice(b, at, pos, ks)
		v, ok2 := slice(b, at+int(ks), pos, vs)
		if !ok || !ok2 || ks == 0 || bytes.Compare(k, *last) <= 0 || bytes.Compare(k, low) < 0 {
			return damaged("page %d: element %d is out of place", id, i)
		}
		*last = append((*last)[:0], k...)
		if err := visit(flags, k, v); err != nil {
			return err
		}
	}
	return nil
}

func slice(b []byte, at int, pos, n uint32) ([]byte, bool) {
	from := int64(at) + int64(pos)
	if to := from + int64(n); to <= int64(len(b)) {
		return b[from:to], true
	}
	return nil, false
}

// page reads a page of a tree with what it flows over into.
func (p *pages) page(id uint64) ([]byte, error) {
	if id < 2 || id >= p.end {
		return nil, damaged("page %d is not among the %d of the file", id, p.end)
	}
	b := make([]byte, p.size)
	if _, err := p.f.ReadAt(b, int64(id)*p.size); err != nil {
		return nil, damaged("read page %d: %w", id, err)
	}
	kind, over := native.Uint16(b[8:]), uint64(native.Uint32(b[12:]))
	if native.Uint64(b) != id || kind != pageLeaf && kind != pageBranch || over >= p.end-id {
		return nil, damaged("page %d is no page of a tree", id)
	}
	for i := id; i <= id+over; i++ {
		if p.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, damaged("page %d is in two places", i)
		}
		p.seen[i/64] |= 1 << (i % 64)
	}
	if over == 0 {
		return b, nil
	}
	b = make([]byte, p.size*int64(over+1))
	if _, err := p.f.ReadAt(b, int64(id)*p.size); err != nil {
		return nil, damaged("read page %d: %w", id, err)
	}
	return b, nil
}

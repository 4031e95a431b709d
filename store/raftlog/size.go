package raftlog

import (
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// The file never shrinks, so it does not tell how much log there is. What does
// is added up here, in blocks of entries: enough to say how many of the newest
// ones fit into so many bytes.
const (
	blockEntries = 1024
	entryCost    = 128 // of an entry, about, beside its data
)

type sizes struct {
	mu     sync.Mutex
	blocks map[uint64]block
}

type block struct {
	entries uint64
	bytes   int64
}

func (z *sizes) add(index uint64, n int64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.blocks == nil {
		z.blocks = map[uint64]block{}
	}
	b := z.blocks[index/blockEntries]
	z.blocks[index/blockEntries] = block{b.entries + 1, b.bytes + n}
}

func (z *sizes) stored(logs []*raft.Log) {
	for _, l := range logs {
		z.add(l.Index, int64(len(l.Data))+entryCost)
	}
}

// removed takes away lo to hi; of a block in part, its mean.
func (z *sizes) removed(lo, hi uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for i, b := range z.blocks { // the order does not matter
		first, last := max(lo, i*blockEntries), min(hi, i*blockEntries+blockEntries-1)
		if first > last {
			continue
		}
		n := min(last-first+1, b.entries)
		if n == b.entries {
			delete(z.blocks, i)
			continue
		}
		z.blocks[i] = block{b.entries - n, b.bytes - b.bytes/int64(b.entries)*int64(n)}
	}
}

func (z *sizes) total() (n int64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, b := range z.blocks {
		n += b.bytes
	}
	return n
}

// newest is how many of the newest entries have at most so many bytes, in
// whole blocks but the newest.
func (z *sizes) newest(limit int64) (n uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	keys := slices.Sorted(maps.Keys(z.blocks))
	for _, i := range slices.Backward(keys) {
		b := z.blocks[i]
		if limit -= b.bytes; limit < 0 && n > 0 {
			break
		}
		n += b.entries
	}
	return n
}

package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// hashesKept is how many results a member remembers.
const hashesKept = 64

// hashes are the results of the latest Marks, computed in the background from
// the view that was open when each was applied.
type hashes struct {
	mu   sync.Mutex
	done map[uint64]chan struct{}
	sum  map[uint64][sha256.Size]byte
	seq  []uint64
	wg   sync.WaitGroup
}

func (h *hashes) begin(v *View, index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done == nil {
		h.done, h.sum = map[uint64]chan struct{}{}, map[uint64][sha256.Size]byte{}
	}
	done := make(chan struct{})
	h.done[index] = done
	h.seq = append(h.seq, index)
	if len(h.seq) > hashesKept {
		delete(h.done, h.seq[0])
		delete(h.sum, h.seq[0])
		h.seq = h.seq[1:]
	}
	h.wg.Go(func() {
		defer v.Close()
		s := v.Hash()
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.done[index]; ok {
			h.sum[index] = s
		}
		close(done)
	})
}

// Hash is the SHA-256 of all replicated rows, in order. Two members whose
// states are at the same index have the same.
func (t Tables) Hash() [sha256.Size]byte {
	s := sha256.New()
	var n [8]byte
	for k, v := range t.Scan(ReplicatedLow, ReplicatedHigh) {
		binary.BigEndian.PutUint32(n[:4], uint32(len(k)))
		binary.BigEndian.PutUint32(n[4:], uint32(len(v)))
		s.Write(n[:])
		s.Write(k)
		s.Write(v)
	}
	return [sha256.Size]byte(s.Sum(nil))
}

// HashAt returns the hash of the state at a Mark. ok is false if this member
// has not applied that entry since it was started. The channel is closed when
// the hash is there; call again then.
func (f *FSM) HashAt(index uint64) (sum [sha256.Size]byte, wait <-chan struct{}, ok bool) {
	f.hashes.mu.Lock()
	defer f.hashes.mu.Unlock()
	wait, ok = f.hashes.done[index]
	return f.hashes.sum[index], wait, ok
}

// Close waits for hashes that are being computed and streams that are being
// read. The tables can be closed after it.
func (f *FSM) Close() {
	f.hashes.wg.Wait()
	f.streams.Wait()
}

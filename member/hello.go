package member

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"mailraft/cluster/pki"
	"mailraft/fsm"
	"mailraft/mail"

	"github.com/fxamacker/cbor/v2"
)

// greeting is what a member says before anything of Raft is said: of itself,
// and what its state has on record of the one that it speaks to.
type greeting struct {
	Generation uint64   `cbor:"1,keyasint"` // of the boundary; zero: not known yet
	Starts     uint64   `cbor:"2,keyasint"`
	Last       uint64   `cbor:"3,keyasint"` // where its log ends
	Process    [16]byte `cbor:"4,keyasint"` // drawn by each process
	Yours      record   `cbor:"5,keyasint"`
}

// record is what a member has reported, as the state has it.
type record struct {
	Commit uint64 `cbor:"1,keyasint,omitempty"` // its log cannot end before
	Starts uint64 `cbor:"2,keyasint,omitempty"`
}

// hello implements transport.Hello. What a member says is compared with what
// it has reported before, as the state has it: a data directory that was set
// back to an earlier moment would forget entries that it has acknowledged and
// votes that it has given. What was set back to a moment after its last report,
// within the same start, is not seen.
//
// Both sides compare both: the one refuses, and the one that is refused learns
// why, and stops for good.
type hello struct {
	m       *Engine
	process [16]byte

	mu   sync.Mutex
	seen map[mail.MemberID]process // guarded by mu
}

// process is one that spoke for a member.
type process struct {
	id     [16]byte
	starts uint64
	at     time.Time
}

// processTime is how long a process that was heard keeps out another one with
// the same start counter.
const processTime = time.Minute

func newHello(m *Engine) *hello {
	h := &hello{m: m, seen: map[mail.MemberID]process{}}
	_, _ = rand.Read(h.process[:])
	return h
}

// Hello implements transport.Hello.
func (h *hello) Hello(peer pki.Identity) []byte {
	g, row := h.look(peer)
	g.Yours = record{Commit: row.Commit, Starts: row.Starts}
	b, err := cbor.Marshal(g)
	if err != nil {
		h.m.fatal(fmt.Errorf("encode greeting: %w", err))
	}
	return b
}

// look is what is so here at this moment. First the log: an installed snapshot
// is in the state before the log is emptied.
func (h *hello) look(peer pki.Identity) (g greeting, row fsm.Member) {
	last, err := h.m.raftLog.LastIndex()
	if err != nil {
		h.m.log.Error("where the log ends cannot be read", "error", err)
	}
	v := h.m.fsm.View()
	defer v.Close()
	b, _ := v.Boundary()
	row, _ = v.Member(peer.Member)
	return greeting{Generation: max(b.Generation, h.m.id.Generation), Starts: h.m.id.Starts,
		Last: max(last, v.Tables.Applied().Index), Process: h.process}, row
}

// Check implements transport.Hello.
func (h *hello) Check(peer pki.Identity, b []byte) error {
	var g greeting
	if err := cbor.Unmarshal(b, &g); err != nil {
		return fmt.Errorf("malformed greeting: %w", err)
	}
	own, row := h.look(peer)
	if g.Generation != 0 && own.Generation != 0 && g.Generation >= own.Generation {
		if err := behind(peer, own, g); err != nil {
			h.m.disown(err)
			return err
		}
	}
	switch {
	case g.Generation != 0 && own.Generation != 0 && g.Generation != own.Generation:
		return fmt.Errorf("%s is of boundary generation %d, this member of %d: %w", peer.Name, g.Generation, own.Generation, anew(peer))
	case g.Last < row.Commit:
		return fmt.Errorf("%s was set back: its log ends at %d, it had %d: %w", peer.Name, g.Last, row.Commit, anew(peer))
	case g.Starts < row.Starts:
		return fmt.Errorf("%s was set back or runs twice: start %d after %d: %w", peer.Name, g.Starts, row.Starts, anew(peer))
	}
	return h.oneProcess(peer, g)
}

// behind says why this member itself must not go on, by the word of a peer of
// its own generation or a later one.
func behind(peer pki.Identity, own, theirs greeting) error {
	switch {
	case theirs.Generation > own.Generation:
		return fmt.Errorf("%s is of boundary generation %d, and this member of %d: the boundary was recovered without it: %w",
			peer.Name, theirs.Generation, own.Generation, ErrUnusable)
	case own.Last < theirs.Yours.Commit:
		return fmt.Errorf("it was set back: its log ends at %d, and %s knows that it had %d: %w", own.Last, peer.Name, theirs.Yours.Commit, ErrUnusable)
	case own.Starts < theirs.Yours.Starts:
		return fmt.Errorf("it was set back, or runs twice: this is start %d, and %s knows of start %d: %w", own.Starts, peer.Name, theirs.Yours.Starts, ErrUnusable)
	}
	return nil
}

// oneProcess refuses a copy of a data directory beside the original.
func (h *hello) oneProcess(peer pki.Identity, g greeting) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, now := h.seen[peer.Member], time.Now()
	if p.id != g.Process && (g.Starts < p.starts || g.Starts == p.starts && now.Sub(p.at) < processTime) {
		return fmt.Errorf("%s runs twice, from a copy: %w", peer.Name, anew(peer))
	}
	h.seen[peer.Member] = process{g.Process, g.Starts, now}
	return nil
}

// anew names the way back; the reason of a refusal has room for 255 bytes.
func anew(peer pki.Identity) error {
	return fmt.Errorf("%w; join anew with: mailraft boundary token --replace %s", ErrUnusable, peer.Name)
}

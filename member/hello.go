package member

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"mailraft/cluster/pki"
	"mailraft/mail"

	"github.com/fxamacker/cbor/v2"
)

// greeting is what a member says of itself before anything of Raft is said.
type greeting struct {
	Generation uint64   `cbor:"1,keyasint"` // of the boundary; zero: not known yet
	Starts     uint64   `cbor:"2,keyasint"`
	Last       uint64   `cbor:"3,keyasint"` // where its log ends
	Process    [16]byte `cbor:"4,keyasint"` // drawn by each process
}

// ErrSetBack refuses a member that has less than it had promised to have: its
// vote could undo what was committed.
var ErrSetBack = errors.New("this data directory must not be used")

// hello implements transport.Hello. What a member says is compared with what
// it has reported before, as the state has it: a data directory that was set
// back to an earlier moment would forget entries that it has acknowledged and
// votes that it has given. What was set back to a moment after its last report,
// within the same start, is not seen.
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
func (h *hello) Hello() []byte {
	v := h.m.fsm.View()
	b, _ := v.Boundary()
	at := v.Tables.Applied()
	v.Close()
	last, err := h.m.raftLog.LastIndex()
	if err != nil {
		h.m.log.Error("where the log ends cannot be read", "error", err)
	}
	g, err := cbor.Marshal(greeting{Generation: b.Generation, Starts: h.m.id.Starts, Last: max(last, at.Index), Process: h.process})
	if err != nil {
		h.m.fatal(fmt.Errorf("encode greeting: %w", err))
	}
	return g
}

// Check implements transport.Hello.
func (h *hello) Check(peer pki.Identity, b []byte) error {
	var g greeting
	if err := cbor.Unmarshal(b, &g); err != nil {
		return fmt.Errorf("malformed greeting: %w", err)
	}
	v := h.m.fsm.View()
	own, _ := v.Boundary()
	row, _ := v.Member(peer.Member)
	v.Close()
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
	return fmt.Errorf("%w; join anew with: mailraft boundary token --replace %s", ErrSetBack, peer.Name)
}

package cluster

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"mailraft/mail"
)

// Kinds of the toy machine's entries. The body is one number, or two.
const (
	kindTerm byte = 1 // term
	kindAdd  byte = 2 // key: idempotent, the answer is the index of the first application
	kindDown byte = 3 // member, term of who decided it
	kindUp   byte = 4 // member
)

func toyEntry(kind byte, numbers ...uint64) []byte {
	b := make([]byte, entryHead)
	b[0], b[1] = kind, 1
	for _, x := range numbers {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return b
}

// toy is a machine that survives its node, as a state on disk would.
type toy struct {
	mu      sync.Mutex
	index   uint64
	now     mail.Time
	term    uint64
	added   map[uint64]uint64
	applied map[uint64]int // applications of each key
	down    map[mail.MemberID]bool
	owner   [6]mail.MemberID // of six messages; a member that goes down loses its own
	backs   int              // stamps that were before the one applied before
	hold    chan struct{}
	changed chan struct{}

	told func(id mail.MemberID, down bool, index uint64) // called with mu held
}

func newToy() *toy {
	m := &toy{
		added: map[uint64]uint64{}, applied: map[uint64]int{}, down: map[mail.MemberID]bool{},
		changed: make(chan struct{}),
		told:    func(mail.MemberID, bool, uint64) {},
	}
	for i := range m.owner {
		m.owner[i] = mail.MemberID(i%3 + 1)
	}
	return m
}

func (m *toy) Applied() (uint64, mail.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index, m.now
}

func (m *toy) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *toy) isDown(id mail.MemberID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down[id]
}

func (m *toy) opened() (term uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.term
}

// stop holds up applying until the function that it returns is called.
func (m *toy) stop() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hold := make(chan struct{})
	m.hold = hold
	return func() { close(hold) }
}

func (m *toy) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	for i, l := range logs {
		answers[i] = m.Apply(l)
	}
	return answers
}

func (m *toy) Apply(l *raft.Log) any {
	m.mu.Lock()
	hold := m.hold
	m.mu.Unlock()
	if hold != nil {
		<-hold
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.Index <= m.index {
		return []byte(nil) // replayed after a restart
	}
	m.index = l.Index
	var answer []byte
	if l.Type == raft.LogCommand {
		answer = m.command(l)
	}
	close(m.changed)
	m.changed = make(chan struct{})
	return answer
}

func (m *toy) command(l *raft.Log) []byte {
	at := mail.Time(binary.BigEndian.Uint64(l.Data[2:]))
	if at < m.now && l.Data[0] != kindTerm {
		m.backs++
	}
	m.now = max(m.now, at)
	number := func(i int) uint64 { return binary.BigEndian.Uint64(l.Data[entryHead+8*i:]) }
	switch x := number(0); l.Data[0] {
	case kindTerm:
		m.term = x
	case kindAdd:
		m.applied[x]++
		if m.added[x] == 0 {
			m.added[x] = l.Index
		}
		return binary.BigEndian.AppendUint64(nil, m.added[x])
	case kindDown:
		if number(1) != m.term {
			return []byte{0}
		}
		m.down[mail.MemberID(x)] = true
		m.takeOver(mail.MemberID(x))
		m.told(mail.MemberID(x), true, l.Index)
	case kindUp:
		delete(m.down, mail.MemberID(x))
		m.told(mail.MemberID(x), false, l.Index)
	}
	return []byte{1}
}

// takeOver gives the messages of a member to those that are up.
func (m *toy) takeOver(from mail.MemberID) {
	for i, owner := range m.owner {
		for k := range 3 {
			if to := mail.MemberID((i+k)%3 + 1); owner == from && !m.down[to] {
				m.owner[i] = to
				break
			}
		}
	}
}

func (m *toy) owners() [6]mail.MemberID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owner
}

func (m *toy) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("no snapshots here") }
func (m *toy) Restore(io.ReadCloser) error         { return errors.New("no snapshots here") }

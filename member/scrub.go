package member

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"mailraft/admin"
	"mailraft/cluster"
	"mailraft/fsm"
	"mailraft/mail"

	"github.com/hashicorp/raft"
)

// scrub reads slowly through everything that is stored, so that damage is
// found while another member still has what it took. Content is fetched again;
// damage in the log or the tables stops the process. Where it is lies in a row
// of this member's own.
type scrub struct {
	m    *Engine
	pace pace
	owed int64 // bytes since the last pause; of run alone

	mu  sync.Mutex
	at  scrubRow // guarded by mu
	out admin.Scrub
}

// scrubRow is what outlives the process.
type scrubRow struct {
	Pass    int64     `json:"pass"`
	Segment uint32    `json:"segment"` // next to read
	Bytes   int64     `json:"bytes"`
	Done    mail.Time `json:"done"` // wall clock, when the last pass ended; zero while one is under way
}

const (
	keyScrub   = "scrub"
	scrubRest  = 10 * time.Second // between two looks whether a pass is due
	scrubLogs  = 1000             // entries, or rows, between two pauses
	scrubPiece = 256 << 10        // bytes between two pauses: one for each content would be a thousand a second
	entryBytes = 500              // of an entry or a row, about
)

func newScrub(m *Engine) *scrub {
	s := &scrub{m: m, pace: pace{rate: max(m.cfg.Content.scrubRate, 1)}}
	if b, ok := m.fsm.Own(keyScrub); ok {
		_ = json.Unmarshal(b, &s.at) // else it begins anew
	}
	return s
}

func (s *scrub) run() {
	if s.m.cfg.Content.scrubRate == 0 {
		return
	}
	for s.m.pause(min(scrubRest, s.m.cfg.Content.scrubEvery)) {
		if s.rests() {
			continue
		}
		if err := s.read(); err != nil && s.m.ctx.Err() == nil {
			s.m.log.Error("stored content is not read through, and will be tried again", "error", err)
		}
	}
}

// rests reports whether the last pass ended lately. One that ended in the
// future was dated by a clock that has been put right since.
func (s *scrub) rests() bool {
	row := s.row()
	age := mail.At(cluster.WallTime()).Sub(row.Done)
	return row.Done != 0 && age >= 0 && age < s.m.cfg.Content.scrubEvery
}

func (s *scrub) row() scrubRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// read goes on with a pass, or begins one.
func (s *scrub) read() error {
	s.note(func(r *scrubRow) {
		if r.Done != 0 || r.Pass == 0 {
			*r = scrubRow{Pass: r.Pass + 1}
		}
	})
	for {
		next, err := s.m.content.ReadThrough(s.row().Segment, s.wait, s.bad)
		if err != nil {
			return err
		}
		if next == 0 {
			break
		}
		s.note(func(r *scrubRow) { r.Segment = next })
	}
	if !s.readLog() || !s.readState() {
		return nil // stopping
	}
	s.note(func(r *scrubRow) { r.Done = mail.At(cluster.WallTime()) })
	s.m.log.Info("everything stored was read through", "pass", s.row().Pass, "bytes", s.row().Bytes)
	return nil
}

func (s *scrub) wait(size int64) bool {
	s.mu.Lock()
	s.at.Bytes += size
	s.mu.Unlock()
	if s.owed += size; s.owed < scrubPiece {
		return s.m.ctx.Err() == nil
	}
	size, s.owed = s.owed, 0
	return s.pace.wait(s.m.ctx, size)
}

// bad has a damaged content fetched again.
func (s *scrub) bad(c mail.Content, err error) {
	s.mu.Lock()
	s.out.Found++
	s.out.LastFound, s.out.LastAt = err.Error(), mail.At(cluster.WallTime())
	s.mu.Unlock()
	s.m.damaged(err)
}

// readLog reads every entry; one that is damaged stops the process.
func (s *scrub) readLog() bool {
	defer s.m.raftLog.Unload()
	i, err := s.m.raftLog.FirstIndex()
	for n := 1; err == nil && i > 0; n++ {
		var l raft.Log
		if err := s.m.raftLog.GetLog(i, &l); errors.Is(err, raft.ErrLogNotFound) {
			first, _ := s.m.raftLog.FirstIndex()
			if first <= i {
				break // the end
			}
			i = first // shortened meanwhile
			continue
		} else if err != nil {
			break // the process stops
		}
		if i++; n%scrubLogs != 0 {
			continue
		}
		if s.m.raftLog.Unload(); !s.wait(scrubLogs * entryBytes) {
			return false
		}
	}
	return s.m.ctx.Err() == nil
}

// readState reads every row, some in one view; one that is damaged stops the
// process.
func (s *scrub) readState() bool {
	low := fsm.ReplicatedLow
	for low != nil {
		v := s.m.fsm.View()
		n := 0
		from := low
		low = nil
		for k := range v.Scan(from, fsm.ReplicatedHigh) {
			if n++; n > scrubLogs {
				low = append([]byte(nil), k...)
				break
			}
		}
		v.Close()
		if !s.wait(int64(n) * entryBytes) {
			return false
		}
	}
	return true
}

func (s *scrub) note(f func(*scrubRow)) {
	s.mu.Lock()
	f(&s.at)
	b, err := json.Marshal(s.at)
	s.mu.Unlock()
	if err != nil {
		s.m.fatal(err)
		return
	}
	s.m.fsm.SetOwn(keyScrub, b)
}

// status is the progress, for people.
func (s *scrub) status() admin.Scrub {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.out
	out.Pass, out.Bytes, out.Done = s.at.Pass, s.at.Bytes, s.at.Done
	if s.at.Done == 0 {
		out.Of = s.m.content.Stats().Bytes
	}
	return out
}

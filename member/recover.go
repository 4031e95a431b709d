package member

import (
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"slices"
	"time"

	"mailraft/fsm"
	"mailraft/mail"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// RecoverOrder is what an operator says to Recover.
type RecoverOrder struct {
	DryRun  bool
	Consent string // the name of the boundary, spelt out
	Alive   bool   // go on although a member that is to be given up answers
	By      string
	Reason  string
}

// ErrConsent refuses to recover a boundary without consent.
var ErrConsent = errors.New("nothing was changed")

// Recover makes this data directory the boundary, after a majority of its
// voters was lost for good: another generation, in which this member alone
// votes and all others are former members. It works offline, on a directory
// that no process uses. It returns what is known of what may be lost, also
// together with ErrConsent.
//
// The argument is in cluster/DESIGN.md, Recovery. The commit point is one
// transaction of the log; what is left to do behind it, the next start does as
// well as the next Recover.
func Recover(c Config, o RecoverOrder, log hclog.Logger) (r Recovery, err error) {
	m := &Member{Engine: newEngine(c, nil, log, func(err error) {
		fmt.Fprintf(os.Stderr, "mailraft: the boundary cannot go on with this member: %v\n", err)
		os.Exit(1)
	})}
	defer m.close()
	defer m.cancel()
	if err := m.openOffline(); err != nil {
		return r, fmt.Errorf("the boundary cannot go on with this member: %w", err)
	}
	p, err := m.planRecovery()
	if err != nil {
		return r, err
	}
	defer p.end()
	if p.report.Done {
		return p.report, nil
	}
	p.report.call()
	if err := p.report.mayProceed(o); err != nil {
		return p.report, err
	}
	logs, err := p.entries(o)
	if err != nil {
		return p.report, err
	}
	if err := m.raftLog.Extend(p.report.AppliedIndex, p.report.appliedTerm, logs); err != nil {
		return p.report, err
	}
	if err := m.finishRecovery(); err != nil {
		return p.report, err
	}
	p.report.Done = true
	return p.report, nil
}

// openOffline opens the stores as a start does, without counting it.
func (m *Member) openOffline() error {
	release, err := lockDir(m.cfg.Dir)
	if err != nil {
		return err
	}
	m.onClose(release)
	if m.id, err = readIdentity(m.cfg.Dir); err != nil {
		return err
	}
	if m.id.Name != m.cfg.Name {
		return fmt.Errorf("data directory %s belongs to member %s, and the configuration says %s", m.cfg.Dir, m.id.Name, m.cfg.Name)
	}
	if err := m.openTables(vfs.Default); err != nil {
		return err
	}
	return m.openLog()
}

// finishRecovery applies a recovery that is in the log and not in the state:
// the process ended in between. All of it counts, since no other member has a
// word in it any more, and it must be in the state before a word is spoken
// with anybody: the state says which generation this member is of.
func (m *Engine) finishRecovery() error {
	last, err := m.raftLog.LastIndex()
	if err != nil {
		return fmt.Errorf("read where the log ends: %w", err)
	}
	at, _ := m.fsm.Applied()
	if last <= at {
		return nil
	}
	var l raft.Log
	if err := m.raftLog.GetLog(last, &l); err != nil {
		return fmt.Errorf("read the last entry of the log: %w", err)
	}
	if !fsm.IsRecover(&l) {
		return nil
	}
	m.fsm.Replay(m.entriesOf(at+1, last))
	m.log.Warn("the boundary was recovered: this member is all of it", "index", last)
	return nil
}

// entriesOf walks the log. One that cannot be read is fatal in the store.
func (m *Engine) entriesOf(first, last uint64) iter.Seq[*raft.Log] {
	return func(yield func(*raft.Log) bool) {
		for i := first; i <= last; i++ {
			var l raft.Log
			if err := m.raftLog.GetLog(i, &l); err != nil {
				m.fatal(fmt.Errorf("read entry %d: %w", i, err))
				return
			}
			if !yield(&l) {
				return
			}
		}
	}
}

// recovery is a plan, over a view of the state as it will be.
type recovery struct {
	report Recovery
	state  fsm.Tables
	self   fsm.Member
	end    func()
}

// planRecovery looks at what there is: the state with all of the log applied,
// since all of it will count.
func (m *Member) planRecovery() (*recovery, error) {
	v := m.fsm.View()
	at := v.Tables.Applied()
	v.Close()
	last, err := m.raftLog.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("read where the log ends: %w", err)
	}
	last = max(last, at.Index)
	p := &recovery{report: Recovery{Member: m.id.Name, MemberID: m.id.ID, AppliedIndex: at.Index, AppliedTime: at.Time, appliedTerm: at.Term, LastIndex: last}}
	if p.report.LastTerm, err = m.termOf(last, at); err != nil {
		return nil, err
	}
	p.state, p.end = m.fsm.Preview(m.entriesOf(at.Index+1, last))
	if err := p.look(m); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func (m *Engine) termOf(index uint64, at fsm.Applied) (uint64, error) {
	if index == at.Index {
		return at.Term, nil
	}
	var l raft.Log
	if err := m.raftLog.GetLog(index, &l); err != nil {
		return 0, fmt.Errorf("read entry %d: %w", index, err)
	}
	return l.Term, nil
}

// entries are what makes the recovery: who votes, which content is given up,
// and at last the new generation. The steps before it are nothing without it,
// and they are written in one.
func (p *recovery) entries(o RecoverOrder) ([]*raft.Log, error) {
	addr := raft.ServerAddress(p.self.Addr)
	logs := []*raft.Log{{Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{
		Servers: []raft.Server{{ID: raft.ServerID(p.self.ID.String()), Address: addr}}})}}
	add := func(k fsm.Kind, body any) error {
		e, err := fsm.Encode(k, body)
		if err == nil {
			fsm.Stamp(e, p.report.LastTime)
			logs = append(logs, &raft.Log{Type: raft.LogCommand, Data: e})
		}
		return err
	}
	for ids := range slices.Chunk(p.report.missing(), lostChunk) {
		if err := add(fsm.KindContentLost, fsm.ContentLost{IDs: ids, By: o.By, Reason: "the boundary was recovered on " + p.self.Name}); err != nil {
			return nil, err
		}
	}
	err := add(fsm.KindRecover, fsm.Recover{Generation: p.report.Generation + 1, Survivor: p.self.ID, Certain: p.report.CertainIndex, By: o.By, Reason: o.Reason})
	return logs, err
}

// lostChunk bounds the messages of one ContentLost.
const lostChunk = 1000

// callTime is how long a member that is to be given up may take to answer.
const callTime = time.Second

// call tries whether somebody answers at the addresses of those who are to be
// given up.
func (r *Recovery) call() {
	done := make(chan int)
	for i := range r.Lost {
		go func() {
			c, err := net.DialTimeout("tcp", r.Lost[i].Address, callTime)
			if err == nil {
				c.Close()
			}
			r.Lost[i].Answers = err == nil
			done <- i
		}()
	}
	for range r.Lost {
		<-done
	}
}

// mayProceed says what is missing for the recovery to be made.
func (r *Recovery) mayProceed(o RecoverOrder) error {
	for _, l := range r.Lost {
		if l.Answers && !o.Alive && !o.DryRun {
			return fmt.Errorf("%s answers at %s: %w. If it is there, the boundary may be helped by starting its members; if it is not to be a member any more, stop it first."+
				" If that is somebody else, say --although-it-answers", l.Name, l.Address, ErrConsent)
		}
	}
	switch {
	case o.DryRun:
		return fmt.Errorf("dry run: %w", ErrConsent)
	case o.Consent != r.Name:
		return fmt.Errorf("this needs consent: %w. Look at what may be lost; then say --consent %q, which is the name of the boundary", ErrConsent, r.Name)
	}
	return nil
}

// recoverable refuses where there is nothing to recover, or not with this member.
func (p *recovery) recoverable(m *Member, b fsm.Boundary) error {
	self, ok := p.state.Member(m.id.ID)
	p.self = self
	switch {
	case b.Boundary == "":
		return errors.New("this member has nothing of the boundary's state yet: recover on another one")
	case !ok || self.Retired != 0:
		return fmt.Errorf("this member was removed or replaced: %w", ErrUnusable)
	case !slices.Equal(b.Voters, []mail.MemberID{self.ID}):
	case b.Recovery != nil && b.Recovery.Survivor == self.ID:
		p.report.Done = true
	default:
		return errors.New("this member is the only voter: there is nothing to recover; start it")
	}
	return nil
}

// others are the members that are to be given up.
func (p *recovery) others(self mail.MemberID, b fsm.Boundary) (lost []LostMember) {
	for f := range p.state.Members() {
		if f.ID == self || f.Retired != 0 {
			continue
		}
		l := LostMember{Name: f.Name, ID: f.ID, Address: f.Addr, Voter: slices.Contains(b.Voters, f.ID), Up: f.Up, CommitIndex: f.Commit, Complete: f.Complete}
		for e := range p.state.Active(f.ID) {
			l.Active++
			l.ActiveBytes += e.Content.Size
		}
		lost = append(lost, l)
	}
	return lost
}

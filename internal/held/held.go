// Package held fills the Safety Net of a boundary that stands still with a
// million messages in minutes: what SMTP and deliveries would need hours for.
// It writes to the stores of one member what that would have written, the
// content and the entries Accept, Report and Discard in the log, and applies them; the other
// members get copies of the files. Benchmarks begin from there.
//
// It knows the stores and the state machine, and no process.
package held

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/content"
	"mailraft/store/raftlog"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// stores are the directories below a member's that are filled and copied.
var stores = []string{"state", "raft", "content"}

// Options say what a Safety Net is to hold.
type Options struct {
	Messages   int
	Size       int           // bytes of each
	Recipients []string      // addresses that take turns; each is a mailbox of some database
	Progress   func(int)     // messages so far
	Text       func() []byte // body lines, at least Size bytes, other ones each time
}

// batch is how many messages go into one write of the log.
const batch = 1000

// house is one member's stores, with the end of its log.
type house struct {
	Options
	db      *state.DB
	fsm     *fsm.FSM
	log     *raftlog.Store
	content *content.Store
	index   uint64
	term    uint64
	voters  []mail.MemberID
}

// Fill fills the stores below dir, of a member that is not running, and
// copies them to those of the others, which are not running either.
func Fill(ctx context.Context, dir string, others []string, o Options) error {
	h := &house{Options: o}
	err := h.open(dir)
	if err == nil {
		err = h.fill(ctx)
	}
	if err = errors.Join(err, h.close()); err != nil {
		return fmt.Errorf("fill %s: %w", dir, err)
	}
	for _, to := range others {
		for _, name := range stores {
			if err := replaceTree(filepath.Join(dir, name), filepath.Join(to, name)); err != nil {
				return fmt.Errorf("copy the stores to %s: %w", to, err)
			}
		}
	}
	return nil
}

func (h *house) open(dir string) (err error) {
	fatal := func(err error) { panic(fmt.Errorf("fill %s: %w", dir, err)) }
	none := hclog.NewNullLogger()
	if h.db, err = state.Open(state.Options{FS: vfs.Default, Dir: filepath.Join(dir, "state"), Fatal: fatal, Logger: none}); err != nil {
		return err
	}
	h.fsm = fsm.New(h.db, fatal, none)
	if h.content, err = content.Open(content.Options{FS: vfs.Default, Dir: filepath.Join(dir, "content"), Fatal: fatal}); err != nil {
		return err
	}
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return err
	}
	h.log, err = raftlog.Open(raftlog.Options{Path: filepath.Join(dir, "raft", "raft.db"), Salt: binary.NativeEndian.Uint64(salt[:]), Fatal: fatal})
	if err != nil {
		return err
	}
	return h.catchUp()
}

// catchUp applies the end of the log, which all members will have.
func (h *house) catchUp() error {
	last, err := h.log.LastIndex()
	if err != nil {
		return err
	}
	for at, _ := h.fsm.Applied(); at < last; at++ {
		var l raft.Log
		if err := h.log.GetLog(at+1, &l); err != nil {
			return err
		}
		h.fsm.Apply(&l)
	}
	var l raft.Log
	if err := h.log.GetLog(last, &l); err != nil {
		return err
	}
	v := h.fsm.View()
	defer v.Close()
	b, _ := v.Boundary()
	h.index, h.term, h.voters = last, l.Term, b.Voters
	if len(h.voters) == 0 {
		return errors.New("the boundary has no voters")
	}
	return nil
}

func (h *house) close() error {
	var errs []error
	if h.log != nil {
		errs = append(errs, h.log.Close())
	}
	if h.content != nil {
		errs = append(errs, h.content.Close())
	}
	if h.fsm != nil {
		h.fsm.Sync()
		h.fsm.Close()
	}
	if h.db != nil {
		errs = append(errs, h.db.Close())
	}
	return errors.Join(errs...)
}

func (h *house) fill(ctx context.Context) error {
	for done := 0; done < h.Messages && ctx.Err() == nil; {
		n := min(batch, h.Messages-done)
		if err := h.messages(done, n); err != nil {
			return err
		}
		if done += n; h.Progress != nil {
			h.Progress(done)
		}
	}
	return ctx.Err()
}

// messages takes n messages, delivers them, and has the discards acknowledged.
func (h *house) messages(from, n int) error {
	subs, err := h.store(from, n)
	if err != nil {
		return err
	}
	accepts := make([]any, n)
	for i := range subs {
		accepts[i] = fsm.Accept{Submission: subs[i]}
	}
	answers, err := h.apply(fsm.KindAccept, accepts)
	if err != nil {
		return err
	}
	reports := map[mail.MemberID][]mail.Report{}
	for i, a := range answers {
		o := mail.Outcome{Result: mail.Delivered, Reply: *mail.Replyf(250, "2.1.5", "delivered"), Remote: "192.0.2.9:24", Copy: "a", Activation: 1, Took: 3}
		reports[subs[i].Primary] = append(reports[subs[i].Primary], mail.Report{ID: a.ID, Outcomes: []mail.Outcome{o}})
	}
	var bodies []any
	for _, m := range h.voters {
		bodies = append(bodies, fsm.Report{Member: m, Reports: reports[m]})
	}
	if _, err := h.apply(fsm.KindReport, bodies); err != nil {
		return err
	}
	bodies = nil
	v := h.fsm.View()
	for _, m := range h.voters {
		bodies = append(bodies, fsm.Discard{Member: m, IDs: slices.Collect(v.Discards(m))})
	}
	v.Close()
	_, err = h.apply(fsm.KindDiscard, bodies)
	return err
}

// store writes the contents of n messages and says what is to be accepted.
func (h *house) store(from, n int) ([]mail.Submission, error) {
	subs := make([]mail.Submission, n)
	done := make(chan error, n)
	now := h.now()
	for i := range subs {
		to := h.Recipients[(from+i)%len(h.Recipients)]
		f := mail.Fields{MessageID: fmt.Sprintf("<20260101100000.%012d@sender.example>", from+i), Date: "Thu, 1 Jan 2026 10:00:00 +0000", Subject: "Report of the northern branch"}
		text := fmt.Appendf(nil, "Date: %s\r\nFrom: <anna.svensson@sender.example>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: %s\r\n\r\n", f.Date, to, f.Subject, f.MessageID)
		text = append(append(text, h.Text()...)[:max(h.Size-2, len(text))], "\r\n"...)
		id, err := mail.NewContentID(now, rand.Reader)
		if err != nil {
			return nil, err
		}
		w, err := h.content.Create(id)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
		subs[i] = mail.Submission{Content: mail.Content{ID: id, Size: w.Size(), Sum: w.Sum(), NotAfter: now.Add(time.Minute)},
			Envelope: mail.Envelope{ReversePath: "anna.svensson@sender.example", Recipients: []string{to}}, Fields: f,
			Trace:   mail.Trace{Helo: "mx7.sender.example", Name: "mx7.sender.example", Address: "192.0.2.77", By: "m1.example.test", Protocol: "ESMTPS", Session: id.String()[:16]},
			Primary: h.voters[(from+i)%len(h.voters)], Holders: h.voters}
		w.Commit(subs[i].Content.NotAfter, func(err error) { done <- err })
	}
	var errs error
	for range n {
		errs = errors.Join(errs, <-done)
	}
	return subs, errs
}

// apply puts entries into the log and into the state.
func (h *house) apply(k fsm.Kind, bodies []any) ([]fsm.Answer, error) {
	logs := make([]*raft.Log, len(bodies))
	for i, body := range bodies {
		e, err := fsm.Encode(k, body)
		if err != nil {
			return nil, err
		}
		fsm.Stamp(e, h.now())
		h.index++
		logs[i] = &raft.Log{Index: h.index, Term: h.term, Type: raft.LogCommand, Data: e, AppendedAt: time.Now()}
	}
	if err := h.log.StoreLogs(logs); err != nil {
		return nil, err
	}
	answers := make([]fsm.Answer, len(logs))
	for i, a := range h.fsm.ApplyBatch(logs) {
		b, _ := a.([]byte)
		var err error
		if answers[i], err = fsm.DecodeAnswer(b); err != nil {
			return nil, err
		}
		if r := answers[i].Refused; r != nil {
			return nil, fmt.Errorf("entry %d of kind %d: %w", logs[i].Index, k, r)
		}
	}
	return answers, nil
}

// now is the time that the leader would stamp.
func (h *house) now() mail.Time {
	_, at := h.fsm.Applied()
	return max(at, mail.At(time.Now()))
}

// replaceTree makes to a copy of from.
func replaceTree(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Chmod(to, 0o700)
}

package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailraft/mail"
)

// NoMajority is the error of an upload that too few voters confirmed; it is
// ErrNoMajority and the cause of giving up. The content may have stayed on the
// disks of the holders: without an entry it is an orphan after its not-after.
type NoMajority struct {
	Content mail.Content
	Holders []mail.MemberID
	Missing []Missing
	Cause   error
}

// Missing is a voter without the content.
type Missing struct {
	ID   mail.MemberID
	Name string
	Why  error
}

// Error names who is missing.
func (e *NoMajority) Error() string {
	var b strings.Builder
	b.WriteString(ErrNoMajority.Error())
	for i, m := range e.Missing {
		sep := ", "
		if i == 0 {
			sep = "; missing: "
		}
		fmt.Fprintf(&b, "%s%s (%v)", sep, m.Name, m.Why)
	}
	return b.String()
}

// Unwrap gives ErrNoMajority and the cause.
func (e *NoMajority) Unwrap() []error { return []error{ErrNoMajority, e.Cause} }

func (u *Upload) noMajority(cause error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := &NoMajority{Content: u.content, Holders: u.holdersLocked(), Cause: cause}
	if u.sealed && !u.stored {
		e.Missing = append(e.Missing, Missing{u.r.Self, "this member", errNoAnswer})
	}
	for _, sl := range u.slots {
		if !sl.peer.Voter || sl.state == confirmed {
			continue
		}
		why := sl.why
		if sl.state == streaming {
			why = errNoAnswer
		}
		e.Missing = append(e.Missing, Missing{sl.peer.ID, sl.peer.Name, why})
	}
	return e
}

// Close ends the content and returns as soon as a majority of the present
// voters, this member among them, has synced it and confirmed size and
// checksum, with those that have. notAfter is stored beside every copy.
//
// A voter that missed a part and is needed is sent the whole from the own
// disk. When ctx ends, or enough voters have refused, the error is a
// *NoMajority; an error of the own disk is returned as it is.
func (u *Upload) Close(ctx context.Context, notAfter mail.Time) (mail.Content, []mail.MemberID, error) {
	if u.err != nil || u.over {
		return mail.Content{}, nil, errors.Join(u.err, u.ended())
	}
	u.over = true
	if err := u.end(ctx, notAfter); err != nil {
		return mail.Content{}, nil, u.fail(err)
	}
	u.own.Commit(notAfter, u.committed)
	holders, err := u.wait(ctx)
	if err != nil {
		return u.content, holders, fmt.Errorf("upload content %s: %w", u.id, err)
	}
	return u.content, holders, nil
}

// end sends what is left and the end, before the own sync begins: the peers'
// syncs run beside it.
func (u *Upload) end(ctx context.Context, notAfter mail.Time) error {
	if u.sent && u.cur != nil {
		if err := u.ship(ctx, u.r.WriteWait); err != nil {
			return err
		}
	}
	if u.sent {
		u.seal(notAfter)
		u.say(frame{kind: kindEnd, id: u.id, size: u.content.Size, sum: u.content.Sum, notAfter: notAfter})
		return nil
	}
	b := u.cur
	if u.cur = nil; b == nil {
		b = tiny()
	}
	defer b.release()
	if _, err := u.own.Write(b.payload()); err != nil {
		return fmt.Errorf("write own disk: %w", err)
	}
	u.seal(notAfter)
	b.seal(frame{kind: kindPut, id: u.id, sum: u.content.Sum, notAfter: notAfter})
	u.connect()
	return u.offer(ctx, b, u.r.WriteWait)
}

func (u *Upload) seal(notAfter mail.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.content = mail.Content{ID: u.id, Size: u.own.Size(), Sum: u.own.Sum(), NotAfter: notAfter}
	u.sealed = true
}

// committed is told by the own disk. The claim goes only now: until here Stat
// may speak of bytes that are not synced.
func (u *Upload) committed(err error) {
	u.mu.Lock()
	u.stored, u.ownErr = err == nil, err
	u.mu.Unlock()
	u.r.give(u.id)
	wake(u.wake)
}

// wait returns when enough have the content, or it is clear that they will not.
func (u *Upload) wait(ctx context.Context) ([]mail.MemberID, error) {
	peers := u.r.Peers()
	u.recount(peers)
	var again resends
	defer again.end()
	var extra *time.Timer
	var late <-chan time.Time
	for {
		t := u.tally()
		need := u.r.Need(t.voters)
		switch {
		case t.ownErr != nil:
			return nil, fmt.Errorf("commit on own disk: %w", t.ownErr)
		case !t.stored:
		case t.have >= need && u.r.Enough(u.Holders()):
			holders := u.Holders()
			if u.r.Extra == nil || t.pending == 0 || u.r.Extra(holders) {
				return holders, nil
			}
			if extra == nil {
				extra = time.NewTimer(u.r.ExtraWait)
				defer extra.Stop()
				late = extra.C
			}
		case t.have+t.possible < need, t.have >= need && t.possible == 0:
			return u.Holders(), u.noMajority(errRefused)
		case t.have+t.streaming < need, t.have >= need && t.streaming == 0:
			again.start(ctx, u)
		}
		select {
		case <-u.wake:
		case <-late:
			return u.Holders(), nil
		case <-ctx.Done():
			return u.Holders(), u.noMajority(context.Cause(ctx))
		case <-u.r.ctx.Done():
			return u.Holders(), u.noMajority(ErrClosed)
		}
	}
}

var errRefused = errors.New("refused by the rest")

// recount makes the voters those of now. A voter that joined since Begin has
// missed everything so far; a peer that is no voter any more does not count.
func (u *Upload) recount(peers []Peer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	known := len(u.slots)
	for _, sl := range u.slots {
		sl.peer.Voter = false
	}
next:
	for _, p := range peers {
		for _, sl := range u.slots[:known] {
			if sl.peer.ID == p.ID {
				sl.peer.Voter = p.Voter
				continue next
			}
		}
		sl := &slot{up: u, peer: p, link: u.r.link(p), wake: u.wake, state: left, why: errDown}
		u.slots = append(u.slots, sl)
	}
}

// tally counts voters, this member among them.
type tally struct {
	voters    int
	have      int // confirmed
	streaming int // their answer is awaited
	possible  int // not confirmed, but not refused either
	pending   int // answers awaited from anybody
	stored    bool
	ownErr    error
}

func (u *Upload) tally() tally {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := tally{voters: 1, stored: u.stored, ownErr: u.ownErr}
	if u.stored {
		t.have++
	}
	for _, sl := range u.slots {
		if sl.state == streaming {
			t.pending++
		}
		if !sl.peer.Voter {
			continue
		}
		t.voters++
		switch sl.state {
		case confirmed:
			t.have++
		case streaming:
			t.streaming++
			t.possible++
		case left:
			t.possible++
		}
	}
	return t
}

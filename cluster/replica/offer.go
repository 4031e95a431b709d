package replica

import (
	"context"
	"errors"
	"time"
)

// offer queues a sealed frame for every peer that takes part, and waits where
// it must. The rule:
//
//   - A peer with room gets the frame.
//   - A peer without room is left out as soon as enough voters are far from
//     their own bounds (at most half full). Until then it is waited for: peers
//     of about the same speed fill up together, and the one that is a moment
//     behind must not lose the whole content for it.
//   - If too few voters take part at all, Write goes on only while enough of
//     them are connected that what they missed can be sent again by Close. At
//     the end there is nothing left to hold back: Close does the waiting.
//
// It returns an error only when it waited for too long or ctx ended.
func (u *Upload) offer(ctx context.Context, b *buffer, atMost time.Duration) error {
	for _, sl := range u.slots {
		sl.given = false
	}
	var patience, look *time.Timer
	for {
		ok, poll := u.hand(b)
		if ok {
			return nil
		}
		if patience == nil {
			u.r.count.waits.Add(1)
			patience = time.NewTimer(atMost)
			defer patience.Stop()
		}
		var again <-chan time.Time
		if poll { // a new connection tells nobody here
			look = time.NewTimer(50 * time.Millisecond)
			again = look.C
		}
		var ended error
		select {
		case <-u.wake:
		case <-again:
		case <-patience.C:
			ended = context.DeadlineExceeded
		case <-ctx.Done():
			ended = context.Cause(ctx)
		case <-u.r.ctx.Done():
			ended = ErrClosed
		}
		if look != nil {
			look.Stop()
		}
		if ended != nil {
			return u.noMajority(ended)
		}
	}
}

// hand makes one round. It reports whether the upload may go on; poll means
// that it waits for connections and not for room.
func (u *Upload) hand(b *buffer) (ok, poll bool) {
	voters, with, easy, behind := 1, 1, 1, 0
	hope := 1
	for _, sl := range u.slots {
		if sl.peer.Voter {
			voters++
		}
		u.give(sl, b)
		st := u.state(sl)
		switch {
		case st == streaming && !sl.given:
			behind++
		case !sl.peer.Voter:
		case st == streaming:
			with, hope = with+1, hope+1
			if sl.sess.easy(sl) {
				easy++
			}
		case st == confirmed, st == left && sl.link.session() != nil:
			hope++
		}
	}
	need := u.r.Need(voters)
	switch {
	case behind == 0:
		return hope >= need || u.over, true
	case easy < need:
		return false, false
	}
	for _, sl := range u.slots {
		if !sl.given {
			u.leaveOut(sl, errSlow)
		}
	}
	return true, false
}

// give queues b for sl if it takes part and has not got it.
func (u *Upload) give(sl *slot, b *buffer) {
	if sl.given || u.state(sl) != streaming {
		return
	}
	switch sl.sess.push(sl, b) {
	case pushed:
		sl.given = true
	case sessionDead:
		u.leaveOut(sl, errDown)
	}
}

// ErrNoMajority reports a content that too few voters have.
var ErrNoMajority = errors.New("no majority of the voters has the content")

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
//   - A peer without room is waited for while it is needed. If enough voters
//     are far from their own bounds (at most half full), it is not: then it has
//     what is left of the upload's grace, and is left out. Peers of about the
//     same speed fill up together, and the one that is a moment behind must not
//     lose the whole content for it. A peer that used up somebody's grace gets
//     none from anybody until its queue has drained to half.
//   - If too few voters take part at all, Write goes on only while enough of
//     them are connected that what they missed can be sent again by Close. At
//     the end there is nothing left to hold back: Close does the waiting.
//
// It returns an error only when it waited for too long or ctx ended.
func (u *Upload) offer(ctx context.Context, b *buffer, atMost time.Duration) error {
	for _, sl := range u.slots {
		sl.given = false
	}
	v := u.hand(b)
	if v == goOn {
		return nil
	}
	u.r.count.waits.Add(1)
	begun := time.Now()
	t := time.NewTimer(0)
	defer t.Stop()
	for ; v != goOn; v = u.hand(b) {
		since := time.Now()
		left := atMost - since.Sub(begun)
		if left <= 0 {
			return u.noMajority(context.DeadlineExceeded)
		}
		switch v {
		case giveUp:
			return u.noMajority(errRefused)
		case waitLaggard:
			left = min(left, u.r.Grace-u.waited)
		case waitConnection: // a new one tells nobody here
			left = min(left, 50*time.Millisecond)
		}
		t.Reset(left)
		select {
		case <-u.wake:
		case <-t.C:
		case <-ctx.Done():
			return u.noMajority(context.Cause(ctx))
		case <-u.r.ctx.Done():
			return u.noMajority(ErrClosed)
		}
		if v == waitLaggard {
			u.waited += time.Since(since)
		}
	}
	return nil
}

type verdict byte

const (
	goOn           verdict = iota
	waitRoom               // a needed peer has no room
	waitLaggard            // one that is not needed has no room
	waitConnection         // too few take part
	giveUp                 // too many have refused
)

// hand makes one round.
func (u *Upload) hand(b *buffer) verdict {
	voters, easy, hope, behind, refusals := 1, 1, 1, 0, 0
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
			hope++
			if sl.sess.easy(sl) {
				easy++
			}
		case st == refused:
			refusals++
		case st == left && sl.link.session() != nil:
			hope++
		}
	}
	need := u.r.Need(voters)
	switch {
	case behind == 0 && (hope >= need || u.over):
		return goOn
	case voters-refusals < need:
		return giveUp
	case behind == 0:
		return waitConnection
	case easy < need:
		return waitRoom
	}
	return u.dropSlow()
}

// dropSlow leaves out the peers without room that have no grace.
func (u *Upload) dropSlow() verdict {
	v := goOn
	for _, sl := range u.slots {
		if sl.given || u.state(sl) != streaming {
			continue
		}
		if !sl.sess.outOfGrace(u.waited >= u.r.Grace) {
			v = waitLaggard
			continue
		}
		u.leaveOut(sl, errSlow)
	}
	return v
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

package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// resends brings the whole content, from the own disk, to voters that missed a
// part of it and are needed now: a connection that broke and came back need
// not cost the client its message. This is the exception, so a goroutine each.
type resends struct {
	u    *Upload
	ctx  context.Context
	stop context.CancelFunc

	running map[int]bool // guarded by u.mu
}

// start begins one for every voter that was left out and has none. It is
// called again after every change.
func (a *resends) start(ctx context.Context, u *Upload) {
	if a.u == nil {
		a.u, a.running = u, map[int]bool{}
		a.ctx, a.stop = context.WithCancel(ctx)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, sl := range u.slots {
		if sl.peer.Voter && sl.state == left && !a.running[i] {
			a.running[i] = u.r.goes(func() { a.run(i) })
		}
	}
}

func (a *resends) end() {
	if a.u != nil {
		a.stop()
	}
}

func (a *resends) run(i int) {
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	defer context.AfterFunc(a.u.r.ctx, cancel)()
	if err := a.u.resend(ctx, i); err != nil {
		a.u.r.log.Debug("content not sent again", "content", a.u.id, "error", err)
		select { // busy with an earlier attempt, most likely
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	a.u.mu.Lock()
	delete(a.running, i)
	a.u.mu.Unlock()
	wake(a.u.wake)
}

// resend puts a new slot in the place of the i-th, and sends everything over
// the session there is now. The answer comes to the slot.
func (u *Upload) resend(ctx context.Context, i int) error {
	u.mu.Lock()
	old := u.slots[i]
	u.mu.Unlock()
	sess, err := old.link.wait(ctx)
	if err != nil {
		return err
	}
	src, err := u.r.Disk.Open(u.id)
	if err != nil {
		return fmt.Errorf("read own copy: %w", err)
	}
	defer src.Close()
	sl := &slot{up: u, peer: old.peer, link: old.link, sess: sess, wake: make(chan struct{}, 1)}
	u.mu.Lock()
	u.slots[i] = sl
	u.mu.Unlock()
	if !sess.join(sl) {
		u.leaveOut(sl, errDown)
		return errDown
	}
	u.r.count.resends.Add(1)
	if err := u.copyTo(ctx, sl, src); err != nil {
		u.leaveOut(sl, err)
		return err
	}
	return nil
}

// copyTo queues the frames of a content that is on the own disk, at the pace
// of the peer. It stops early, without an error, when the peer has answered.
func (u *Upload) copyTo(ctx context.Context, sl *slot, src io.Reader) error {
	say := func(f frame) {
		b := control(f)
		sl.sess.say(b)
		b.release()
	}
	say(frame{kind: kindBegin, id: u.id})
	for u.state(sl) == streaming {
		b := large()
		n, err := io.ReadFull(src, b.b[headMax:cap(b.b)])
		b.b = b.b[:headMax+n]
		if n > 0 {
			b.seal(frame{kind: kindData, id: u.id})
			if err := u.pushWait(ctx, sl, b); err != nil {
				b.release()
				return err
			}
		}
		b.release()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			c := u.content
			say(frame{kind: kindEnd, id: u.id, size: c.Size, sum: c.Sum, notAfter: c.NotAfter})
			return nil
		case err != nil:
			return fmt.Errorf("read own copy: %w", err)
		}
	}
	return nil
}

func (u *Upload) pushWait(ctx context.Context, sl *slot, b *buffer) error {
	for u.state(sl) == streaming {
		switch sl.sess.push(sl, b) {
		case pushed:
			return nil
		case sessionDead:
			return errDown
		}
		select {
		case <-sl.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

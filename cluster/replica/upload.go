package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/mail"
)

// Upload is one content on its way to all members. Write, Close and Abort are
// for one goroutine; Holders for any.
type Upload struct {
	r    *Replica
	id   mail.ContentID
	own  Sink
	cur  *buffer // bytes not shipped yet
	err  error   // what broke it
	over bool    // Close or Abort was called
	sent bool    // BEGIN is out: it will not be a PUT
	wake chan struct{}

	waited time.Duration // for peers that were not needed

	mu      sync.Mutex
	slots   []*slot
	content mail.Content // set when the last byte is known
	sealed  bool         // content is set
	stored  bool         // the own disk has synced it
	ownErr  error
}

// slot is the part of one peer in an upload.
type slot struct {
	up   *Upload
	peer Peer
	link *link
	sess *session
	wake chan struct{} // told when something changed for this slot

	given   bool        // the frame being offered is queued here; Write's own
	out     atomic.Bool // data not yet written is skipped
	queued  int64       // guarded by sess.mu
	watched bool        // guarded by sess.mu

	state state // guarded by up.mu, as is why
	why   error
}

type state byte

const (
	streaming state = iota // has had every frame so far, or waits for the first
	confirmed              // has synced it, with equal size and checksum
	left                   // left out; may still get it afterwards
	refused                // said no, and would say it again
)

// Why a peer is missing.
var (
	errDown     = errors.New("not connected")
	errSlow     = errors.New("too slow")
	errBusy     = errors.New("is busy with it")
	errMismatch = errors.New("got other bytes")
	errPeerDisk = errors.New("its disk failed")
	errNoAnswer = errors.New("has not answered")
	errAborted  = errors.New("upload aborted")
)

// Begin opens an upload to the own disk and to all peers. The error is the own
// disk's: ErrFull, ErrExists.
func (r *Replica) Begin(id mail.ContentID) (*Upload, error) {
	if r.ctx.Err() != nil {
		return nil, ErrClosed
	}
	peers := r.Peers()
	own, err := r.create(id)
	if err != nil {
		return nil, fmt.Errorf("begin content %s: %w", id, err)
	}
	r.count.uploads.Add(1)
	u := &Upload{r: r, id: id, own: own, wake: make(chan struct{}, 1)}
	u.invite(peers)
	return u, nil
}

// create claims id and opens it on the own disk.
func (r *Replica) create(id mail.ContentID) (Sink, error) {
	if _, ok := r.take(id); !ok {
		return nil, ErrExists
	}
	sink, err := r.Disk.Create(id)
	if err != nil {
		r.give(id)
		return nil, err
	}
	return sink, nil
}

func (u *Upload) invite(peers []Peer) {
	all := make([]slot, len(peers))
	for i, p := range peers {
		all[i].up, all[i].peer, all[i].link, all[i].wake = u, p, u.r.link(p), u.wake
		u.slots = append(u.slots, &all[i])
	}
}

// Write appends to the content. It waits while fewer than a majority of the
// voters keep up, which holds the client back; after WriteWait it fails with
// ErrNoMajority. An upload whose Write failed is aborted.
func (u *Upload) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		if u.err != nil || u.over {
			return done, errors.Join(u.err, u.ended())
		}
		switch {
		case u.cur != nil:
		case u.sent:
			u.cur = large()
		default:
			u.cur = small()
		}
		n := u.cur.fill(p)
		p, done = p[n:], done+n
		if u.cur.full() {
			if err := u.ship(u.r.ctx, u.r.WriteWait); err != nil {
				return done, u.fail(err)
			}
		}
	}
	return done, nil
}

func (u *Upload) ended() error {
	if u.over {
		return fmt.Errorf("write content %s: upload is over", u.id)
	}
	return nil
}

func (u *Upload) fail(err error) error {
	u.err = fmt.Errorf("upload content %s: %w", u.id, err)
	u.drop()
	return u.err
}

// Abort gives the content up, here and at the peers. After Close it does
// nothing.
func (u *Upload) Abort() {
	if u.over {
		return
	}
	u.over = true
	if u.err == nil {
		u.drop()
	}
}

func (u *Upload) drop() {
	if u.cur != nil {
		u.cur.release()
		u.cur = nil
	}
	u.own.Abort()
	u.r.give(u.id)
	for _, sl := range u.slots {
		u.leaveOut(sl, errAborted)
	}
}

// ship writes the bytes at hand to the own disk and offers them to the peers.
func (u *Upload) ship(ctx context.Context, atMost time.Duration) error {
	b := u.cur
	u.cur = nil
	defer b.release()
	if _, err := u.own.Write(b.payload()); err != nil {
		return fmt.Errorf("write own disk: %w", err)
	}
	if !u.sent {
		u.sent = true
		u.connect()
		u.say(frame{kind: kindBegin, id: u.id})
	}
	b.seal(frame{kind: kindData, id: u.id})
	return u.offer(ctx, b, atMost)
}

// connect chooses the sessions that this upload goes over, to the end: a peer
// that is connected again has not got what was sent before.
func (u *Upload) connect() {
	for _, sl := range u.slots {
		sl.sess = sl.link.session()
		if sl.sess == nil || !sl.sess.join(sl) {
			u.leaveOut(sl, errDown)
		}
	}
}

// say queues a small frame for every peer that takes part.
func (u *Upload) say(f frame) {
	b := control(f)
	defer b.release()
	for _, sl := range u.slots {
		if u.state(sl) == streaming {
			sl.sess.say(b)
		}
	}
}

func (u *Upload) state(sl *slot) state {
	u.mu.Lock()
	defer u.mu.Unlock()
	return sl.state
}

// leaveOut goes on without the peer, and tells it so if it can be told.
func (u *Upload) leaveOut(sl *slot, why error) {
	u.mu.Lock()
	if sl.state != streaming {
		u.mu.Unlock()
		return
	}
	sl.state, sl.why = left, why
	u.mu.Unlock()
	if why != errAborted {
		u.r.count.leftOut.Add(1)
	}
	sl.out.Store(true)
	if sl.sess != nil {
		sl.sess.leave(sl)
		b := control(frame{kind: kindAbort, id: u.id})
		sl.sess.say(b)
		b.release()
	}
}

// lost is called when the session of sl has ended.
func (u *Upload) lost(sl *slot, why error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if sl.state == streaming {
		sl.state, sl.why = left, fmt.Errorf("connection lost: %w", why)
		u.r.count.leftOut.Add(1)
	}
	sl.out.Store(true)
	wake(sl.wake)
	wake(u.wake)
}

// answer is called with the peer's last word on sl. Only a confirmation of the
// very size and checksum counts.
func (u *Upload) answer(sl *slot, f frame) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if sl.state == streaming {
		switch {
		case f.kind == kindAck && u.sealed && f.size == u.content.Size && f.sum == u.content.Sum:
			sl.state = confirmed
			u.r.count.acks.Add(1)
		case f.kind == kindAck:
			sl.state, sl.why = refused, errMismatch
		default:
			sl.state, sl.why = left, errBusy
			if why := refusal(f.reason); why != nil {
				sl.state, sl.why = refused, why
			}
			u.r.count.nacks.Add(1)
			u.r.count.leftOut.Add(1)
		}
	}
	sl.out.Store(true) // whatever is still queued for it is of no use
	wake(sl.wake)
	wake(u.wake)
}

// refusal is nil for a reason that passes.
func refusal(reason byte) error {
	switch reason {
	case reasonBusy:
		return nil
	case reasonFull:
		return ErrFull
	case reasonMismatch:
		return errMismatch
	}
	return errPeerDisk
}

// Holders are the members that have synced the content to its last byte, this
// one first. Answers that came after Close are in it.
func (u *Upload) Holders() []mail.MemberID {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.holdersLocked()
}

func (u *Upload) holdersLocked() []mail.MemberID {
	h := make([]mail.MemberID, 0, 1+len(u.slots))
	if u.stored {
		h = append(h, u.r.Self)
	}
	for _, sl := range u.slots {
		if sl.state == confirmed {
			h = append(h, sl.peer.ID)
		}
	}
	return h
}

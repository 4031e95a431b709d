package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/mail"
)

// Serve receives from peers, and answers their pulls, until l ends or Close.
func (r *Replica) Serve(l net.Listener) {
	stop := context.AfterFunc(r.ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			r.admit(c)
		case r.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, say: it passes
			r.log.Warn("accept content connection", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-r.ctx.Done():
			}
		}
	}
}

func (r *Replica) admit(c net.Conn) {
	r.mu.Lock()
	full := r.conns >= r.ConnectsMax
	if !full {
		r.conns++
	}
	r.mu.Unlock()
	if full {
		r.log.Warn("too many content connections", "limit", r.ConnectsMax)
		c.Close()
		return
	}
	started := r.goes(func() {
		defer r.leave()
		stop := context.AfterFunc(r.ctx, func() { c.Close() })
		defer stop()
		defer c.Close()
		if err := r.greet(c); err != nil && r.ctx.Err() == nil {
			r.log.Info("content connection ended", "remote", c.RemoteAddr(), "error", err)
		}
	})
	if !started {
		c.Close()
		r.leave()
	}
}

func (r *Replica) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns--
}

// greet answers the hello and serves the connection in its role.
func (r *Replica) greet(raw net.Conn) error {
	conn := &rolling{Conn: raw, read: r.Silence, write: r.Silence}
	dec := newDecoder(conn, frameMax)
	h, err := dec.hello()
	if err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	back := hello{version: version, role: h.role, from: r.Self, to: h.from}
	if _, err := conn.Write(back.frame().append(nil)); err != nil {
		return fmt.Errorf("write hello: %w", err)
	}
	switch {
	case h.version != version:
		return fmt.Errorf("%w: version %d there, %d here", ErrProtocol, h.version, version)
	case h.to != r.Self:
		return fmt.Errorf("%w: meant for %s", ErrProtocol, h.to)
	case !r.proven(raw, h.from):
		return fmt.Errorf("%w: not the %s that it says", ErrProtocol, h.from)
	case h.role == roleUpload:
		return r.receive(conn, dec, h.from)
	case h.role == rolePull:
		conn.read = 12 * r.Silence // an idle connection may wait for its next use
		return r.answerPulls(conn, dec)
	}
	return fmt.Errorf("%w: role %d", ErrProtocol, h.role)
}

// inbound is one connection that brings uploads. Its reader writes straight to
// the disk: a slow disk holds back this connection and no other.
type inbound struct {
	r    *Replica
	conn net.Conn
	from mail.MemberID
	open map[mail.ContentID]Sink // nil: exists here already, only compared at the end

	commits chan struct{} // one element per commit that waits for the disk
	busy    atomic.Int64  // since when the reader is in the disk, 0 if it is not

	mu    sync.Mutex
	out   []byte // answers not written yet
	ended bool
	kick  chan struct{}
}

func (r *Replica) receive(conn net.Conn, dec *decoder, from mail.MemberID) error {
	in := &inbound{r: r, conn: conn, from: from, open: map[mail.ContentID]Sink{},
		commits: make(chan struct{}, r.CommitsMax), kick: make(chan struct{}, 1)}
	done := make(chan struct{})
	written := make(chan struct{})
	go func() {
		defer close(written)
		in.write(done)
		conn.Close()
	}()
	err := in.read(dec)
	for id, sink := range in.open {
		in.drop(id, sink)
	}
	in.mu.Lock()
	in.ended = true
	in.mu.Unlock()
	close(done)
	conn.Close()
	<-written
	return err
}

func (in *inbound) read(dec *decoder) error {
	for {
		f, err := dec.next()
		if err != nil {
			return fmt.Errorf("read from %s: %w", in.from, err)
		}
		in.r.count.received.Add(int64(dec.used))
		if f.kind == kindPing {
			continue
		}
		in.busy.Store(time.Now().UnixNano())
		err = in.handle(f)
		in.busy.Store(0)
		if err != nil {
			return err
		}
	}
}

func (in *inbound) handle(f frame) error {
	sink, begun := in.open[f.id]
	switch f.kind {
	case kindBegin:
		if begun {
			return fmt.Errorf("%w: %s begun twice", ErrProtocol, f.id)
		}
		if sink, ok := in.begin(f.id); ok {
			in.open[f.id] = sink
		}
	case kindPut:
		if begun {
			return fmt.Errorf("%w: %s begun twice", ErrProtocol, f.id)
		}
		if sink, ok := in.begin(f.id); ok && in.data(f.id, sink, f.data) {
			in.end(f, sink)
		}
	case kindData: // for an id that was refused, the sender does not know yet
		if begun && !in.data(f.id, sink, f.data) {
			delete(in.open, f.id)
		}
	case kindEnd:
		if begun {
			delete(in.open, f.id)
			in.end(f, sink)
		}
	case kindAbort:
		if begun {
			delete(in.open, f.id)
			in.drop(f.id, sink)
		}
	default:
		return fmt.Errorf("%w: kind %d in an upload", ErrProtocol, f.kind)
	}
	return nil
}

// begin opens a content for writing. A nil Sink that is ok stands for one that
// is here already.
func (in *inbound) begin(id mail.ContentID) (Sink, bool) {
	if !in.r.openOne(len(in.open)) {
		in.nack(id, reasonBusy)
		return nil, false
	}
	if _, ok := in.r.take(id); !ok {
		in.r.closeOne()
		in.nack(id, reasonBusy)
		return nil, false
	}
	if _, ok := in.r.Disk.Stat(id); ok {
		in.r.give(id)
		return nil, true
	}
	sink, err := in.r.Disk.Create(id)
	if err == nil {
		return sink, true
	}
	in.r.give(id)
	in.r.closeOne()
	in.r.log.Warn("content from a peer not taken", "content", id, "peer", in.from, "error", err)
	in.nack(id, reasonOf(err))
	return nil, false
}

func reasonOf(err error) byte {
	switch {
	case errors.Is(err, ErrFull):
		return reasonFull
	case errors.Is(err, ErrExists): // not by Stat: somebody writes it at this moment
		return reasonBusy
	case errors.Is(err, ErrNotFound):
		return reasonNotFound
	case errors.Is(err, ErrDamaged):
		return reasonDamaged
	}
	return reasonError
}

// data writes; false when that failed and the content is dropped.
func (in *inbound) data(id mail.ContentID, sink Sink, p []byte) bool {
	if sink == nil {
		return true
	}
	if _, err := sink.Write(p); err != nil {
		in.r.log.Error("write content from a peer", "content", id, "peer", in.from, "error", err)
		in.drop(id, sink)
		in.nack(id, reasonOf(err))
		return false
	}
	return true
}

func (in *inbound) drop(id mail.ContentID, sink Sink) {
	in.r.closeOne()
	if sink != nil {
		sink.Abort()
		in.r.give(id)
	}
}

// end compares, commits, and confirms when the disk says that it is synced.
func (in *inbound) end(f frame, sink Sink) {
	if sink == nil {
		in.r.closeOne()
		if c, ok := in.r.Disk.Stat(f.id); ok && c.Size == f.size && c.Sum == f.sum {
			in.ack(c)
			return
		}
		in.nack(f.id, reasonMismatch)
		return
	}
	c := mail.Content{ID: f.id, Size: sink.Size(), Sum: sink.Sum()}
	if c.Size != f.size || c.Sum != f.sum {
		in.r.log.Error("content from a peer is not what it says", "content", f.id, "peer", in.from)
		in.drop(f.id, sink)
		in.nack(f.id, reasonMismatch)
		return
	}
	in.commits <- struct{}{}
	sink.Commit(f.notAfter, func(err error) {
		in.r.closeOne()
		in.r.give(c.ID)
		if err != nil {
			in.nack(c.ID, reasonOf(err))
		} else {
			in.ack(c)
		}
		<-in.commits
	})
}

// openOne admits one more upload from a peer, on a connection that has n.
func (r *Replica) openOne(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened >= r.OpenMax || n >= (r.OpenMax+1)/2 {
		return false
	}
	r.opened++
	return true
}

func (r *Replica) closeOne() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened--
}

func (in *inbound) ack(c mail.Content) {
	in.r.count.acksSent.Add(1)
	in.answer(frame{kind: kindAck, id: c.ID, size: c.Size, sum: c.Sum})
}

func (in *inbound) nack(id mail.ContentID, reason byte) {
	in.r.count.nacksSent.Add(1)
	in.answer(frame{kind: kindNack, id: id, reason: reason})
}

// answer never blocks: the disk's committer calls it.
func (in *inbound) answer(f frame) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return
	}
	in.out = f.append(in.out)
	wake(in.kick)
}

// write sends answers, many in one call, and a ping when there were none;
// but none while the reader is stuck in the disk: then this member is as good
// as frozen for its peer, and shall look so.
func (in *inbound) write(done <-chan struct{}) {
	every := in.r.Silence / 5
	tick := time.NewTicker(every)
	defer tick.Stop()
	var spare []byte
	for {
		var b []byte
		in.mu.Lock()
		b, in.out = in.out, spare[:0]
		in.mu.Unlock()
		if len(b) > 0 {
			if _, err := in.conn.Write(b); err != nil {
				return
			}
		}
		if spare = b; len(b) > 0 {
			continue
		}
		select {
		case <-done:
			return
		case <-in.kick:
		case now := <-tick.C:
			since := in.busy.Load()
			if since != 0 && now.UnixNano()-since > int64(2*every) {
				continue
			}
			if _, err := in.conn.Write(pingFrame); err != nil {
				return
			}
		}
	}
}

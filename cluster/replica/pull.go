package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"mailraft/mail"
)

// flight is one content being pulled. It runs as long as anybody waits for it.
type flight struct {
	waiters int // guarded by Replica.mu
	cancel  context.CancelFunc
	done    chan struct{}
	err     error
}

// Pull fetches one content from any peer that has it, verifies size and
// checksum, and returns when it is synced here. Calls for the same content
// share one transfer. ErrNotFound: every peer answered, and none has it whole.
func (r *Replica) Pull(ctx context.Context, want mail.Content) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	f := r.flights[want.ID]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		var fly context.Context
		fly, f.cancel = context.WithCancel(r.ctx)
		r.flights[want.ID] = f
		r.wg.Go(func() { r.fly(fly, f, want) })
	}
	f.waiters++
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		if r.flights[want.ID] == f { // a later caller starts anew
			delete(r.flights, want.ID)
		}
	}
	return fmt.Errorf("pull content %s: %w", want.ID, context.Cause(ctx))
}

func (r *Replica) fly(ctx context.Context, f *flight, want mail.Content) {
	defer f.cancel()
	r.count.pulls.Add(1)
	if err := r.fetch(ctx, want); err != nil {
		r.count.pullsFailed.Add(1)
		f.err = fmt.Errorf("pull content %s: %w", want.ID, err)
	}
	r.mu.Lock()
	if r.flights[want.ID] == f {
		delete(r.flights, want.ID)
	}
	r.mu.Unlock()
	close(f.done)
}

// fetch takes its turn, makes sure that nobody else writes the content, and
// asks one peer after another.
func (r *Replica) fetch(ctx context.Context, want mail.Content) error {
	select {
	case r.pulls <- struct{}{}:
		defer func() { <-r.pulls }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		busy, ok := r.take(want.ID)
		if ok {
			break
		}
		select { // an upload brings it just now
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if c, ok := r.Disk.Stat(want.ID); ok {
		r.give(want.ID)
		if c.Size != want.Size || c.Sum != want.Sum {
			return fmt.Errorf("%w: other bytes under the same id here", ErrExists)
		}
		return nil
	}
	sink, err := r.ask(ctx, &want)
	if err != nil {
		r.give(want.ID)
		return err
	}
	done := make(chan error, 1)
	sink.Commit(want.NotAfter, func(err error) {
		r.give(want.ID)
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ask tries the peers, connected ones first, and returns a verified Sink that
// only wants its Commit. want.NotAfter is filled in if it was not known.
func (r *Replica) ask(ctx context.Context, want *mail.Content) (Sink, error) {
	peers := slices.Clone(r.Peers())
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	links := make([]*link, 0, len(peers))
	for _, p := range peers {
		links = append(links, r.link(p))
	}
	slices.SortStableFunc(links, func(a, b *link) int { return down(a) - down(b) })
	var errs []error
	for _, l := range links {
		sink, err := l.pull(ctx, want)
		if err == nil {
			return sink, nil
		}
		var own ownError
		if errors.As(err, &own) {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, ErrNotFound) {
			errs = append(errs, fmt.Errorf("from %s: %w", l.id, err))
		}
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("at %d peers: %w", len(links), ErrNotFound)
	}
	return nil, errors.Join(errs...)
}

func down(l *link) int {
	if l.session() == nil {
		return 1
	}
	return 0
}

// ownError is a failure on this side: no other peer can help.
type ownError struct{ error }

func (e ownError) Unwrap() error { return e.error }

// idleConn is a connection for pulls between two uses.
type idleConn struct {
	conn  net.Conn
	dec   *decoder
	since time.Time
}

// idleShare is shorter than what the other side waits for the next pull.
const idleShare = 6 // times Silence

func (l *link) pull(ctx context.Context, want *mail.Content) (Sink, error) {
	for {
		c, fresh, err := l.pullConn(ctx)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { c.conn.Close() })
		sink, clean, heard, err := l.r.transfer(c, want)
		if stop() && clean {
			l.keep(c)
		} else {
			c.conn.Close()
		}
		// An idle connection may have died unseen.
		if err == nil || fresh || heard || ctx.Err() != nil {
			return sink, err
		}
	}
}

func (l *link) pullConn(ctx context.Context) (c idleConn, fresh bool, err error) {
	l.mu.Lock()
	if n := len(l.idle); n > 0 {
		c = l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		return c, false, nil
	}
	l.mu.Unlock()
	c.conn, c.dec, err = l.dial(ctx, rolePull)
	return c, true, err
}

func (l *link) keep(c idleConn) {
	c.since = time.Now()
	l.mu.Lock()
	l.idle = append(l.idle, c)
	l.mu.Unlock()
	if l.ctx.Err() != nil {
		l.prune()
	}
}

// prune closes what was not used for a while; all, once the link is stopped.
// Closing may wait for the network: not under a lock.
func (l *link) prune() {
	var old []idleConn
	l.mu.Lock()
	l.idle = slices.DeleteFunc(l.idle, func(c idleConn) bool {
		gone := l.ctx.Err() != nil || time.Since(c.since) > idleShare*l.r.Silence
		if gone {
			old = append(old, c)
		}
		return gone
	})
	l.mu.Unlock()
	for _, c := range old {
		c.conn.Close()
	}
}

// transfer asks for one content and writes what comes into a Sink of the own
// disk. clean: the connection can be used again; heard: the peer has answered.
func (r *Replica) transfer(c idleConn, want *mail.Content) (sink Sink, clean, heard bool, err error) {
	ask := frame{kind: kindPull, id: want.ID, size: want.Size, sum: want.Sum}
	if _, err := c.conn.Write(ask.append(nil)); err != nil {
		return nil, false, false, fmt.Errorf("ask: %w", err)
	}
	defer func() {
		if err != nil && sink != nil {
			sink.Abort()
			sink = nil
		}
	}()
	for {
		f, err := c.dec.next()
		if err != nil {
			return sink, false, heard, fmt.Errorf("read from peer: %w", err)
		}
		heard = true
		r.count.received.Add(int64(c.dec.used))
		if f.kind == kindNack && f.id == want.ID {
			return sink, true, true, denial(f.reason)
		}
		if sink, err = r.accept(sink, f, want); err != nil {
			return sink, false, true, err
		}
		if f.kind == kindEnd || f.kind == kindPut {
			return sink, true, true, verify(sink, f, want)
		}
	}
}

// accept takes one frame of a transfer. More bytes than were asked for are
// refused before they are written.
func (r *Replica) accept(sink Sink, f frame, want *mail.Content) (Sink, error) {
	starts := f.kind == kindBegin || f.kind == kindPut
	switch {
	case f.id != want.ID || starts != (sink == nil):
		return sink, fmt.Errorf("%w: kind %d out of place", ErrProtocol, f.kind)
	case f.kind != kindBegin && f.kind != kindPut && f.kind != kindData && f.kind != kindEnd:
		return sink, fmt.Errorf("%w: kind %d in a pull", ErrProtocol, f.kind)
	}
	if sink == nil {
		s, err := r.Disk.Create(want.ID)
		if err != nil {
			return nil, ownError{fmt.Errorf("create on own disk: %w", err)}
		}
		sink = s
	}
	if sink.Size()+int64(len(f.data)) > want.Size {
		return sink, errMismatch
	}
	if _, err := sink.Write(f.data); err != nil {
		return sink, ownError{fmt.Errorf("write own disk: %w", err)}
	}
	return sink, nil
}

func verify(sink Sink, end frame, want *mail.Content) error {
	if sink.Size() != want.Size || sink.Sum() != want.Sum || end.size != want.Size || end.sum != want.Sum {
		return errMismatch
	}
	if want.NotAfter.IsZero() {
		want.NotAfter = end.notAfter
	}
	return nil
}

func denial(reason byte) error {
	switch reason {
	case reasonNotFound:
		return ErrNotFound
	case reasonDamaged:
		return ErrDamaged
	}
	return errPeerDisk
}

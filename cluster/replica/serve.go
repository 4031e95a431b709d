package replica

import (
	"errors"
	"fmt"
	"io"
	"net"

	"mailraft/mail"
)

// answerPulls serves one connection for pulls, one at a time: a peer that
// wants more at once opens more.
func (r *Replica) answerPulls(conn net.Conn, dec *decoder) error {
	for {
		f, err := dec.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read pull: %w", err)
		}
		if f.kind != kindPull {
			return fmt.Errorf("%w: kind %d for a pull", ErrProtocol, f.kind)
		}
		want := mail.Content{ID: f.id, Size: f.size, Sum: f.sum}
		err = r.serve(conn, want)
		var bad diskError
		if errors.As(err, &bad) {
			r.log.Warn("content not served", "content", want.ID, "error", bad.error)
			if errors.Is(err, ErrDamaged) && r.Damaged != nil {
				r.Damaged(want.ID, bad.error)
			}
			f := frame{kind: kindNack, id: want.ID, reason: reasonOf(err)}
			_, err = conn.Write(f.append(nil))
		}
		if err != nil {
			return fmt.Errorf("serve content %s: %w", want.ID, err)
		}
	}
}

// diskError is a failure of the own disk, which the peer is told.
type diskError struct{ error }

func (e diskError) Unwrap() error { return e.error }

// serve sends one content. Where it breaks off in the middle the peer throws
// away what it has.
func (r *Replica) serve(conn net.Conn, want mail.Content) error {
	src, err := r.Disk.Open(want.ID)
	if err != nil {
		return diskError{err}
	}
	defer src.Close()
	c := src.Content()
	if c.Size != want.Size || c.Sum != want.Sum {
		return diskError{fmt.Errorf("%w: other bytes under that id", ErrNotFound)}
	}
	r.count.served.Add(1)
	b := large()
	defer b.release()
	begun := false
	for {
		n, err := io.ReadFull(src, b.b[headMax:cap(b.b)])
		whole := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !whole {
			return diskError{err}
		}
		b.b = b.b[:headMax+n]
		f := frame{kind: kindData, id: c.ID}
		if !begun && whole {
			f = frame{kind: kindPut, id: c.ID, sum: c.Sum, notAfter: c.NotAfter}
		}
		if !begun && !whole {
			if err := r.send(conn, frame{kind: kindBegin, id: c.ID}.append(nil)); err != nil {
				return err
			}
		}
		begun = true
		if n > 0 || f.kind == kindPut {
			b.seal(f)
			if err := r.send(conn, b.frame()); err != nil {
				return err
			}
		}
		if whole {
			if f.kind == kindPut {
				return nil
			}
			return r.send(conn, frame{kind: kindEnd, id: c.ID, size: c.Size, sum: c.Sum, notAfter: c.NotAfter}.append(nil))
		}
	}
}

func (r *Replica) send(conn net.Conn, b []byte) error {
	n, err := conn.Write(b)
	r.count.sent.Add(int64(n))
	return err
}

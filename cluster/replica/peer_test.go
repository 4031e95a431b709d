package replica

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

// beB makes b a peer by hand: it says hello as who, then does what f does.
func (h *house) beB(who mail.MemberID, f func(net.Conn, *decoder)) {
	h.r[1].Close()
	go func() {
		c := <-h.net.ways["b"]
		defer c.Close()
		d := newDecoder(c, frameMax)
		g, err := d.hello()
		if err != nil {
			return
		}
		c.Write(hello{version: version, role: g.role, from: who, to: g.from}.frame().append(nil))
		f(c, d)
	}()
}

// A peer that confirms something else than what was sent has confirmed nothing.
func TestOnlyTheVeryBytesCount(t *testing.T) {
	lies := map[string]func(*frame){
		"sum":  func(f *frame) { f.sum++ },
		"size": func(f *frame) { f.size++ },
		"soon": func(f *frame) { f.size, f.sum = 0, 0 },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHouse(t, 2, nil)
				synctest.Wait()
				h.beB(2, func(c net.Conn, d *decoder) {
					for {
						f, err := d.next()
						if err != nil {
							return
						}
						if f.kind == kindBegin && name != "soon" || f.kind == kindData || f.kind == kindPing {
							continue
						}
						f.kind, f.data = kindAck, nil
						lie(&f)
						c.Write(f.append(nil))
					}
				})
				time.Sleep(5 * time.Second)
				for _, size := range []int{100, 100_000} {
					u, err := h.r[0].Begin(newID())
					if err != nil {
						t.Fatal(err)
					}
					u.Write(body(size))
					synctest.Wait()
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_, _, err = u.Close(ctx, 1)
					if !errors.Is(err, ErrNoMajority) || slices.Contains(u.Holders(), 2) {
						t.Error(size, u.Holders(), err)
					}
				}
			})
		})
	}
}

func TestDialledMemberIsAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 2, nil)
		synctest.Wait()
		closed := make(chan bool, 1)
		h.beB(8, func(c net.Conn, d *decoder) {
			_, err := d.next()
			closed <- err != nil
		})
		if !<-closed {
			t.Error("spoke to a member that is not the one it means")
		}
	})
}

// patient takes all writes at once and brings them in its own time, as the
// buffers of the kernel do.
type patient struct {
	net.Conn
	q chan []byte
}

func newPatient(c net.Conn) net.Conn {
	p := &patient{c, make(chan []byte, 1000)}
	go func() {
		for b := range p.q {
			if _, err := p.Conn.Write(b); err != nil {
				return
			}
		}
	}()
	return p
}

func (p *patient) Write(b []byte) (int, error)      { p.q <- slices.Clone(b); return len(b), nil }
func (p *patient) SetWriteDeadline(time.Time) error { return nil }
func (p *patient) Close() error                     { return p.Conn.Close() }

// Nothing but its silence betrays a peer whose disk hangs.
func TestPeerWithStuckDiskFallsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, once(newPatient))
		synctest.Wait()
		gate := make(chan struct{})
		h.disks[1].set(func() { h.disks[1].gate = gate })
		if _, _, _, err := put(h.r[0], newID(), body(100), 100); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		if s := h.r[0].Stats(); s.Redials == 0 {
			t.Errorf("%+v", s)
		}
		close(gate)
		time.Sleep(10 * time.Second)
	})
}

func TestSlowUntilHalf(t *testing.T) {
	r := &Replica{Config: Config{QueueSize: 4 * smallSize, ShareSize: 1 << 30}}
	s := &session{link: &link{r: r}, kick: make(chan struct{}, 1)}
	sl := &slot{wake: make(chan struct{}, 1)}
	b := small()
	for range 4 {
		if s.push(sl, b) != pushed {
			t.Fatal("no room")
		}
	}
	if s.push(sl, b) != queueFull || s.outOfGrace(false) || !s.outOfGrace(true) {
		t.Fatal("not slow")
	}
	items := s.take(nil)
	for i, slow := range []bool{true, false, false, false} {
		s.written(items[i : i+1])
		if s.outOfGrace(false) != slow {
			t.Error(i, "slow:", !slow)
		}
	}
	select {
	case <-sl.wake:
	default:
		t.Error("nobody was told of the room")
	}
}

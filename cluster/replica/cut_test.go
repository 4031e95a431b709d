package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

// cutConn ends the connection after so many bytes, written or read.
type cutConn struct {
	net.Conn
	mu          sync.Mutex
	write, read int // bytes left; negative: no limit
}

var errCut = errors.New("cut")

func (c *cutConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	n := len(p)
	if c.write >= 0 {
		n = min(n, c.write)
		c.write -= n
	}
	c.mu.Unlock()
	m, err := c.Conn.Write(p[:n])
	if n < len(p) && err == nil {
		c.Conn.Close()
		err = errCut
	}
	return m, err
}

func (c *cutConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	left := c.read
	c.mu.Unlock()
	if left == 0 {
		c.Conn.Close()
		return 0, errCut
	}
	if left > 0 {
		p = p[:min(len(p), left)]
	}
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	if c.read > 0 {
		c.read -= n
	}
	c.mu.Unlock()
	return n, err
}

// once wraps only the first upload connection from a to b.
func once(wrap func(net.Conn) net.Conn) func(from, to string, c net.Conn) (net.Conn, error) {
	var mu sync.Mutex
	done := false
	return func(from, to string, c net.Conn) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if from == "a" && to == "b" && !done {
			done = true
			return wrap(c), nil
		}
		return c, nil
	}
}

// cuts are the lengths of what a sends to b for an upload of b in the test
// below: the end of every frame, one byte around it, and some at random.
func cuts(b []byte) []int {
	at := []int{0}
	total := len(hello{}.frame().append(nil))
	for _, n := range frameLengths(len(b)) {
		at = append(at, total-1, total, total+1)
		total += n
	}
	at = append(at, total-1, total, total+1)
	for range 40 {
		at = append(at, rand.IntN(total))
	}
	return at
}

func frameLengths(size int) []int {
	if size < smallSize-headMax {
		return []int{headMax + size}
	}
	ls := []int{headSize + idSize, headSize + idSize + smallSize - headMax}
	size -= smallSize - headMax
	for size > 0 {
		n := min(size, largeSize-headMax)
		ls = append(ls, headSize+idSize+n)
		size -= n
	}
	return append(ls, headSize+idSize+24)
}

// Wherever the connection to one peer is cut: nobody commits other bytes, who
// confirmed has the content, and the majority is reached over the third.
func TestCutAnywhere(t *testing.T) {
	for _, size := range []int{1000, 150_000} {
		b := body(size)
		for _, at := range cuts(b) {
			bubble(t, func(t *testing.T) {
				h := newHouse(t, 3, once(func(c net.Conn) net.Conn { return &cutConn{Conn: c, write: at, read: -1} }))
				synctest.Wait()
				id := newID()
				_, u, holders, err := put(h.r[0], id, b, 30_000)
				if err != nil || len(holders) < 2 {
					t.Fatal(at, holders, err)
				}
				synctest.Wait()
				h.check(id, b)
				h.honest(id, u.Holders())
				for i, d := range h.disks {
					if d.writers() != 0 {
						t.Errorf("cut at %d: member %d still writes", at, i)
					}
				}
			})
		}
	}
}

// With the third away the second is needed: it gets the whole again when it is
// back, also where only its answer was lost.
func TestCutAnywhereAndSentAgain(t *testing.T) {
	for _, size := range []int{1000, 150_000} {
		b := body(size)
		for _, at := range cuts(b) {
			cut := once(func(c net.Conn) net.Conn { return &cutConn{Conn: c, write: at, read: -1} })
			testSentAgain(t, b, cut)
		}
		for at := range len(frame{kind: kindAck, data: make([]byte, 16)}.append(nil)) + len(hello{}.frame().append(nil)) {
			cut := once(func(c net.Conn) net.Conn { return &cutConn{Conn: c, write: -1, read: at} })
			testSentAgain(t, b, cut)
		}
	}
}

func testSentAgain(t *testing.T, b []byte, cut func(from, to string, c net.Conn) (net.Conn, error)) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, func(from, to string, c net.Conn) (net.Conn, error) {
			if to == "c" || from == "c" {
				return nil, errUnplugged
			}
			return cut(from, to, c)
		})
		synctest.Wait()
		id := newID()
		_, u, _, err := put(h.r[0], id, b, 30_000)
		if err != nil {
			t.Fatal(err)
		}
		h.check(id, b)
		h.honest(id, u.Holders())
	})
}

// flipConn changes one byte on its way.
type flipConn struct {
	net.Conn
	at int
}

func (c *flipConn) Write(p []byte) (int, error) {
	if c.at >= 0 && c.at < len(p) {
		p = bytes.Clone(p)
		p[c.at] ^= 0x40
	}
	c.at -= len(p)
	return c.Conn.Write(p)
}

func TestChangedByteIsNeverCommitted(t *testing.T) {
	start := len(hello{}.frame().append(nil))
	for _, size := range []int{200, 20_000} {
		b := body(size)
		for range 150 {
			at := start + rand.IntN(size+100)
			bubble(t, func(t *testing.T) {
				h := newHouse(t, 3, once(func(c net.Conn) net.Conn { return &flipConn{c, at} }))
				synctest.Wait()
				id := newID()
				_, u, _, err := put(h.r[0], id, b, 30_000)
				if err != nil {
					t.Fatal(at, err)
				}
				time.Sleep(10 * time.Second)
				h.check(id, b)
				h.honest(id, u.Holders())
			})
		}
	}
}

func TestHelloOfAnotherMember(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 3, nil)
		synctest.Wait()
		h.mu.Lock()
		h.peers[1].ID = 77 // the state says so; b still is what it was
		h.mu.Unlock()
		time.Sleep(5 * time.Second)
		_, _, holders, err := put(h.r[0], newID(), body(10), 10)
		if err != nil || len(holders) != 2 || holders[1] != 3 {
			t.Error(holders, err)
		}
		for _, p := range h.r[0].Stats().Peers {
			if p.ID != 3 && p.Connected {
				t.Error("connected to", p.ID)
			}
		}
	})
}

func TestUnprovenPeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 2, nil, func(c *Config) {
			c.PeerOf = func(net.Conn) (mail.MemberID, bool) { return 9, true }
		})
		time.Sleep(time.Second)
		if h.r[0].Stats().Peers[0].Connected {
			t.Error("connected")
		}
	})
}

// talk is a peer made by hand, at the other end of a receiving member.
func talk(t *testing.T, h *house, role byte) (net.Conn, *decoder) {
	c, err := h.net.dial("x")(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	c.Write(hello{version: version, role: role, from: 9, to: 1}.frame().append(nil))
	d := newDecoder(c, frameMax)
	if g, err := d.hello(); err != nil || g.from != 1 || g.to != 9 {
		t.Fatal(g, err)
	}
	return c, d
}

func answerOf(t *testing.T, d *decoder) frame {
	for {
		f, err := d.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.kind != kindPing {
			return f
		}
	}
}

func TestReceiver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHouse(t, 1, nil, func(c *Config) { c.OpenMax = 4 })
		b := body(300)
		c, _, _, err := put(h.r[0], newID(), b, 300)
		if err != nil {
			t.Fatal(err)
		}
		conn, d := talk(t, h, roleUpload)
		defer conn.Close()
		send := func(fs ...frame) {
			for _, f := range fs {
				if _, err := conn.Write(f.append(nil)); err != nil {
					t.Fatal(err)
				}
			}
		}
		begin := func(id mail.ContentID) frame { return frame{kind: kindBegin, id: id} }
		data := func(id mail.ContentID) frame { return frame{kind: kindData, id: id, data: b} }
		end := func(id mail.ContentID, sum uint64) frame {
			return frame{kind: kindEnd, id: id, size: c.Size, sum: sum}
		}
		expect := func(what string, kind, reason byte) {
			t.Helper()
			if f := answerOf(t, d); f.kind != kind || f.reason != reason {
				t.Errorf("%s: %+v", what, f)
			}
		}
		send(begin(c.ID), data(c.ID), end(c.ID, c.Sum))
		expect("there already", kindAck, 0)
		send(begin(c.ID), data(c.ID), end(c.ID, c.Sum+1))
		expect("other bytes there", kindNack, reasonMismatch)
		send(frame{kind: kindPut, id: c.ID, sum: c.Sum, data: b})
		expect("there already, small", kindAck, 0)
		n := newID()
		send(begin(n), data(n), end(n, c.Sum+1))
		expect("other sum", kindNack, reasonMismatch)
		send(frame{kind: kindPut, id: n, sum: c.Sum + 1, data: b})
		expect("other sum, small", kindNack, reasonMismatch)
		send(begin(n), data(n), data(n), end(n, c.Sum))
		expect("other size", kindNack, reasonMismatch)
		send(data(n), end(n, c.Sum), frame{kind: kindAbort, id: n}) // late, for what was refused: silence
		send(begin(n), data(n), end(n, c.Sum))
		expect("again", kindAck, 0)
		x, y, z := newID(), newID(), newID()
		send(begin(x), begin(y), begin(z))
		expect("too many open", kindNack, reasonBusy)
		send(frame{kind: kindAbort, id: x}, begin(z))
		if synctest.Wait(); h.r[0].Stats().Receiving != 2 || h.disks[0].writers() != 2 {
			t.Error(h.r[0].Stats().Receiving)
		}
		conn.Close()
		if synctest.Wait(); h.r[0].Stats().Receiving != 0 || h.disks[0].writers() != 0 {
			t.Error("left open after the connection")
		}
	})
}

func TestReceiverCutsOffNonsense(t *testing.T) {
	id := newID()
	for _, b := range [][]byte{
		{0, 0, 0, 0, 0},
		{0xff, 0xff, 0xff, 0xff, kindData},
		frame{kind: kindPull, id: id}.append(nil),
		append(frame{kind: kindBegin, id: id}.append(nil), frame{kind: kindBegin, id: id}.append(nil)...),
		frame{kind: kindData, id: id}.append(nil), // no data
		frame{kind: kindEnd, id: id, size: -1}.append(nil),
	} {
		bubble(t, func(t *testing.T) {
			h := newHouse(t, 1, nil)
			conn, d := talk(t, h, roleUpload)
			defer conn.Close()
			conn.Write(b)
			for {
				if _, err := d.next(); err != nil {
					break
				}
			}
			if synctest.Wait(); h.disks[0].writers() != 0 {
				t.Error("left open")
			}
		})
	}
}

func TestHelloRefused(t *testing.T) {
	for _, g := range []hello{
		{version: 2, role: roleUpload, from: 9, to: 1},
		{version: 1, role: roleUpload, from: 9, to: 5},
		{version: 1, role: 7, from: 9, to: 1},
	} {
		bubble(t, func(t *testing.T) {
			h := newHouse(t, 1, nil)
			c, err := h.net.dial("x")(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write(g.frame().append(nil))
			d := newDecoder(c, frameMax)
			if back, err := d.hello(); err != nil || back.version != version || back.from != 1 {
				t.Error("the other side does not learn why", back, err)
			}
			if _, err := d.next(); err == nil {
				t.Error("goes on with", g)
			}
		})
	}
}

func FuzzDecoder(f *testing.F) {
	id := newID()
	for _, fr := range []frame{
		hello{version: 1, role: 1, from: 1, to: 2}.frame(), {kind: kindPing}, {kind: kindBegin, id: id},
		{kind: kindData, id: id, data: []byte("x")}, {kind: kindEnd, id: id, size: 1, sum: 2, notAfter: 3},
		{kind: kindPut, id: id, sum: 7, data: []byte("body")}, {kind: kindAck, id: id, size: 1}, {kind: kindNack, id: id, reason: 1},
		{kind: kindPull, id: id}, {kind: kindAbort, id: id},
	} {
		f.Add(fr.append(nil))
		f.Add(append(fr.append(nil), fr.append(nil)[:6]...))
	}
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDecoder(bytes.NewReader(b), frameMax)
		var again []byte
		for {
			fr, err := d.next()
			if err != nil {
				break
			}
			if len(fr.data) > dataMax || fr.size < 0 {
				t.Fatalf("%d bytes, size %d", len(fr.data), fr.size)
			}
			again = fr.append(again)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatal("what was read is not what was there")
		}
	})
}

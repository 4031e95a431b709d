package replica

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
	"mailraft/store/content"
)

// loopback is three members over TCP.
func loopback(t testing.TB, disks []Disk, wrap func(net.Conn) net.Conn) []*Replica {
	var ls []net.Listener
	var peers []Peer
	for i := range disks {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, l)
		peers = append(peers, Peer{ID: mail.MemberID(i + 1), Name: fmt.Sprint("m", i), Addr: l.Addr().String(), Voter: true})
	}
	var rs []*Replica
	for i, d := range disks {
		others := append(append([]Peer{}, peers[:i]...), peers[i+1:]...)
		r := New(Config{Self: peers[i].ID, Disk: d, Peers: func() []Peer { return others },
			BackoffLeast: time.Millisecond, BackoffMost: 20 * time.Millisecond,
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
				if err != nil || wrap == nil {
					return c, err
				}
				return wrap(c), nil
			}})
		t.Cleanup(r.Close)
		go r.Serve(ls[i])
		rs = append(rs, r)
	}
	return rs
}

// Sessions on all members at once, over connections that keep breaking: who is
// named as a holder has the very bytes, and nothing wrong is anywhere.
func TestStormOverTCP(t *testing.T) {
	var ms []*memory
	var ds []Disk
	for range 3 {
		m := newMemory()
		ms, ds = append(ms, m), append(ds, m)
	}
	rs := loopback(t, ds, func(c net.Conn) net.Conn {
		return &cutConn{Conn: c, write: rand.IntN(4 << 20), read: 20_000 + rand.IntN(20_000)}
	})
	var mu sync.Mutex
	bodies := map[mail.ContentID][]byte{}
	var stored, lost atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for range 30 {
				id, b := newID(), body(1+rand.IntN(300_000))
				mu.Lock()
				bodies[id] = b
				mu.Unlock()
				_, _, holders, err := put(rs[i%3], id, b, 20_000)
				if err != nil {
					lost.Add(1)
					continue
				}
				stored.Add(1)
				for _, m := range holders {
					if _, ok := ms[m-1].Stat(id); !ok {
						t.Errorf("%s confirmed what it has not got", m)
					}
				}
			}
		})
	}
	wg.Wait()
	if stored.Load() < 300 {
		t.Error("stored", stored.Load(), "lost", lost.Load())
	}
	for _, r := range rs {
		r.Close()
	}
	for i, m := range ms {
		m.mu.Lock()
		for id, k := range m.has {
			if string(k.data) != string(bodies[id]) {
				t.Error("member", i, "has other bytes")
			}
		}
		m.mu.Unlock()
	}
}

func BenchmarkUpload(b *testing.B) {
	for _, disk := range []string{"none", "disk"} {
		for _, size := range []int{10 << 10, 75 << 10, 1 << 20} {
			for _, at := range []int{1, 50} {
				b.Run(fmt.Sprintf("%s/%dKB/%d", disk, size>>10, at), func(b *testing.B) { benchmark(b, disk, size, at) })
			}
		}
	}
}

func benchmark(b *testing.B, disk string, size, at int) {
	var ds []Disk
	for range 3 {
		if disk == "none" {
			ds = append(ds, &nowhere{newMemory()})
			continue
		}
		s, err := content.Open(content.Options{FS: vfs.Default, Dir: b.TempDir(), Fatal: func(err error) { b.Error(err) }})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		ds = append(ds, OnStore(s))
	}
	rs := loopback(b, ds, nil)
	waitConnected(b, rs...)
	data := body(size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, _, _, err := put(rs[0], newID(), data, 32<<10); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	s := rs[0].Stats()
	b.ReportMetric(float64(s.LeftOut)/float64(b.N), "left-out/op")
}

// nowhere is a Disk that costs nothing: what is measured is the replication.
type nowhere struct{ *memory }

func (nowhere) Create(id mail.ContentID) (Sink, error)   { return &nowhereSink{}, nil }
func (nowhere) Stat(mail.ContentID) (mail.Content, bool) { return mail.Content{}, false }

type nowhereSink struct{ n int64 }

func (s *nowhereSink) Write(p []byte) (int, error)          { s.n += int64(len(p)); return len(p), nil }
func (s *nowhereSink) Size() int64                          { return s.n }
func (s *nowhereSink) Sum() uint64                          { return uint64(s.n) }
func (s *nowhereSink) Commit(_ mail.Time, done func(error)) { done(nil) }
func (s *nowhereSink) Abort()                               {}

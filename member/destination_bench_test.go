package member

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
)

// Ten thousand messages wait for a next hop that does not take them: deliveries
// to a live one, at its rate with them and without, in turns. What is asked for
// is a ratio of 0.8 at least.
func BenchmarkDeadDestination(b *testing.B) {
	for _, bad := range []struct {
		name  string
		serve func(*testing.B) string
	}{{"refusing", refusing}, {"silent", silent}, {"tarpit", tarpit}} {
		b.Run(bad.name, func(b *testing.B) {
			s := newSorting(b, bad.serve(b))
			s.submit("bad.test", 10_000)
			var with, without []float64
			for b.Loop() {
				without = append(without, s.rate(true))
				with = append(with, s.rate(false))
			}
			if s.m.deliverer.Status().Counts.Delivered == 0 || s.attempts() == 0 {
				b.Fatal("nothing was tried at the next hop that takes nothing")
			}
			ratios := make([]float64, len(with))
			for i := range with {
				ratios[i] = with[i] / without[i]
			}
			b.ReportMetric(median(ratios), "ratio")
			b.ReportMetric(median(without), "msg/s-without")
			b.ReportMetric(median(with), "msg/s-with")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// sorting is a boundary of one member with a live and a dead destination.
type sorting struct {
	b    *testing.B
	ctx  context.Context
	m    *Member
	bad  string // queue
	took atomic.Int64
}

const roundMessages = 1500

func newSorting(b *testing.B, bad string) *sorting {
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	b.Cleanup(cancel)
	s := &sorting{b: b, ctx: ctx, bad: "relay/smtp://" + bad}
	c := Config{Name: "m1", Hostname: "m1.example.test", Dir: filepath.Join(b.TempDir(), "1")}
	c.SMTP.Listen, c.Cluster.Listen, c.HTTP.Listen, c.Disk.SpaceMin = freeAddr(b), freeAddr(b), freeAddr(b), "1MiB"
	if err := c.complete(); err != nil {
		b.Fatal(err)
	}
	if _, err := Init(c, "test", map[string]string{"min-voters": "1", "reject-message-on-shadow-failure": "false"}); err != nil {
		b.Fatal(err)
	}
	m, err := Start(c, hclog.NewNullLogger(), func(err error) { panic(err) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Stop)
	s.m = m
	for m.Ready() != nil {
		s.pause("ready")
	}
	s.propose(fsm.KindDatabase, fsm.DatabaseChange{Op: "add", Name: "DB1", Copies: []fsm.Copy{{Name: "a", Addr: "lmtp://" + s.live()}}})
	s.propose(fsm.KindDirectory, fsm.Directory{Domains: []directory.Domain{{Name: "live.test", Kind: directory.Accepted, AnyMailbox: true, Database: "DB1"},
		{Name: "bad.test", Kind: directory.Relay, NextHop: "smtp://" + bad}}})
	s.suspend(s.bad, true)
	return s
}

func (s *sorting) pause(what string) {
	select {
	case <-time.After(5 * time.Millisecond):
	case <-s.ctx.Done():
		s.b.Fatalf("%s: %v, %s", what, s.ctx.Err(), s.m.Ready())
	}
}

func (s *sorting) propose(k fsm.Kind, body any) {
	if a, err := s.m.Propose(s.ctx, k, body); err != nil || a.Refused != nil {
		s.b.Fatal(err, a.Refused)
	}
}

func (s *sorting) suspend(key string, on bool) {
	s.propose(fsm.KindQueue, fsm.QueueChange{Key: key, Suspend: on})
}

// rate delivers a round of mail to the live destination, while the other's waits
// suspended or due, in messages a second.
func (s *sorting) rate(suspended bool) float64 {
	s.suspend(s.bad, suspended)
	s.suspend("db/DB1", true)
	before := s.took.Load()
	s.submit("live.test", roundMessages)
	s.suspend("db/DB1", false)
	began := time.Now()
	for s.took.Load() < before+roundMessages {
		s.pause("delivery")
	}
	return roundMessages / time.Since(began).Seconds()
}

// submit accepts messages for a domain, many at a time.
func (s *sorting) submit(domain string, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for i := left.Add(-1); i >= 0; i = left.Add(-1) {
				if err := s.accept(fmt.Sprintf("u%d@%s", i, domain)); err != nil {
					s.b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (s *sorting) accept(to string) error {
	u, err := s.m.Begin(s.ctx)
	if err != nil {
		return err
	}
	if _, err := u.Write([]byte("Message-ID: <" + to + ">\r\n\r\n" + strings.Repeat("a line of text\r\n", 60))); err != nil {
		return err
	}
	_, err = u.Commit(s.ctx, mail.Submission{Envelope: mail.Envelope{ReversePath: "s@example.org", Recipients: []string{to}}, Trace: mail.Trace{By: "m1.example.test", Protocol: "ESMTP"}})
	return err
}

// attempts are those at the dead destination that failed or are under way.
func (s *sorting) attempts() (n int) {
	for _, d := range s.m.deliverer.Status().Destinations {
		if d.Key == s.bad {
			n += d.Running + d.Failures
		}
	}
	return n
}

// live is a mailbox server that takes everything at once.
func (s *sorting) live() string {
	return serveLines(s.b, func(line string) string {
		switch verb, _, _ := strings.Cut(line, " "); verb {
		case "":
			return "220 live"
		case "LHLO":
			return "250 live"
		case "DATA":
			return "354 go on"
		case ".":
			s.took.Add(1)
			return "250 2.0.0 taken"
		}
		return "250 ok"
	})
}

// refusing is a port on which nobody listens, and nobody can.
func refusing(b *testing.B) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = syscall.Close(fd) })
	name, err := syscall.Getsockname(fd)
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// silent takes connections, and never says a word.
func silent(b *testing.B) string {
	return serveLines(b, func(string) string { <-b.Context().Done(); return "221 bye" })
}

// tarpit answers one line in ten seconds.
func tarpit(b *testing.B) string {
	return serveLines(b, func(line string) string {
		time.Sleep(10 * time.Second)
		switch line {
		case "":
			return "220 tarpit"
		case "DATA":
			return "354 go on"
		}
		return "250 ok"
	})
}

// serveLines answers each line by f, the greeting as that to an empty one, and
// no line of a body but the dot.
func serveLines(b *testing.B, f func(string) string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, f("")+"\r\n")
				body := false
				for in := bufio.NewScanner(c); in.Scan(); {
					if body = body && in.Text() != "."; body {
						continue
					}
					body = in.Text() == "DATA"
					fmt.Fprint(c, f(in.Text())+"\r\n")
				}
			}()
		}
	}()
	return l.Addr().String()
}

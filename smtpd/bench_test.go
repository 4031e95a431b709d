package smtpd

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
)

// discard is a queue that keeps nothing.
type discard struct{}

func (discard) Begin(context.Context) (Upload, error)            { return discard{}, nil }
func (discard) Verify(context.Context, mail.Address, bool) error { return nil }
func (discard) Ready() error                                     { return nil }
func (discard) Write(p []byte) (int, error)                      { return len(p), nil }
func (discard) Abort()                                           {}
func (discard) Commit(context.Context, mail.Submission) (mail.ID, error) {
	return mail.ID{}, nil
}

// stockSession is go-smtp alone.
type stockSession struct{}

func (stockSession) Reset()                               {}
func (stockSession) Logout() error                        { return nil }
func (stockSession) Mail(string, *smtp.MailOptions) error { return nil }
func (stockSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (stockSession) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func stock(b *testing.B) string {
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return stockSession{}, nil }))
	s.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(l)
	b.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// BenchmarkReceive is one session that sends message after message, against
// this server and against stock go-smtp.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{10 << 10, 75 << 10, 1 << 20} {
		line := strings.Repeat("y", 74) + "\r\n"
		body := strings.Repeat(line, size/len(line))
		for _, kind := range []string{"stock/DATA", "ours/DATA", "ours/BDAT"} {
			b.Run(fmt.Sprintf("%s/%dK", kind, size>>10), func(b *testing.B) {
				var addr string
				if kind == "stock/DATA" {
					addr = stock(b)
				} else {
					_, addr = start(b, Config{Hostname: "mx.example.org", Queue: discard{}, Directory: discard{}, Gate: discard{}})
				}
				p := dial(b, addr)
				p.SetDeadline(time.Time{})
				p.cmd("EHLO x", "250")
				b.SetBytes(int64(len(body)))
				for b.Loop() {
					if kind == "ours/BDAT" {
						p.send(envelope + bdat(len(body), " LAST") + body)
						p.want("250", "250", "250")
						continue
					}
					p.send(envelope + "DATA\r\n")
					p.want("250", "250", "354")
					p.send(body)
					p.cmd(".", "250")
				}
			})
		}
	}
}

// BenchmarkIdleSessions says what a session costs that only waits.
func BenchmarkIdleSessions(b *testing.B) {
	const sessions = 2000
	for b.Loop() {
		_, addr := start(b, Config{Hostname: "mx.example.org", Queue: discard{}, Directory: discard{}, Gate: discard{}})
		before := heap()
		peers := make([]net.Conn, sessions)
		for i := range peers {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			peers[i] = nc
			buf := make([]byte, 256)
			_, _ = nc.Read(buf) // 220
		}
		b.ReportMetric(float64(heap()-before)/sessions, "B/session")
		for _, nc := range peers {
			nc.Close()
		}
	}
}

// heap is what is in use, stacks included.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

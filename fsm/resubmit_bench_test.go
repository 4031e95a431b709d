package fsm

import (
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"mailraft/mail"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// BenchmarkResubmit sends a Safety Net of b.N messages again, in pieces of 64,
// and says what a resubmitted message costs one member: rows read for each
// delivery matched, bytes written by the tables (their log, flushes and
// compactions) and by Raft's log. Nothing is delivered.
func BenchmarkResubmit(b *testing.B) {
	fs := &countingFS{FS: vfs.NewMem()}
	m := &machine{t: b, now: begin, term: 1}
	m.openDir(fs, "state")
	defer m.close()
	m.delivered(b.N, 1)
	m.must(KindRequestAdd, RequestAdd{Database: "DB1"})
	m.db.Sync()
	fs.rest()
	wrote, log, reads, longest := fs.bytes.Load(), 0, 0, time.Duration(0)
	b.ResetTimer()
	for more := true; more; {
		e, err := Encode(KindAdvance, Advance{Request: 1, Rows: 64})
		if err != nil {
			b.Fatal(err)
		}
		Stamp(e, m.now)
		m.log = append(m.log, nil)
		began := time.Now()
		x := m.f.begin()
		x.Tables.Reader = countingReader{x.Tables.Reader, &reads}
		x.at.Index, x.at.Term = uint64(len(m.log)), m.term
		a, _ := x.applyLog(&raft.Log{Type: raft.LogCommand, Data: e})
		m.f.commit(x)
		longest = max(longest, time.Since(began))
		log += len(e)
		more = a.More
	}
	m.db.Sync()
	b.StopTimer()
	fs.rest()
	v := m.f.View()
	defer v.Close()
	if r, _ := v.Request(1); r.Counts.Sent != b.N || r.Counts.Matched != b.N {
		b.Fatalf("%d messages: %+v", b.N, r.Counts)
	}
	n := float64(b.N)
	b.ReportMetric(float64(fs.bytes.Load()-wrote)/n, "table-B/msg")
	b.ReportMetric(float64(log)/n, "log-B/msg")
	b.ReportMetric(float64(reads)/n, "rows/match")
	b.ReportMetric(n/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
}

// BenchmarkPlan plans for 10,000 deliveries among 200,000.
func BenchmarkPlan(b *testing.B) {
	m := &machine{t: b, now: begin, term: 1}
	m.openDir(vfs.NewMem(), "state")
	defer m.close()
	const all, asked = 200_000, 10_000
	from := m.delivered(all, asked)
	for b.Loop() {
		v := m.f.View()
		p, refusal := v.Plan(RequestAdd{Database: "DB1", Start: from}, m.now, func() bool { return false })
		if refusal != nil || p.Request.Counts.Sent != asked {
			b.Fatalf("%v, %+v", refusal, p.Request.Counts)
		}
		v.Close()
	}
}

// delivered fills the Safety Net with n messages as they come from outside,
// delivered in the order of their ids, a thousand each second. It returns when
// the last ones were.
func (m *machine) delivered(n, last int) (from mail.Time) {
	m.boundary()
	x := m.f.begin()
	for i := range n {
		m.log = append(m.log, nil)
		x.at.Index, x.at.Time, x.made = uint64(len(m.log)), m.now, 0
		s := m.submission(0, mail.MemberID(1+i%3), m1, m2, m3)
		s.Content.ID = mail.ContentID{0: 1, 10: byte(i >> 24), 11: byte(i >> 16), 12: byte(i >> 8), 13: byte(i), 15: byte(i)}
		s.Content.Size, s.Content.Sum = 75_000, 0x0123456789abcdef+uint64(i)
		s.Envelope = mail.Envelope{ReversePath: "anna.svensson@sender.example", Recipients: []string{fmt.Sprintf("user%d@example.test", i%5000)}}
		s.Trace = mail.Trace{Helo: "mx7.sender.example", Name: "mx7.sender.example", Address: "192.0.2.77", By: "m1.mail.example.test", Protocol: "ESMTPS", Session: "01hgw2bbg0000000"}
		s.Fields = mail.Fields{MessageID: fmt.Sprintf("<20260101100000.%012d@sender.example>", i), Date: "Thu, 1 Jan 2026 10:00:00 +0000", Subject: "Quarterly report of the northern branch, third draft"}
		e := x.create(s.Content)
		e.Envelope, e.Trace, e.Fields, e.Primary, e.Shadow, e.Holders, e.Acked = s.Envelope, s.Trace, s.Fields, s.Primary, 1+s.Primary%3, s.Holders, true
		e.Recipients = []Recipient{{Address: s.Envelope.Recipients[0], Database: "DB1", State: Delivered, Done: m.now, Attempts: 1, Copy: "a", Activation: 1, Remote: "192.0.2.9:24", Reply: mail.Replyf(250, "2.1.5", "delivered")}}
		e.Finished = m.now
		x.save(e)
		if i == n-last {
			from = m.now
		}
		if i%1000 == 999 {
			m.now = m.now.Add(time.Second)
			x.at.Index = uint64(len(m.log))
			m.f.commit(x)
			x = m.f.begin()
		}
	}
	m.f.commit(x)
	m.now = m.now.Add(time.Minute)
	return from
}

// countingReader counts the message rows that are read.
type countingReader struct {
	state.Reader
	rows *int
}

func (r countingReader) Get(key []byte) ([]byte, bool) {
	if key[1] == tabMessage {
		*r.rows++
	}
	return r.Reader.Get(key)
}

func (r countingReader) Scan(lower, upper []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for k, v := range r.Reader.Scan(lower, upper) {
			if k[1] == tabMessage {
				*r.rows++
			}
			if !yield(k, v) {
				return
			}
		}
	}
}

// countingFS counts what is written to files.
type countingFS struct {
	vfs.FS
	bytes atomic.Int64
}

// rest waits until nothing is compacted any more.
func (fs *countingFS) rest() {
	for was := int64(-1); was != fs.bytes.Load(); time.Sleep(300 * time.Millisecond) {
		was = fs.bytes.Load()
	}
}

type countingFile struct {
	vfs.File
	fs *countingFS
}

func (f countingFile) Write(p []byte) (int, error) {
	f.fs.bytes.Add(int64(len(p)))
	return f.File.Write(p)
}

func (fs *countingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return countingFile{f, fs}, err
}

func (fs *countingFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(from, to, c)
	return countingFile{f, fs}, err
}

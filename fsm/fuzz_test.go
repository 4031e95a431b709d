package fsm

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// apply puts raw bytes into the log.
func (m *machine) apply(entry []byte) Answer {
	m.t.Helper()
	return m.add(&raft.Log{Type: raft.LogCommand, Data: entry})
}

// FuzzApply applies any body of any known kind to a boundary with mail in all
// its states: nothing panics, nothing stops the process, no rule is broken, and
// a second machine comes to the same state.
func FuzzApply(f *testing.F) {
	files, err := filepath.Glob("../testdata/entries/*.hex")
	if err != nil || len(files) == 0 {
		f.Fatalf("no entries: %v", err)
	}
	for _, file := range files {
		e := readGolden(f, file)
		f.Add(e[0], e[headerSize:])
	}
	for kind := range handlers {
		for _, body := range []string{"", "\xf6", "\xa0", "\x80", "\xa1\x01\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", "\xa1\x02\x81\xa0", "\xa1\x01\xa0",
			"\xa2\x01\x01\x02\x81\xf6", "\xa2\x01\x01\x02\x3a\x7f\xff\xff\xff"} {
			f.Add(byte(kind), []byte(body))
		}
	}
	for id := range uint64(4) {
		for kind, body := range map[Kind]any{KindAdvance: Advance{Request: id, Rows: 64}, KindRequestChange: RequestChange{Op: "cancel", Request: id}} {
			b, err := enc.Marshal(body)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(kind), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if _, ok := handlers[Kind(kind)]; !ok || len(body) > entrySizeMax {
			t.Skip()
		}
		m := populated(t)
		e := append([]byte{kind, version, 0, 0, 0, 0, 0, 0, 0, 0}, body...)
		Stamp(e, m.now)
		m.apply(e)
		m.apply(e)
		m.check()
		again := newMachine(t)
		again.f.ApplyBatch(m.log)
		if again.hash() != m.hash() {
			t.Error("applied in one batch: another state")
		}
	})
}

// populated is a boundary with an active, a held, a finished and a waiting
// message, a member that is down, and resubmit requests.
func populated(t testing.TB) *machine {
	m := newMachine(t)
	m.boundary()
	m.must(KindConfigure, Configure{Set: map[string]string{"reject-message-on-shadow-failure": "false"}})
	m.must(KindDirectory, largeGroup())
	for n := range byte(4) {
		s := m.submission(n+1, m1, m1)
		if n > 0 {
			s.Holders = append(s.Holders, m2)
		}
		if n == 3 {
			s.Envelope.Recipients = []string{"big@example.test"}
		}
		id := m.must(KindAccept, Accept{Submission: s}).ID
		if n == 1 {
			m.must(KindReport, reportOf(m1, id))
		}
		if n == 3 {
			m.must(KindExpand, Expand{ID: id})
		}
	}
	m.must(KindMemberDown, MemberChange{Member: m1})
	m.must(KindTakeover, MemberChange{Member: m1, Rows: 1})
	for id := range uint64(3) {
		m.must(KindRequestAdd, RequestAdd{Database: "DB1", Again: true})
		for range 2 * id { // not begun, waiting, and all sent
			m.now = m.now.Add(2 * time.Minute)
			m.must(KindAdvance, Advance{Request: id + 1, Rows: 64})
		}
	}
	return m
}

// FuzzSnapshotStream installs any bytes: they are refused and nothing changes,
// or they were a whole stream.
func FuzzSnapshotStream(f *testing.F) {
	m := newMachine(f)
	m.boundary()
	for i := range byte(2) { // ahead of whoever gets it
		m.must(KindAccept, Accept{Submission: m.submission(i+2, m1, m1, m2)})
	}
	v := m.f.View()
	defer v.Close()
	var whole bytes.Buffer
	if err := writeStream(&whole, v.Tables); err != nil {
		f.Fatal(err)
	}
	b := whole.Bytes()
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(b[:len(b)/2])
	f.Add(append(bytes.Clone(b), 0))
	f.Add([]byte(streamMagic))
	f.Add([]byte(streamMagic + "\x00\x00\x00\x01\xff\xff\xff\xffr"))
	for _, at := range []int{3, len(streamMagic) + 1, len(b) / 2, len(b) - 2} {
		c := bytes.Clone(b)
		c[at] ^= 0x40
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		to := newMachine(t)
		to.boundary()
		to.must(KindAccept, Accept{Submission: to.submission(1, m1, m1, m2)})
		before := to.hash()
		err := to.f.Restore(io.NopCloser(bytes.NewReader(stream)))
		switch {
		case err == nil && !bytes.HasPrefix(stream, []byte(streamMagic)):
			t.Error("installed what is no stream")
		case err == nil:
		case !errors.Is(err, ErrSnapshot):
			t.Errorf("refused with %v", err)
		case to.hash() != before:
			t.Error("refused, and changed all the same")
		}
	})
}

// Each byte of a stream counts.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	v := m.f.View()
	defer v.Close()
	var whole bytes.Buffer
	if err := writeStream(&whole, v.Tables); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < whole.Len(); at += 7 {
		b := bytes.Clone(whole.Bytes())
		b[at] ^= 1
		for _, stream := range [][]byte{b, whole.Bytes()[:at]} {
			s := &streamReader{r: bytes.NewReader(stream)}
			for range s.rows() {
			}
			if s.fault() == nil {
				t.Fatalf("byte %d of %d", at, whole.Len())
			}
		}
	}
}

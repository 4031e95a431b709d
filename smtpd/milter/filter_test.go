package milter

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// peerSide is a milter on the other end of a pipe. It answers commands with
// what answer returns, and nothing where that is nil.
type peerSide struct {
	answer  func(code byte) []byte
	refuse  atomic.Bool // connections
	open    atomic.Int32
	opened  atomic.Int32
	options []byte
}

func (p *peerSide) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.opened.Add(1)
	if p.refuse.Load() {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	p.open.Add(1)
	go func() {
		defer p.open.Add(-1)
		defer theirs.Close()
		p.serve(theirs)
	}()
	return ours, nil
}

func (p *peerSide) serve(c net.Conn) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(c, head[:]); err != nil || head[4] == cmdQuit {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:]))-1); err != nil {
			return
		}
		answer := p.options
		switch {
		case head[4] == cmdMacro || head[4] == cmdAbort:
			continue
		case head[4] != cmdOptions:
			answer = p.answer(head[4])
		}
		for _, part := range strings.SplitAfter(string(answer), "p") { // each progress by itself
			if part == "p" {
				time.Sleep(20 * time.Second)
			}
			if len(part) > 0 {
				if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(part))), part...)); err != nil {
					return
				}
			}
		}
	}
}

func newPeer(answer func(byte) []byte) *peerSide {
	b := binary.BigEndian.AppendUint32([]byte{cmdOptions}, 6)
	b = binary.BigEndian.AppendUint32(b, actions)
	return &peerSide{answer: answer, options: binary.BigEndian.AppendUint32(b, 0)}
}

func goOn(byte) []byte { return []byte{rspContinue} }

func (p *peerSide) filter(t *testing.T, cfg Config) *Filter {
	t.Helper()
	cfg.Name, cfg.Address, cfg.Dial = "f", "unix:/f", p.dial
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func begin(ctx context.Context, filters ...*Filter) *Session {
	return Begin(ctx, filters, Client{Session: "s", Addr: netip.MustParseAddrPort("192.0.2.1:99"), Hostname: "mx.example"})
}

// code is what the client is told; 0: go on.
func code(err error) int {
	var r *mail.Reply
	if errors.As(err, &r) {
		return r.Code
	}
	if err != nil {
		return -1
	}
	return 0
}

// shown takes a whole message past the filters.
func shown(s *Session, text string) (Result, error) {
	for _, step := range []func() error{
		func() error { return s.Mail(Sender{Helo: "c"}) },
		func() error { return s.Rcpt("a@b.example", nil) },
		s.Data,
		func() error { _, err := s.Write([]byte(text)); return err },
	} {
		if err := step(); err != nil {
			return Result{}, err
		}
	}
	return s.End()
}

const sample = "Subject: x\r\n\r\nbody\r\n"

func TestNobodyIsAsked(t *testing.T) {
	s := Begin(t.Context(), nil, Client{})
	r, err := shown(s, sample)
	if s != nil || err != nil || r.Overlay != nil || s.ID() != "" {
		t.Errorf("%v %+v %v", s, r, err)
	}
	s.Abort()
	s.Close()
}

func TestTimeouts(t *testing.T) {
	for name, c := range map[string]struct {
		at   byte          // the command that is not answered
		with string        // instead
		took time.Duration // until it is given up
	}{
		"options":           {cmdOptions, "", time.Second},
		"connect":           {cmdConnect, "", 2 * time.Second},
		"recipient":         {cmdRcpt, "", 2 * time.Second},
		"header":            {cmdHeader, "", 30 * time.Second},
		"end":               {cmdEnd, "", 30 * time.Second},
		"end, at work":      {cmdEnd, "ppp", 90 * time.Second},                // 20 s before each, then nothing
		"end, at work ever": {cmdEnd, strings.Repeat("p", 1000), progressMax}, // bounded
		"no such answer":    {cmdEnd, "\x00", 0},
		"flood":             {cmdEnd, "h" + strings.Repeat("x", packetMax), 0}, // larger than any packet
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPeer(nil)
				p.answer = func(code byte) []byte {
					if code != c.at {
						return []byte{rspContinue}
					}
					return []byte(c.with)
				}
				if c.at == cmdOptions {
					p.options = nil
				}
				f := p.filter(t, Config{Connect: time.Second, Command: 2 * time.Second, Content: 30 * time.Second})
				s := begin(t.Context(), f)
				begun := time.Now()
				_, err := shown(s, sample)
				if want := reply.FilterAway.Reply(); code(err) != want.Code {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begun); took != c.took {
					t.Errorf("it took %v, not %v", took, c.took)
				}
				if st := f.State(); !st.Away || st.Open != 0 || st.Error == "" || st.Verdicts["failed"] != 1 {
					t.Errorf("%+v", st)
				}
				s.Close()
				synctest.Wait()
				time.Sleep(time.Hour) // what still sleeps on the other side
			})
		})
	}
}

// A filter that is away is not waited for by each session anew; it is back when
// a probe or a session finds it so.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(goOn)
		p.refuse.Store(true)
		f := p.filter(t, Config{})
		for i, want := range []int{451, 451, 451} { // sessions that come at once
			if _, err := shown(begin(t.Context(), f), sample); code(err) != want {
				t.Errorf("session %d: %v", i, err)
			}
		}
		if n := p.opened.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		s := begin(t.Context(), f)
		if _, err := shown(s, sample); code(err) != 451 {
			t.Error(err)
		}
		if _, err := shown(s, sample); code(err) != 421 { // its second message
			t.Error(err)
		}
		time.Sleep(awayLong + time.Second)
		if _, err := shown(begin(t.Context(), f), sample); code(err) != 421 {
			t.Error(err)
		}
		p.refuse.Store(false)
		time.Sleep(holdOff)
		f.Probe(t.Context(), time.Minute)
		if st := f.State(); st.Away || st.Error != "" {
			t.Errorf("%+v", st)
		}
		n := p.opened.Load()
		f.Probe(t.Context(), time.Minute) // it has just answered
		if p.opened.Load() != n {
			t.Error("a filter that is there was probed")
		}
		s = begin(t.Context(), f)
		if _, err := shown(s, sample); err != nil {
			t.Error(err)
		}
		s.Close()
		synctest.Wait()
		if n := p.open.Load(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

func TestPolicies(t *testing.T) {
	for policy, c := range map[Policy]struct {
		code       int
		quarantine string
	}{
		Tempfail:   {451, ""},
		Accept:     {0, ""},
		Quarantine: {0, "f did not see it: connection refused"},
	} {
		p := newPeer(goOn)
		p.refuse.Store(true)
		r, err := shown(begin(t.Context(), p.filter(t, Config{WhenAway: policy})), sample)
		if code(err) != c.code || r.Quarantine != c.quarantine {
			t.Errorf("%s: %v, %q", policy, err, r.Quarantine)
		}
	}
}

// Connections are bounded; who comes too late waits for a while, and the filter
// does not count as away for that.
func TestOpenMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(goOn)
		f := p.filter(t, Config{OpenMax: 2, Connect: 5 * time.Second})
		one, two, three := begin(t.Context(), f), begin(t.Context(), f), begin(t.Context(), f)
		for _, s := range []*Session{one, two, one} {
			if _, err := shown(s, sample); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := shown(three, sample); code(err) != 451 {
			t.Error(err)
		}
		if st := f.State(); st.Away || st.Open != 2 || p.opened.Load() != 2 {
			t.Errorf("%+v, %d were opened", st, p.opened.Load())
		}
		go func() { time.Sleep(3 * time.Second); two.Close() }()
		if _, err := shown(three, sample); err != nil {
			t.Error(err)
		}
		one.Close()
		three.Close()
		if st := f.State(); st.Open != 0 || st.Messages != 4 {
			t.Errorf("%+v", st)
		}
	})
}

// When the server closes, nobody waits for a filter.
func TestServerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPeer(func(code byte) []byte {
			if code == cmdEnd {
				return nil
			}
			return []byte{rspContinue}
		})
		f := p.filter(t, Config{})
		s := begin(ctx, f)
		go func() { time.Sleep(time.Second); cancel() }()
		begun := time.Now()
		if _, err := shown(s, sample); err == nil || time.Since(begun) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if f.State().Away {
			t.Error("the filter is blamed")
		}
		s.Close()
		if _, err := shown(begin(ctx, f), sample); err == nil {
			t.Error("accepted")
		}
	})
}

// The memory that a session takes does not grow with the message.
func TestLargeMessage(t *testing.T) {
	var pieces, size atomic.Int64
	p := newPeer(goOn)
	f := p.filter(t, Config{})
	s := begin(t.Context(), f)
	if err := s.Mail(Sender{}); err != nil {
		t.Fatal(err)
	}
	p.answer = func(code byte) []byte {
		if code == cmdBody {
			pieces.Add(1)
		}
		return []byte{rspContinue}
	}
	piece := []byte(strings.Repeat("x", 64<<10))
	_, err := s.Write([]byte("Subject: x\r\n\r\n"))
	for range 100 {
		if err == nil {
			_, err = s.Write(piece)
			size.Add(int64(len(piece)))
		}
	}
	if cap(s.body) > 2*chunkMax || cap(s.peers[0].c.out) > 4*chunkMax {
		t.Errorf("%d bytes are kept of the body, %d to be sent", cap(s.body), cap(s.peers[0].c.out))
	}
	if _, end := s.End(); err != nil || end != nil {
		t.Fatal(err, end)
	}
	if want := (size.Load() + chunkMax - 1) / chunkMax; pieces.Load() != want {
		t.Errorf("%d pieces, not %d", pieces.Load(), want)
	}
	if s.body != nil {
		t.Error("the buffer is kept for a message that may never come")
	}
	s.Close()
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"inet:127.0.0.1:8891": "tcp 127.0.0.1:8891", "inet:[::1]:8891": "tcp [::1]:8891", "unix:/run/x": "unix /run/x",
		"unix:run/x": "", "inet:8891": "", "inet::8891": "", "inet:8891@localhost": "", "": "", "/run/x": "",
	} {
		network, address, err := parseAddress(text)
		if got := strings.TrimSpace(network + " " + address); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestReplies(t *testing.T) {
	for text, want := range map[string]string{
		"550 5.7.1 Spam":  "550 5.7.1 Spam",
		"550 Spam":        "550 5.7.1 Spam",
		"451 5.7.1 Later": "451 4.7.1 5.7.1 Later", // not the code's class
		"554-5.6.0 One\r\n554-5.6.0 two\r\n554 5.6.0 three": "554 5.6.0 One two three",
		"421 4.7.0 Go":                          "421 4.7.0 Go",
		"550 5.7.1 100%% sure":                  "550 5.7.1 100% sure",
		"550 5.7.1 a\x07b\x00c":                 "550 5.7.1 a b c",
		"550":                                   reply.FilterReject.Reply().String(),
		"450 4.7.1":                             reply.FilterTempfail.Reply().String(),
		"550 5.7.1 " + strings.Repeat("x", 500): "550 5.7.1 " + strings.Repeat("x", replyMax),
		"250 Fine":                              "",
		"999 What":                              "",
		"x":                                     "",
		"":                                      "",
	} {
		got := ""
		if r := parseReply([]byte(text + "\x00")); r != nil {
			got = r.String()
		}
		if got != want {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}

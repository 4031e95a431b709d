package smtpd

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// milterSays ends the replies that scripts let milters give: they are in no table.
const milterSays = " (filter)"

// fakeMilter is the other side of the milter protocol. It does what it was told
// to, and remembers what it was shown.
type fakeMilter struct {
	t     testing.TB
	l     net.Listener
	steps uint32 // of its answer to the options

	mu    sync.Mutex
	rules []rule
	saw   []string
	conns map[net.Conn]bool
}

// rule: when a command of a stage comes whose text contains what, do that.
type rule struct{ stage, what, do string }

var stages = map[byte]string{'C': "connect", 'H': "helo", 'M': "mail", 'R': "rcpt", 'T': "data", 'L': "header", 'N': "eoh", 'B': "body", 'E': "end", 'A': "abort", 'Q': "quit", 'D': "macro"}

func newFakeMilter(t testing.TB, steps uint32) *fakeMilter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeMilter{t: t, l: l, steps: steps, conns: map[net.Conn]bool{}}
	t.Cleanup(m.stop)
	go m.serve()
	return m
}

func (m *fakeMilter) serve() {
	for {
		c, err := m.l.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.conns[c] = true
		m.mu.Unlock()
		go m.session(c)
	}
}

// stop ends it with all its sessions.
func (m *fakeMilter) stop() {
	m.l.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		c.Close()
	}
}

func (m *fakeMilter) session(c net.Conn) {
	defer c.Close()
	for {
		var head [5]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		data := make([]byte, binary.BigEndian.Uint32(head[:])-1)
		if _, err := io.ReadFull(c, data); err != nil {
			return
		}
		if head[4] == 'O' {
			answer := binary.BigEndian.AppendUint32(nil, 6)
			answer = binary.BigEndian.AppendUint32(answer, 0xff)
			m.send(c, 'O', string(binary.BigEndian.AppendUint32(answer, m.steps)))
			continue
		}
		if !m.command(c, stages[head[4]], data) {
			return
		}
	}
}

// silent are the bits of stages that are not answered.
var silent = map[string]uint32{"connect": 0x1000, "helo": 0x2000, "mail": 0x4000, "rcpt": 0x8000, "data": 0x10000, "header": 0x80, "eoh": 0x40000, "body": 0x80000}

// command shows a command to the rules, and answers. False: it hangs up.
func (m *fakeMilter) command(c net.Conn, stage string, data []byte) bool {
	text := strings.TrimSuffix(strings.ReplaceAll(string(data), "\x00", " "), " ")
	if stage == "connect" { // the family and the port are no text
		i := strings.IndexByte(string(data), 0)
		text = string(data[:i]) + " " + string(data[i+1:i+2]) + " " + strings.TrimSuffix(string(data[i+4:]), "\x00")
	}
	m.mu.Lock()
	m.saw = append(m.saw, strings.TrimRight(stage+" "+text, " "))
	var does []string
	for _, r := range m.rules {
		if r.stage == stage && strings.Contains(text, r.what) {
			does = append(does, r.do)
		}
	}
	m.mu.Unlock()
	if stage == "abort" || stage == "macro" {
		return true
	}
	if stage == "quit" {
		return false
	}
	final := "continue"
	for _, do := range does {
		word, rest, _ := strings.Cut(do, " ")
		switch word {
		case "die":
			return false
		case "hang":
			_, _ = io.Copy(io.Discard, c) // until the other side has had enough
			return false
		case "accept", "reject", "tempfail", "discard", "skip", "reply", "shutdown", "garbage":
			final = do
		default:
			m.change(c, word, rest)
		}
	}
	if m.steps&silent[stage] != 0 {
		return true
	}
	word, rest, _ := strings.Cut(final, " ")
	code := map[string]byte{"continue": 'c', "accept": 'a', "reject": 'r', "tempfail": 't', "discard": 'd', "skip": 's', "reply": 'y', "shutdown": '4', "garbage": '?'}[word]
	if word == "reply" {
		unquoted, err := strconv.Unquote(rest)
		if err != nil {
			m.t.Error(err)
		}
		rest = unquoted + "\x00"
	}
	m.send(c, code, rest)
	return true
}

// change asks for a change: word is its name, rest as in the scripts.
func (m *fakeMilter) change(c net.Conn, word, rest string) {
	code, ok := map[string]byte{"add": 'h', "insert": 'i', "change": 'm', "from": 'e', "rcpt+": '+', "rcpt-": '-', "quarantine": 'q', "body": 'b', "progress": 'p'}[word]
	if !ok {
		m.t.Errorf("a milter knows no %q", word)
	}
	var index string
	if word == "insert" || word == "change" {
		n, more, _ := strings.Cut(rest, " ")
		i, _ := strconv.Atoi(n)
		index, rest = string(binary.BigEndian.AppendUint32(nil, uint32(i))), more
	}
	if name, value, isField := strings.Cut(rest, ":"); isField && (index != "" || word == "add") {
		unquoted, err := strconv.Unquote(`"` + strings.TrimPrefix(value, " ") + `"`)
		if err != nil {
			m.t.Error(err)
		}
		rest = name + "\x00" + unquoted
	}
	m.send(c, code, index+rest+"\x00")
}

func (m *fakeMilter) send(c net.Conn, code byte, data string) {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))
	_, _ = io.WriteString(c, string(b)+string(code)+data) // it may have hung up
}

// seen is what it was shown of some stages.
func (m *fakeMilter) seen(which string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, s := range m.saw {
		if stage, _, _ := strings.Cut(s, " "); which == "all" && stage != "macro" || strings.Contains(" "+which+" ", " "+stage+" ") {
			out = append(out, fmt.Sprintf("%q", s))
		}
	}
	return strings.Join(out, " ")
}

// waitSeen is nil when it has been shown that since it was asked last. What is
// not answered it may be at still.
func (m *fakeMilter) waitSeen(which, want string) error {
	for end := time.Now().Add(10 * time.Second); m.seen(which) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("it was shown %s", m.seen(which))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saw = nil
	return nil
}

package wire

import (
	"strings"
	"testing"
	"time"
)

func TestPostmaster(t *testing.T) {
	c, _ := chop(nil, 1, Config{Postmaster: "example.org"})
	for _, tt := range []struct{ in, want string }{
		{"RCPT TO:<postmaster>", "RCPT TO:<postmaster@example.org>"},
		{"rcpt to: <PostMaster> X=Y", "RCPT TO:<PostMaster@example.org> X=Y"},
		{"RCPT TO:<postmaster@other.example>", "RCPT TO:<postmaster@other.example>"},
		{`RCPT TO:<"postmaster">`, `RCPT TO:<"postmaster">`},
		{"RCPT TO:<postmasters>", "RCPT TO:<postmasters>"},
		{"RCPT TO:", "RCPT TO:"},
		{"RCPT", "RCPT"},
	} {
		if got := c.postmaster(tt.in); got != tt.want {
			t.Errorf("%s: %s", tt.in, got)
		}
	}
}

func TestClampSize(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"MAIL FROM:<a@b> SIZE=4294967295", ""},
		{"MAIL FROM:<a@b> SIZE=4294967296", "MAIL FROM:<a@b> SIZE=4294967295"},
		{"MAIL FROM:<a@b> BODY=7BIT size=99999999999999999999999 SMTPUTF8", "MAIL FROM:<a@b> BODY=7BIT SIZE=4294967295 SMTPUTF8"},
		{"MAIL FROM:<a@b> SIZE=-1", ""},
		{"MAIL FROM:<a@b> SIZE=", ""},
		{`MAIL FROM:<" SIZE=99999999999 "@b>`, ""},
		{"MAIL SIZE=99999999999", ""},
	} {
		if tt.want == "" {
			tt.want = tt.in
		}
		if got := clampSize(tt.in); got != tt.want {
			t.Errorf("%s: %s", tt.in, got)
		}
	}
}

// An idle connection holds its small buffer and nothing else, also after a
// message and after many replies.
func TestIdleConnectionIsSmall(t *testing.T) {
	c, _ := chop([]byte("NOOP\r\n"), 4096, Config{})
	c.grow()
	c.out = append(c.out, make([]byte, outMax)...)
	buf := make([]byte, 4096)
	if _, err := c.Read(buf); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(buf); err == nil {
		t.Fatal("no end")
	}
	if c.big != nil || cap(c.buf) != lineMax || cap(c.out) > 4<<10 {
		t.Errorf("holds %d and %d bytes", cap(c.buf), cap(c.out))
	}
}

// Time that we take counts for nothing against a sender.
func TestPaceCountsWaitingOnly(t *testing.T) {
	c, ch := chop([]byte(strings.Repeat("x", 1000)), 10, Config{})
	p := c.newPace()
	for len(ch.in) > 0 {
		if err := c.fillBody(&p); err != nil {
			t.Fatal(err)
		}
		c.r = c.w
	}
	if p.bytes != 1000 || p.waited > time.Minute {
		t.Errorf("%+v", p)
	}
}

func TestKeywords(t *testing.T) {
	c, _ := chop(nil, 1, Config{Hide: []string{"chunking"}, SizeMax: func() int64 { return 7 }})
	got := strings.Join(c.keywords([]string{"PIPELINING", "CHUNKING", "SIZE", "LIMITS RCPTMAX=1"}), ",")
	if got != "PIPELINING,SIZE 7,LIMITS RCPTMAX=1" {
		t.Error(got)
	}
}

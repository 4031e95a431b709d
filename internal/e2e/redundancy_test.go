//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/smtp"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailraft/admin"
	"mailraft/internal/loopback"
)

// edit changes the configuration of a member, which is started anew with it.
func (b *boundary) edit(m *loopback.Member, old, new string) {
	b.t.Helper()
	m.Stop()
	text, err := os.ReadFile(m.Config)
	if err != nil {
		b.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		b.t.Fatalf("%s has no %q:\n%s", m.Config, old, text)
	}
	if err := os.WriteFile(m.Config, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.back(m)
}

// say sends one message to a member and nobody else, and returns the reply's
// code; recipient says in the listings which one it was.
func (b *boundary) say(m *loopback.Member, recipient string) int {
	b.t.Helper()
	err := smtp.SendMail(m.SMTP, nil, "sender@example.org", []string{recipient + "@example.test"},
		fmt.Appendf(nil, "Subject: hello\r\nMessage-ID: <%s@example.org>\r\n\r\nbody\r\n", recipient))
	var reply *textproto.Error
	switch {
	case err == nil:
		return 250
	case errors.As(err, &reply):
		return reply.Code
	}
	b.t.Fatal(err)
	return 0
}

// has is nil if a parameter has a value in the state of a member.
func (b *boundary) has(m *loopback.Member, name, value string) error {
	c := admin.NewClient(m.Socket)
	defer c.Close()
	var l admin.List[admin.Parameter]
	err := c.Get(b.ctx, "/v1/parameters", url.Values{"name": {name}}, &l)
	if err == nil && (len(l.Items) != 1 || l.Items[0].Value != value) {
		err = fmt.Errorf("%+v", l.Items)
	}
	return err
}

// listed are the messages that a filter selects.
func (b *boundary) listed(filter ...string) []admin.Message {
	b.t.Helper()
	var l admin.List[admin.Message]
	if err := json.Unmarshal([]byte(b.cli(append([]string{"message", "list", "-o", "json"}, filter...)...)), &l); err != nil {
		b.t.Fatal(err)
	}
	return l.Items
}

// shadowOf is the shadow server of the message for a recipient.
func (b *boundary) shadowOf(recipient string) string {
	b.t.Helper()
	l := b.listed("--recipient", recipient+"@example.test")
	if len(l) != 1 {
		b.t.Fatalf("%d messages for %s", len(l), recipient)
	}
	return l[0].Shadow
}

// Two members at one site, one at another: where shadows are placed by each
// preference, while the other site is there and while it does not answer.
func TestSites(t *testing.T) {
	t.Parallel()
	sites := []string{"north", "north", "south"}
	b := startWith(t, 2*time.Minute, loopback.Options{
		Params: map[string]string{"shadow-resubmit-time-span": "30s"}, // the site is silent, and not yet known to be down
		Edit:   func(i int, text string) string { return fmt.Sprintf("site = %q\n", sites[i]) + text }})
	b.cli("queue", "suspend", "db/DB1")
	m1, m2, m3 := b.Members[0], b.Members[1], b.Members[2]
	if b.leader() == m3 {
		b.cli("boundary", "transfer-leader", "m1")
	}
	n, asked := 0, b.Members
	expect := func(what string, m *loopback.Member, code int, shadow string) {
		t.Helper()
		n++
		name, began := fmt.Sprint("u", n), time.Now()
		got := b.say(m, name)
		t.Logf("%s, by %s: %d after %s", what, m.Name, got, time.Since(began).Round(time.Millisecond))
		if got != code {
			t.Errorf("%s: %s said %d, want %d", what, m.Name, got, code)
		} else if code == 250 && b.shadowOf(name) != shadow {
			t.Errorf("%s: the shadow server for %s is %q, want %s", what, m.Name, b.shadowOf(name), shadow)
		}
	}
	prefer := func(value string) {
		t.Helper()
		b.cli("config", "set", "shadow-message-preference="+value)
		for _, m := range asked {
			b.eventually(m.Name+" knows", func() error { return b.has(m, "shadow-message-preference", value) })
		}
	}
	expect("prefer-remote", m1, 250, "m3")
	expect("prefer-remote", m2, 250, "m3")
	prefer("local-only")
	expect("local-only", m1, 250, "m2")
	expect("local-only", m2, 250, "m1")
	expect("local-only, alone at its site", m3, 451, "")
	prefer("remote-only")
	expect("remote-only", m1, 250, "m3")

	if err := m3.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	asked = b.Members[:2]
	expect("remote-only, the other site is silent", m1, 451, "")
	prefer("prefer-remote")
	expect("prefer-remote, the other site is silent", m1, 250, "m2")
	prefer("local-only")
	expect("local-only, the other site is silent", m1, 250, "m2")
	if err := m3.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.ready()
	b.edit(m3, "south", "north") // now nobody is anywhere else
	b.eventually("m3 says where it is", func() error {
		m, err := b.member("m3")
		if err == nil && m.Site != "north" {
			err = fmt.Errorf("%+v", m)
		}
		return err
	})
	if out, err := b.CLI(b.ctx, "config", "set", "shadow-message-preference=remote-only"); err == nil || !strings.Contains(err.Error(), "all 3 members are of one site") {
		t.Errorf("remote-only with one site: %v\n%s", err, out)
	}
	b.ready()
	b.cli("queue", "resume", "db/DB1")
	b.eventually("all of it is delivered", func() error {
		if n := b.count("message", "list"); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	b.sameState()
}

// lacking waits until so many active messages lack a shadow or copies.
func (b *boundary) lacking(noShadow, fewer int) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("%d messages without shadow, %d with fewer copies", noShadow, fewer), func() error {
		got := [2]int{len(b.listed("--state", "without-shadow")), len(b.listed("--state", "fewer-copies"))}
		if got != [2]int{noShadow, fewer} {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// Mail is taken with fewer copies, by one parameter and by the other: it is
// marked, counted and listed, and made redundant as soon as that can be. In
// the end the member that took all of it is lost.
func TestFewerCopies(t *testing.T) {
	t.Parallel()
	b := start(t, 2*time.Minute, nil)
	b.cli("queue", "suspend", "db/DB1")
	first, others := b.Members[0], b.Members[1:]
	s := b.sender(10, 2, 0)
	s.Targets = []string{first.SMTP}
	s.Run(b.ctx)
	b.lacking(0, 0)

	const space, noSpace = `space-min = "256MiB"`, `space-min = "1048576GiB"`
	for _, m := range others {
		b.edit(m, space, noSpace)
	}
	b.eventually("the others are back, and take no content", func() error {
		for _, m := range others {
			st, err := b.Status(b.ctx, m)
			if err != nil || st.Boundary.VotersUp < 3 || st.Member.LeaseLeft == 0 {
				return fmt.Errorf("%v %d %v", err, st.Boundary.VotersUp, st.Member.LeaseLeft)
			}
		}
		return nil
	})
	if code := b.say(first, "refused"); code != 451 {
		t.Errorf("one member can store it: %d", code)
	}
	b.cli("config", "set", "reject-message-on-shadow-failure=false")
	b.eventually("the member knows", func() error {
		if code := b.say(first, "alone"); code != 250 {
			return fmt.Errorf("%d", code)
		}
		return nil
	})
	s.Run(b.ctx)
	b.lacking(11, 11)
	b.health("degraded", "11 messages have fewer copies")
	b.cli("config", "set", "reject-message-on-shadow-failure=true")
	for _, m := range others {
		b.edit(m, noSpace, space)
	}
	b.ready()
	b.lacking(0, 0)

	b.cli("config", "set", "shadow-redundancy-enabled=false")
	b.health("degraded", "UNPROTECTED")
	s.Run(b.ctx)
	if n := len(b.listed("--state", "without-shadow")); n != 10 {
		t.Errorf("switched off: %d messages have no shadow, want those 10", n)
	}
	b.cli("config", "set", "shadow-redundancy-enabled=true")
	b.lacking(0, 0)
	b.health("healthy", "")

	b.kill(first)
	b.cli("queue", "resume", "db/DB1")
	b.audit(s.Ledger)
	b.message("alone")
	b.back(first)
	b.ready()
	b.sameState()
}

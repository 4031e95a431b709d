//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/admin"
	"mailraft/internal/loopback"
)

// read asks for objects as JSON, and may be asked again.
func (b *boundary) read(into any, args ...string) error {
	out, err := b.CLI(b.ctx, append(args, "-o", "json")...)
	if err == nil {
		err = json.Unmarshal([]byte(out), into)
	}
	return err
}

// moved waits until a copy is the active one of a database.
func (b *boundary) moved(database, to string) {
	b.t.Helper()
	began := time.Now()
	b.eventually(database+" is moved to copy "+to, func() error {
		var d admin.One[admin.Database]
		err := b.read(&d, "database", "show", database)
		if err == nil && d.Item.Active != to {
			err = fmt.Errorf("%+v", d.Item)
		}
		return err
	})
	b.t.Logf("%s is moved to copy %s after %s", database, to, time.Since(began).Round(time.Millisecond))
}

// healthy waits until a copy is found healthy.
func (b *boundary) healthy(database, name string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("copy %s of %s is healthy", name, database), func() error {
		var d admin.One[admin.Database]
		if err := b.read(&d, "database", "show", database); err != nil {
			return err
		}
		for _, c := range d.Item.Copies {
			if c.Name == name && c.Health != nil && c.Health.Healthy {
				return nil
			}
		}
		return fmt.Errorf("%+v", d.Item)
	})
}

// requests are all that there have been.
func (b *boundary) requests() ([]admin.Request, error) {
	var l admin.List[admin.Request]
	err := b.read(&l, "resubmit", "list", "--all")
	return l.Items, err
}

// completed waits until all requests have ended, and returns them. Those that
// a later activation has taken over end as cancelled.
func (b *boundary) completed() []admin.Request {
	b.t.Helper()
	var all []admin.Request
	b.eventually("all requests have ended", func() (err error) {
		if all, err = b.requests(); err != nil {
			return err
		}
		if len(all) == 0 {
			return errNotYet
		}
		for _, r := range all {
			if r.Ended == 0 {
				return fmt.Errorf("%+v", r)
			}
		}
		return nil
	})
	for _, r := range all {
		b.t.Logf("request %s of activation %d on behalf of %q: %s, matched %d, sent %d, delivered %d (%d were there), left out %v, served by %v, from %s to %s",
			r.ID, r.Activation, r.OnBehalfOf, r.State, r.Matched, r.Sent, r.Delivered, r.Duplicates, r.LeftOut, r.ServedBy, r.Start, r.End)
		if r.State != "completed" && !(r.State == "cancelled" && strings.Contains(r.StateReason, "taken over")) {
			b.t.Errorf("request %s ended as %s: %+v", r.ID, r.State, r)
		}
	}
	return all
}

// delivered waits until nothing is queued: all outcomes are known.
func (b *boundary) delivered() {
	b.t.Helper()
	b.eventually("nothing is queued", func() error {
		var l admin.List[admin.Message]
		err := b.read(&l, "message", "list")
		if err == nil && len(l.Items) > 0 {
			err = errNotYet
		}
		return err
	})
}

// mailboxes are those that a sender sends to. In each of them one message at
// most is in new/ and not yet in the record against duplicates: if the writer
// ends there, it comes once more.
const mailboxes = 7

// A request goes on while the leader is killed, a member loses its disk and a
// leader is cut off: it misses nothing, and makes no message a second time.
func TestRequestGoesOn(t *testing.T) {
	t.Parallel()
	if !inNamespace(t) {
		return
	}
	h := newHosts(t, 3)
	b := startWith(t, 3*time.Minute, loopback.Options{
		Host: hostAddr,
		Wrap: func(i int) []string { return []string{"ip", "netns", "exec", fmt.Sprintf("h%d", i)} },
		Params: map[string]string{"resubmit-rate": "60/s", "unresponsive-primary-timeout": "3s",
			"failover-after": "1m"}, // nobody moves it but the test
	})
	const count = 600
	s := b.sender(count, 6, 0)
	s.Size = func(n int) int { return 500 + n%2000 }
	s.Run(b.ctx)
	b.audit(s.Ledger)
	b.delivered()
	other := filepath.Join(b.mail(), "DB1", "b")
	b.cli("database", "copy", "add", "DB1", "b=maildir:"+other)
	id := b.cli("database", "activate", "DB1", "--copy", "b", "--reason", "nothing is known of it", "-o", "id")

	sent := func(n int) {
		t.Helper()
		b.eventually(fmt.Sprintf("%d were sent again", n), func() error {
			all, err := b.requests()
			if err != nil {
				return err
			}
			total, open := 0, false
			for _, r := range all {
				total += r.Sent
				open = open || r.ID == id && !r.Walked
			}
			if total < n {
				return fmt.Errorf("%d", total)
			}
			if !open {
				t.Errorf("%d are sent and the request is done: too late to disturb it", total)
			}
			return nil
		})
	}
	sent(60)
	killed := b.leader()
	b.kill(killed)
	sent(150)
	b.back(killed)
	b.ready()
	var wiped *loopback.Member
	for _, m := range b.Members {
		if m != killed && m != b.leader() {
			wiped = m
		}
	}
	if err := b.Replace(b.ctx, wiped); err != nil {
		t.Fatal(err)
	}
	sent(250)
	b.settled("m1", "m2", "m3")
	b.cutLeader(h)
	b.ready()

	total, duplicates := 0, 0
	for _, r := range b.completed() {
		total += r.Sent
		duplicates += r.Duplicates
	}
	if total != count {
		t.Errorf("%d messages were made of %d deliveries", total, count)
	}
	t.Logf("leader %s killed, %s wiped: %d of %d were delivered, but their outcome was not known", killed.Name, wiped.Name, duplicates, count)
	if a := b.auditIn(s.Ledger, other); a.Duplicates > 2*mailboxes {
		t.Errorf("%d messages are there twice: more than two killed members can have left without a record", a.Duplicates)
	}
	b.sameState()
}

// cutLeader cuts the leader off until another one leads.
func (b *boundary) cutLeader(h *hosts) {
	b.t.Helper()
	lead := b.leader()
	cut := slices.Index(b.Members, lead)
	each := func(f func(i, k int)) {
		for i := range b.Members {
			if i != cut {
				f(cut, i)
				f(i, cut)
			}
		}
	}
	each(h.cut)
	b.eventually("another member leads", func() error {
		for _, m := range b.Members {
			if m == lead {
				continue
			}
			if st, err := b.Status(b.ctx, m); err == nil && st.Member.Role == "leader" {
				return nil
			}
		}
		return errNotYet
	})
	each(h.heal)
}

// A database moves to its other copy by itself, and back, under load: the first
// has in the end what came while it was away, too.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, map[string]string{"failover-after": "2s", "replication-slack": "1s"})
	first, second := filepath.Join(b.mail(), "DB1", "a"), filepath.Join(b.mail(), "DB1", "b")
	if err := os.MkdirAll(second, 0o755); err != nil {
		t.Fatal(err)
	}
	b.cli("database", "copy", "add", "DB1", "b=maildir:"+second)
	s := b.sender(0, 3, 30*time.Millisecond)
	s.Size = func(n int) int { return 500 + n%2000 }
	stop := b.load(s)
	b.healthy("DB1", "a")
	b.healthy("DB1", "b")
	move := func(from, dir, to string) {
		t.Helper()
		time.Sleep(time.Second) // of load
		if err := os.Rename(dir, dir+"-away"); err != nil {
			t.Fatal(err)
		}
		b.moved("DB1", to)
		time.Sleep(time.Second) // of load on the other copy
		if err := os.Rename(dir+"-away", dir); err != nil {
			t.Fatal(err)
		}
		b.healthy("DB1", from)
	}
	move("a", first, "b")
	move("b", second, "a")
	stop()
	b.delivered()
	all := b.completed()
	if len(all) != 2 {
		t.Errorf("%d requests, want one for each failover", len(all))
	}
	if a := b.auditIn(s.Ledger, first); a.Duplicates > mailboxes {
		t.Errorf("%d messages are there twice: more than it can have lost the record of when it went away", a.Duplicates)
	}
	b.sameState()
}

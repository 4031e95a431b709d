//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/admin"
)

func (b *boundary) ca() (i admin.CAInfo) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.cli("boundary", "ca", "show", "-o", "json")), &i); err != nil {
		b.t.Fatal(err)
	}
	return i
}

// renewed waits until the new CA signs, and so many members have a certificate
// of it.
func (b *boundary) renewed(n int) {
	b.t.Helper()
	b.eventually("members renew with the new CA", func() error {
		i, have := b.ca(), 0
		for _, m := range i.Members {
			if m.Signer == i.Pin {
				have++
			}
		}
		if i.Rotation == nil || !i.Rotation.Used || have < n {
			return fmt.Errorf("%+v", i)
		}
		return nil
	})
}

// The CA is exchanged under load, and a member joins by the new one; then once
// more while a member is away for all of it: it is refused, told why, and joins
// anew.
func TestCARotate(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, nil)
	s := b.sender(0, 4, 20*time.Millisecond)
	stop := b.load(s)
	old := b.ca().Pin
	b.cli("boundary", "ca", "rotate", "--reason", "yearly")
	b.renewed(3)
	b.cli("boundary", "ca", "finish")
	first := b.ca()
	if first.Rotation != nil || first.Pin == old {
		t.Errorf("after the exchange: %+v", first)
	}
	b.ready()

	away := b.Members[2]
	b.kill(away)
	b.eventually("it is noticed", func() error {
		for _, m := range b.members() {
			if m.Name == away.Name && m.State == "down" {
				return nil
			}
		}
		return errNotYet
	})
	b.cli("boundary", "ca", "rotate")
	if out, err := b.CLI(b.ctx, "boundary", "ca", "finish"); err == nil || !strings.Contains(err.Error(), "has not done its part") {
		t.Errorf("finished without m3: %v %s", err, out)
	}
	b.eventually("all but m3 believe the new CA", func() error {
		i := b.ca()
		if n := i.Members; n[0].Behind || n[1].Behind || !n[2].Behind {
			return fmt.Errorf("%+v", i)
		}
		return nil
	})
	b.cli("boundary", "ca", "finish", "--now")
	b.renewed(2)
	b.cli("boundary", "ca", "finish", "--now")
	b.back(away)
	b.eventually("it says why it is refused", func() error {
		text, err := os.ReadFile(filepath.Join(away.Dir, "mailraft.log"))
		if err == nil && !strings.Contains(string(text), "a member that was away while it was exchanged joins anew") {
			err = errNotYet
		}
		return err
	})
	if err := b.Replace(b.ctx, away); err != nil {
		t.Fatal(err)
	}
	b.settled("m1", "m2", "m3")
	b.ready()
	stop()
	b.audit(s.Ledger)
	b.sameState()
}

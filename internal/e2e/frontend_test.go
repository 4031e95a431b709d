//go:build e2e

package e2e

import (
	"net/smtp"
	"syscall"
	"testing"
	"time"

	"mailraft/internal/loopback"
)

// Clients know the front end alone, while behind it one member after the other
// is killed, stands still, and is drained. What was answered 250 is there, no
// client hears a 5xx, and one that only waits keeps its session.
func TestFrontEnd(t *testing.T) {
	t.Parallel()
	b := startWith(t, 3*time.Minute, loopback.Options{FrontEnd: true})
	idle, err := smtp.Dial(b.FrontEnd.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if err := idle.Hello("idle.invalid"); err != nil {
		t.Fatal(err)
	}
	s := b.sender(0, 6, 20*time.Millisecond)
	s.Targets = []string{b.FrontEnd.SMTP}
	stop := b.load(s)
	time.Sleep(time.Second)
	killed, frozen, drained := b.Members[0], b.Members[1], b.Members[2]
	b.kill(killed)
	time.Sleep(2 * time.Second)
	b.back(killed)
	b.ready()
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := frozen.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if sig == syscall.SIGSTOP {
			time.Sleep(7 * time.Second) // beyond the time after which it is given nothing
		}
	}
	b.ready()
	for _, op := range []string{"drain", "undrain"} {
		if _, err := b.CLI(b.ctx, "boundary", op, drained.Name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
	}
	b.ready()
	stop()
	if refusals := s.Ledger.Refusals(); len(refusals) > 0 {
		t.Errorf("a client was refused for good: %q", refusals[0])
	}
	if err := idle.Noop(); err != nil {
		t.Errorf("the session that waited: %v", err)
	}
	b.audit(s.Ledger)
	b.sameState()
}

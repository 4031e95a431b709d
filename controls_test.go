//go:build controls

package mailraft_test

import (
	"os/exec"
	"strings"
	"testing"
)

// controls are guards that a build tag takes away, and the tests that must
// notice. A check that cannot fail is no check.
var controls = []struct {
	tag, pkg, test, why string
}{
	{"broken_sync", "./store/content", "TestCrashEverywhere", "content that was acknowledged is lost with the power"},
	{"broken_sync", "./store/raftlog", "TestJournalAtEveryCrash", "entries that were acknowledged are lost with the power"},
	{"broken_lease", "./cluster", "TestNoLeaseWhileDown", "a member delivers that the log calls down"},
	{"broken_lease", "./cluster", "TestLease", "a lease is never over"},
	{"broken_guard", "./fsm", "TestScripts", "entries count twice after a crash"},
	{"broken_notafter", "./fsm", "TestScripts", "a message is accepted whose content may be gone"},
}

// Each test fails without its guard, by its own word, and passes with it.
func TestControls(t *testing.T) {
	for _, c := range controls {
		t.Run(c.tag+"/"+c.test, func(t *testing.T) {
			args := []string{"test", "-count=1", "-timeout", "150s", "-run", "^" + c.test + "$"}
			if out, err := exec.Command("go", append(args, c.pkg)...).CombinedOutput(); err != nil {
				t.Fatalf("%s fails with the guard: %v\n%s", c.test, err, out)
			}
			out, err := exec.Command("go", append(args, "-tags", c.tag, c.pkg)...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+c.test) && !strings.Contains(string(out), "panic:") {
				t.Errorf("%s does not notice that %s: %v\n%.3000s", c.test, c.why, err, out)
			}
		})
	}
}

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A process that slackens starts anew in its place, once, and every thread of
// it has the slack from the beginning.
func TestSlacken(t *testing.T) {
	const word = "MAILRAFT_TEST_SLACKEN"
	if os.Getenv(word) != "" {
		slacken()
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid %d\n", os.Getpid())
		for _, thread := range threads {
			b, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/timerslack_ns")
			if err != nil { // of other threads only who may set priorities is told
				b = []byte(fmt.Sprintln(ownSlack().Nanoseconds()))
			}
			fmt.Printf("slack %s", b)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSlacken$")
	cmd.Env = append(os.Environ(), word+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text := string(out)
	if !strings.Contains(text, fmt.Sprintf("pid %d\n", cmd.Process.Pid)) {
		t.Errorf("another process answers: %s", text)
	}
	want := fmt.Sprintf("slack %d\n", timerSlack.Nanoseconds())
	if n := strings.Count(text, "slack "); n < 3 || strings.Count(text, want) != n {
		t.Errorf("want only %q:\n%s", want, text)
	}
}

package simulation

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// simulate runs one seed and reports what went wrong, with how to run it again.
func simulate(t *testing.T, o Options) (r Result) {
	t.Helper()
	o.Dir = t.TempDir()
	if os.Getenv("SIM_TRACE") != "" {
		o.Log = hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(os.Getenv("SIM_TRACE")), Output: os.Stderr, IncludeLocation: false})
		o.Event = func(at time.Duration, text string) {
			fmt.Fprintf(os.Stderr, "%12v  %s\n", at.Round(time.Millisecond), text)
		}
	}
	synctest.Test(t, func(*testing.T) { r = Run(o) })
	return r
}

func check(t *testing.T, o Options) {
	t.Helper()
	began := time.Now()
	r := simulate(t, o)
	t.Logf("seed %d, %d members: %v (%.1fs)", o.Seed, o.Members, r, time.Since(began).Seconds())
	for _, v := range r.Violations {
		t.Error(v)
	}
	if len(r.Violations) > 0 {
		t.Errorf("again: SIM_SEED=%d SIM_MEMBERS=%d SIM_LENGTH=%v SIM_TRACE=warn go test -run TestSeed ./internal/simulation", o.Seed, o.Members, o.Length)
	}
}

func number(t *testing.T, name string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// One seed, by name.
func TestSeed(t *testing.T) {
	if os.Getenv("SIM_SEED") == "" {
		t.Skip("SIM_SEED names none")
	}
	length, err := time.ParseDuration(os.Getenv("SIM_LENGTH"))
	if err != nil {
		length = 2 * time.Minute
	}
	check(t, Options{Seed: number(t, "SIM_SEED", 0), Members: int(number(t, "SIM_MEMBERS", 3)), Clients: 4, Length: length})
}

package simulation

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
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
		t.Errorf("again: SIM_SEED=%d SIM_MEMBERS=%d SIM_CLIENTS=%d SIM_LENGTH=%v SIM_TRACE=warn go test -v -run 'TestSeed$' ./internal/simulation", o.Seed, o.Members, o.Clients, o.Length)
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

func duration(t *testing.T, name string, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// A few seeds, briefly. TestSeeds runs more of them for longer.
func TestSimulation(t *testing.T) {
	for _, o := range []Options{{Seed: 1, Members: 3, Length: 30 * time.Second}, {Seed: 2, Members: 5, Length: 20 * time.Second}} {
		t.Run(fmt.Sprintf("%d/%d", o.Members, o.Seed), func(t *testing.T) {
			o.Clients = 3
			check(t, o)
		})
	}
}

// SIM_SEEDS=N: N seeds of SIM_LENGTH (two virtual minutes) each, every fourth
// with five members. SIM_TIME=1h: seeds one after the other for so long.
func TestSeeds(t *testing.T) {
	n, length := number(t, "SIM_SEEDS", 0), duration(t, "SIM_LENGTH", 2*time.Minute)
	end := time.Now().Add(duration(t, "SIM_TIME", 0))
	if n == 0 && !time.Now().Before(end) {
		t.Skip("neither SIM_SEEDS nor SIM_TIME is set")
	}
	first := number(t, "SIM_FIRST", 1)
	next := atomic.Int64{}
	next.Store(first)
	for worker := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker", worker+1), func(t *testing.T) {
			t.Parallel() // a bubble seldom has work for two processors
			for seed := next.Add(1) - 1; seed < first+n || time.Now().Before(end); seed = next.Add(1) - 1 {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					o := Options{Seed: seed, Members: 3, Clients: 4, Length: length}
					if seed%4 == 0 {
						o.Members, o.Clients = 5, 2
					}
					check(t, o)
				})
			}
		})
	}
}

// Without a guard the checks must notice: else they would prove nothing.
func TestWithoutGuards(t *testing.T) {
	for guard, fault := range map[string]string{"lease": "isolate", "sync": "power loss everywhere"} {
		t.Run(guard, func(t *testing.T) {
			for seed := range int64(5) {
				if r := simulate(t, Options{Seed: seed, Members: 3, Clients: 3, Length: time.Minute, Span: 6 * time.Second, Without: guard, Only: fault}); len(r.Violations) > 0 {
					t.Logf("seed %d: %v\nnoticed: %s", seed, r, r.Violations[0])
					return
				}
			}
			t.Errorf("nothing was noticed without it")
		})
	}
}

// One seed, by name.
func TestSeed(t *testing.T) {
	if os.Getenv("SIM_SEED") == "" {
		t.Skip("SIM_SEED names none")
	}
	check(t, Options{Seed: number(t, "SIM_SEED", 0), Members: int(number(t, "SIM_MEMBERS", 3)), Clients: int(number(t, "SIM_CLIENTS", 4)),
		Length: duration(t, "SIM_LENGTH", 2*time.Minute)})
}

package smtpd

import (
	"strings"
	"sync"
	"time"
)

const (
	// guessWindow is how long a failed authentication counts: up to twice that,
	// since whole windows are forgotten.
	guessWindow = 15 * time.Minute
	// guessesMax is how many of them are borne before nothing is looked at.
	guessesMax = 20
	// guessesKept bounds the memory: with more keys the window ends early.
	guessesKept = 1 << 16
	// guessDelays is how many times Config.GuessDelay a wrong password waits for
	// its answer at most.
	guessDelays = 8
	// knownWindow is how long an address is known to be a user's own.
	knownWindow = 24 * time.Hour
)

// guesses counts failed authentications, by address and by user name. Somebody
// who guesses a user's password from many addresses must not lock him out: from
// an address where the name has succeeded lately it is counted by itself.
type guesses struct {
	mu    sync.Mutex
	fails tally
	known tally
}

// try is an authentication under way. It counts as failed until it is known to
// be something else, so that many at once are not more than one after another.
type try struct {
	keys   []string
	pair   string
	delays int // how many times Config.GuessDelay the answer waits, if it fails
}

// begin counts an attempt, or says that there have been too many.
func (g *guesses) begin(address, name string, now time.Time) (t try, ok bool) {
	if len(name) > heloMax {
		name = name[:heloMax] // nobody's: names are shorter
	}
	name = strings.ToLower(name) // to Dovecot they may be the same
	t.pair = "pair " + address + " " + name
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fails.turn(now, guessWindow)
	g.known.turn(now, knownWindow)
	t.keys = []string{"address " + address, "name " + name}
	if g.known.count(t.pair) > 0 {
		t.keys = []string{t.pair}
	}
	most := 0
	for _, k := range t.keys {
		most = max(most, g.fails.count(k))
	}
	if most >= guessesMax {
		return t, false
	}
	for _, k := range t.keys {
		g.fails.add(k, 1)
	}
	t.delays = min(most+1, guessDelays)
	return t, true
}

func (g *guesses) succeeded(t try, now time.Time) {
	g.undecided(t)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known.turn(now, knownWindow)
	if g.known.now[t.pair] == 0 {
		g.known.add(t.pair, 1)
	}
}

// undecided takes back what begin counted.
func (g *guesses) undecided(t try) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range t.keys {
		g.fails.add(k, -1)
	}
}

// tally counts by key in two windows, the present one and the one before.
type tally struct {
	now, before map[string]int
	since       time.Time
}

// turn begins another window when the present one is over, or is full.
func (t *tally) turn(now time.Time, window time.Duration) {
	switch age := now.Sub(t.since); {
	case t.now == nil || age >= 2*window:
		t.now, t.before, t.since = map[string]int{}, nil, now
	case age >= window || len(t.now) >= guessesKept:
		t.now, t.before, t.since = map[string]int{}, t.now, now
	}
}

func (t *tally) count(key string) int { return t.now[key] + t.before[key] }

// add never leaves zero or less: what is taken back after its window is over
// was forgotten with it.
func (t *tally) add(key string, n int) {
	if t.now[key] += n; t.now[key] <= 0 {
		delete(t.now, key)
	}
}

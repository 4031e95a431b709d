package directory

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"mailraft/mail"
)

// inPieces resolves with a limit and goes on until nothing is left, as the
// entries of a message do. It fails if a piece exceeds its bounds.
func inPieces(t *testing.T, l Lookup, recipients []string, limit int) []Resolved {
	t.Helper()
	count := &counting{Lookup: l}
	all, rest := Resolve(count, recipients, true, limit)
	if len(all) > 2*len(recipients)+2*limit {
		t.Fatalf("limit %d: %d recipients from %d at once", limit, len(all), len(recipients))
	}
	keys := map[string]bool{}
	for _, r := range all {
		keys[r.Key()] = true
	}
	for pieces := 1; len(rest) > 0; pieces++ {
		if pieces > 20_000 {
			t.Fatalf("limit %d: no end", limit)
		}
		count.n = 0
		waiting := len(rest)
		var now []Resolved
		now, rest = Expand(count, rest, limit, func(key string) bool { return keys[key] })
		if len(now) > limit+waiting || count.n > 6*limit+2*waiting {
			t.Fatalf("limit %d: %d recipients and %d look-ups in one piece", limit, len(now), count.n)
		}
		for _, r := range now {
			if keys[r.Key()] {
				t.Fatalf("limit %d: %s twice", limit, r.Key())
			}
			keys[r.Key()] = true
		}
		all = append(all, now...)
	}
	return all
}

type counting struct {
	Lookup
	n int
}

func (c *counting) Domain(key string) (Domain, bool)         { c.n++; return c.Lookup.Domain(key) }
func (c *counting) Mailbox(key string) (Mailbox, bool)       { c.n++; return c.Lookup.Mailbox(key) }
func (c *counting) Group(key string, v uint64) (Group, bool) { c.n++; return c.Lookup.Group(key, v) }

// random makes a directory of groups that name each other, mailboxes and
// outsiders at will, and an envelope for it.
func random(r *rand.Rand) (*tables, []string) {
	l := example()
	groups, mailboxes := 1+r.IntN(12), 1+r.IntN(30)
	pick := func() string {
		switch n := r.IntN(10); {
		case n < 4:
			return fmt.Sprintf("g%d@corp.example", r.IntN(groups))
		case n < 8:
			return fmt.Sprintf("m%d@corp.example", r.IntN(mailboxes+2)) // two are not there
		case n < 9:
			return fmt.Sprintf("O%d@far.example", r.IntN(5))
		default:
			return fmt.Sprintf("any%d@any.example", r.IntN(5))
		}
	}
	for i := range mailboxes {
		l.mailbox(Mailbox{Address: fmt.Sprintf("m%d@corp.example", i), Database: "DB1"})
	}
	for i := range groups {
		var members []string
		onlyGroups := r.IntN(3) == 0
		for range r.IntN(20) {
			m := pick()
			if onlyGroups {
				m = fmt.Sprintf("g%d@corp.example", r.IntN(groups))
			}
			members = append(members, m)
		}
		l.group(fmt.Sprintf("g%d@corp.example", i), members...)
	}
	var recipients []string
	for range 1 + r.IntN(6) {
		recipients = append(recipients, pick())
	}
	return l, recipients
}

func checkRandom(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	l, recipients := random(r)
	whole, rest := Resolve(l, recipients, true, 1<<30)
	if rest != nil {
		t.Fatalf("seed %d: unbounded, yet %v is left", seed, rest)
	}
	for _, limit := range []int{0, 1, 2, 3, 7, 50} {
		got := inPieces(t, l, recipients, max(limit, 1))
		if !reflect.DeepEqual(got, whole) {
			t.Fatalf("seed %d, limit %d, %q:\ngot  %q\nwant %q", seed, limit, recipients, texts(got), texts(whole))
		}
	}
	checkReach(t, l, recipients, whole)
}

// checkReach compares with the plain definition: who is reached is the closure
// of the envelope, and nobody who is an address is left out.
func checkReach(t *testing.T, l *tables, recipients []string, got []Resolved) {
	t.Helper()
	want := map[string]bool{}
	visited := map[string]bool{}
	var walk func(string)
	walk = func(s string) {
		a, _ := mail.ParseAddress(s)
		r, g := find(l, a)
		if g == nil {
			want[r.Key()] = true
			return
		}
		if visited[g.Key()] {
			return
		}
		visited[g.Key()] = true
		for _, m := range g.Members {
			walk(m)
		}
	}
	for _, s := range recipients {
		walk(s)
	}
	have := map[string]bool{}
	for _, r := range got {
		if r.Kind == Failed && r.Reply.Enhanced == "5.4.6" {
			continue
		}
		have[r.Key()] = true
	}
	if !reflect.DeepEqual(have, want) {
		t.Fatalf("%q: got %v, want %v", recipients, have, want)
	}
	if len(want) == 0 && len(got) == 0 {
		t.Fatalf("%q: nobody reached and nobody told", recipients)
	}
}

func TestPiecesEqualWhole(t *testing.T) {
	for seed := range uint64(2000) {
		checkRandom(t, seed)
	}
}

func FuzzResolve(f *testing.F) {
	f.Add(uint64(1), "anna@corp.example", "nested@corp.example")
	f.Add(uint64(2), `"a@b"@any.example`, "x@@")
	f.Add(uint64(3), "x@evil\uff20corp.example", "ring@corp.example")
	f.Fuzz(func(t *testing.T, seed uint64, one, two string) {
		checkRandom(t, seed)
		l, recipients := random(rand.New(rand.NewPCG(seed, 2)))
		l.group("wild@corp.example", one, two, "g0@corp.example")
		recipients = append(recipients, one, two, "wild@corp.example")
		whole, _ := Resolve(l, recipients, true, 1<<30)
		if got := inPieces(t, l, recipients, 2); !reflect.DeepEqual(got, whole) {
			t.Fatalf("%q:\ngot  %q\nwant %q", recipients, texts(got), texts(whole))
		}
		if a, err := mail.ParseAddress(one); err == nil {
			key := Key(a)
			if again, err := mail.ParseAddress(key); err == nil && Key(again) != key {
				t.Fatalf("key of %q: %q, then %q", one, key, Key(again))
			}
		}
	})
}

func TestExpandPinsVersion(t *testing.T) {
	l := newTables()
	l.domain(Domain{Name: "any.example", Kind: Accepted, AnyMailbox: true, Database: "DB1"})
	l.group("g@any.example", "a@any.example", "b@any.example", "c@any.example")
	now, rest := Resolve(l, []string{"g@any.example"}, true, 2)
	l.group("g@any.example", "x@any.example", "c@any.example")
	seen := func(key string) bool { return key == now[0].Key() || key == now[1].Key() }

	more, left := Expand(l, rest, 2, seen)
	if len(more) != 1 || more[0].Address != "c@any.example" || left != nil {
		t.Errorf("pinned: got %q and %v", texts(more), left)
	}
	l.groups["g@any.example"] = l.groups["g@any.example"][1:]
	more, _ = Expand(l, rest, 2, seen)
	if len(more) != 2 || more[0].Address != "x@any.example" || more[1].Address != "c@any.example" {
		t.Errorf("version gone: got %q, want the current list from its start", texts(more))
	}
	delete(l.groups, "g@any.example")
	more, left = Expand(l, rest, 2, seen)
	if len(more) != 1 || more[0].Kind != Failed || left != nil {
		t.Errorf("group gone: got %q and %v, want it to fail", texts(more), left)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	l := newTables()
	l.domain(Domain{Name: "any.example", Kind: Accepted, AnyMailbox: true, Database: "DB1"})
	for i := range groupsMax + 5 {
		l.group(fmt.Sprintf("g%d@any.example", i), fmt.Sprintf("g%d@any.example", i+1))
	}
	now, rest := Resolve(l, []string{"g0@any.example"}, true, 1<<30)
	if len(now) != 1 || now[0].Reply == nil || now[0].Reply.Enhanced != "5.2.4" || len(now[0].Via) != viaMax || rest != nil {
		t.Errorf("got %q and %d left", texts(now), len(rest))
	}
}

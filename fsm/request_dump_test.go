package fsm

import (
	"fmt"
	"strings"
)

// dumpRequests shows all, or those whose numbers are given.
func (s *script) dumpRequests(v *View, a args) (out string) {
	for r := range v.Requests(0) {
		out += fmt.Sprintf("%d %s %s [%s, %s)", r.ID, r.State, r.Database, clock(r.Start), clock(r.End))
		for _, f := range []struct {
			word string
			set  bool
		}{{fmt.Sprintf("of=%d behalf=%s", r.Parent, name(r.Behalf)), r.Parent != 0}, {"recipient=" + r.Recipient, r.Recipient != ""},
			{"sender=" + r.Sender, r.Sender != ""}, {"message-id=" + r.MessageID, r.MessageID != ""}, {"to=" + r.ResubmitTo, r.ResubmitTo != ""},
			{"unresponsive=" + namesOf(r.Unresponsive), r.Unresponsive != nil}, {fmt.Sprintf("activation=%d", r.Activation), r.Activation != 0},
			{"again", r.Again}, {"auto", r.Auto}, {"walked", r.Walked}, {"waking", r.Wake != nil}, {"ended=" + clock(r.Ended), r.Ended != 0},
			{"(" + strings.TrimSpace(strings.TrimSuffix(r.StateReason+" by "+r.StateBy, " by ")) + ")", r.StateReason+r.StateBy != ""}} {
			if f.set {
				out += " " + f.word
			}
		}
		out += "\n" + dumpCounts(r)
	}
	return out
}

func dumpCounts(r Request) (out string) {
	c := r.Counts
	for _, f := range []struct {
		word string
		n    int
	}{{"matched", c.Matched}, {"messages", c.Messages}, {"sent", c.Sent}, {"bytes", int(c.Bytes)}, {"delivered", c.Delivered}, {"duplicates", c.Duplicates},
		{"failed", c.Failed}, {"already", c.Already}, {"moved", c.Moved}, {"gone", c.Gone}, {"outside", c.Outside}} {
		if f.n != 0 {
			out += fmt.Sprintf(" %s=%d", f.word, f.n)
		}
	}
	if r.First != 0 {
		out += fmt.Sprintf(" first=%s last=%s", clock(r.First), clock(r.Last))
	}
	for _, b := range r.ServedBy {
		word := "primary"
		if b.Shadow {
			word = "shadow"
		}
		out += fmt.Sprintf(" %s %s=%d", word, name(b.Member), b.Count)
	}
	if out != "" {
		out = " " + out + "\n"
	}
	for _, w := range r.Waiting {
		out += fmt.Sprintf("  waits for %s: %d since %s\n", name(w.Member), w.Count, clock(w.Since))
	}
	for _, g := range r.Gaps {
		out += fmt.Sprintf("  gap [%s, %s) of %s: %d\n", clock(g.Start), clock(g.End), name(g.Member), g.Count)
	}
	return out
}

package directory

import (
	"mailraft/mail"
)

const (
	viaMax    = 16     // groups named in Resolved.Via
	groupsMax = 10_000 // groups that one message may reach; bounds the list of references
)

// GroupRef is a group of one message: still to be expanded, or expanded and
// kept so that it is not expanded twice. The references of a message are a
// stack: nested groups lie above the one that names them, the next to be
// worked on is last. They are stored while a message waits for its Expand.
type GroupRef struct {
	Address  string `cbor:"1,keyasint"`           // the group's key
	Version  uint64 `cbor:"2,keyasint,omitempty"` // the version it is expanded at; 0 once it is expanded
	Next     int    `cbor:"3,keyasint,omitempty"` // the member to look at next; expanded if negative
	Original string `cbor:"4,keyasint"`           // the envelope recipient it came from
	Reached  bool   `cbor:"5,keyasint,omitempty"` // somebody was met under Original
}

const expanded = -1

// Expanded reports that the reference is kept as a memory only, and holds no
// version of the group.
func (g GroupRef) Expanded() bool { return g.Next < 0 }

// Expand goes on where Resolve or an earlier Expand stopped, for another limit
// members. seen tells whether a recipient with that Resolved.Key is already in
// the message. Nothing left means that the message is complete.
//
// A group is expanded once per message, so a loop ends by itself; it is an
// error (5.4.6) only for an envelope recipient under which nobody is reached.
func Expand(l Lookup, rest []GroupRef, limit int, seen func(key string) bool) (now []Resolved, left []GroupRef) {
	return newExpansion(l, rest, seen).run(limit)
}

// expansion is the walk through the groups of one message, depth first, in the
// order in which a reader of the lists would meet the members.
type expansion struct {
	lookup  Lookup
	seen    func(key string) bool // recipients of earlier pieces
	found   map[string]bool       // recipients of this piece
	now     []Resolved
	stack   []GroupRef          // being expanded or waiting; the last is next
	done    []GroupRef          // expanded, in that order
	begun   map[string]string   // group key: the original it was expanded for
	reached map[string]bool     // original: somebody was met
	lists   map[string][]string // group key: members, of groups on the stack
}

func newExpansion(l Lookup, rest []GroupRef, seen func(string) bool) *expansion {
	x := &expansion{lookup: l, seen: seen, found: map[string]bool{}, begun: map[string]string{},
		reached: map[string]bool{}, lists: map[string][]string{}}
	for _, g := range rest {
		if g.Next != 0 {
			x.begun[g.Address] = g.Original
		}
		if g.Reached {
			x.reached[g.Original] = true
		}
		if g.Expanded() {
			x.done = append(x.done, g)
		} else {
			x.stack = append(x.stack, g)
		}
	}
	return x
}

// run looks at up to limit members and says what it found and what is left.
func (x *expansion) run(limit int) ([]Resolved, []GroupRef) {
	limit = max(limit, 1) // else a caller that loops would never end
	for len(x.stack) > 0 && limit > 0 {
		limit -= x.top(limit)
	}
	if len(x.stack) == 0 {
		return x.now, nil
	}
	left := append(x.done, x.stack...)
	for i := range left {
		left[i].Reached = x.reached[left[i].Original]
	}
	return x.now, left
}

// top works on the group on top until it ends, names a nested group, or limit
// members were looked at. It returns how many were.
func (x *expansion) top(limit int) int {
	ref := &x.stack[len(x.stack)-1]
	if ref.Next == 0 {
		if owner, ok := x.begun[ref.Address]; ok {
			// An envelope recipient that was met in an earlier one.
			x.meet(ref.Original, owner)
			x.pop(false)
			return 0
		}
		x.begun[ref.Address] = ref.Original
	}
	members, ok := x.members(ref)
	if !ok {
		x.add(Resolved{Original: ref.Original, Address: ref.Address, Kind: Failed, Via: x.via(len(x.stack) - 1),
			Reply: mail.Replyf(550, "5.1.1", "no group of this name any more")})
		x.reached[ref.Original] = true
	}
	via := x.via(len(x.stack))
	looked := 0
	for ref.Next < len(members) && looked < limit {
		m := members[ref.Next]
		ref.Next++
		looked++
		if x.member(m, ref.Original, via) {
			return looked
		}
	}
	if ref.Next >= len(members) {
		x.pop(true)
	}
	return looked
}

// member takes one member in, and reports that a nested group now lies on top.
func (x *expansion) member(text, original string, via []string) bool {
	r := Resolved{Address: text, Kind: Failed, Reply: mail.Replyf(553, "5.1.3", "not an address")}
	if a, err := mail.ParseAddress(text); err == nil {
		if owner, ok := x.begun[Key(a)]; ok { // Asked first: a look-up reads a whole list.
			x.meet(original, owner)
			return false
		}
		var g *Group
		if r, g = find(x.lookup, a); g != nil {
			if len(x.begun) < groupsMax {
				x.stack = append(x.stack, GroupRef{Address: g.Key(), Version: g.Version, Original: original})
				x.lists[g.Key()] = g.Members
				return true
			}
			r = Resolved{Address: g.Key(), Kind: Failed,
				Reply: mail.Replyf(550, "5.2.4", "the message reaches more than %d groups", groupsMax)}
		}
	}
	r.Original, r.Via = original, via
	x.reached[original] = true
	x.add(r)
	return false
}

// meet notes that original came to a group that was expanded for owner. A
// group of its own is a loop and reaches nobody; that of an earlier recipient,
// which is complete by now, reaches whom it reached.
func (x *expansion) meet(original, owner string) {
	if owner != original && x.reached[owner] {
		x.reached[original] = true
	}
}

// pop takes the finished group off, and fails its envelope recipient if that
// was all of it and nobody was met.
func (x *expansion) pop(keep bool) {
	i := len(x.stack) - 1
	ref := x.stack[i]
	x.stack = x.stack[:i]
	delete(x.lists, ref.Address)
	if keep {
		x.done = append(x.done, GroupRef{Address: ref.Address, Next: expanded, Original: ref.Original})
	}
	if i > 0 && x.stack[i-1].Original == ref.Original || x.reached[ref.Original] {
		return
	}
	x.add(Resolved{Original: ref.Original, Address: ref.Address, Kind: Failed,
		Reply: mail.Replyf(550, "5.4.6", "the group has no members but itself")})
}

// members is the list that ref is in. If its version is gone, the current one
// is read from the start: what was taken already collapses, nobody is skipped.
func (x *expansion) members(ref *GroupRef) ([]string, bool) {
	if list, ok := x.lists[ref.Address]; ok {
		return list, true
	}
	g, ok := x.lookup.Group(ref.Address, ref.Version)
	if !ok {
		if g, ok = x.lookup.Group(ref.Address, 0); !ok {
			return nil, false
		}
		ref.Version, ref.Next = g.Version, 0
	}
	x.lists[ref.Address] = g.Members
	return g.Members, true
}

// via names the groups of the current original among the lowest n of the
// stack, outermost first.
func (x *expansion) via(n int) []string {
	original := x.stack[len(x.stack)-1].Original
	first := n
	for first > 0 && x.stack[first-1].Original == original {
		first--
	}
	var via []string
	for _, g := range x.stack[first:min(n, first+viaMax)] {
		via = append(via, g.Address)
	}
	return via
}

// add takes a recipient in unless the message has it already.
func (x *expansion) add(r Resolved) {
	key := r.Key()
	if x.found[key] || x.seen != nil && x.seen(key) {
		return
	}
	x.found[key] = true
	x.now = append(x.now, r)
}

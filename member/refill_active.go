package member

import (
	"slices"

	"mailraft/fsm"
	"mailraft/mail"
)

// activeScan looks at all active messages, some in each view: until then only
// Complete says what of them is here.
//
// A message may change its owner between two views, and must not slip from one
// that was not looked at to one that was. It goes from a member that is down,
// and they are looked at first; or from one that is declared down or hands
// over, and then all begins anew.
type activeScan struct {
	done    bool
	members []standing      // when it began
	left    []mail.MemberID // owners to be looked at, in this order
	next    mail.ID         // of the first of them: lower ids were looked at
}

// standing is what changes in a member's row before messages go from it to
// others.
type standing struct {
	id     mail.MemberID
	up     bool
	since  mail.Time
	handed uint64
}

func standings(v *fsm.View) (all []standing) {
	for m := range v.Members() {
		all = append(all, standing{m.ID, m.Up, m.Since, m.Handed})
	}
	return all
}

// begin puts the owners in order: those that are down, this member, others.
func (a *activeScan) begin(members []standing, self mail.MemberID) {
	*a = activeScan{members: members}
	for _, want := range []func(standing) bool{
		func(s standing) bool { return !s.up },
		func(s standing) bool { return s.up && s.id == self },
		func(s standing) bool { return s.up && s.id != self },
	} {
		for _, s := range members {
			if want(s) {
				a.left = append(a.left, s.id)
			}
		}
	}
}

// lookAtActive looks at some of what is to be delivered. It is looked at again
// in its turn.
func (r *refill) lookAtActive() {
	v := r.m.fsm.View()
	defer v.Close()
	a := &r.scan.active
	if now := standings(v); !slices.Equal(now, a.members) {
		a.begin(now, r.m.id.ID)
	}
	var found []*absent
	for n := 0; len(a.left) > 0; {
		for m := range v.ActiveFrom(a.left[0], a.next) {
			if n++; n > scanMax || len(found) >= windowMax {
				r.add(found)
				return
			}
			a.next = after(m.ID)
			if lacks := r.absent(m); lacks != nil {
				found = append(found, lacks)
			}
		}
		a.left, a.next = a.left[1:], mail.ID{}
	}
	r.add(found)
	a.done = true
}

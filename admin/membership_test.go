package admin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"mailraft/fsm"
	"mailraft/mail"
)

// A member that is dead takes content with it only when that was listed and
// its name was said once more.
func TestRemoveDead(t *testing.T) {
	b := newBoundary(t)
	var ids []mail.ID
	for n := range byte(3) {
		id := b.accept(n+1, "a@client.test", 100, "bob@example.test")
		ids = append(ids, id)
		b.unheld = append(b.unheld, Unheld{ID: id, Size: 100, Sender: "a@client.test", Active: true})
	}
	c := b.client()
	remove := func(o MemberOrder) (ch Change, err error) {
		o.Dead = true
		err = c.Post(t.Context(), "/v1/members/m3/remove", nil, o, &ch)
		return ch, err
	}
	status := func(err error) int {
		p := new(Problem)
		errors.As(err, &p)
		return p.Status
	}
	lost := func() (n int) {
		v := b.f.View()
		defer v.Close()
		for range v.Lost() {
			n++
		}
		return n
	}
	if _, err := remove(MemberOrder{Consent: "m3"}); status(err) != http.StatusConflict || !strings.Contains(err.Error(), "m3 is up") {
		t.Errorf("one that is up: %v", err)
	}
	b.must(fsm.KindMemberDown, fsm.MemberChange{Member: m3, Term: 1})
	b.must(fsm.KindTakeover, fsm.MemberChange{Member: m3, Rows: 10})
	for _, consent := range []string{"", "m2"} {
		if _, err := remove(MemberOrder{Consent: consent}); status(err) != http.StatusForbidden || !strings.Contains(err.Error(), "3 messages (300 bytes)") || !strings.Contains(err.Error(), "--consent m3") {
			t.Errorf("consent %q: %v", consent, err)
		}
	}
	ch, err := remove(MemberOrder{Order: Order{DryRun: true}})
	if err != nil || ch.Count != 4 || len(ch.Warnings) == 0 || lost() != 0 {
		t.Errorf("dry run: %v, %+v", err, ch)
	}
	for _, id := range ids {
		if !slices.ContainsFunc(ch.Items, func(i ChangeItem) bool { return i.Kind == "message" && i.Name == id.String() && i.Action == "give-up" }) {
			t.Errorf("%s is not listed", id)
		}
	}
	if ch, err = remove(MemberOrder{Consent: "M3"}); err != nil || ch.Count != 4 || lost() != 3 {
		t.Errorf("with consent: %v, %+v, %d given up", err, ch, lost())
	}
	v := b.f.View()
	defer v.Close()
	if f, ok := v.Former(m3); !ok || f.How != fsm.HowRemoved {
		t.Errorf("former: %+v", f)
	}
}

// A boundary of one voter that had more says that it is unprotected.
func TestOneVoterIsUnprotected(t *testing.T) {
	for _, c := range []struct {
		voters, min int
		want        string
	}{{3, 3, ""}, {2, 3, "2 voters, fewer than min-voters (3)"}, {1, 3, "UNPROTECTED: one voter"}, {1, 1, ""}} {
		st := Status{Boundary: BoundaryInfo{Opened: true, Protected: true, Voters: c.voters, VotersUp: c.voters, Tolerance: 1},
			Member: MemberStatus{Leader: m1, TimeTrusted: true, Peers: []PeerStatus{{}}}}
		health, reasons := judge(&st, c.min)
		if text := strings.Join(reasons, "; "); (c.want == "") != (health == "healthy") || !strings.Contains(text, c.want) {
			t.Errorf("%d voters of %d: %s, %s", c.voters, c.min, health, text)
		}
	}
}

package admin

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"mailraft/fsm"
	"mailraft/mail"
)

// Former is who was a member, and is refused now.
type Former = fsm.Former

// Gap is a time of which a Primary Safety Net has nothing any more: its member
// lost the disk. Others hold what was delivered before Until.
type Gap struct {
	Member string        `json:"member"` // name
	ID     mail.MemberID `json:"queue_database_id"`
	Since  mail.Time     `json:"since,omitzero"` // when the old queue database was made
	Until  mail.Time     `json:"until"`
}

func gapsOf(v *fsm.View) []Gap {
	var list []Gap
	for f := range v.Gaps() {
		list = append(list, Gap{Member: f.Name, ID: f.ID, Since: f.Joined, Until: f.At})
	}
	return list
}

// MemberOrder is the body of POST /v1/members/{name}/{op}; op is drain,
// undrain, remove or set.
type MemberOrder struct {
	Order
	Now     bool   `json:"now,omitempty"`     // remove: without draining first
	Dead    bool   `json:"dead,omitempty"`    // remove: it is lost for good, and what only it had with it
	Consent string `json:"consent,omitempty"` // dead: its name, where something is lost with it
	Address string `json:"address,omitempty"` // set: cluster address
}

// LeaderOrder is the body of POST /v1/leader: who shall lead.
type LeaderOrder struct {
	Order
	Member string `json:"member,omitempty"` // name or id; empty: whoever has come furthest
}

// Leader is the answer.
type Leader struct {
	Member string `json:"member"` // who leads now
	DryRun bool   `json:"dry_run,omitempty"`
}

func (s *Server) routeMembers(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/members", listing(s, func(r *http.Request, v *fsm.View, _ As) (iter.Seq[MemberInfo], error) {
		return slices.Values(membersOf(v, s.Host.Status(r.Context()))), nil
	}))
	mux.HandleFunc("GET /v1/members/former", listing(s, func(_ *http.Request, v *fsm.View, _ As) (iter.Seq[Former], error) {
		return v.Formers(), nil
	}))
	mux.HandleFunc("POST /v1/members/{name}/{op}", changing(s, "members",
		func(o *MemberOrder) *Order { return &o.Order }, s.changeMember))
	mux.HandleFunc("POST /v1/leader", s.transferLeader)
}

// findMember looks a member up by name or queue database id.
func findMember(v *fsm.View, name string) (fsm.Member, error) {
	for m := range v.Members() {
		if m.Retired == 0 && (strings.EqualFold(m.Name, name) || m.ID.String() == name) {
			return m, nil
		}
	}
	return fsm.Member{}, missing("there is no member %q", name)
}

func (s *Server) changeMember(r *http.Request, v *fsm.View, o MemberOrder) (p plan, err error) {
	m, err := findMember(v, r.PathValue("name"))
	if err != nil {
		return p, err
	}
	item := ChangeItem{Kind: "member", Name: m.Name, Action: r.PathValue("op")}
	skip := func(reason string) { item.Action, item.Reason = "skip", reason }
	st := step{fsm.KindDrain, fsm.Drain{Member: m.ID, Stop: item.Action == "undrain", By: o.By, Reason: o.Reason}}
	switch item.Action {
	case "drain":
		if m.Draining {
			skip("is being drained already")
		}
		p.warnings = append(p.warnings, lessRedundant(v, m)...)
	case "undrain":
		if !m.Draining {
			skip("is not being drained")
		}
	case "remove":
		st = step{fsm.KindMemberRemove, fsm.MemberRemove{Member: m.ID, Now: o.Now, By: o.By, Reason: o.Reason}}
		p.warnings = append(p.warnings, lessRedundant(v, m)...)
		if o.Dead {
			if err := s.giveUp(r.Context(), &p, m, o); err != nil {
				return p, err
			}
			st.body = fsm.MemberRemove{Member: m.ID, Now: true, By: o.By, Reason: o.Reason}
		}
	case "set":
		if o.Address == "" {
			return p, malformed("nothing to set: say which address")
		}
		st = step{fsm.KindMemberSet, fsm.MemberSet{Member: m.ID, Addr: o.Address, By: o.By, Reason: o.Reason}}
		item.From, item.To = m.Addr, o.Address
		if m.Addr == o.Address {
			skip("has that address")
		}
	default:
		return p, missing("members know no %q", item.Action)
	}
	if item.changed() {
		p.steps = append(p.steps, st)
	}
	p.add(item)
	return p, nil
}

// giveUpMax bounds the messages of one step.
const giveUpMax = 1000

// giveUp plans to do without the content that no member has but one that is
// dead. Without that no member that stays would ever be complete, and the
// voters could not be changed.
func (s *Server) giveUp(ctx context.Context, p *plan, dead fsm.Member, o MemberOrder) error {
	if dead.Up {
		return problem(http.StatusConflict, "%s is up: it is drained when it is removed without --dead; if it is really dead, try again when its lease is over", dead.Name)
	}
	list, err := s.Contents.Unheld(ctx, dead.ID)
	if err != nil {
		return problem(http.StatusServiceUnavailable, "%v", err)
	}
	var ids []mail.ID
	bytes := int64(0)
	for _, u := range list {
		ids = append(ids, u.ID)
		bytes += u.Size
		where := "in the Safety Net"
		if u.Active {
			where = "to be delivered"
		}
		p.add(ChangeItem{Kind: "message", Name: u.ID.String(), Action: "give-up", To: fmt.Sprintf("%s, %d bytes, from <%s>", where, u.Size, u.Sender)})
	}
	for some := range slices.Chunk(ids, giveUpMax) {
		p.steps = append(p.steps, step{fsm.KindContentLost, fsm.ContentLost{IDs: some, By: o.By, Reason: "nobody has it without " + dead.Name}})
	}
	if len(list) == 0 {
		return nil
	}
	text := fmt.Sprintf("the content of %d messages (%d bytes) is at no member that stays, such as %s: they wait for it, and are neither bounced nor dropped", len(list), bytes, list[0].ID)
	if !o.DryRun && !strings.EqualFold(o.Consent, dead.Name) {
		return problem(http.StatusForbidden, "%s. --dry-run lists them; --consent %s gives them up", text, dead.Name)
	}
	p.warnings = append(p.warnings, text)
	return nil
}

// lessRedundant warns where the members that stay cannot lose another.
func lessRedundant(v *fsm.View, gone fsm.Member) []string {
	n := 0
	for m := range v.Members() {
		if m.ID != gone.ID && m.Up && !m.Draining && m.Retired == 0 {
			n++
		}
	}
	if n >= v.Params().MinVoters {
		return nil
	}
	return []string{fmt.Sprintf("without %s %d members take mail, fewer than min-voters (%d): one more failure may stop the boundary", gone.Name, n, v.Params().MinVoters)}
}

func (s *Server) transferLeader(w http.ResponseWriter, r *http.Request) {
	var o LeaderOrder
	err := read(w, r, &o)
	var to fsm.Member
	v, _ := s.view()
	n := namesOf(v)
	if err == nil && o.Member != "" {
		to, err = findMember(v, o.Member)
	}
	v.Close()
	l := Leader{Member: to.Name, DryRun: o.DryRun}
	if err == nil && !o.DryRun {
		ctx, cancel := context.WithTimeout(r.Context(), s.ProposeTime)
		defer cancel()
		var id mail.MemberID
		id, err = s.Boundary.TransferLeader(ctx, to.ID)
		l.Member = n.of(id)
		s.Logger.Info("leadership transferred", "to", l.Member, "by", o.By, "reason", o.Reason, "error", err)
	}
	answer(w, l, err)
}

package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"mailraft/fsm"
	"mailraft/mail"
)

// CA makes and reads the certificates of the boundary's CAs.
type CA interface {
	// NewCA makes another CA, and the entry that begins the exchange for it.
	NewCA() (fsm.CAChange, error)
	// CAEnd is a CA's pin, and when its certificate ends.
	CAEnd(der []byte) (pin string, end mail.Time)
}

// CAInfo is the answer of GET /v1/ca.
type CAInfo struct {
	As
	Pin      string          `json:"pin"` // of the CA that signs
	End      mail.Time       `json:"end"`
	Rotation *fsm.CARotation `json:"rotation,omitempty"` // nil: none is under way
	Members  []CAMember      `json:"members"`
}

// CAMember is how far a member is with the exchange of the CA.
type CAMember struct {
	Name     string `json:"name"`
	Believes string `json:"believes"` // pin of the newest CA that it has
	Signer   string `json:"signer"`   // pin of the CA that signed its certificate
	Behind   bool   `json:"behind"`   // the next step waits for it
}

// CAOrder is the body of POST /v1/ca/{op}; op is rotate or finish.
type CAOrder struct {
	Order
	Now bool `json:"now,omitempty"` // finish: without members that are behind
}

func (s *Server) routeCA(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/ca", s.reading(func(_ *http.Request, v *fsm.View, as As) (any, error) {
		return s.caInfo(v, as), nil
	}))
	mux.HandleFunc("POST /v1/ca/{op}", changing(s, "ca", func(o *CAOrder) *Order { return &o.Order }, s.changeCA))
}

func (s *Server) caInfo(v *fsm.View, as As) CAInfo {
	b, _ := v.Boundary()
	i := CAInfo{As: as, Rotation: b.Rotation, Members: []CAMember{}}
	i.Pin, i.End = s.CA.CAEnd(b.CA)
	for m := range v.Members() {
		if m.Retired == 0 {
			i.Members = append(i.Members, CAMember{Name: m.Name, Believes: m.Believes, Signer: m.Signer,
				Behind: b.Rotation != nil && m.BehindCA(nextStep(b.Rotation), b.Rotation.Pin)})
		}
	}
	slices.SortFunc(i.Members, func(a, b CAMember) int { return strings.Compare(a.Name, b.Name) })
	return i
}

// nextStep is the step that an exchange waits for.
func nextStep(r *fsm.CARotation) string {
	if r.Used {
		return fsm.CAFinish
	}
	return fsm.CAUse
}

func (s *Server) changeCA(r *http.Request, v *fsm.View, o CAOrder) (p plan, err error) {
	b, _ := v.Boundary()
	item := ChangeItem{Kind: "ca", Action: r.PathValue("op")}
	switch item.Action {
	case fsm.CARotate:
		if b.Rotation != nil {
			return p, problem(http.StatusConflict, "an exchange of the CA is under way; see: mailraft boundary ca show")
		}
		c, err := s.CA.NewCA()
		if err != nil {
			return p, err
		}
		c.By, c.Reason = o.By, o.Reason
		item.Name, item.From, item.To = c.Pin, c.WasPin, c.Pin
		p.steps = append(p.steps, step{fsm.KindCA, c})
	case fsm.CAFinish:
		if b.Rotation == nil {
			return p, problem(http.StatusConflict, "no exchange of the CA is under way")
		}
		op := nextStep(b.Rotation)
		for _, m := range s.caInfo(v, As{}).Members {
			if m.Behind && o.Now {
				p.warnings = append(p.warnings, fmt.Sprintf("%s will be shut out, and has to join anew: mailraft boundary token --replace %s", m.Name, m.Name))
			} else if m.Behind {
				return p, problem(http.StatusConflict, "%s has not done its part: start it, or do without it (--now), and it has to join anew", m.Name)
			}
		}
		item.Name, item.Action = b.Rotation.Pin, op
		p.steps = append(p.steps, step{fsm.KindCA, fsm.CAChange{Op: op, Pin: b.Rotation.Pin, Now: o.Now, By: o.By, Reason: o.Reason}})
	default:
		return p, missing("a CA knows no %q", item.Action)
	}
	p.add(item)
	return p, nil
}

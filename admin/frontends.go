package admin

import (
	"iter"
	"net/http"

	"mailraft/fsm"
)

// FrontendInfo is a front end that is let in.
type FrontendInfo = fsm.Frontend

// FrontendOrder is the body of POST /v1/frontends/{name}/{op}; op is remove.
type FrontendOrder struct {
	Order
}

func (s *Server) routeFrontends(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/frontends", listing(s, func(_ *http.Request, v *fsm.View, _ As) (iter.Seq[FrontendInfo], error) {
		return v.Frontends(), nil
	}))
	mux.HandleFunc("POST /v1/frontends/{name}/{op}", changing(s, "front ends", func(o *FrontendOrder) *Order { return &o.Order }, changeFrontend))
}

func changeFrontend(r *http.Request, v *fsm.View, o FrontendOrder) (p plan, err error) {
	f, ok := v.Frontend(r.PathValue("name"))
	switch {
	case !ok:
		return p, missing("there is no front end %q", r.PathValue("name"))
	case r.PathValue("op") != "remove":
		return p, missing("front ends know no %q", r.PathValue("op"))
	}
	p.steps = append(p.steps, step{fsm.KindFrontend, fsm.FrontendChange{Op: fsm.FrontendRemove, Name: f.Name, By: o.By, Reason: o.Reason}})
	p.add(ChangeItem{Kind: "front end", Name: f.Name, Action: "remove", From: f.Serial})
	return p, nil
}

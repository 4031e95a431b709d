package admin

import (
	"cmp"
	"iter"
	"maps"
	"net/http"
	"slices"

	"mailraft/fsm"
)

// Parameter is one parameter of the boundary.
type Parameter struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Default  string `json:"default"`
	Exchange string `json:"exchange,omitempty"` // Exchange Server's value, where it has such a thing
	Doc      string `json:"doc"`
}

// listParameters lists all, or those that the query names.
func (s *Server) listParameters(r *http.Request, v *fsm.View, _ As) (iter.Seq[Parameter], error) {
	p, wanted := v.Params(), r.URL.Query()["name"]
	for _, name := range wanted {
		if _, ok := fsm.FindParameter(name); !ok {
			return nil, missing("there is no parameter %q; config show lists them", name)
		}
	}
	return func(yield func(Parameter) bool) {
		for _, d := range fsm.Parameters {
			if len(wanted) > 0 && !slices.Contains(wanted, d.Name) {
				continue
			}
			if !yield(Parameter{Name: d.Name, Value: d.Text(p), Default: d.Default, Exchange: d.Exchange, Doc: d.Doc}) {
				return
			}
		}
	}, nil
}

// ParameterOrder is the body of POST /v1/parameters: values by name, an empty
// one for the default, or a preset.
type ParameterOrder struct {
	Order
	Set    map[string]string `json:"set,omitempty"`
	Preset string            `json:"preset,omitempty"` // exchange
}

func (s *Server) setParameters(_ *http.Request, v *fsm.View, body ParameterOrder) (p plan, err error) {
	set := maps.Clone(body.Set)
	switch body.Preset {
	case "":
	case "exchange":
		set = fsm.ExchangePreset()
	default:
		return p, missing("there is no preset %q; there is: exchange", body.Preset)
	}
	if len(set) == 0 {
		return p, malformed("say which parameter: NAME=VALUE")
	}
	old, next := v.Params(), v.Params()
	for _, name := range slices.Sorted(maps.Keys(set)) {
		d, ok := fsm.FindParameter(name)
		if !ok {
			return p, missing("there is no parameter %q; config show lists them", name)
		}
		if err := d.Set(&next, cmp.Or(set[name], d.Default)); err != nil {
			return p, problem(http.StatusUnprocessableEntity, "%v", err)
		}
		item := ChangeItem{Kind: "parameter", Name: name, Action: "set", From: d.Text(old), To: d.Text(next)}
		if item.From == item.To {
			item.Action = "none"
		}
		p.add(item)
	}
	p.warnings = warnings(next, slices.Collect(v.Databases()))
	p.steps = []step{{fsm.KindConfigure, fsm.Configure{Set: set, Reason: body.Reason}}}
	return p, nil
}

// warnings names the copies whose failover would ask for more than the Safety
// Net holds, or nearly so, and other settings that give up a promise.
func warnings(p fsm.Params, databases []fsm.Database) []string {
	var w []string
	if !p.ShadowRedundancyEnabled {
		w = append(w, "UNPROTECTED: shadow-redundancy-enabled is false; before a 250 the content is on one member alone")
	}
	for _, d := range databases {
		w = append(w, p.HoldWarnings(d)...)
	}
	return w
}

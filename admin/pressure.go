package admin

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
)

// The levels of back pressure. At medium resubmission waits, at high no new
// mail is taken.
const (
	PressureNormal = "normal"
	PressureMedium = "medium"
	PressureHigh   = "high"
)

var pressureLevels = []string{PressureNormal, PressureMedium, PressureHigh}

// Pressure is how hard pressed a member is: as hard as by the resource that it
// has least of.
type Pressure struct {
	Level     string     `json:"level"` // normal, medium, high
	Resources []Resource `json:"resources"`
}

// Resource is one thing that a member may have too little of. Its level begins
// at a limit, and ends a tenth of the limit back.
type Resource struct {
	Name   string `json:"name"`  // disk, memory, queue
	Value  int64  `json:"value"` // bytes free, bytes in use, active messages of the boundary; below 0: not known
	Level  string `json:"level"`
	Medium int64  `json:"medium"` // limits
	High   int64  `json:"high"`
	Left   int64  `json:"left"` // from the value to the limit of the next level; at high 0
}

// limited reports whether there is a limit that the value could reach.
func (r *Resource) limited() bool { return r.Value >= 0 && r.Medium > 0 && r.Medium < math.MaxInt64 }

// amount is a value of the resource for people.
func (r *Resource) amount(n int64) string {
	if r.Name == "queue" {
		return humanize.Comma(n) + " messages"
	}
	return humanize.IBytes(uint64(max(n, 0)))
}

// Distance says for people how far each resource is from the next level.
func (p *Pressure) Distance() string {
	var parts []string
	for i := range p.Resources {
		r := &p.Resources[i]
		k := slices.Index(pressureLevels, r.Level) + 1
		switch {
		case !r.limited():
		case k < len(pressureLevels):
			parts = append(parts, fmt.Sprintf("%s %s to %s", r.Name, r.amount(r.Left), pressureLevels[k]))
		default:
			parts = append(parts, r.Name+" "+r.Level)
		}
	}
	return strings.Join(parts, ", ")
}

// Number is the level as a number, from 0.
func (p *Pressure) Number() int { return max(slices.Index(pressureLevels, p.Level), 0) }

// reason says what presses; empty at normal.
func (p *Pressure) reason() string {
	i := slices.IndexFunc(p.Resources, func(r Resource) bool { return r.Level == p.Level })
	if p.Level == PressureNormal || i < 0 {
		return ""
	}
	r := &p.Resources[i]
	limit := r.Medium
	if r.Level == PressureHigh {
		limit = r.High
	}
	switch r.Name {
	case "disk":
		return fmt.Sprintf("disk: %s is free, %s begins below %s", r.amount(r.Value), r.Level, r.amount(limit))
	case "memory":
		return fmt.Sprintf("memory: %s is in use, %s begins at %s", r.amount(r.Value), r.Level, r.amount(limit))
	}
	return fmt.Sprintf("%s: %s, %s begins at %s", r.Name, r.amount(r.Value), r.Level, r.amount(limit))
}

// consequence is what a level of pressure brings about.
func (p *Pressure) consequence() string {
	if p.Level == PressureHigh {
		return "no new mail is taken"
	}
	return "resubmission waits"
}

package resubmit

import (
	"fmt"
	"slices"
)

// Level is how hard pressed a member is.
type Level int

// The levels. At medium resubmission waits; at high no new mail is taken.
const (
	Normal Level = iota
	Medium
	High
)

var levelNames = []string{"normal", "medium", "high"}

// String is the level in lower case.
func (l Level) String() string { return levelNames[l] }

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(b []byte) error {
	i := slices.Index(levelNames, string(b))
	if i < 0 {
		return fmt.Errorf("%q is no level of pressure", b)
	}
	*l = Level(i)
	return nil
}

// Meter keeps the level of one resource. A level begins when the value reaches
// its limit, and ends only when the value is a tenth of the limit back, so that
// a value that moves about a limit does not turn things on and off.
type Meter struct {
	Name         string // disk, memory, queue
	Medium, High int64  // limits
	Falling      bool   // pressure is high where the value is low: free space

	level Level
}

// Resource is a meter as it was read.
type Resource struct {
	Name   string `json:"name"`
	Value  int64  `json:"value"` // bytes free (disk), bytes in use (memory), messages (queue); below 0 it is not known
	Medium int64  `json:"medium"`
	High   int64  `json:"high"`
	Level  Level  `json:"level"`
	Left   int64  `json:"left"` // from the value to the limit of the next level; at high 0
}

// Read takes a new value. One below zero is not known, and presses nobody.
func (m *Meter) Read(value int64) Resource {
	switch {
	case value < 0:
		m.level = Normal
	case m.over(value, m.High, 0) || m.level == High && m.over(value, m.High, m.High/10):
		m.level = High
	case m.over(value, m.Medium, 0) || m.level >= Medium && m.over(value, m.Medium, m.Medium/10):
		m.level = Medium
	default:
		m.level = Normal
	}
	r := Resource{Name: m.Name, Value: value, Medium: m.Medium, High: m.High, Level: m.level}
	if value < 0 {
		return r
	}
	switch m.level {
	case Normal:
		r.Left = m.distance(value, m.Medium)
	case Medium:
		r.Left = m.distance(value, m.High)
	}
	return r
}

// over reports whether the value has reached the limit, or is still within
// back of it.
func (m *Meter) over(value, limit, back int64) bool {
	if m.Falling {
		return value < limit+back
	}
	return value >= limit-back
}

func (m *Meter) distance(value, limit int64) int64 {
	if m.Falling {
		return max(0, value-limit)
	}
	return max(0, limit-value)
}

// Pressure is how hard pressed a member is: as hard as by the resource that it
// has least of.
type Pressure struct {
	Level     Level      `json:"level"`
	Resources []Resource `json:"resources"`
}

// PressureOf sums up what meters read.
func PressureOf(rs ...Resource) Pressure {
	p := Pressure{Resources: rs}
	for _, r := range rs {
		p.Level = max(p.Level, r.Level)
	}
	return p
}

// Worst is the resource that presses most; ok is false at normal.
func (p Pressure) Worst() (r Resource, ok bool) {
	i := slices.IndexFunc(p.Resources, func(r Resource) bool { return r.Level == p.Level })
	if p.Level == Normal || i < 0 {
		return Resource{}, false
	}
	return p.Resources[i], true
}

// Reason says what presses, for people; empty at normal.
func (p Pressure) Reason() string {
	r, ok := p.Worst()
	if !ok {
		return ""
	}
	limit := r.Medium
	if r.Level == High {
		limit = r.High
	}
	switch r.Name {
	case "disk":
		return fmt.Sprintf("disk: %d bytes are free, %s begins below %d", r.Value, r.Level, limit)
	case "memory":
		return fmt.Sprintf("memory: %d bytes are in use, %s begins at %d", r.Value, r.Level, limit)
	}
	return fmt.Sprintf("%s: %d, %s begins at %d", r.Name, r.Value, r.Level, limit)
}

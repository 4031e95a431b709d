package resubmit

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMeter(t *testing.T) {
	type step struct {
		value int64
		level Level
		left  int64
	}
	for name, c := range map[string]struct {
		meter Meter
		steps []step
	}{
		"rising": {Meter{Medium: 100, High: 200}, []step{
			{0, Normal, 100}, {99, Normal, 1}, {100, Medium, 100}, {95, Medium, 105}, {90, Medium, 110}, {89, Normal, 11}, {95, Normal, 5},
			{200, High, 0}, {1 << 60, High, 0}, {180, High, 0}, {179, Medium, 21}, {199, Medium, 1}, {0, Normal, 100},
		}},
		"falling": {Meter{Medium: 2000, High: 1000, Falling: true}, []step{
			{1 << 60, Normal, 1<<60 - 2000}, {2000, Normal, 0}, {1999, Medium, 999}, {2199, Medium, 1199}, {2200, Normal, 200},
			{1000, Medium, 0}, {999, High, 0}, {1099, High, 0}, {1100, Medium, 100}, {0, High, 0}, {5000, Normal, 3000},
		}},
		"not known": {Meter{Medium: 100, High: 200}, []step{{300, High, 0}, {-1, Normal, 0}, {95, Normal, 5}}},
	} {
		for i, s := range c.steps {
			if got := c.meter.Read(s.value); got.Level != s.level || got.Left != s.left || got.Value != s.value {
				t.Errorf("%s, step %d, value %d: %+v, want %s with %d left", name, i, s.value, got, s.level, s.left)
			}
		}
	}
}

func TestPressure(t *testing.T) {
	disk := Meter{Name: "disk", Medium: 2000, High: 1000, Falling: true}
	memory := Meter{Name: "memory", Medium: 100, High: 200}
	queue := Meter{Name: "queue", Medium: 10, High: 20}
	for _, c := range []struct {
		disk, memory, queue int64
		level               Level
		reason              string
	}{
		{5000, 1, 1, Normal, ""},
		{1500, 1, 1, Medium, "disk: 1500 bytes are free, medium begins below 2000"},
		{1500, 300, 1, High, "memory: 300 bytes are in use, high begins at 200"},
		{5000, 1, 25, High, "queue: 25, high begins at 20"},
	} {
		p := PressureOf(disk.Read(c.disk), memory.Read(c.memory), queue.Read(c.queue))
		if p.Level != c.level || p.Reason() != c.reason {
			t.Errorf("%+v: %s, %q", c, p.Level, p.Reason())
		}
		text, err := json.Marshal(p)
		if err != nil || !strings.Contains(string(text), `"level":"`+c.level.String()+`"`) {
			t.Errorf("as JSON: %s, %v", text, err)
		}
		var back Pressure
		if err := json.Unmarshal(text, &back); err != nil || back.Level != p.Level || len(back.Resources) != 3 || back.Resources[1] != p.Resources[1] {
			t.Errorf("%s is read as %+v, %v", text, back, err)
		}
	}
	if err := json.Unmarshal([]byte(`{"level":"huge"}`), new(Pressure)); err == nil {
		t.Error("an unknown level is read")
	}
}

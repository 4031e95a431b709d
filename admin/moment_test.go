package admin

import (
	"testing"

	"mailraft/mail"
)

func TestMoment(t *testing.T) {
	now := start
	for _, tt := range []struct {
		text string
		want mail.Time
		back string // as it is written again
	}{
		{"", 0, ""},
		{"0", now, "0s"},
		{"2h", now - 7_200_000, "2h"},
		{"1d12h", now - 36*3_600_000, "1d12h"},
		{"30000d", 1, "30000d"},
		{"2026-03-01T11:00:00+01:00", now - 7_200_000, "2026-03-01T10:00:00.000Z"},
	} {
		m, err := ParseMoment(tt.text)
		back, _ := m.MarshalText()
		if err != nil || m.Of(now) != tt.want || string(back) != tt.back || m.IsZero() != (tt.want == 0) {
			t.Errorf("%q: %v %q %v, want %v %q", tt.text, m.Of(now), back, err, tt.want, tt.back)
		}
	}
	for _, text := range []string{"yesterday", "-2h", "2026-03-01", "12"} {
		if m, err := ParseMoment(text); err == nil {
			t.Errorf("%q is %v", text, m)
		}
	}
}

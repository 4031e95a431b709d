package mail

import (
	"strings"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"2d": 48 * time.Hour, "1d12h": 36 * time.Hour, "90s": 90 * time.Second, "1m30s": 90 * time.Second, "0": 0, "250ms": 250 * time.Millisecond, "14d": 336 * time.Hour,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
		if again, err := ParseDuration(FormatDuration(got)); err != nil || again != got {
			t.Errorf("%s: written as %s, read as %s, %v", text, FormatDuration(got), again, err)
		}
	}
	for _, s := range []string{"", "d", "-1s", "2", "1d-2h", "2 days", "99999999d"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q was taken as %s", s, d)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"150MiB": 150 << 20, "10MB": 10_000_000, "4096": 4096, "1 GiB": 1 << 30, "0": 0, "7B": 7} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: got %d, %v; want %d", text, got, err, want)
		}
		if again, err := ParseSize(FormatSize(got)); err != nil || again != got {
			t.Errorf("%s: written as %s, read as %d, %v", text, FormatSize(got), again, err)
		}
	}
	for _, s := range []string{"", "MiB", "-1", "1.5GB", "9999999999GiB", "10 MB x"} {
		if n, err := ParseSize(s); err == nil {
			t.Errorf("%q was taken as %d", s, n)
		}
	}
}

func TestTimeText(t *testing.T) {
	at := At(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600)))
	text, _ := at.MarshalText()
	if string(text) != "2026-01-02T02:04:05.678Z" {
		t.Errorf("got %s", text)
	}
	var back Time
	if err := back.UnmarshalText(text); err != nil || back != at {
		t.Errorf("read as %s, %v", back, err)
	}
	if err := back.UnmarshalText(nil); err != nil || back != 0 {
		t.Errorf("empty text: %s, %v", back, err)
	}
	if err := back.UnmarshalText([]byte("yesterday")); err == nil {
		t.Error("yesterday was taken")
	}
}

// A client's words cannot end the trace field, nor add a clause or a comment.
func TestReceived(t *testing.T) {
	tr := Trace{Helo: "client.example (x)\r\nEvil: yes; for <a@b>", Address: "192.0.2.1", By: "mx.example.test", Protocol: "ESMTP"}
	id := NewID(1_767_225_600_000, 7, 0)
	got := string(tr.Received(id, 1_767_225_600_000, []string{"alice@example.test"}))
	want := "Received: from client.examplexEvil:yesfora@b ([192.0.2.1])\r\n\tby mx.example.test with ESMTP id " + id.String() +
		"\r\n\tfor <alice@example.test>;\r\n\tThu, 01 Jan 2026 00:00:00 +0000\r\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if two := string(tr.Received(id, 0, []string{"a@b.c", "d@e.f"})); strings.Contains(two, "for <") {
		t.Errorf("two recipients learn of each other:\n%s", two)
	}
	if none := string(Trace{}.Received(id, 0, nil)); !strings.HasPrefix(none, "Received: from unknown ([unknown])") {
		t.Errorf("got %s", none)
	}
}

package mail

import "time"

// Time is a moment in milliseconds since the Unix epoch. State machine time,
// which entries carry and rows record, is of this type. Zero is no time.
type Time int64

// At converts a clock reading.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Std is t as a time.Time in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Add returns t+d, cut to milliseconds.
func (t Time) Add(d time.Duration) Time { return t + Time(d.Milliseconds()) }

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t-u) * time.Millisecond }

// IsZero reports whether no time is set.
func (t Time) IsZero() bool { return t == 0 }

// String is t in RFC 3339 with milliseconds, UTC; empty for no time.
func (t Time) String() string {
	if t == 0 {
		return ""
	}
	return t.Std().Format("2006-01-02T15:04:05.000Z07:00")
}

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler: RFC 3339, or empty.
func (t *Time) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*t = 0
		return nil
	}
	v, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return err
	}
	*t = At(v)
	return nil
}

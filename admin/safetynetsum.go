package admin

import (
	"cmp"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// SafetyNetSum sums up what is held for one database, or of it for one hour.
type SafetyNetSum struct {
	Database     string    `json:"database"`
	Hour         mail.Time `json:"hour,omitzero"` // by hour: its begin, UTC
	Deliveries   int       `json:"deliveries"`
	Undelivered  int       `json:"undelivered,omitempty"` // of these: resubmissions that were given up
	Bytes        int64     `json:"bytes"`                 // that resubmitting all of it would send
	ContentBytes int64     `json:"content_bytes"`         // that it takes on the disk of every member
	Oldest       mail.Time `json:"oldest,omitzero"`
	Newest       mail.Time `json:"newest,omitzero"`
	Expires      mail.Time `json:"expires,omitzero"` // the oldest, not before
	HoldTime     string    `json:"hold_time"`
	HourBytes    int64     `json:"content_bytes_per_hour,omitempty"`  // as content_bytes, at the rate of the last hour
	Projected    int64     `json:"projected_content_bytes,omitempty"` // what the disk of every member needs for it if that goes on
	Gaps         []Gap     `json:"gaps,omitempty"`                    // of Primary Safety Nets: it is held by others
}

// sumBys are the words that a summary of the Safety Net can be by.
var sumBys = []string{"database", "hour"}

// SafetyNetGroupings are the words that a summary of the Safety Net can be by.
func SafetyNetGroupings() []string { return slices.Clone(sumBys) }

// rateTime is the time that a rate is taken over.
const rateTime = time.Hour

// summarizeSafetyNet counts what deliveries yields, by database, or by
// database and the hour of delivery.
func summarizeSafetyNet(r *http.Request, v *fsm.View, as As) (iter.Seq[SafetyNetSum], error) {
	by := cmp.Or(r.URL.Query().Get("by"), sumBys[0])
	if !slices.Contains(sumBys, by) {
		return nil, malformed("by: %q is none of %s", by, strings.Join(sumBys, ", "))
	}
	f, err := ParseFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	all := allDeliveries(v)
	if f.given {
		if all, err = deliveries(r, v, as); err != nil {
			return nil, err
		}
	}
	sums := map[string]SafetyNetSum{}
	if by == "database" {
		for d := range v.Databases() {
			if want := r.URL.Query().Get("database"); want == "" || strings.EqualFold(want, d.Name) {
				sums[d.Name] = SafetyNetSum{Database: d.Name, Gaps: gapsOf(v)}
			}
		}
	}
	for d := range all {
		if r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		k := d.Database
		sum := sums[k]
		if by == "hour" {
			hour := mail.At(d.Delivered.Std().Truncate(time.Hour))
			k += " " + hour.String()
			sum = sums[k]
			sum.Hour = hour
		}
		sum.add(d, as.Time)
		sums[k] = sum
	}
	return projected(sums, v, as.Time, by), nil
}

// allDeliveries is deliveries without a filter, in the order of the messages,
// and with no more than sums need.
func allDeliveries(v *fsm.View) iter.Seq[Delivery] {
	names := map[string]string{}
	for d := range v.Databases() {
		names[strings.ToLower(d.Name)] = d.Name
	}
	hold := v.Params().SafetyNetHoldTime
	return func(yield func(Delivery) bool) {
		for row := range v.HeldRows() {
			first := true
			for i := range row.Recipients {
				rc := &row.Recipients[i]
				if !rc.Held() {
					continue
				}
				var content int64
				if first && !sharesContent(v, row.Request, row.Origin) {
					content = row.Content.Size
				}
				first = false
				name, ok := names[strings.ToLower(rc.Database)]
				if ok && !yield(Delivery{Database: name, Delivered: rc.Done, Expires: rc.Done.Add(hold), State: rc.State.String(), Size: row.Content.Size, content: content}) {
					return
				}
			}
		}
	}
}

func (s *SafetyNetSum) add(d Delivery, now mail.Time) {
	if s.Deliveries == 0 || d.Delivered < s.Oldest {
		s.Database, s.Oldest, s.Expires = d.Database, d.Delivered, d.Expires
	}
	s.Deliveries++
	if d.State == fsm.Undelivered.String() {
		s.Undelivered++
	}
	s.Bytes += d.Size
	s.ContentBytes += d.content
	s.Newest = max(s.Newest, d.Delivered)
	if d.Delivered > now.Add(-rateTime) {
		s.HourBytes += d.content
	}
}

// projected adds to the sums of databases what they will grow to. In a boundary
// that is younger than an hour the rate is taken over its life.
func projected(sums map[string]SafetyNetSum, v *fsm.View, now mail.Time, by string) iter.Seq[SafetyNetSum] {
	hold := v.Params().SafetyNetHoldTime
	b, _ := v.Boundary()
	span := min(max(now.Sub(b.Created), time.Minute), rateTime)
	for k, s := range sums {
		s.HoldTime = mail.FormatDuration(hold)
		s.HourBytes = int64(float64(s.HourBytes) * float64(time.Hour) / float64(span))
		s.Projected = int64(float64(s.HourBytes) * hold.Hours())
		if by == "hour" {
			s.HourBytes, s.Projected = 0, 0
		}
		sums[k] = s
	}
	return values(sums)
}

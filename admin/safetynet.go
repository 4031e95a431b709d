package admin

import (
	"iter"
	"net/http"
	"slices"
	"strings"

	"mailraft/fsm"
	"mailraft/mail"
)

// Delivery is one resubmittable delivery in the Safety Net.
type Delivery struct {
	Delivered mail.Time `json:"delivered"`
	Expires   mail.Time `json:"expires"` // not before
	Database  string    `json:"database"`
	ID        mail.ID   `json:"id"`
	Recipient string    `json:"recipient"`
	Sender    string    `json:"sender"`
	Size      int64     `json:"size"`
	MessageID string    `json:"message_id,omitempty"`
	Copy      string    `json:"copy,omitempty"`
	Primary   string    `json:"primary"`
	Shadow    string    `json:"shadow,omitempty"`
}

// SafetyNetSum sums up what is held for one database.
type SafetyNetSum struct {
	Database   string    `json:"database"`
	Deliveries int       `json:"deliveries"`
	Bytes      int64     `json:"bytes"` // that resubmitting all of it would send
	Oldest     mail.Time `json:"oldest,omitzero"`
	Newest     mail.Time `json:"newest,omitzero"`
	Expires    mail.Time `json:"expires,omitzero"` // the oldest, not before
	HoldTime   string    `json:"hold_time"`
	Gaps       []Gap     `json:"gaps,omitempty"` // of Primary Safety Nets: it is held by others
}

// deliveries walks the Safety Net. Here start and end are of the delivery
// time; the rest of the filter is of the message and the recipient.
func deliveries(r *http.Request, v *fsm.View, as As) (iter.Seq[Delivery], error) {
	f, err := ParseFilter(r.URL.Query())
	if err == nil {
		err = missingID(v, &f)
	}
	if err != nil {
		return nil, err
	}
	start, end := f.start, f.end
	f.start, f.end = 0, 0
	if len(f.states) == 0 {
		f.states = []string{"all"} // a message may be delivered to one and still active for another
	}
	n, hold := namesOf(v), v.Params().SafetyNetHoldTime
	return func(yield func(Delivery) bool) {
		for d := range v.Databases() {
			if f.database != "" && !strings.EqualFold(d.Name, f.database) {
				continue
			}
			var m *fsm.Message
			for x := range v.SafetyNet(d.Name, start, end) {
				if m == nil || m.ID != x.ID {
					m, _ = v.Message(x.ID)
				}
				rc := &m.Recipients[x.Recipient]
				if len(f.ids) > 0 && !slices.Contains(f.ids, x.ID) || !f.match(m, n, as.Time) || !f.matchRecipient(rc) {
					continue
				}
				if !yield(Delivery{Delivered: x.At, Expires: x.At.Add(hold), Database: d.Name, ID: x.ID,
					Recipient: rc.Address, Sender: m.Envelope.ReversePath, Size: m.Content.Size,
					MessageID: m.Fields.MessageID, Copy: rc.Copy, Primary: n.of(m.Primary), Shadow: n.of(m.Shadow)}) {
					return
				}
			}
		}
	}, nil
}

func (s *Server) listSafetyNet(r *http.Request, v *fsm.View, as As) (iter.Seq[Delivery], error) {
	return deliveries(r, v, as)
}

func (s *Server) summarizeSafetyNet(r *http.Request, v *fsm.View, as As) (iter.Seq[SafetyNetSum], error) {
	all, err := deliveries(r, v, as)
	if err != nil {
		return nil, err
	}
	hold := mail.FormatDuration(v.Params().SafetyNetHoldTime)
	sums, gaps := map[string]SafetyNetSum{}, gapsOf(v)
	for d := range v.Databases() {
		if want := r.URL.Query().Get("database"); want == "" || strings.EqualFold(want, d.Name) {
			sums[d.Name] = SafetyNetSum{Database: d.Name, HoldTime: hold, Gaps: gaps}
		}
	}
	for d := range all {
		if r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		sum := sums[d.Database]
		if sum.Deliveries == 0 {
			sum.Oldest, sum.Expires = d.Delivered, d.Expires
		}
		sum.Deliveries++
		sum.Bytes += d.Size
		sum.Newest = d.Delivered
		sums[d.Database] = sum
	}
	return values(sums), nil
}

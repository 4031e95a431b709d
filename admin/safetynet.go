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
	State     string    `json:"state"`             // delivered; undelivered: a resubmission that was given up then
	Request   string    `json:"request,omitempty"` // a resubmission: for which request
	Copy      string    `json:"copy,omitempty"`
	Primary   string    `json:"primary"`
	Shadow    string    `json:"shadow,omitempty"`
	content   int64     // bytes on disk that are kept for this delivery: 0 if they are counted elsewhere
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
	f.of(v)
	start, end := f.start.Of(as.Time), f.end.Of(as.Time)
	f.start, f.end = Moment{}, Moment{}
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
				if len(f.ids) > 0 && !slices.Contains(f.ids, x.ID) || !f.match(m, n, as.Time) || !f.matchRecipient(rc) || !f.matchRecipientState(rc) {
					continue
				}
				if !yield(Delivery{content: contentOf(v, m, x.Recipient), State: rc.State.String(), Request: requestOf(m), Delivered: x.At, Expires: x.At.Add(hold), Database: d.Name, ID: x.ID,
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

// contentOf is what the content of a message takes on the disk, said of the
// first of its resubmittable deliveries only: so a sum counts it once. A
// resubmission refers to the content of its origin.
func contentOf(v *fsm.View, m *fsm.Message, recipient int) int64 {
	if i := slices.IndexFunc(m.Recipients, held); i != recipient {
		return 0
	}
	if sharesContent(v, m.Request, m.Origin) {
		return 0
	}
	return m.Content.Size
}

// sharesContent reports whether a message is a resubmission whose origin is
// still there, and has the content counted for it.
func sharesContent(v *fsm.View, request uint64, origin mail.ID) bool {
	if request == 0 {
		return false
	}
	_, there := v.Message(origin)
	return there
}

// held reports whether the recipient is in the Safety Net.
func held(r fsm.Recipient) bool {
	return (r.State == fsm.Delivered || r.State == fsm.Undelivered) && !r.Gone
}

// requestOf is the id of the request that a resubmission was made for.
func requestOf(m *fsm.Message) string {
	if m.Request == 0 {
		return ""
	}
	return requestID(m.Request)
}

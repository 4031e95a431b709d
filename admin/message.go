package admin

import (
	"iter"
	"slices"

	"mailraft/fsm"
	"mailraft/mail"
)

// Message is a message as views show it. Recipients and Events are in the
// answer for one message only.
type Message struct {
	ID              mail.ID        `json:"id"`
	State           string         `json:"state"`
	Sender          string         `json:"sender"` // empty: the null sender
	Size            int64          `json:"size"`   // bytes
	MessageID       string         `json:"message_id,omitempty"`
	Subject         string         `json:"subject,omitempty"`
	Accepted        mail.Time      `json:"accepted"`
	Finished        mail.Time      `json:"finished,omitzero"`
	NextAttempt     mail.Time      `json:"next_attempt,omitzero"`
	Primary         string         `json:"primary"` // member names
	Shadow          string         `json:"shadow,omitempty"`
	RecipientsTotal int            `json:"recipients_total"`
	RecipientsDone  int            `json:"recipients_done"`
	FirstRecipient  string         `json:"first_recipient,omitempty"`
	Reason          string         `json:"reason,omitempty"`  // last word about a recipient that is not delivered; why it is in quarantine
	Origin          mail.ID        `json:"origin,omitzero"`   // a non-delivery report: of which message; a resubmission: the message that was accepted
	Request         string         `json:"request,omitempty"` // a resubmission: the request that it was made for
	Parent          mail.ID        `json:"parent,omitzero"`   // a piece of a message to a large group
	FewerCopies     bool           `json:"fewer_copies,omitempty"`
	Acknowledged    bool           `json:"acknowledged,omitempty"` // the shadow server has discarded its shadow
	Detail          *MessageDetail `json:"detail,omitempty"`
}

// MessageDetail is what is shown of one message only.
type MessageDetail struct {
	Content     mail.ContentID `json:"content"`
	Checksum    string         `json:"checksum"` // XXH64, hexadecimal
	Date        string         `json:"date,omitempty"`
	Client      string         `json:"client,omitempty"` // address that it came from
	User        string         `json:"user,omitempty"`   // that it authenticated as
	Helo        string         `json:"helo,omitempty"`
	Session     string         `json:"session,omitempty"`
	EnvelopeID  string         `json:"envelope_id,omitempty"` // ENVID
	Return      string         `json:"return,omitempty"`      // RET
	EightBit    bool           `json:"eight_bit,omitempty"`
	UTF8        bool           `json:"smtputf8,omitempty"`
	Poison      *fsm.Poison    `json:"poison,omitempty"`         // set aside: since when and why
	Quarantine  string         `json:"quarantine,omitempty"`     // a filter had it set aside, and why
	Changes     int            `json:"header_changes,omitempty"` // fields of its header that filters added, changed or removed
	Envelope    []string       `json:"envelope_recipients"`
	Holders     []string       `json:"holders"`                  // who had the content when it was accepted
	Resubmitted []mail.ID      `json:"resubmitted_as,omitempty"` // the messages that were made of it from the Safety Net
	Recipients  []Recipient    `json:"recipients"`
	Events      []Event        `json:"events"`
}

// Recipient is one delivery of a message.
type Recipient struct {
	Address     string      `json:"address"`
	Original    string      `json:"original,omitempty"` // as in the envelope, where it differs
	Via         []string    `json:"via,omitempty"`      // groups
	Destination string      `json:"destination"`
	State       string      `json:"state"`
	Attempts    int         `json:"attempts"`
	NextAttempt mail.Time   `json:"next_attempt,omitzero"`
	Done        mail.Time   `json:"done,omitzero"`
	Reply       *mail.Reply `json:"reply,omitempty"`
	Remote      string      `json:"remote,omitempty"`
	Copy        string      `json:"copy,omitempty"`
	Activation  uint64      `json:"activation,omitempty"`
	Notify      string      `json:"notify,omitempty"`             // NOTIFY, as it holds for this recipient
	ORCPT       string      `json:"original_recipient,omitempty"` // ORCPT, with its type
	To          string      `json:"redirected_to,omitempty"`
}

// Event is one line of the history of a message.
type Event struct {
	Time      mail.Time `json:"time"`
	Event     string    `json:"event"` // tracking name
	Message   mail.ID   `json:"id"`
	Member    string    `json:"member,omitempty"`
	Recipient string    `json:"recipient,omitempty"`
	Text      string    `json:"text,omitempty"`
	Times     int       `json:"times,omitempty"` // DEFER: how often in a row
}

// names are the members by id.
type names map[mail.MemberID]string

func namesOf(v *fsm.View) names {
	n := names{}
	for m := range v.Members() {
		n[m.ID] = m.Name
	}
	for f := range v.Formers() {
		if _, ok := n[f.ID]; !ok {
			n[f.ID] = f.Name + " (former, " + f.ID.String() + ")"
		}
	}
	return n
}

// of is the name of a member; a former one's is told apart by its id, since
// another may have it now.
func (n names) of(id mail.MemberID) string {
	if name, ok := n[id]; ok || id == 0 {
		return name
	}
	return id.String()
}

func (n names) is(id mail.MemberID, text string) bool {
	return id != 0 && (n[id] == text || id.String() == text)
}

func (n names) all(ids []mail.MemberID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = n.of(id)
	}
	return list
}

// stateOf is the state that views and filters speak of.
func stateOf(m *fsm.Message, now mail.Time) string {
	switch {
	case !m.Active():
		return StateSafetyNet
	case m.WaitsForContent():
		return StateWaiting
	case m.Poison != nil:
		return StatePoison
	case m.Suspended:
		return StateSuspended
	case m.Expanding || m.Held:
		return StateExpanding
	}
	for i := range m.Recipients {
		if r := &m.Recipients[i]; r.State == fsm.Pending && (r.Attempts == 0 || r.Next <= now) {
			return StateReady
		}
	}
	return StateDeferred
}

func viewMessage(m *fsm.Message, n names, now mail.Time) Message {
	v := Message{
		ID: m.ID, State: stateOf(m, now), Sender: m.Envelope.ReversePath, Size: m.Content.Size,
		MessageID: m.Fields.MessageID, Subject: m.Fields.Subject, Accepted: m.Accepted, Finished: m.Finished,
		Primary: n.of(m.Primary), Shadow: n.of(m.Shadow), RecipientsTotal: len(m.Recipients),
		Origin: m.Origin, Request: requestOf(m), Parent: m.Parent, FewerCopies: m.Marked, Acknowledged: m.Acked,
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if i == 0 {
			v.FirstRecipient = r.Address
		}
		if r.State == fsm.Pending {
			if v.NextAttempt == 0 || r.Next < v.NextAttempt {
				v.NextAttempt = r.Next
			}
		} else {
			v.RecipientsDone++
		}
		if r.Reply != nil && r.State != fsm.Delivered && r.State != fsm.Relayed {
			v.Reason = r.Reply.String()
		}
	}
	if m.Poison != nil {
		v.Reason = "poison: " + m.Poison.Text
	}
	if m.Quarantine != "" {
		v.Reason = "quarantine: " + m.Quarantine
	}
	return v
}

func viewDetail(v *fsm.View, m *fsm.Message, n names) *MessageDetail {
	d := &MessageDetail{
		Content: m.Content.ID, Checksum: hex64(m.Content.Sum), Date: m.Fields.Date,
		Client: m.Trace.Address, User: m.Trace.User, Helo: m.Trace.Helo, Session: m.Trace.Session,
		Envelope: m.Envelope.Recipients, Holders: n.all(m.Holders),
		Recipients: []Recipient{}, Events: viewEvents(m, n),
	}
	d.Quarantine, d.Changes = m.Quarantine, m.Overlay.Changes()
	d.EnvelopeID, d.Return, d.EightBit, d.UTF8, d.Poison = m.Envelope.EnvelopeID, m.Envelope.Return.String(), m.Envelope.EightBit, m.Envelope.UTF8, m.Poison
	for x := range v.Resubmissions(m.ID) {
		d.Resubmitted = append(d.Resubmitted, x.ID)
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		d.Recipients = append(d.Recipients, Recipient{
			Address: r.Address, Original: r.Original, Via: r.Via, Destination: r.Destination(),
			State: r.State.String(), Attempts: r.Attempts, NextAttempt: r.Next, Done: r.Done,
			Reply: r.Reply, Remote: r.Remote, Copy: r.Copy, Activation: r.Activation,
			Notify: m.Asked(r).Notify.String(), ORCPT: m.Asked(r).Original, To: redirectedTo(m, r),
		})
	}
	return d
}

func redirectedTo(m *fsm.Message, r *fsm.Recipient) string {
	if r.To < 1 || r.To > len(m.Recipients) {
		return ""
	}
	return m.Recipients[r.To-1].Address + " in " + m.Recipients[r.To-1].Destination()
}

func viewEvents(m *fsm.Message, n names) []Event {
	list := make([]Event, 0, len(m.Events))
	for _, e := range m.Events {
		list = append(list, Event{Time: e.At, Event: e.Kind.String(), Message: m.ID, Member: n.of(e.Member),
			Recipient: e.Recipient, Text: e.Text, Times: e.Times})
	}
	return list
}

// selected walks the messages that a filter selects, in order of id. Ids that
// are not there are left out; see missingID.
func selected(v *fsm.View, f *Filter, n names, now mail.Time) iter.Seq[*fsm.Message] {
	f.of(v)
	return func(yield func(*fsm.Message) bool) {
		for m := range candidates(v, f, now) {
			if f.match(m, n, now) && !yield(m) {
				return
			}
		}
	}
}

// candidates walks the smallest index that has all that f can select.
func candidates(v *fsm.View, f *Filter, now mail.Time) iter.Seq[*fsm.Message] {
	switch {
	case len(f.ids) > 0:
		return func(yield func(*fsm.Message) bool) {
			for _, id := range f.ids {
				if m, ok := v.Message(id); ok && !yield(m) {
					return
				}
			}
		}
	case f.messageID != "":
		return v.ByMessageID(f.messageID)
	case f.activeOnly():
		return activeByID(v)
	case f.request != 0: // its messages were accepted when it was there
		r, _ := v.Request(f.request)
		return v.Messages(mail.NewID(max(r.Created, f.start.Of(now)), 0, 0))
	default:
		// An id is made when its message is accepted, or later for a piece of
		// one, so there is a first row to look at but no last.
		return v.Messages(mail.NewID(f.start.Of(now), 0, 0))
	}
}

// activeByID walks the active messages of all members in order of id: the
// index has them by owner.
func activeByID(v *fsm.View) iter.Seq[*fsm.Message] {
	return func(yield func(*fsm.Message) bool) {
		type head struct {
			m    *fsm.Message
			next func() (*fsm.Message, bool)
		}
		var heads []head
		for member := range v.Members() {
			next, stop := iter.Pull(v.Active(member.ID))
			defer stop()
			if m, ok := next(); ok {
				heads = append(heads, head{m, next})
			}
		}
		for len(heads) > 0 {
			least := 0
			for i := range heads {
				if slices.Compare(heads[i].m.ID[:], heads[least].m.ID[:]) < 0 {
					least = i
				}
			}
			h := &heads[least]
			if !yield(h.m) {
				return
			}
			var ok bool
			if h.m, ok = h.next(); !ok {
				heads = slices.Delete(heads, least, least+1)
			}
		}
	}
}

// missingID is the first id of the filter that the state does not have.
func missingID(v *fsm.View, f *Filter) error {
	for _, id := range f.ids {
		if _, ok := v.Message(id); !ok {
			return missing("there is no message %s: it was never accepted here, or its hold time is over", id)
		}
	}
	return nil
}

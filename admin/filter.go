package admin

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// FilterNames are the query parameters that select messages, the same on every
// request that takes messages. They are the flags of the command line.
var FilterNames = []string{"id", "sender", "recipient", "message_id", "database", "state", "older", "newer",
	"size", "member", "request", "reason_match", "start", "end", "limit"}

// The states of messages. A message is in one of them; "active" stands for all
// but StateSafetyNet, "all" for all; what it lacks may go with any active one. States of recipients select messages that
// have such a recipient.
const (
	StateReady     = "ready"               // an attempt is due
	StateDeferred  = "deferred"            // tried, and waiting for the next attempt
	StateSuspended = "suspended"           // by an operator, or by a filter (quarantine)
	StatePoison    = "poison"              // its handling broke something twice, and it waits for an operator
	StateWaiting   = "waiting-for-content" // its owner is down and nobody up has the content
	StateExpanding = "expanding"           // a large group is being expanded
	StateSafetyNet = "safety-net"          // every recipient is finished

	// What an active message of any of these states may lack.
	StateNoShadow = "without-shadow"
	StateFewer    = "fewer-copies" // it was accepted with its content on less than a majority
	StateLost     = "content-lost" // no member has its content; also in the Safety Net
)

var (
	messageStates   = []string{StateReady, StateDeferred, StateSuspended, StatePoison, StateWaiting, StateExpanding, StateSafetyNet}
	umbrellaStates  = []string{"active", "all"}
	lackStates      = []string{StateNoShadow, StateFewer, StateLost}
	recipientStates = []string{"pending", "delivered", "relayed", "failed", "expired", "deleted", "undelivered", "redirected"}
)

// States are the words that the filter "state" knows.
func States() []string {
	return slices.Concat(messageStates, umbrellaStates, lackStates, recipientStates)
}

// Filter selects messages. What is empty selects all.
type Filter struct {
	ids               []mail.ID
	sender, recipient *regexp.Regexp
	messageID         string
	database, member  string
	states            []string
	older, newer      time.Duration
	sizeMin, sizeMax  int64 // sizeMax 0: no bound
	reason            *regexp.Regexp
	start, end        Moment
	request           uint64   // 0: any
	requests          []uint64 // it and its shadow requests; see of
	given             bool     // something but the limit was said
}

// ParseFilter reads a filter from query parameters. Others are left alone.
func ParseFilter(q url.Values) (Filter, error) {
	var f Filter
	for _, name := range FilterNames {
		for _, text := range q[name] {
			if err := f.set(name, text); err != nil {
				return Filter{}, malformed("%s: %v", strings.ReplaceAll(name, "_", "-"), err)
			}
			f.given = f.given || name != "limit"
		}
	}
	return f, nil
}

func (f *Filter) set(name, text string) (err error) {
	switch name {
	case "id":
		var id mail.ID
		id, err = mail.ParseID(text)
		f.ids = append(f.ids, id)
	case "sender":
		f.sender, err = addressPattern(text)
	case "recipient":
		f.recipient, err = addressPattern(text)
	case "message_id":
		f.messageID = "<" + strings.Trim(text, "<>") + ">"
	case "database":
		f.database = text
	case "member":
		f.member = text
	case "state":
		err = f.addStates(text)
	case "older":
		f.older, err = mail.ParseDuration(text)
	case "newer":
		f.newer, err = mail.ParseDuration(text)
	case "size":
		f.sizeMin, f.sizeMax, err = parseSizes(text)
	case "request":
		if f.request, err = strconv.ParseUint(text, 10, 64); err != nil || f.request == 0 {
			err = malformed("%q is no id of a resubmit request", text)
		}
	case "reason_match":
		f.reason, err = regexp.Compile("(?i)" + text)
	case "start":
		f.start, err = ParseMoment(text)
	case "end":
		f.end, err = ParseMoment(text)
	case "limit":
		_, err = limitOf(url.Values{"limit": {text}})
	}
	return err
}

func (f *Filter) addStates(text string) error {
	for s := range strings.SplitSeq(text, ",") {
		if !slices.Contains(States(), s) {
			return malformed("%q is none of %s", s, strings.Join(States(), ", "))
		}
		f.states = append(f.states, s)
	}
	return nil
}

// addressPattern: an address, "@domain" for all of a domain, "<>" for the null
// sender; "*" stands for any text. Case does not matter.
func addressPattern(s string) (*regexp.Regexp, error) {
	switch {
	case s == "<>":
		return regexp.Compile("^$")
	case strings.HasPrefix(s, "@"):
		s = "*" + s
	}
	return regexp.Compile("(?i)^" + strings.ReplaceAll(regexp.QuoteMeta(strings.Trim(s, "<>")), `\*`, ".*") + "$")
}

// parseSizes reads "1MB" and "1MB.." (at least), "..5MB" (at most), "1MB..5MB".
func parseSizes(s string) (low, high int64, err error) {
	from, to, _ := strings.Cut(s, "..")
	if from != "" || to == "" {
		if low, err = mail.ParseSize(from); err != nil {
			return 0, 0, err
		}
	}
	if to != "" {
		if high, err = mail.ParseSize(to); err != nil {
			return 0, 0, err
		}
		if high < max(low, 1) {
			return 0, 0, malformed("%q is an empty range", s)
		}
	}
	return low, high, nil
}

// limitOf is the bound on the items of a list; -1 is none.
func limitOf(q url.Values) (int, error) {
	if !q.Has("limit") {
		return -1, nil
	}
	n, err := strconv.Atoi(q.Get("limit"))
	if err != nil || n < 1 {
		return 0, malformed("limit: %q is no number from 1", q.Get("limit"))
	}
	return n, nil
}

// of fits the filter to the state: a request stands for its shadow requests,
// too.
func (f *Filter) of(v *fsm.View) {
	if f.request == 0 {
		return
	}
	r, _ := v.Request(f.request)
	f.requests = append([]uint64{f.request}, r.Children...)
}

// match reports whether the message is selected; now is the state's time.
func (f *Filter) match(m *fsm.Message, names names, now mail.Time) bool {
	age := now.Sub(m.Accepted)
	switch {
	case f.sender != nil && !f.sender.MatchString(m.Envelope.ReversePath),
		f.messageID != "" && m.Fields.MessageID != f.messageID,
		f.older != 0 && age < f.older,
		f.newer != 0 && age > f.newer,
		m.Content.Size < f.sizeMin,
		f.sizeMax != 0 && m.Content.Size > f.sizeMax,
		!f.start.IsZero() && m.Accepted < f.start.Of(now),
		!f.end.IsZero() && m.Accepted >= f.end.Of(now),
		f.request != 0 && !slices.Contains(f.requests, m.Request),
		f.member != "" && !names.is(m.Primary, f.member) && !names.is(m.Shadow, f.member):
		return false
	}
	return f.matchState(m, now) && (f.matchRecipients(m) || f.quarantined(m))
}

func (f *Filter) matchState(m *fsm.Message, now mail.Time) bool {
	if len(f.states) == 0 {
		return f.everyState() || m.Active()
	}
	state := stateOf(m, now)
	for _, s := range f.states {
		switch {
		case s == "all", s == state, s == "active" && m.Active():
			return true
		case s == StateLost && m.Lost(), m.Active() && (s == StateNoShadow && m.Shadow == 0 || s == StateFewer && m.Marked):
			return true
		case slices.ContainsFunc(m.Recipients, func(r fsm.Recipient) bool { return r.State.String() == s }):
			return true
		}
	}
	return false
}

// everyState reports that the messages were named so closely that they are
// selected in any state, if none was said.
func (f *Filter) everyState() bool { return len(f.ids) > 0 || f.messageID != "" || f.request != 0 }

// matchRecipientState reports whether the recipient is in one of the states of
// recipients that were said, if any were.
func (f *Filter) matchRecipientState(r *fsm.Recipient) bool {
	said := slices.ContainsFunc(f.states, func(s string) bool { return slices.Contains(recipientStates, s) })
	return !said || slices.Contains(f.states, r.State.String())
}

// matchRecipients: one recipient must have all that is asked of recipients.
func (f *Filter) matchRecipients(m *fsm.Message) bool {
	if f.recipient == nil && f.database == "" && f.reason == nil {
		return true
	}
	return slices.ContainsFunc(m.Recipients, func(r fsm.Recipient) bool { return f.matchRecipient(&r) })
}

// quarantined: the reason that was asked for may be a filter's, which is of the
// message as a whole.
func (f *Filter) quarantined(m *fsm.Message) bool {
	if f.reason == nil || m.Quarantine == "" || !f.reason.MatchString("quarantine: "+m.Quarantine) {
		return false
	}
	rest := *f
	rest.reason = nil
	return rest.matchRecipients(m)
}

func (f *Filter) matchRecipient(r *fsm.Recipient) bool {
	return (f.recipient == nil || f.recipient.MatchString(r.Address) || f.recipient.MatchString(r.Original)) &&
		(f.database == "" || strings.EqualFold(r.Database, f.database)) &&
		(f.reason == nil || r.Reply != nil && f.reason.MatchString(r.Reply.String()))
}

// activeOnly reports that no finished message can be selected, so that the
// index of active messages is enough.
func (f *Filter) activeOnly() bool {
	if len(f.states) == 0 && f.everyState() {
		return false
	}
	return !slices.ContainsFunc(f.states, func(s string) bool {
		return s != "active" && s != "pending" && s != StateNoShadow && s != StateFewer && (!slices.Contains(messageStates, s) || s == StateSafetyNet)
	})
}

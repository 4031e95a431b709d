package fsm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailraft/mail"
)

// Params are the parameters of the boundary: replicated, the same on every
// member at the same applied index.
type Params struct {
	SafetyNetHoldTime                time.Duration
	MessageExpirationTimeout         time.Duration
	ShadowRedundancyEnabled          bool
	ShadowMessagePreference          string
	RejectMessageOnShadowFailure     bool
	ShadowHeartbeatFrequency         time.Duration
	ShadowResubmitTimeSpan           time.Duration
	ShadowMessageAutoDiscardInterval time.Duration
	UnresponsivePrimaryTimeout       time.Duration
	ShadowResubmitRecipients         string
	DelayNotificationTimeout         time.Duration
	CommitTimeout                    time.Duration
	MinVoters                        int
	FailoverAfter                    time.Duration
	ReplicationSlack                 time.Duration
	MessageSizeMax                   int64
	ResubmitRate                     int
	RequestRetention                 time.Duration
	RetrySchedule                    string // see Schedule
}

// Parameter describes one of Params for people.
type Parameter struct {
	Name     string
	Default  string
	Exchange string // Exchange Server's value; empty where it has no such thing
	Doc      string
	field    func(*Params) any // pointer to the field
	check    func(v any) error // nil: any value of the type
}

const day = 24 * time.Hour

// Parameters are all parameters, in the order in which they are shown.
var Parameters = []Parameter{
	{"safety-net-hold-time", "2d", "2d", "how long delivered mail is kept for resubmission",
		func(p *Params) any { return &p.SafetyNetHoldTime }, between(time.Second, 90*day)},
	{"message-expiration-timeout", "2d", "2d", "how long a message may stay in the queue before it is bounced",
		func(p *Params) any { return &p.MessageExpirationTimeout }, between(time.Second, 90*day)},
	{"shadow-redundancy-enabled", "true", "true", "keep a shadow message on another member",
		func(p *Params) any { return &p.ShadowRedundancyEnabled }, nil},
	{"shadow-message-preference", "prefer-remote", "prefer-remote", "prefer-remote, remote-only or local-only: the site of the shadow server",
		func(p *Params) any { return &p.ShadowMessagePreference }, oneOf("prefer-remote", "remote-only", "local-only")},
	{"reject-message-on-shadow-failure", "true", "false", "answer 451 rather than take a message with fewer copies",
		func(p *Params) any { return &p.RejectMessageOnShadowFailure }, nil},
	{"shadow-heartbeat-frequency", "10s", "2m", "how often a shadow server polls its discard statuses",
		func(p *Params) any { return &p.ShadowHeartbeatFrequency }, between(time.Second, day)},
	{"shadow-resubmit-time-span", "30s", "3h", "how long a member is silent before its messages are taken over",
		func(p *Params) any { return &p.ShadowResubmitTimeSpan }, between(3*time.Second, 7*day)},
	{"shadow-message-auto-discard-interval", "2d", "2d", "life of a discard status that nobody fetched",
		func(p *Params) any { return &p.ShadowMessageAutoDiscardInterval }, between(time.Minute, 90*day)},
	{"unresponsive-primary-timeout", "2m", "12h", "how long a Primary Safety Net is waited for before shadows serve a request",
		func(p *Params) any { return &p.UnresponsivePrimaryTimeout }, between(time.Second, 7*day)},
	{"shadow-resubmit-recipients", "resolved", "original", "resolved or original: to whom a shadow message is resubmitted",
		func(p *Params) any { return &p.ShadowResubmitRecipients }, oneOf("resolved", "original")},
	{"delay-notification-timeout", "4h", "4h", "when the sender of a waiting message is told",
		func(p *Params) any { return &p.DelayNotificationTimeout }, between(time.Minute, 30*day)},
	{"commit-timeout", "30s", "", "how long a client waits for the quorum before 421",
		func(p *Params) any { return &p.CommitTimeout }, between(time.Second, 5*time.Minute)},
	{"min-voters", "3", "", "voters that must be there before SMTP opens for the first time",
		func(p *Params) any { return &p.MinVoters }, intBetween(1, 7)},
	{"failover-after", "30s", "", "how long an active copy is silent before another is activated",
		func(p *Params) any { return &p.FailoverAfter }, between(time.Second, day)},
	{"replication-slack", "1h", "", "subtracted from what a copy is known to hold",
		func(p *Params) any { return &p.ReplicationSlack }, between(0, 14*day)},
	{"message-size-max", "150MiB", "10MB", "largest message taken",
		func(p *Params) any { return &p.MessageSizeMax }, sizeBetween(1<<10, 2<<30)},
	{"resubmit-rate", "2000/s", "", "resubmissions per second",
		func(p *Params) any { return &p.ResubmitRate }, intBetween(1, 1_000_000)},
	{"request-retention", "30d", "", "how long ended resubmit requests are listed",
		func(p *Params) any { return &p.RequestRetention }, between(time.Hour, 365*day)},
	{"retry-schedule", "5s,15s,1m,5m,15m", "1m,1m,1m,1m,5m,5m,5m,5m,5m,5m,10m", "the waits before further attempts, one after the other; the last one stands for all that follow",
		func(p *Params) any { return &p.RetrySchedule }, isSchedule},
}

// scheduleMax bounds the waits of a schedule.
const scheduleMax = 50

// Schedule is retry-schedule: how long to wait after the first attempt, after
// the second, and so on.
func (p *Params) Schedule() []time.Duration {
	waits, _ := parseSchedule(p.RetrySchedule) // checked when it was set
	return waits
}

func parseSchedule(text string) (waits []time.Duration, err error) {
	for word := range strings.SplitSeq(text, ",") {
		d, err := mail.ParseDuration(word)
		if err == nil {
			err = between(time.Second, day)(d)
		}
		if err != nil {
			return nil, err
		}
		waits = append(waits, d)
	}
	if len(waits) > scheduleMax {
		return nil, fmt.Errorf("%d waits; at most %d", len(waits), scheduleMax)
	}
	return waits, nil
}

func isSchedule(v any) error {
	_, err := parseSchedule(v.(string))
	return err
}

// keptByPreset is not set by the preset: a 250 stays a promise.
const keptByPreset = "reject-message-on-shadow-failure"

// ExchangePreset has all parameters that Exchange has, at its values, but the
// one by which a 250 is a promise.
func ExchangePreset() map[string]string {
	set := map[string]string{}
	for _, d := range Parameters {
		if d.Exchange != "" && d.Name != keptByPreset {
			set[d.Name] = d.Exchange
		}
	}
	return set
}

// FindParameter looks a parameter up by name.
func FindParameter(name string) (Parameter, bool) {
	i := slices.IndexFunc(Parameters, func(p Parameter) bool { return p.Name == name })
	if i < 0 {
		return Parameter{}, false
	}
	return Parameters[i], true
}

// Text is the value of the parameter in p, as Set reads it.
func (d Parameter) Text(p Params) string {
	switch v := d.field(&p).(type) {
	case *time.Duration:
		return mail.FormatDuration(*v)
	case *bool:
		return strconv.FormatBool(*v)
	case *string:
		return *v
	case *int64:
		return mail.FormatSize(*v)
	case *int:
		if strings.HasSuffix(d.Default, "/s") {
			return strconv.Itoa(*v) + "/s"
		}
		return strconv.Itoa(*v)
	default:
		panic("parameter of unknown type")
	}
}

// Set reads text into the parameter's field of p.
func (d Parameter) Set(p *Params, text string) error {
	v, err := d.parse(text)
	if err == nil && d.check != nil {
		err = d.check(v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	switch f := d.field(p).(type) {
	case *time.Duration:
		*f = v.(time.Duration)
	case *bool:
		*f = v.(bool)
	case *string:
		*f = v.(string)
	case *int64:
		*f = v.(int64)
	case *int:
		*f = v.(int)
	}
	return nil
}

func (d Parameter) parse(text string) (any, error) {
	switch d.field(new(Params)).(type) {
	case *time.Duration:
		return mail.ParseDuration(text)
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", text)
		}
		return b, nil
	case *int64:
		return mail.ParseSize(text)
	case *int:
		n, err := strconv.Atoi(strings.TrimSuffix(text, "/s"))
		if err != nil {
			return nil, fmt.Errorf("%q is no whole number", text)
		}
		return n, nil
	default:
		return text, nil
	}
}

// Defaults are the parameters of a new boundary.
func Defaults() Params { return defaults }

var defaults = func() Params {
	var p Params
	for _, d := range Parameters {
		if err := d.Set(&p, d.Default); err != nil {
			panic(err)
		}
	}
	return p
}()

// Params returns the parameters: the defaults with what was set laid over.
func (t Tables) Params() Params {
	if t.known != nil {
		return t.known.Params
	}
	return t.readParams()
}

func (t Tables) readParams() Params {
	p := defaults
	k := tab(tabParam)
	for pk, v := range t.Scan(k, k.end()) {
		d, ok := FindParameter(string(pk[len(k):]))
		if !ok {
			continue // set by a newer version, and not known here
		}
		if err := d.Set(&p, string(v)); err != nil {
			t.fatal(fmt.Errorf("read parameters: %w", err))
		}
	}
	return p
}

func between(low, high time.Duration) func(any) error {
	return func(v any) error {
		if d := v.(time.Duration); d < low || d > high {
			return fmt.Errorf("%s is not between %s and %s", mail.FormatDuration(d), mail.FormatDuration(low), mail.FormatDuration(high))
		}
		return nil
	}
}

func intBetween(low, high int) func(any) error {
	return func(v any) error {
		if n := v.(int); n < low || n > high {
			return fmt.Errorf("%d is not between %d and %d", n, low, high)
		}
		return nil
	}
}

func sizeBetween(low, high int64) func(any) error {
	return func(v any) error {
		if n := v.(int64); n < low || n > high {
			return fmt.Errorf("%s is not between %s and %s", mail.FormatSize(n), mail.FormatSize(low), mail.FormatSize(high))
		}
		return nil
	}
}

func oneOf(words ...string) func(any) error {
	return func(v any) error {
		if !slices.Contains(words, v.(string)) {
			return fmt.Errorf("%q is none of %s", v, strings.Join(words, ", "))
		}
		return nil
	}
}

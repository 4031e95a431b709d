package remote

import "time"

// Times bound how long a peer may take for each step (RFC 5321 §4.5.3.2). They
// are long, since a peer that is slow must not get the message twice; a peer
// that hangs costs one connection. What is zero is as DefaultTimes has it.
type Times struct {
	Connect  time.Duration
	Greeting time.Duration // the 220, EHLO, STARTTLS, AUTH
	Mail     time.Duration
	Rcpt     time.Duration
	Data     time.Duration // the 354
	Block    time.Duration // each write of the body
	Answer   time.Duration // after the final dot
	Idle     time.Duration // a connection is kept for the next message
}

// DefaultTimes are those of the RFC; it names none for connecting and keeping.
var DefaultTimes = Times{
	Connect: 30 * time.Second, Greeting: 5 * time.Minute, Mail: 5 * time.Minute, Rcpt: 5 * time.Minute,
	Data: 2 * time.Minute, Block: 3 * time.Minute, Answer: 10 * time.Minute, Idle: 30 * time.Second,
}

const (
	messageTime = time.Hour        // everything together
	quitTime    = 5 * time.Second  // to part politely
	earlyTime   = 10 * time.Second // for the rest of a reply that came before the end of the body
)

// times are the settings with the defaults filled in.
func (t *Transport) times() Times {
	s := t.Times
	for _, f := range []struct {
		d        *time.Duration
		standard time.Duration
	}{
		{&s.Connect, DefaultTimes.Connect}, {&s.Greeting, DefaultTimes.Greeting}, {&s.Mail, DefaultTimes.Mail}, {&s.Rcpt, DefaultTimes.Rcpt},
		{&s.Data, DefaultTimes.Data}, {&s.Block, DefaultTimes.Block}, {&s.Answer, DefaultTimes.Answer}, {&s.Idle, DefaultTimes.Idle},
	} {
		if *f.d == 0 {
			*f.d = f.standard
		}
	}
	return s
}

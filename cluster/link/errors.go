package link

import "errors"

// What Call returns besides the handler's *mail.Reply or its Error.
var (
	// ErrUnreachable: there is no connection, and nothing was sent.
	ErrUnreachable = errors.New("member unreachable")
	// ErrUnknownOutcome: the request was sent, and no answer came. It may have
	// been handled, or not, or be handled still.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrTooLarge: a request over 1 MiB; nothing was sent.
	ErrTooLarge = errors.New("request too large")
)

// Error is an operating error of the other side's handler, as text.
type Error string

// Error implements error.
func (e Error) Error() string { return string(e) }

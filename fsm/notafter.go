//go:build !broken_notafter

package fsm

import "mailraft/mail"

// tooLate reports whether an upload was closed so long ago that its content may
// be gone. With the tag broken_notafter none was, to see that it is noticed.
func tooLate(now, notAfter mail.Time) bool { return now >= notAfter }

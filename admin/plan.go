package admin

import "mailraft/mail"

// Plan is what a resubmit request would find and do now.
type Plan struct {
	As
	RequestFilter
	RequestCounts
	Left     mail.Duration `json:"left"` // how long it would take at its rate
	Warnings []string      `json:"warnings,omitempty"`
}

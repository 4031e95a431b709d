package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"mailraft/mail"
)

// Problem is an error answer of the API. Code and Enhanced are those of a
// refusal by the state machine.
type Problem struct {
	Status   int    `json:"status"`
	Code     int    `json:"code,omitempty"`
	Enhanced string `json:"enhanced_code,omitempty"`
	Text     string `json:"text"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Text }

func problem(status int, format string, a ...any) *Problem {
	return &Problem{Status: status, Text: fmt.Sprintf(format, a...)}
}

func malformed(format string, a ...any) *Problem {
	return problem(http.StatusBadRequest, format, a...)
}

func missing(format string, a ...any) *Problem {
	return problem(http.StatusNotFound, format, a...)
}

// refusal is what a client is told of a command that was refused when it was
// applied: by the subject of the enhanced code (RFC 3463), since an HTTP
// client cannot make much of 550.
func refusal(r *mail.Reply) *Problem {
	status := http.StatusConflict
	switch {
	case r.Temporary():
		status = http.StatusServiceUnavailable
	case r.Code == 501:
		status = http.StatusUnprocessableEntity
	case strings.HasPrefix(r.Enhanced, "5.1."):
		status = http.StatusNotFound
	case strings.HasPrefix(r.Enhanced, "5.7."):
		status = http.StatusForbidden
	}
	return &Problem{Status: status, Code: r.Code, Enhanced: r.Enhanced, Text: r.Text}
}

// problemOf turns any error into an answer. What is not known is the member's
// fault, and is not shown to be the client's.
func problemOf(err error) *Problem {
	var p *Problem
	var r *mail.Reply
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &r):
		return refusal(r)
	case errors.Is(err, ErrNoQuorum), errors.Is(err, context.DeadlineExceeded):
		return &Problem{Status: http.StatusServiceUnavailable, Code: 421, Enhanced: "4.3.2",
			Text: "no quorum: the change was not committed in time, but may be later; look before you repeat it"}
	default:
		return problem(http.StatusInternalServerError, "%v", err)
	}
}

func writeProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(map[string]*Problem{"error": p})
}

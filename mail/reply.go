package mail

import "fmt"

// Reply is an SMTP or LMTP reply, ours to a client or a server's to us. As an
// error it is an answer for the peer; any other error is an operating error
// and must reach a peer as temporary.
type Reply struct {
	Code     int    `cbor:"1,keyasint,omitempty" json:"code"`          // RFC 5321 §4.2
	Enhanced string `cbor:"2,keyasint,omitempty" json:"enhanced_code"` // RFC 3463, "4.3.2"; may be empty
	Text     string `cbor:"3,keyasint,omitempty" json:"text"`
}

// Replyf makes a reply.
func Replyf(code int, enhanced, format string, a ...any) *Reply {
	return &Reply{Code: code, Enhanced: enhanced, Text: fmt.Sprintf(format, a...)}
}

// Error implements error.
func (r *Reply) Error() string { return r.String() }

// String is the reply on one line, as it would stand on the wire.
func (r *Reply) String() string {
	if r.Enhanced == "" {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)
}

// Temporary reports a 4xx reply.
func (r *Reply) Temporary() bool { return r.Code >= 400 && r.Code < 500 }

// Permanent reports a 5xx reply.
func (r *Reply) Permanent() bool { return r.Code >= 500 && r.Code < 600 }

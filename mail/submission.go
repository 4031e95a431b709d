package mail

// Content names the bytes of a message as received, from the first byte of
// the header to the last CRLF, without SMTP transparency.
type Content struct {
	ID   ContentID `cbor:"1,keyasint"`
	Size int64     `cbor:"2,keyasint"` // bytes
	Sum  uint64    `cbor:"3,keyasint"` // XXH64 of all bytes, seed 0
	// NotAfter is fixed once, when the upload is closed: an Accept that applies
	// after it is refused, and from then on content without a row is an orphan.
	NotAfter Time `cbor:"4,keyasint,omitempty"`
}

// Envelope is what MAIL and RCPT said (RFC 5321 §2.3.1).
type Envelope struct {
	ReversePath string   `cbor:"1,keyasint,omitempty"` // address without brackets; empty is the null reverse-path
	Recipients  []string `cbor:"2,keyasint"`           // addresses as given, re-quoted, without brackets
	EightBit    bool     `cbor:"3,keyasint,omitempty"` // BODY=8BITMIME (RFC 6152)
	UTF8        bool     `cbor:"4,keyasint,omitempty"` // SMTPUTF8 (RFC 6531)

	// Relay: the client has the right to send to recipients outside our domains.
	// Without it such a recipient fails, whatever took it.
	Relay bool `cbor:"44,keyasint,omitempty"`

	EnvelopeID string  `cbor:"50,keyasint,omitempty"` // ENVID decoded (RFC 3461 §4.4); may be empty
	Return     Return  `cbor:"51,keyasint,omitempty"` // RET
	Asked      []Asked `cbor:"52,keyasint,omitempty"` // for each of Recipients; empty where no RCPT asked for anything
}

// Ask is what was asked for the n-th recipient.
func (e *Envelope) Ask(n int) Asked {
	if n < 0 || n >= len(e.Asked) {
		return Asked{}
	}
	return e.Asked[n]
}

// Trace is what the Received field says of how a message came in. It is kept
// in the entry and laid over the content at delivery, when the queue id is
// known.
type Trace struct {
	Helo     string `cbor:"1,keyasint,omitempty"` // as the client said it
	Name     string `cbor:"2,keyasint,omitempty"` // verified host name of the client; may be empty
	Address  string `cbor:"3,keyasint,omitempty"` // client address, "192.0.2.1" or "IPv6:…"
	By       string `cbor:"4,keyasint,omitempty"` // host name of the member that took it
	Protocol string `cbor:"5,keyasint,omitempty"` // SMTP, ESMTP, ESMTPS, UTF8SMTP, … (RFC 3848, 6531)
	Session  string `cbor:"6,keyasint,omitempty"` // session id, as in the logs

	// User is who authenticated, or the name of the client certificate that gave
	// the right to relay. It is for logs and views: Received does not say it.
	User string `cbor:"45,keyasint,omitempty"`
}

// Fields are the header fields that views, filters and duplicate detection
// need, as found in the content; each is cut to 998 bytes.
type Fields struct {
	MessageID string `cbor:"1,keyasint,omitempty"` // with angle brackets
	Date      string `cbor:"2,keyasint,omitempty"`
	Subject   string `cbor:"3,keyasint,omitempty"`
}

// Submission is one message on its way into the queue: what an Accept entry
// carries, and what a DSN brings along in the entry that retires a recipient.
type Submission struct {
	Content  Content    `cbor:"1,keyasint"`
	Envelope Envelope   `cbor:"2,keyasint"`
	Trace    Trace      `cbor:"3,keyasint"`
	Fields   Fields     `cbor:"4,keyasint"`
	Primary  MemberID   `cbor:"5,keyasint"`
	Holders  []MemberID `cbor:"6,keyasint"` // members that synced the content to its last byte and said so

	// What filters made of it.
	Overlay    *Overlay `cbor:"46,keyasint,omitempty"` // of its header
	Quarantine string   `cbor:"47,keyasint,omitempty"` // why it is set aside: it comes in suspended
	Filtered   []string `cbor:"49,keyasint,omitempty"` // in words, for its history
}

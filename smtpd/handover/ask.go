package handover

import "mailraft/mail"

// What a front end asks of a member: kinds of requests on its own protocol of
// the cluster port. Bodies and answers are JSON; fields are only ever added.
const (
	KindState byte = 0x40 // State: whether mail is taken, and who else is there
	KindRoute byte = 0x41 // RouteRequest to Route: whose a recipient is
	KindRenew byte = 0x42 // RenewRequest to Renewal: another certificate
	KindFate  byte = 0x43 // FateRequest to Fate: what became of a submission
)

// State is what a member says of itself and of the boundary.
type State struct {
	Boundary string        `json:"boundary"` // its identity
	Name     string        `json:"name"`     // the boundary's
	Member   string        `json:"member"`
	ID       mail.MemberID `json:"queue_database_id"`
	Site     string        `json:"site"`
	Version  string        `json:"version"`
	Refusal  *mail.Reply   `json:"refusal,omitempty"` // why it takes no mail; nil: it does
	Open     int           `json:"open"`              // transactions
	SizeMax  int64         `json:"size_max"`          // of a message
	Members  []Member      `json:"members"`
	// CAs are the pins of those that are believed; the first one signs.
	CAs []string `json:"cas"`
}

// Member is a member of the boundary, as one of them knows it.
type Member struct {
	ID      mail.MemberID `json:"queue_database_id"`
	Name    string        `json:"name"`
	Site    string        `json:"site"`
	Address string        `json:"address"` // of its cluster port
	SMTP    string        `json:"smtp"`
}

// RouteRequest asks whose a recipient is.
type RouteRequest struct {
	Address string `json:"address"`
	Relay   bool   `json:"relay,omitempty"` // the client may relay
}

// Route is where mail for a recipient goes in this boundary.
type Route struct {
	Refusal *mail.Reply `json:"refusal,omitempty"` // what RCPT would be answered; nil: it is taken
	Why     string      `json:"why"`               // for people: which object of the directory decides
}

// RenewRequest asks for another certificate.
type RenewRequest struct {
	CSR []byte `json:"csr"` // DER
}

// Renewal is another certificate, and whom to believe.
type Renewal struct {
	Cert []byte   `json:"cert"` // DER
	CAs  [][]byte `json:"cas"`  // DER
}

// FateRequest asks what became of a submission whose answer was lost. Asking
// settles it: what was not accepted until then never will be.
type FateRequest struct {
	Submission mail.ContentID `json:"submission"`
}

// Fate is the answer that stands.
type Fate struct {
	ID      mail.ID     `json:"id,omitzero"`       // accepted under this queue id
	Refusal *mail.Reply `json:"refusal,omitempty"` // never accepted
}

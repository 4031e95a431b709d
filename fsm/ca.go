package fsm

import "mailraft/mail"

// CAChange exchanges the boundary's CA in three steps, so that at every moment
// each member believes what any other shows:
//
//   - rotate: every member is to believe another CA too; none uses it yet;
//   - use: it signs from here on, and members renew with it;
//   - finish: the old one is believed no more.
//
// Pin names the CA that the step is about, so that none is taken twice, or
// counts for a later exchange.
type CAChange struct {
	Op     string `cbor:"1,keyasint"` // rotate, use, finish
	Pin    string `cbor:"2,keyasint"`
	CA     []byte `cbor:"3,keyasint,omitempty"` // rotate: certificate, DER
	CAKey  []byte `cbor:"4,keyasint,omitempty"` // rotate: sealed
	WasPin string `cbor:"5,keyasint,omitempty"` // rotate: of the present one
	Now    bool   `cbor:"6,keyasint,omitempty"` // do not wait for members that have not done their part
	By     string `cbor:"7,keyasint,omitempty"`
	Reason string `cbor:"8,keyasint,omitempty"`
}

// The steps of CAChange.
const (
	CARotate = "rotate"
	CAUse    = "use"
	CAFinish = "finish"
)

// CARotation is an exchange of the CA under way.
type CARotation struct {
	Pin    string    `cbor:"1,keyasint" json:"pin"`              // of the new CA
	WasPin string    `cbor:"2,keyasint" json:"was_pin"`          // of the old one
	CA     []byte    `cbor:"3,keyasint" json:"-"`                // the one of the two that does not sign: the new one first, then the old one
	CAKey  []byte    `cbor:"4,keyasint,omitempty" json:"-"`      // sealed, until it signs
	Used   bool      `cbor:"5,keyasint,omitempty" json:"used"`   // the new one signs
	Since  mail.Time `cbor:"6,keyasint" json:"since"`            // of this step
	By     string    `cbor:"7,keyasint,omitempty" json:"by"`     // who began it
	Reason string    `cbor:"8,keyasint,omitempty" json:"reason"` // and why
}

// changeCA applies CAChange.
func (t *tx) changeCA(c CAChange) Answer {
	b, _ := t.Boundary()
	r := b.Rotation
	switch {
	case b.Boundary == "":
		return refuse(550, "5.5.0", "there is no boundary yet")
	case c.Op == CARotate && r != nil && r.Pin == c.Pin:
		return Answer{}
	case c.Op == CARotate && r != nil:
		return refuse(450, "4.3.2", "an exchange of the CA is under way; see: mailraft boundary ca show")
	case c.Op == CARotate && (c.Pin == "" || c.Pin == c.WasPin || len(c.CA) == 0 || len(c.CAKey) == 0):
		return refuse(501, "5.5.4", "a new CA needs a certificate, a key and a pin of its own")
	case c.Op == CARotate:
		b.Rotation = &CARotation{Pin: c.Pin, WasPin: c.WasPin, CA: c.CA, CAKey: c.CAKey, Since: t.now(), By: c.By, Reason: c.Reason}
	case c.Op != CAUse && c.Op != CAFinish:
		return refuse(501, "5.5.4", "a CA knows no %q", c.Op)
	case r == nil || r.Pin != c.Pin:
		return refuse(550, "5.5.0", "no exchange for that CA is under way")
	case c.Op == CAUse && r.Used:
		return Answer{}
	case c.Op == CAFinish && !r.Used:
		return refuse(450, "4.3.2", "the new CA is not used yet")
	default:
		if name, ok := t.behindCA(c.Op, r.Pin); ok && !c.Now {
			return refuse(450, "4.3.2", "%s has not done its part yet; see: mailraft boundary ca show", name)
		}
		b.stepCA(c.Op, t.now())
	}
	t.put(tab(tabBoundary), b)
	return Answer{Count: 1}
}

func (b *Boundary) stepCA(op string, now mail.Time) {
	r := *b.Rotation
	if op == CAFinish {
		b.Rotation = nil
		return
	}
	b.CA, b.CAKey, r.CA, r.CAKey = r.CA, r.CAKey, b.CA, nil // the old key is gone: nothing is signed with it any more
	r.Used, r.Since = true, now
	b.Rotation = &r
}

// behindCA names a member that would be shut out by a step.
func (t *tx) behindCA(op, pin string) (name string, ok bool) {
	for m := range t.Members() {
		if m.Retired == 0 && m.BehindCA(op, pin) {
			return m.Name, true
		}
	}
	return "", false
}

// BehindCA reports whether a member has not done its part before a step: to
// believe the new CA before it is used, to have a certificate of it before the
// old one is dropped.
func (m *Member) BehindCA(op, pin string) bool {
	if op == CAUse {
		return m.Believes != pin
	}
	return m.Signer != pin
}

package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"mailraft/cluster/enroll"
	"mailraft/cluster/link"
	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/smtpd"
	"mailraft/smtpd/handover"
	"mailraft/smtpd/milter"
)

// letFrontendJoin signs a front end's key once the state has taken its token.
func (m *Member) letFrontendJoin(req enroll.Request) (enroll.Answer, error) {
	token, err := pki.ParseToken(req.Token)
	if err != nil {
		return enroll.Answer{}, err
	}
	b, at := m.boundaryAt()
	cert, serial, err := m.issueFrontend(&b, req.CSR, req.Frontend)
	if err != nil {
		return enroll.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(m.ctx, enroll.Time)
	defer cancel()
	err = m.changeFrontend(ctx, fsm.FrontendChange{Op: fsm.FrontendJoin, Name: req.Frontend, Site: req.Site, Serial: serial, Token: token.Hash()})
	if err != nil {
		return enroll.Answer{}, err
	}
	m.log.Info("front end joined", "name", req.Frontend, "site", req.Site)
	return enroll.Answer{Boundary: b.Boundary, Cert: cert, CA: b.CA, Generation: b.Generation, OtherCA: otherCA(&b), Index: at}, nil
}

// boundaryAt is the boundary's row, and the entry as of which it is so.
func (m *Member) boundaryAt() (fsm.Boundary, uint64) {
	v := m.fsm.View()
	defer v.Close()
	b, _ := v.Boundary()
	return b, v.Tables.Applied().Index
}

func (m *Member) issueFrontend(b *fsm.Boundary, csr []byte, name string) (cert []byte, serial string, err error) {
	ca, err := pki.OpenCA(b.CA, b.CAKey, m.id.secret)
	if err != nil {
		return nil, "", err
	}
	cert, err = ca.Issue(csr, pki.Identity{Boundary: b.Boundary, Role: pki.RoleFrontend, Name: name}, m.certTime(), pki.CertLife)
	if err != nil {
		return nil, "", err
	}
	serial, err = serialOf(cert)
	return cert, serial, err
}

func (m *Member) changeFrontend(ctx context.Context, c fsm.FrontendChange) error {
	a, err := m.Propose(ctx, fsm.KindFrontend, c)
	if err != nil {
		return err
	}
	if a.Refused != nil {
		return errors.New(a.Refused.Text)
	}
	// It comes back with the certificate at once, and perhaps to this member.
	return m.waitApplied(ctx, a.Index)
}

// allowFrontend lets in a front end that the state knows, with a certificate
// that it knows.
func (m *Member) allowFrontend(peer pki.Identity) error {
	v := m.fsm.View()
	defer v.Close()
	if f, ok := v.Frontend(peer.Name); !ok || !f.Shows(peer.Serial) {
		return fmt.Errorf("front end %s is not let in, or not yet: its certificate is not on record; join anew with: mailraft boundary token --role frontend", peer.Name)
	}
	return nil
}

// serveFrontends answers front ends, and takes the sessions that they hand
// over.
func (m *Member) serveFrontends() {
	m.work.Go(func() { m.served("front ends", link.Serve(m.ctx, m.port.Listener(port.Front), m.handleFrontend)) })
	m.work.Go(func() { m.served("handed over SMTP", m.smtp.ServeHandedOver(m.port.Listener(port.SMTP), m.filtersFor)) })
}

func (m *Member) filtersFor(r smtpd.Role) []*milter.Filter {
	return m.cfg.SMTP.FiltersFor(r, m.milters)
}

// handleFrontend answers a front end's requests: nothing that changes the
// boundary but its own certificate, and a submission that it asks about.
func (m *Member) handleFrontend(ctx context.Context, peer pki.Identity, kind byte, body []byte) ([]byte, error) {
	var answer any
	var err error
	switch kind {
	case handover.KindState:
		answer = m.frontendState()
	case handover.KindRoute:
		answer, err = asked(body, func(r handover.RouteRequest) (handover.Route, error) { return m.route(ctx, r) })
	case handover.KindRenew:
		answer, err = asked(body, func(r handover.RenewRequest) (handover.Renewal, error) { return m.renewFrontend(ctx, peer, r.CSR) })
	case handover.KindFate:
		answer, err = asked(body, func(r handover.FateRequest) (handover.Fate, error) { return m.fate(ctx, r.Submission) })
	default:
		return nil, mail.Replyf(502, "5.5.1", "unknown request %d", kind)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// asked decodes a request for f.
func asked[Q, A any](body []byte, f func(Q) (A, error)) (a A, err error) {
	var q Q
	if err := json.Unmarshal(body, &q); err != nil {
		return a, mail.Replyf(501, "5.5.4", "malformed request")
	}
	return f(q)
}

func (m *Member) frontendState() handover.State {
	s := m.fsm.Settings()
	b := &s.Boundary
	st := handover.State{Boundary: b.Boundary, Name: b.Name, Member: m.id.Name, ID: m.id.ID, Site: m.cfg.Site, Version: Version,
		Open: m.smtp.Counts().Transactions, SizeMax: m.params.get().MessageSizeMax, CAs: []string{pki.Pin(b.CA)}}
	if b.Rotation != nil {
		st.CAs = append(st.CAs, pki.Pin(b.Rotation.CA))
	}
	if err := m.Ready(); err != nil && !errors.As(err, &st.Refusal) {
		st.Refusal = mail.Replyf(451, "4.3.0", "this server may not take mail now; try another")
	}
	for _, o := range s.Members {
		if o.Retired == 0 {
			st.Members = append(st.Members, handover.Member{ID: o.ID, Name: o.Name, Site: o.Site, Address: o.Addr, SMTP: o.SMTP})
		}
	}
	return st
}

// route says whose a recipient is, and by what.
func (m *Member) route(ctx context.Context, q handover.RouteRequest) (r handover.Route, err error) {
	a, err := mail.ParseAddress(q.Address)
	if err != nil {
		return r, mail.Replyf(501, "5.1.3", "%q is no address", q.Address)
	}
	if err := m.Verify(ctx, a, q.Relay); err != nil && !errors.As(err, &r.Refusal) {
		return r, err
	}
	v := m.fsm.View()
	defer v.Close()
	r.Why = directory.Explain(v, a)
	return r, nil
}

// renewFrontend signs a front end's key once more. The serial number is on
// record before the certificate is given out.
func (m *Member) renewFrontend(ctx context.Context, peer pki.Identity, csr []byte) (r handover.Renewal, err error) {
	if m.behindCA() {
		return r, mail.Replyf(450, "4.3.2", "this member is not up to date yet")
	}
	b, _ := m.boundaryAt()
	cert, serial, err := m.issueFrontend(&b, csr, peer.Name)
	if err != nil {
		return r, err
	}
	if err := m.changeFrontend(ctx, fsm.FrontendChange{Op: fsm.FrontendRenew, Name: peer.Name, Serial: serial, Was: peer.Serial}); err != nil {
		return r, err
	}
	r = handover.Renewal{Cert: cert, CAs: [][]byte{b.CA}}
	if other := otherCA(&b); other != nil {
		r.CAs = append(r.CAs, other)
	}
	return r, nil
}

// fate settles a submission: if nothing was applied for it, nothing will be.
// Where that takes too long the front end's client is told 4xx, and it is
// settled later.
func (m *Member) fate(ctx context.Context, id mail.ContentID) (handover.Fate, error) {
	a, err := m.Propose(ctx, fsm.KindWithdraw, fsm.Withdraw{Content: id})
	if err != nil {
		m.withdrawLater(id)
		return handover.Fate{}, mail.Replyf(451, "4.4.0", "what became of the message is not known yet")
	}
	return handover.Fate{ID: a.ID, Refusal: a.Refused}, nil
}

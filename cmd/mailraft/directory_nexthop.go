package main

import (
	"os"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

func nextHopKind() objectKind[admin.NextHop] {
	return objectKind[admin.NextHop]{
		name: "next-hop", api: "next-hops", argument: "ADDRESS",
		usage: "how mail is handed over at an address: smtp://, smtps://, lmtp://, lmtps://HOST:PORT of a next hop or a copy, mx:DOMAIN, or mx: for all that MX records name",
		flags: []cli.Flag{
			&cli.StringFlag{Name: "tls", Usage: "`POLICY`: off, may (where it is offered), required (encrypted), verified (and the certificate is the host's); default for none"},
			&cli.StringFlag{Name: "ca", Usage: "`FILE` of the certificates that alone are believed there; empty: the host's roots"},
			&cli.StringFlag{Name: "tls-name", Usage: "`NAME` that the certificate is to be for, if not the host's"},
			&cli.StringFlag{Name: "credential", Usage: "log in with the credential of this `NAME` in each member's configuration"},
		},
		fill: fillNextHop,
		list: listing[admin.NextHop]{
			noun: "next hop", header: "next hop\ttls\tca\tname\tcredential", id: func(h admin.NextHop) string { return h.Address },
			row: func(_ mail.Time, h admin.NextHop) []string {
				policy, ca := h.Policy().String(), "roots"
				if h.TLS == 0 {
					policy += " (default)"
				}
				if h.CA != "" {
					ca = "own"
				}
				return []string{h.Address, policy, ca, orDash(h.TLSName), orDash(h.Credential)}
			},
		},
		into: func(o *admin.DirectoryOrder, h admin.NextHop) { o.NextHops = append(o.NextHops, h) },
	}
}

func fillNextHop(s *session, address string, h *admin.NextHop) error {
	if h.Address == "" {
		h.Address = address
	}
	if s.IsSet("tls") {
		h.TLS = 0
		if t := s.String("tls"); t != "default" {
			if err := h.TLS.UnmarshalText([]byte(t)); err != nil {
				return usageError("--%v", err)
			}
		}
	}
	if s.IsSet("ca") {
		h.CA = ""
		if name := s.String("ca"); name != "" {
			pem, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			h.CA = string(pem)
		}
	}
	if s.IsSet("tls-name") {
		h.TLSName = s.String("tls-name")
	}
	if s.IsSet("credential") {
		h.Credential = s.String("credential")
	}
	return nil
}

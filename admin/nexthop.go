package admin

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"

	"mailraft/fsm"
)

// nextHops draws next hops: how mail is handed over at addresses.
func (d *drawing) nextHops(hops []NextHop) {
	for _, x := range hops {
		invalid := x.Validate()
		if invalid == nil && x.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(x.CA)) {
			invalid = errors.New("ca: no certificate can be read from it")
		}
		old, ok := d.v.NextHop(x.Address)
		if d.put("next-hop", x.Address, ok, nextHopText(old), nextHopText(x), invalid, "") {
			d.hops.Put = append(d.hops.Put, x)
			d.grow(1 + len(x.CA)/4096) // certificates are large, and an entry is bounded
		}
	}
}

func showNextHop(r *http.Request, v *fsm.View, as As) (any, error) {
	h, ok := v.NextHop(r.PathValue("name"))
	return one(as, h, ok, "next hop", r)
}

// caText tells certificates apart without showing them.
func caText(pem string) string {
	sum := sha256.Sum256([]byte(pem))
	return "sha256:" + hex.EncodeToString(sum[:8])
}

func nextHopText(h NextHop) string {
	s := "tls=" + h.Policy().String()
	if h.TLS == 0 {
		s += " (default)"
	}
	if h.CA != "" {
		s += " ca=" + caText(h.CA)
	}
	if h.TLSName != "" {
		s += " tls-name=" + h.TLSName
	}
	if h.Credential != "" {
		s += " credential=" + h.Credential
	}
	return s
}

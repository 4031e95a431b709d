package directory

import (
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"mailraft/mail"
)

// lookupProfile maps as UTS #46 does for lookups, without the transitional
// rules: straße.example and strasse.example are two domains.
var lookupProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.VerifyDNSLength(true))

// Key is what an address is looked up by: the local part in lower case and
// composed form (NFC), the domain as DomainKey has it, quoted where needed.
// RFC 5321 §2.4 leaves case to the host of the mailbox; that is us.
//
// The tables of Unicode belong to the build: characters assigned after the
// oldest build in a boundary may fold differently on a newer one.
func Key(a mail.Address) string {
	local := norm.NFC.String(strings.ToLower(norm.NFC.String(a.Local)))
	return mail.Address{Local: local, Domain: DomainKey(a.Domain)}.String()
}

// DomainKey is a domain name in lower case and A-label form (RFC 5890 §2.3.2.1),
// without a trailing dot. A name that has no such form is only lower-cased: it
// will not be found.
func DomainKey(name string) string {
	name = strings.TrimSuffix(name, ".")
	if isASCII(name) {
		return strings.ToLower(name)
	}
	if a, err := lookupProfile.ToASCII(name); err == nil {
		return a
	}
	return strings.ToLower(name)
}

// textKey is Key for text; what is no address is its own key.
func textKey(s string) string {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return s
	}
	return Key(a)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

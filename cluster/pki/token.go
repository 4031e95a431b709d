package pki

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"
)

// text is Crockford's alphabet in lower case: nothing that is read aloud or
// typed can be mistaken for something else, and a double click selects it.
var text = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

const (
	tokenVersion = "mailraft1"
	secretSize   = 20 // bytes: 160 bits, 32 characters without a remainder
	checkSize    = 5  // bytes, 8 characters
	pinLen       = 52 // characters of 32 bytes
)

// Errors of ParseToken. Both mean that the text was not copied whole; a token
// that is well formed but unknown, used up or over is the state's to refuse.
var (
	ErrToken     = errors.New("this is not a join token")
	ErrTokenTypo = errors.New("the join token has a typing error: its checksum does not fit")
)

// Token lets a new member, front end or client in: the pin says which CA it
// must find at the other end before it sends anything, the secret proves that
// it was invited. Its text is mailraft1.PIN.SECRET.CHECKSUM.
type Token struct {
	pin    string
	secret [secretSize]byte
}

// NewToken makes a token for the CA with the given pin.
func NewToken(pin string, rand io.Reader) (Token, error) {
	if !validPin(pin) {
		return Token{}, fmt.Errorf("make token: malformed pin %q", pin)
	}
	t := Token{pin: pin}
	if _, err := io.ReadFull(rand, t.secret[:]); err != nil {
		return Token{}, fmt.Errorf("make token: %w", err)
	}
	return t, nil
}

// ParseToken reads what String writes; blanks around it are cut.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if len(s) > 256 {
		return Token{}, ErrToken
	}
	body, check, ok := cutLast(s)
	parts := strings.Split(body, ".")
	if !ok || len(parts) != 3 || parts[0] != tokenVersion {
		return Token{}, ErrToken
	}
	if check != checksum(body) {
		return Token{}, ErrTokenTypo
	}
	secret, err := text.DecodeString(parts[2])
	if err != nil || len(secret) != secretSize || text.EncodeToString(secret) != parts[2] || !validPin(parts[1]) {
		return Token{}, ErrToken
	}
	return Token{pin: parts[1], secret: [secretSize]byte(secret)}, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// validPin: 52 characters that decode and encode to the same, so the four
// bits that do not count are zero.
func validPin(pin string) bool {
	b, err := text.DecodeString(pin)
	return err == nil && len(pin) == pinLen && text.EncodeToString(b) == pin
}

func checksum(body string) string {
	sum := sha256.Sum256([]byte(body))
	return text.EncodeToString(sum[:checkSize])
}

// String is the token as it is printed once and given to the joiner. It
// contains the secret.
func (t Token) String() string {
	body := tokenVersion + "." + t.pin + "." + text.EncodeToString(t.secret[:])
	return body + "." + checksum(body)
}

// Pin is the pin of the boundary's CA.
func (t Token) Pin() string { return t.pin }

// Hash is what the state keeps of a token: from it the token cannot be made.
// The secret is random and long, so one plain hash is enough.
func (t Token) Hash() [32]byte {
	return sha256.Sum256(append([]byte("mailraft join token 1\x00"), t.secret[:]...))
}

// Matches compares with a stored hash, in constant time.
func (t Token) Matches(hash [32]byte) bool {
	own := t.Hash()
	return subtle.ConstantTimeCompare(own[:], hash[:]) == 1
}

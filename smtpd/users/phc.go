package users

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Hash is a password's argon2id hash (RFC 9106), as text in the PHC string
// format: $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH.
type Hash struct {
	memory  uint32 // KiB
	time    uint32 // passes
	threads uint8
	salt    []byte
	key     []byte
}

// standard is what new hashes are made with: 19 MiB, two passes, one thread.
var standard = Hash{memory: 19 << 10, time: 2, threads: 1}

const saltSize, keySize = 16, 32

// Bounds of what is computed for a hash in the file: somebody who may write to
// the file is trusted, and a slip of his must not stop the member.
const (
	memoryMax  = 256 << 10 // KiB
	timeMax    = 64
	threadsMax = 16
	bytesMax   = 64 // of salt and of key
)

// ErrHash reports text that is no argon2id hash in PHC format, or one that asks
// for more than is computed here.
var ErrHash = errors.New("not an argon2id hash in PHC format")

// NewHash hashes a password with a salt drawn for it.
func NewHash(password string) Hash {
	h := standard
	h.salt = make([]byte, saltSize)
	_, _ = rand.Read(h.salt) // never fails: crypto/rand ends the process instead
	h.key = make([]byte, keySize)
	h.key = h.compute(password)
	return h
}

// ParseHash reads a hash.
func ParseHash(s string) (h Hash, err error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return h, ErrHash
	}
	var threads uint32
	if !parameters(f[3], map[string]*uint32{"m": &h.memory, "t": &h.time, "p": &threads}) {
		return h, ErrHash
	}
	if threads < 1 || threads > threadsMax || h.time < 1 || h.time > timeMax || h.memory < 8*threads || h.memory > memoryMax {
		return h, fmt.Errorf("%w: parameters out of bounds (m=%d, t=%d, p=%d; at most m=%d, t=%d, p=%d)", ErrHash, h.memory, h.time, threads, memoryMax, timeMax, threadsMax)
	}
	h.threads = uint8(threads)
	if h.salt, err = base64.RawStdEncoding.Strict().DecodeString(f[4]); err != nil || len(h.salt) < 8 || len(h.salt) > bytesMax {
		return h, fmt.Errorf("%w: salt", ErrHash)
	}
	if h.key, err = base64.RawStdEncoding.Strict().DecodeString(f[5]); err != nil || len(h.key) < 16 || len(h.key) > bytesMax {
		return h, fmt.Errorf("%w: hash", ErrHash)
	}
	return h, nil
}

// parameters reads "m=1,t=2,p=3": each once, in any order, and no other.
func parameters(s string, into map[string]*uint32) bool {
	for p := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(p, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if into[name] == nil || err != nil || strconv.FormatUint(n, 10) != value {
			return false
		}
		*into[name] = uint32(n)
		delete(into, name)
	}
	return len(into) == 0
}

// String is the hash in PHC format.
func (h Hash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads, b64(h.salt), b64(h.key))
}

// Matches reports whether the hash is that of a password. What it takes does
// not depend on the answer.
func (h Hash) Matches(password string) bool {
	return subtle.ConstantTimeCompare(h.compute(password), h.key) == 1
}

func (h Hash) compute(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
}

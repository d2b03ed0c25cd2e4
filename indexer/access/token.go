package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
)

// tokenPrefix begins the text of every personal token, so that scanners for secrets find
// them in repositories and logs.
const tokenPrefix = "pbt_"

// encoding writes tokens: letters and digits only, so that a double click selects all.
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// A Token is a personal token, which a client sends instead of a password: 256 random bits.
type Token [32]byte

// NewToken returns a new token.
func NewToken() (t Token) {
	_, _ = rand.Read(t[:]) // never fails
	return t
}

// Text returns t as clients send it: a prefix, the bits, and a checksum, by which a text
// that was cut or mistyped is told from a token without a look at the database.
func (t Token) Text() string {
	return tokenPrefix + encoding.EncodeToString(binary.BigEndian.AppendUint32(t[:], crc32.ChecksumIEEE(t[:])))
}

// String keeps the token out of logs.
func (t Token) String() string { return tokenPrefix + "…" }

// Hash returns what is stored of t. A token has 256 random bits, so its hash needs neither
// salt nor time.
func (t Token) Hash() []byte {
	sum := sha256.Sum256(t[:])
	return sum[:]
}

// ID returns the public name of t: eight hexadecimal digits of its hash.
func (t Token) ID() string { return hex.EncodeToString(t.Hash()[:4]) }

// LooksLikeToken reports whether a secret is meant to be a token and not a password.
func LooksLikeToken(secret string) bool { return strings.HasPrefix(secret, tokenPrefix) }

// ParseToken parses the text of a token. It returns ErrDenied, without the text, if it is
// none.
func ParseToken(text string) (t Token, err error) {
	encoded, ok := strings.CutPrefix(text, tokenPrefix)
	raw, err := encoding.DecodeString(encoded)
	if !ok || err != nil || len(raw) != len(t)+4 || encoding.EncodeToString(raw) != encoded {
		return Token{}, ErrDenied
	}
	copy(t[:], raw)
	if binary.BigEndian.Uint32(raw[len(t):]) != crc32.ChecksumIEEE(t[:]) {
		return Token{}, ErrDenied
	}
	return t, nil
}

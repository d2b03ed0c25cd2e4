package deliver

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// secretPrefix begins the text of every secret, as in the Standard Webhooks specification.
const secretPrefix = "whsec_"

// secretSize is the number of bytes of a secret: 32. The specification asks for 24 to 64.
const secretSize = 32

// A Secret signs deliveries. The receiver has it too.
type Secret struct{ key []byte }

// NewSecret returns a new random secret.
func NewSecret() Secret {
	key := make([]byte, secretSize)
	_, _ = rand.Read(key) // never fails
	return Secret{key}
}

// ParseSecret parses the text of a secret. Its error does not quote it.
func ParseSecret(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return Secret{}, errors.New("not the secret of a webhook: whsec_ and 24 to 64 bytes in base64")
	}
	return Secret{key}, nil
}

// Text returns the secret as the libraries of receivers read it.
func (s Secret) Text() string { return secretPrefix + base64.StdEncoding.EncodeToString(s.key) }

// String keeps the secret out of logs.
func (s Secret) String() string { return secretPrefix + "…" }

// GoString keeps the secret out of logs.
func (s Secret) GoString() string { return s.String() }

// LogValue keeps the secret out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Sign returns the signature of a message, in the form of the field webhook-signature.
func (s Secret) Sign(id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// A Box encrypts secrets for the database. Who reads the database, or a dump of it, cannot sign
// without the key, which is in the configuration.
type Box struct{ aead cipher.AEAD }

// boxed says what is encrypted: nothing that is encrypted for another purpose can be put in its
// place.
const boxed = "portbook webhook secret"

// NewBox returns the box of a key, the value of webhooks.key.
func NewBox(key string) (*Box, error) {
	derived, err := hkdf.Key(sha256.New, []byte(key), nil, boxed, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &Box{aead}, err
}

// Seal encrypts a secret.
func (b *Box) Seal(s Secret) []byte { return b.aead.Seal(nil, nil, s.key, []byte(boxed)) }

// errSealed is the error of a secret that was sealed with another key.
var errSealed = errors.New("sealed with another key")

// Open decrypts a secret.
func (b *Box) Open(sealed []byte) (Secret, error) {
	key, err := b.aead.Open(nil, nil, sealed, []byte(boxed))
	if err != nil {
		return Secret{}, errSealed
	}
	return Secret{key}, nil
}

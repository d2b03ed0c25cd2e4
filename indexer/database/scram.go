package database

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// PasswordLimit is the maximum length of a password in bytes. libpq's tools do not read
// longer ones.
const PasswordLimit = 1 << 10

// scramIterations is PostgreSQL's default (scram_iterations, section 20.3 of its
// manual).
const scramIterations = 4096

// scramVerifier returns the verifier that PostgreSQL stores for a password (RFC 5803).
// PostgreSQL accepts a verifier in place of the password.
func scramVerifier(password string) (string, error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	salt := make([]byte, 16) // the length that PostgreSQL uses
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s",
		scramIterations, encode(salt), encode(stored[:]), encode(mac("Server Key"))), nil
}

// checkPassword refuses passwords that SASLprep (RFC 4013) changes, since not all
// clients apply it.
func checkPassword(password string) error {
	switch {
	case password == "":
		return errors.New("the password is empty: pass it as one line on standard input")
	case len(password) > PasswordLimit:
		return fmt.Errorf("the password is longer than %d bytes", PasswordLimit)
	case !utf8.ValidString(password):
		return errors.New("the password is not UTF-8")
	case !norm.NFKC.IsNormalString(password) || strings.ContainsFunc(password, dropped):
		return errors.New("the password has a character that clients encode differently, such as a control" +
			" character, a special space or a ligature: choose another password")
	}
	return nil
}

// dropped reports whether SASLprep removes, changes or forbids a character in normal
// form: control and format characters, spaces other than U+0020, and the variation
// selectors of its table B.1.
func dropped(r rune) bool {
	return !unicode.IsGraphic(r) || r != ' ' && unicode.IsSpace(r) || unicode.Is(unicode.Zs, r) && r != ' ' ||
		unicode.Is(unicode.Variation_Selector, r) || r == '\u034f' || r == '\u1806'
}

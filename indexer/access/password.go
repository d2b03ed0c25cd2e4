package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/portbook/portbook/indexer"
)

// The cost of a password's hash, as OWASP recommends for argon2id (Password Storage Cheat
// Sheet, 2024): 19 MiB, two passes, one thread; some 30 ms.
const (
	hashMemory = 19 << 10 // KiB
	hashTime   = 2
	hashBytes  = 32
	saltBytes  = 16
)

// A password has 10 to 256 bytes: shorter ones are guessed, and longer ones only cost time.
const (
	minPassword = 10
	maxPassword = 256
)

// hashing limits how many passwords are hashed at once, because each takes 19 MiB and a
// processor: half of the processors, so that the others can read.
var hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// hashingTime limits how long a password waits to be hashed: 5 s.
const hashingTime = 5 * time.Second

// HashPassword returns what is stored of a password, in the PHC format of argon2. It returns
// ErrInvalid if the password is too short or too long.
func HashPassword(ctx context.Context, password string) (string, error) {
	if len(password) < minPassword || len(password) > maxPassword {
		return "", indexer.Invalid("the password has %d bytes: choose one of %d to %d",
			len(password), minPassword, maxPassword)
	}
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	hash, err := argon(ctx, password, salt)
	if err != nil {
		return "", err
	}
	return phc(salt, hash), nil
}

// phc writes a hash in the PHC format.
func phc(salt, hash []byte) string {
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s",
		argon2.Version, hashMemory, hashTime, encode(salt), encode(hash))
}

// unknown is the hash of no password. Passwords for unknown accounts are compared with it, so
// that they take as long as those for known ones.
var unknown = phc(make([]byte, saltBytes), nil)

// checkPassword returns ErrDenied unless the hash is of the password.
func checkPassword(ctx context.Context, hash, password string) error {
	if hash == "" {
		hash = unknown
	}
	var version, memory, passes int
	parts := strings.Split(hash, "$")
	if len(parts) != 6 {
		return fmt.Errorf("the stored hash of a password has %d parts, not 6", len(parts))
	}
	_, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=1", &version, &memory, &passes)
	if err != nil || parts[1] != "argon2id" || version != argon2.Version || memory != hashMemory || passes != hashTime {
		return fmt.Errorf("the stored hash of a password is of another kind: %.40s", strings.Join(parts[1:4], "$"))
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return fmt.Errorf("the salt of a stored password: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		return fmt.Errorf("the hash of a stored password: %w", err)
	}
	if len(password) > maxPassword {
		return ErrDenied
	}
	got, err := argon(ctx, password, salt)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return ErrDenied
	}
	return nil
}

// argon hashes a password when its turn comes.
func argon(ctx context.Context, password string, salt []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, hashingTime)
	defer cancel()
	select {
	case hashing <- struct{}{}:
		defer func() { <-hashing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("too many passwords wait to be checked: %w", indexer.ErrUnavailable)
	}
	return argon2.IDKey([]byte(password), salt, hashTime, hashMemory, 1, hashBytes), nil
}

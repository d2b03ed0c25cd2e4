package access_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
)

// write writes keys to the file of a path.
func write(t *testing.T, path string, keys access.Keys) {
	t.Helper()
	if err := os.WriteFile(path, keys.Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A rotation goes from one key to another in three steps. Tokens that a key signed are valid
// as long as the key is trusted.
func TestRotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	keys, step := access.Keys{}.Rotate()
	if step != access.KeyMade {
		t.Fatalf("the first step is %d", step)
	}
	var tokens []string
	now := time.Now()
	for i, want := range []struct {
		step  access.RotationStep
		valid []bool // the tokens of before, and then a new one
	}{
		{access.KeyMade, []bool{true}},
		{access.KeyAdded, []bool{true, true}},
		{access.KeySigns, []bool{true, true, true}},
		{access.KeyRemoved, []bool{false, false, true, true}},
	} {
		if i > 0 {
			keys, step = keys.Rotate()
		}
		if step != want.step {
			t.Errorf("step %d is %d", i, step)
		}
		write(t, path, keys)
		s, err := access.NewSigner(path, "portbook", "registry")
		if err != nil {
			t.Fatal(err)
		}
		token, err := s.ForRegistry("alice", nil, now)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
		for n, token := range tokens {
			if _, _, err := s.Registry(token, now); (err == nil) != want.valid[n] {
				t.Errorf("step %d: token %d: %v", i, n, err)
			}
		}
		if strings.Contains(string(keys.Public()), `"d"`) {
			t.Errorf("step %d: the public keys have a private part", i)
		}
	}
}

// A signer takes new keys from its file while it runs, and keeps the old ones while the file
// is broken.
func TestSignerReloads(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	keys, _ := access.Keys{}.Rotate()
	write(t, path, keys)
	s, err := access.NewSigner(path, "portbook", "registry")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	old, err := s.ForRegistry("alice", nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Registry(old, now.Add(2*time.Second)); err != nil {
		t.Errorf("with a broken file: %v", err)
	}
	other, _ := access.Keys{}.Rotate()
	write(t, path, other)
	if _, _, err := s.Registry(old, now.Add(4*time.Second)); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a token of a key that is gone: %v", err)
	}
}

// No token but our own for the same audience, and within its time, is accepted.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	keys, _ := access.Keys{}.Rotate()
	write(t, path, keys)
	signer := func(issuer, service string, k access.Keys) *access.Signer {
		path := filepath.Join(t.TempDir(), "keys.json")
		write(t, path, k)
		s, err := access.NewSigner(path, issuer, service)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	now := time.Now()
	s := signer("portbook", "registry", keys)
	good, err := s.ForRegistry("alice", nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if actor, _, err := s.Registry(good, now); actor != "alice" || err != nil {
		t.Fatalf("our own token: %q, %v", actor, err)
	}
	strangers, _ := access.Keys{}.Rotate()
	strangers.Keys[0].KeyID, strangers.Signs = keys.Signs, keys.Signs // the same kid
	part := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	header := func(alg string) string {
		raw, _ := json.Marshal(map[string]string{"alg": alg, "typ": "JWT", "kid": keys.Signs})
		return encode(raw)
	}
	public := keys.Keys[0].Public().Key.(ed25519.PublicKey)
	mac := hmac.New(sha256.New, public)
	mac.Write([]byte(header("HS256") + "." + part[1]))
	admin := encode(bytes.Replace(decode(t, part[1]), []byte("alice"), []byte("admin"), 1))
	of := func(s *access.Signer, at time.Time) string {
		token, err := s.ForRegistry("alice", nil, at)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	refresh, err := s.ForRefresh("alice", now, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for what, token := range map[string]string{
		"no token":                   "",
		"text":                       "a.b.c",
		"algorithm none":             header("none") + "." + part[1] + ".",
		"HMAC with our public key":   header("HS256") + "." + part[1] + "." + encode(mac.Sum(nil)),
		"another subject":            part[0] + "." + admin + "." + part[2],
		"another's key":              of(signer("portbook", "registry", strangers), now),
		"another audience":           of(signer("portbook", "other", keys), now),
		"another issuer":             of(signer("other", "registry", keys), now),
		"expired":                    of(s, now.Add(-access.RegistryTokenLife-2*time.Minute)),
		"of the future":              of(s, now.Add(10*time.Minute)),
		"a refresh token":            refresh,
		"without its signature":      part[0] + "." + part[1] + ".",
		"with another's signature":   part[0] + "." + part[1] + "." + strings.Split(of(signer("portbook", "registry", strangers), now), ".")[2],
		"as JSON with an empty list": `{"payload":"` + part[1] + `","signatures":[]}`,
	} {
		if actor, _, err := s.Registry(token, now); !errors.Is(err, access.ErrDenied) || actor != "" {
			t.Errorf("%s: got the actor %q and %v", what, actor, err)
		}
	}
	if _, _, err := s.Refresh(good, now); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a token for the registry as a refresh token: %v", err)
	}
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A file of keys that cannot be used is refused with a remedy and without its content.
func TestParseKeys(t *testing.T) {
	t.Parallel()
	keys, _ := access.Keys{}.Rotate()
	good := string(keys.Marshal())
	secret := base64.RawURLEncoding.EncodeToString(keys.Keys[0].Key.(ed25519.PrivateKey).Seed())
	for what, raw := range map[string]string{
		"empty": "", "no keys": `{"keys":[]}`, "cut": good[:len(good)/2],
		"no such kid": strings.Replace(good, keys.Signs, "other", 1),
		"public":      string(keys.Public()),
		"twice":       strings.Replace(good, `"keys": [`, `"keys": [`+good[strings.Index(good, "[")+1:strings.Index(good, "]")]+",", 1),
	} {
		_, err := access.ParseKeys([]byte(raw))
		if err == nil || !strings.Contains(err.Error(), "portbook keys rotate") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := access.ParseKeys([]byte(good)); err != nil {
		t.Error(err)
	}
}

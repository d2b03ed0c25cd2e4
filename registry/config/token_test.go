//go:build unix

package config_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/registrytest"
)

func TestToken(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	jwks := filepath.Join(t.TempDir(), "jwks.json")
	write(t, jwks, marshal(t, map[string]any{"keys": []any{map[string]any{
		"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "test",
		"x": base64.RawURLEncoding.EncodeToString(public),
	}}}))
	receiver := registrytest.NewReceiver(t)
	p := start(t, receiver, "token.yml", "REGISTRY_AUTH_TOKEN_JWKS="+jwks)

	wantStatus(t, http.StatusUnauthorized, pushErr(t, p.Push))
	p.Push.Token = sign(t, private, claims("elsewhere"))
	wantStatus(t, http.StatusUnauthorized, pushErr(t, p.Push))
	p.Push.Token = sign(t, private, claims("registry"))
	if e := checkPush(t, p.Push, receiver); e.Actor.Name != "pusher" {
		t.Errorf("got actor %q, want pusher", e.Actor.Name)
	}
}

// claims returns the claims of a token to pull from and push to the repository.
func claims(service string) map[string]any {
	return map[string]any{
		"iss": "portbook", "aud": service, "sub": "pusher",
		"exp": time.Now().Add(time.Hour).Unix(),
		"access": []any{map[string]any{
			"type": "repository", "name": repository, "actions": []string{"pull", "push"},
		}},
	}
}

// sign returns a JSON Web Token (RFC 7519) signed with EdDSA (RFC 8037).
func sign(t *testing.T, key ed25519.PrivateKey, claims map[string]any) string {
	t.Helper()
	header := map[string]any{"alg": "EdDSA", "typ": "JWT", "kid": "test"}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode(marshal(t, header)) + "." + encode(marshal(t, claims))
	return text + "." + encode(ed25519.Sign(key, []byte(text)))
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

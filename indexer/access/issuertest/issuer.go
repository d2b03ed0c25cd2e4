// Package issuertest has an issuer of tokens (OpenID Connect) for tests. It signs with the
// standard library alone, so that a mistake in the library that verifies tokens is seen.
package issuertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An Issuer publishes keys over HTTP, and signs tokens.
type Issuer struct {
	URL    string
	Asked  atomic.Int64 // how many times the keys were read
	Server *httptest.Server
	// Answer, if it is not nil, answers requests instead.
	Answer atomic.Pointer[http.HandlerFunc]

	t    *testing.T
	mu   sync.Mutex
	keys []Key // that are published
}

// A Key signs tokens.
type Key struct {
	ID        string
	Signer    crypto.Signer // *rsa.PrivateKey, which signs by RS256, or *ecdsa.PrivateKey, by ES256
	Published string        // the algorithm that is published with the key; "": none
}

// New starts an issuer without keys. It stops with the test.
func New(t *testing.T) *Issuer {
	t.Helper()
	i := &Issuer{t: t}
	i.Server = httptest.NewServer(http.HandlerFunc(i.serve))
	i.URL = i.Server.URL
	t.Cleanup(i.Server.Close)
	return i
}

// Publish replaces the keys that the issuer publishes.
func (i *Issuer) Publish(keys ...Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	if f := i.Answer.Load(); f != nil {
		(*f)(w, r)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	case "/keys":
		i.Asked.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		set := []any{map[string]any{"kty": "of another century", "kid": "strange"}}
		for _, k := range i.keys {
			set = append(set, k.public())
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": set})
	default:
		http.NotFound(w, r)
	}
}

// NewRSA returns a new RSA key.
func NewRSA(t *testing.T, id string, bits int) Key {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return Key{ID: id, Signer: private}
}

// NewEC returns a new key of an elliptic curve.
func NewEC(t *testing.T, id string) Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Key{ID: id, Signer: private}
}

// Claims returns the claims of a token that is valid for five minutes, with some changed.
func (i *Issuer) Claims(change map[string]any) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": i.URL, "aud": "registry.example", "sub": "repo:acme/app:ref:refs/heads/main",
		"iat": now, "nbf": now - 600, "exp": now + 300,
		"repository": "acme/app", "repository_id": "123456", "ref": "refs/heads/main",
		"run_attempt": 1, "private": true, "groups": []any{"dev", "ops"},
	}
	maps.Copy(claims, change)
	return claims
}

// Sign returns a token.
func (k Key) Sign(claims map[string]any) string {
	switch private := k.Signer.(type) {
	case *rsa.PrivateKey:
		return join(map[string]any{"alg": "RS256", "kid": k.ID, "typ": "JWT"}, claims, func(sum []byte) []byte {
			return must(rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum))
		})
	case *ecdsa.PrivateKey:
		return join(map[string]any{"alg": "ES256", "kid": k.ID, "typ": "JWT"}, claims, func(sum []byte) []byte {
			r, s, err := ecdsa.Sign(rand.Reader, private, sum)
			if err != nil {
				panic(err)
			}
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		})
	}
	panic(fmt.Sprintf("a key of type %T", k.Signer))
}

// Unsigned returns a token with the algorithm none.
func Unsigned(claims map[string]any) string {
	return join(map[string]any{"alg": "none", "typ": "JWT"}, claims, func([]byte) []byte { return nil })
}

// Secret returns a token that is signed by HS256 with a secret, which may be a public key.
func Secret(id string, secret []byte, claims map[string]any) string {
	header := map[string]any{"alg": "HS256", "kid": id, "typ": "JWT"}
	signed := encode(must(json.Marshal(header))) + "." + encode(must(json.Marshal(claims)))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

// join writes a token, of which sign signs the hash.
func join(header, claims map[string]any, sign func([]byte) []byte) string {
	signed := encode(must(json.Marshal(header))) + "." + encode(must(json.Marshal(claims)))
	sum := sha256.Sum256([]byte(signed))
	return signed + "." + encode(sign(sum[:]))
}

// public returns the public half of k as a JSON Web Key.
func (k Key) public() map[string]any {
	jwk := map[string]any{"kid": k.ID, "use": "sig"}
	if k.Published != "" {
		jwk["alg"] = k.Published
	}
	switch public := k.Signer.Public().(type) {
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point := must(public.Bytes()) // 4, x, y
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", "P-256", encode(point[1:33]), encode(point[33:])
	}
	return jwk
}

func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

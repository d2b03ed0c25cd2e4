package access

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/portbook/portbook/indexer"
)

// Keys are the keys that sign tokens for the registry. One of them signs; the registry trusts
// them all, so that one can take over from another.
type Keys struct {
	// Signs is the id of the key that signs.
	Signs string `json:"signs"`
	// Keys are private Ed25519 keys, the oldest first.
	Keys []jose.JSONWebKey `json:"keys"`
}

// ParseKeys parses the result of Marshal. Its errors quote no key.
func ParseKeys(raw []byte) (Keys, error) {
	const remedy = "write the file with `portbook keys rotate`"
	var k Keys
	if err := json.Unmarshal(raw, &k); err != nil {
		return k, indexer.Invalid("it is not a set of JSON Web Keys: " + remedy)
	}
	seen := map[string]bool{}
	for i, key := range k.Keys {
		if private, ok := key.Key.(ed25519.PrivateKey); !ok || len(private) != ed25519.PrivateKeySize {
			return k, indexer.Invalid("key %d is not a private Ed25519 key: "+remedy, i+1)
		}
		if key.KeyID == "" || seen[key.KeyID] {
			return k, indexer.Invalid("key %d has no kid of its own: "+remedy, i+1)
		}
		seen[key.KeyID] = true
	}
	if !seen[k.Signs] {
		return k, indexer.Invalid("no key has the kid %.64q, which is to sign: "+remedy, k.Signs)
	}
	return k, nil
}

// Marshal returns k as JSON, a JSON Web Key Set (RFC 7517) with the member "signs".
func (k Keys) Marshal() []byte { return marshal(k) }

// Public returns the public keys as a JSON Web Key Set, for the registry.
func (k Keys) Public() []byte {
	var public jose.JSONWebKeySet
	for _, key := range k.Keys {
		public.Keys = append(public.Keys, key.Public())
	}
	return marshal(public)
}

func marshal(v any) []byte {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // cannot happen: they are Ed25519 keys
	}
	return append(raw, '\n')
}

// A RotationStep is a step by which a new key takes over from an old one.
type RotationStep int

// The steps, in their order. After each, something must happen before the next one.
const (
	KeyMade    RotationStep = iota // the first key of all: give the public keys to the registry
	KeyAdded                       // a second key is trusted: give the public keys to the registry
	KeySigns                       // the second key signs: wait until tokens of the first have expired
	KeyRemoved                     // the first key is gone: give the public keys to the registry
)

// Rotate takes the next step of a rotation: it begins and ends with one key, if k has any.
func (k Keys) Rotate() (Keys, RotationStep) {
	switch n := len(k.Keys); {
	case n == 0:
		key := newKey()
		return Keys{key.KeyID, []jose.JSONWebKey{key}}, KeyMade
	case n == 1:
		return Keys{k.Signs, append(slices.Clone(k.Keys), newKey())}, KeyAdded
	case k.Signs != k.Keys[n-1].KeyID:
		return Keys{k.Keys[n-1].KeyID, k.Keys}, KeySigns
	default:
		return Keys{k.Signs, k.Keys[n-1:]}, KeyRemoved
	}
}

func newKey() jose.JSONWebKey {
	_, private, _ := ed25519.GenerateKey(nil) // never fails
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	name := "portbook-" + hex.EncodeToString(id)
	return jose.JSONWebKey{Key: private, KeyID: name, Algorithm: string(jose.EdDSA), Use: "sig"}
}

// signing returns the key that signs.
func (k Keys) signing() jose.JSONWebKey {
	i := slices.IndexFunc(k.Keys, func(key jose.JSONWebKey) bool { return key.KeyID == k.Signs })
	return k.Keys[i] // ParseKeys and Rotate see to it that there is one
}

package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portbook/portbook/indexer"
)

const (
	// keysAge is how long the keys of an issuer are used without asking it again: 10 min. So a
	// key that it withdraws is trusted for that long.
	keysAge = 10 * time.Minute
	// keysMostAge is how long they are used if it does not answer: 24 h.
	keysMostAge = 24 * time.Hour
	// askPause is the least time between two questions to one issuer: 10 s, whatever keys are
	// named in the tokens that arrive.
	askPause = 10 * time.Second
	// askTime limits one question, which is two requests: 5 s.
	askTime = 5 * time.Second
	// maxAnswer limits an answer of an issuer: 256 KiB. GitHub's keys have 10 KB.
	maxAnswer = 256 << 10
	// maxKeys is the maximum number of keys of an issuer: 64. GitHub has some 6.
	maxKeys = 64
	// maxIssuers is the maximum number of issuers whose keys are remembered: 500, which takes at
	// most 20 MB, and usually 1 MB.
	maxIssuers = 500
	// minRSA and maxRSA limit keys: 2048 to 8192 bits. Shorter ones are not safe, and longer
	// ones take milliseconds for each token.
	minRSA, maxRSA = 2048, 8192
)

// issuers has the keys of issuers of tokens. It is safe for concurrent use.
type issuers struct {
	client *http.Client
	now    func() time.Time

	mu  sync.Mutex
	all map[string]*issuer // by URL
}

func newIssuers() *issuers {
	return &issuers{
		client: &http.Client{CheckRedirect: sameHost}, now: time.Now, all: map[string]*issuer{},
	}
}

// sameHost refuses redirects to another host, and more than three.
func sameHost(r *http.Request, via []*http.Request) error {
	if first := via[0].URL; r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || len(via) > 3 {
		return errors.New("a redirect to another host, or too many")
	}
	return nil
}

// of returns the issuer of a URL. If there are too many it forgets the one that was used least
// recently.
func (s *issuers) of(address string) *issuer {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.all[address]
	if i == nil {
		if len(s.all) >= maxIssuers {
			delete(s.all, s.oldest())
		}
		i = &issuer{url: address, client: s.client, now: s.now, asking: make(chan struct{}, 1)}
		i.latest.Store(&answer{})
		s.all[address] = i
	}
	i.used = s.now()
	return i
}

// oldest returns the URL of the issuer that was used least recently.
func (s *issuers) oldest() (address string) {
	for other, i := range s.all {
		if address == "" || i.used.Before(s.all[address].used) {
			address = other
		}
	}
	return address
}

// An issuer signs tokens, and publishes its keys (OpenID Connect Discovery 1.0).
type issuer struct {
	url    string
	client *http.Client
	now    func() time.Time
	used   time.Time     // guarded by issuers.mu
	asking chan struct{} // a lock: one caller at a time asks
	latest atomic.Pointer[answer]
}

// An answer is what is known of an issuer's keys.
type answer struct {
	keys  []jose.JSONWebKey
	at    time.Time // when the keys were read; zero: never
	asked time.Time // when it was asked last
	err   error     // why it did not answer then
}

// named returns the keys with an id.
func (a *answer) named(id string) (found []jose.JSONWebKey) {
	for _, k := range a.keys {
		if k.KeyID == id {
			found = append(found, k)
		}
	}
	return found
}

// keysNamed returns the keys with an id. It returns ErrDenied if there are none, and
// indexer.ErrUnavailable if that cannot be found out because the issuer does not answer. It asks
// the issuer for its keys if they are old, or do not include the id, though not within askPause.
func (i *issuer) keysNamed(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	latest := i.latest.Load()
	found := latest.named(id)
	if len(found) > 0 && i.now().Sub(latest.at) < keysAge || i.now().Sub(latest.asked) < askPause {
		return i.choose(latest, id)
	}
	select {
	case i.asking <- struct{}{}:
	default:
		if len(found) > 0 && i.now().Sub(latest.at) < keysMostAge {
			return found, nil // while another caller asks
		}
		select {
		case i.asking <- struct{}{}:
		case <-ctx.Done():
			return nil, i.unavailable(ctx.Err())
		}
	}
	defer func() { <-i.asking }()
	latest = i.latest.Load() // another caller may have asked
	if i.now().Sub(latest.asked) >= askPause {
		latest = i.ask(ctx, latest)
		i.latest.Store(latest)
	}
	return i.choose(latest, id)
}

// choose returns the keys with an id in an answer.
func (i *issuer) choose(a *answer, id string) ([]jose.JSONWebKey, error) {
	if found := a.named(id); len(found) > 0 && i.now().Sub(a.at) < keysMostAge {
		return found, nil
	}
	if a.err != nil {
		return nil, i.unavailable(a.err)
	}
	return nil, fmt.Errorf("its issuer has no key %.64q: %w", id, ErrDenied)
}

func (i *issuer) unavailable(err error) error {
	return &indexer.Fault{
		Reason: "the issuer of the token does not answer",
		Err:    fmt.Errorf("keys of the issuer %s: %w: %w", i.url, err, indexer.ErrUnavailable),
	}
}

// ask asks the issuer for its keys, for all who wait for them, even if the caller goes away. If
// it fails, the keys of before stay.
func (i *issuer) ask(ctx context.Context, before *answer) *answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	begin := i.now()
	keys, err := i.fetch(ctx)
	if err != nil {
		return &answer{keys: before.keys, at: before.at, asked: begin, err: err}
	}
	return &answer{keys: keys, at: begin, asked: begin}
}

// fetch asks the issuer where its keys are, and reads them.
func (i *issuer) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	var configuration struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	err := i.read(ctx, strings.TrimSuffix(i.url, "/")+"/.well-known/openid-configuration", &configuration)
	if err != nil {
		return nil, err
	}
	if configuration.Issuer != i.url {
		return nil, fmt.Errorf("its configuration is of another issuer: %.64q", configuration.Issuer)
	}
	u, err := url.Parse(configuration.Keys)
	if err != nil || !isSafe(u) || u.Scheme == "http" && !strings.HasPrefix(i.url, "http:") {
		return nil, fmt.Errorf("its jwks_uri is not an https URL: %.64q", configuration.Keys)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := i.read(ctx, configuration.Keys, &set); err != nil {
		return nil, err
	}
	return keysOf(set.Keys)
}

// read reads an answer of the issuer, which is JSON.
func (i *issuer) read(ctx context.Context, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := i.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d", address, resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("GET %s: %w", address, err)
	case len(raw) > maxAnswer:
		return fmt.Errorf("GET %s: more than %d bytes", address, maxAnswer)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("GET %s: %w", address, err)
	}
	return nil
}

// keysOf returns those keys of a set that can verify tokens. Others are left out: an issuer may
// have keys of kinds that we do not know.
func keysOf(set []json.RawMessage) (keys []jose.JSONWebKey, err error) {
	if len(set) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, and at most %d are read", len(set), maxKeys)
	}
	for _, raw := range set {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && verifies(k) {
			keys = append(keys, jose.JSONWebKey{Key: k.Key, KeyID: k.KeyID, Algorithm: k.Algorithm})
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("none of its %d keys is a public key with a kid, to verify signatures", len(set))
	}
	return keys, nil
}

// verifies reports whether a key is a public one with an id that verifies signatures.
func verifies(k jose.JSONWebKey) bool {
	if k.KeyID == "" || k.Use != "" && k.Use != "sig" {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		return bits >= minRSA && bits <= maxRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access/issuertest"
)

// A clock is the time of issuers in a test.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }
func (c *clock) issuers() *issuers    { s := newIssuers(); s.now = c.now; return s }

// lasting returns the claims of a token that does not expire during a test.
func lasting(i *issuertest.Issuer) map[string]any { return i.Claims(map[string]any{"exp": 1 << 40}) }

// outcome verifies a token and returns what came of it in a word.
func outcome(ctx context.Context, s *issuers, token string) string {
	parsed, issuer, err := parseJWT(token)
	if err == nil {
		_, err = s.verify(ctx, issuer, parsed)
	}
	switch {
	case err == nil:
		return "right"
	case errors.Is(err, ErrDenied):
		return "denied"
	case errors.Is(err, indexer.ErrUnavailable):
		return "unavailable"
	}
	return err.Error()
}

// An issuer replaces its keys: a new one is accepted at most askPause later, and one that it
// has withdrawn is refused at most keysAge later.
func TestIssuerRotates(t *testing.T) {
	t.Parallel()
	issuer, c := issuertest.New(t), &clock{}
	s := c.issuers()
	a, b := issuertest.NewRSA(t, "a", 2048), issuertest.NewEC(t, "b")
	claims := lasting(issuer)
	for _, step := range []struct {
		pass      time.Duration
		published []issuertest.Key
		a, b      string
	}{
		{0, []issuertest.Key{a}, "right", "denied"},
		{time.Second, []issuertest.Key{a, b}, "right", "denied"},
		{askPause, []issuertest.Key{a, b}, "right", "right"},
		{time.Second, []issuertest.Key{b}, "right", "right"},
		{keysAge - 2*time.Second, []issuertest.Key{b}, "right", "right"},
		{2 * time.Second, []issuertest.Key{b}, "denied", "right"},
		{keysAge, nil, "unavailable", "right"}, // an answer without keys is none
		{keysMostAge, nil, "unavailable", "unavailable"},
		{askPause, []issuertest.Key{a, b}, "right", "right"},
	} {
		c.pass(step.pass)
		issuer.Publish(step.published...)
		if got := outcome(t.Context(), s, a.Sign(claims)); got != step.a {
			t.Errorf("%+v: the token of a is %s", step, got)
		}
		if got := outcome(t.Context(), s, b.Sign(claims)); got != step.b {
			t.Errorf("%+v: the token of b is %s", step, got)
		}
	}
}

// However many tokens name keys that do not exist, and however many arrive at once, the issuer
// is asked once in askPause.
func TestIssuerIsAskedRarely(t *testing.T) {
	t.Parallel()
	issuer, c := issuertest.New(t), &clock{}
	s := c.issuers()
	key := issuertest.NewEC(t, "a")
	issuer.Publish(key)
	for round := range 3 {
		var all sync.WaitGroup
		for n := range 100 {
			all.Go(func() {
				forged := key
				forged.ID = fmt.Sprint(round, n)
				if got := outcome(t.Context(), s, forged.Sign(lasting(issuer))); got != "denied" {
					t.Errorf("a token of an unknown key is %s", got)
				}
				if got := outcome(t.Context(), s, key.Sign(lasting(issuer))); got != "right" {
					t.Errorf("a right token is %s", got)
				}
			})
		}
		all.Wait()
		if n := issuer.Asked.Load(); n != int64(round+1) {
			t.Errorf("after %d pauses the issuer was asked %d times", round, n)
		}
		c.pass(askPause)
	}
}

// While the issuer is away, its keys are used for keysMostAge; tokens of keys that are not
// known are neither right nor wrong, and it is not asked for each of them.
func TestIssuerAway(t *testing.T) {
	t.Parallel()
	issuer, c := issuertest.New(t), &clock{}
	s := c.issuers()
	key, other := issuertest.NewEC(t, "a"), issuertest.NewEC(t, "b")
	issuer.Publish(key)
	if got := outcome(t.Context(), s, key.Sign(lasting(issuer))); got != "right" {
		t.Fatalf("the token is %s", got)
	}
	var asked atomic.Int64
	away := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "away", http.StatusBadGateway)
	})
	issuer.Answer.Store(&away)
	for _, step := range []struct {
		pass     time.Duration
		key, new string
	}{
		{askPause, "right", "unavailable"}, {keysAge, "right", "unavailable"},
		{keysMostAge - keysAge - 2*askPause, "right", "unavailable"}, {2 * askPause, "unavailable", "unavailable"},
	} {
		c.pass(step.pass)
		asked.Store(0)
		for range 20 {
			if got := outcome(t.Context(), s, key.Sign(lasting(issuer))); got != step.key {
				t.Errorf("%+v: a token of the known key is %s", step, got)
			}
			if got := outcome(t.Context(), s, other.Sign(lasting(issuer))); got != step.new {
				t.Errorf("%+v: a token of another key is %s", step, got)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%+v: the issuer was asked %d times", step, n)
		}
	}
}

// An issuer that answers something else than its keys is away. It cannot lead us to another
// host, and not to one without TLS; nor make us read without end.
func TestIssuerMisbehaves(t *testing.T) {
	t.Parallel()
	key := issuertest.NewEC(t, "a")
	var led atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { led.Add(1) }))
	t.Cleanup(elsewhere.Close)
	configuration := func(issuer, keys string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "openid-configuration") {
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, keys)
				return
			}
			for spaces := []byte(strings.Repeat(" ", 64<<10)); ; { // without end
				if _, err := w.Write(spaces); err != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		answer func(i *issuertest.Issuer) http.HandlerFunc
		says   string
	}{
		"a redirect": {func(*issuertest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
			}
		}, "redirect to another host"},
		"a loop": {func(*issuertest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.Path, http.StatusFound)
			}
		}, "or too many"},
		"another issuer": {func(i *issuertest.Issuer) http.HandlerFunc {
			return configuration(i.URL+"/", i.URL+"/keys")
		}, "of another issuer"},
		"keys without TLS": {func(i *issuertest.Issuer) http.HandlerFunc {
			return configuration(i.URL, "http://192.0.2.1/keys")
		}, "not an https URL"},
		"keys in a file": {func(i *issuertest.Issuer) http.HandlerFunc {
			return configuration(i.URL, "file:///etc/passwd")
		}, "not an https URL"},
		"too much": {func(i *issuertest.Issuer) http.HandlerFunc {
			return configuration(i.URL, i.URL+"/keys")
		}, "more than 262144 bytes"},
		"no JSON": {func(*issuertest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }
		}, "invalid character"},
		"no end": {func(*issuertest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		}, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			issuer := issuertest.New(t)
			answer := c.answer(issuer)
			issuer.Answer.Store(&answer)
			s := newIssuers()
			if got := outcome(t.Context(), s, key.Sign(lasting(issuer))); got != "unavailable" {
				t.Errorf("the token is %s", got)
			}
			if err := s.of(issuer.URL).latest.Load().err; err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error with %q", err, c.says)
			}
			if led.Load() > 0 {
				t.Error("another host was asked")
			}
		})
	}
}

// Keys that cannot sign, or that are too short or too long, are not used.
func TestKeysOfIssuer(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]struct {
		raw  string
		want bool
	}{
		"secret":     {`{"kty":"oct","kid":"a","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, false},
		"encryption": {`{"kty":"OKP","crv":"Ed25519","kid":"a","use":"enc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, false},
		"without id": {`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, false},
		"right":      {`{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, true},
		"short":      {`{"kty":"RSA","kid":"a","e":"AQAB","n":"` + strings.Repeat("_", 4*43) + `"}`, false},
		"long":       {`{"kty":"RSA","kid":"a","e":"AQAB","n":"` + strings.Repeat("_", 4*400) + `"}`, false},
		"RSA":        {`{"kty":"RSA","kid":"a","e":"AQAB","n":"` + strings.Repeat("_", 4*86) + `"}`, true},
	} {
		if keys, err := keysOf([]json.RawMessage{json.RawMessage(key.raw)}); (err == nil) != key.want || len(keys) > 0 != key.want {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
	if _, err := keysOf(make([]json.RawMessage, maxKeys+1)); err == nil || !strings.Contains(err.Error(), "65 keys") {
		t.Errorf("too many keys: %v", err)
	}
}

// The keys of at most maxIssuers are remembered.
func TestManyIssuers(t *testing.T) {
	t.Parallel()
	c := &clock{}
	s := c.issuers()
	for n := range maxIssuers + 50 {
		c.pass(time.Millisecond)
		s.of("https://first.example")
		s.of(fmt.Sprintf("https://%d.example", n))
	}
	if s.all["https://first.example"] == nil || s.all["https://0.example"] != nil || len(s.all) != maxIssuers {
		t.Errorf("%d issuers are remembered, or the wrong ones", len(s.all))
	}
}

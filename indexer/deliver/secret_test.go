package deliver_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/portbook/portbook/indexer/deliver"
)

// The example of the Standard Webhooks specification and of the libraries of its receivers.
func TestSignatureOfTheSpecification(t *testing.T) {
	t.Parallel()
	secret, err := deliver.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	got := secret.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A library of receivers accepts what is signed with each of two secrets, and nothing that was
// changed.
func TestSignatureIsAccepted(t *testing.T) {
	t.Parallel()
	now, old, other := deliver.NewSecret(), deliver.NewSecret(), deliver.NewSecret()
	body := []byte(`{"id":"1"}`)
	at := time.Now()
	headers := http.Header{
		"Webhook-Id": {"e1"}, "Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
		"Webhook-Signature": {now.Sign("e1", at, body) + " " + old.Sign("e1", at, body)},
	}
	verify := func(s deliver.Secret, body []byte) error {
		w, err := standardwebhooks.NewWebhook(s.Text())
		if err != nil {
			t.Fatal(err)
		}
		return w.Verify(body, headers)
	}
	for _, s := range []deliver.Secret{now, old} {
		if err := verify(s, body); err != nil {
			t.Error(err)
		}
		if verify(s, append(body, ' ')) == nil {
			t.Error("a changed body is accepted")
		}
	}
	if verify(other, body) == nil {
		t.Error("another secret is accepted")
	}
	headers.Set("Webhook-Id", "e2")
	if verify(now, body) == nil {
		t.Error("another id is accepted")
	}
}

// A secret is in no log, and not in the database without the key.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	secret := deliver.NewSecret()
	bare := strings.TrimPrefix(secret.Text(), "whsec_")
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", secret)
	if text := fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, secret) + log.String(); strings.Contains(text, bare) {
		t.Error(text)
	}
	box, err := deliver.NewBox(strings.Repeat("k", 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed := box.Seal(secret)
	opened, err := box.Open(sealed)
	if err != nil || opened.Text() != secret.Text() {
		t.Errorf("%v, %v", opened, err)
	}
	another, err := deliver.NewBox(strings.Repeat("k", 33))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := another.Open(sealed); err == nil {
		t.Error("another key opens it")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := box.Open(sealed); err == nil {
		t.Error("what was changed is opened")
	}
	if first, second := box.Seal(secret), box.Seal(secret); string(first) == string(second) {
		t.Error("equal secrets can be told in the database")
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	f.Add("whsec_")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := deliver.ParseSecret(text); err == nil {
			if again, err := deliver.ParseSecret(s.Text()); err != nil || again.Text() != s.Text() {
				t.Error(text)
			}
		}
	})
}

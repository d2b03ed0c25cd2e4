package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"github.com/portbook/portbook/indexer"
)

const (
	// requestTime limits one request to a provider: 5 s.
	requestTime = 5 * time.Second
	// totalTime limits all that is asked of a provider in one sign-in: 10 s.
	totalTime = 10 * time.Second
	// maxAnswer limits an answer of a provider: 1 MiB. A page of 100 teams of GitHub has 0.2 MB.
	maxAnswer = 1 << 20
	// maxHeader limits the header of an answer: 64 KiB.
	maxHeader = 64 << 10
)

// newClient returns a client whose requests have limits. It follows no redirect: a provider
// has no reason to send a client with a secret elsewhere.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = maxHeader
	return &http.Client{
		Transport: limited{t}, Timeout: requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// limited limits the bodies of answers to maxAnswer.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// exchange returns the token for a code. A provider gives it once.
func exchange(ctx context.Context, c *oauth2.Config, title, code, verifier string) (*oauth2.Token, error) {
	token, err := c.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.Response.StatusCode < http.StatusInternalServerError:
		return nil, &indexer.Fault{
			Reason: fmt.Sprintf("the sign-in was not accepted by %s: it may have taken too long, so sign in again. If that"+
				" fails too, tell an administrator", title),
			Err: fmt.Errorf("exchange of a code: status %d, error %.64q: %.256q: %w", refused.Response.StatusCode,
				refused.ErrorCode, refused.ErrorDescription, indexer.ErrInvalid),
		}
	case err != nil:
		return nil, away(title, "exchange of a code", err)
	}
	return token, nil
}

// away returns the error of a provider that does not do its part.
func away(title, what string, err error) error {
	return &indexer.Fault{
		Reason: fmt.Sprintf("the identity provider %s does not answer as it should: try again later. The operator's log"+
			" has the cause", title),
		Err: fmt.Errorf("%s: %.512s: %w", what, err, indexer.ErrUnavailable),
	}
}

// refuse returns the error of a person who is not let in.
func refuse(reason string, a ...any) error {
	text := fmt.Sprintf(reason, a...)
	return &indexer.Fault{Reason: text, Err: fmt.Errorf("%s: %w", text, indexer.ErrInvalid)}
}

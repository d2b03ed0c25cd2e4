package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// callTimeout limits one attempt, from the look-up of the name to the end of the answer: 10
	// s. The specification recommends 15 to 30; a receiver should only store what it gets.
	callTimeout = 10 * time.Second
	// maxAnswer is how much of an answer is read, so that the connection can be used again, and
	// maxHeader the most bytes of its header.
	maxAnswer = 4 << 10
	maxHeader = 16 << 10
	// maxRetryAfter is the longest wait that a receiver can ask for: an hour.
	maxRetryAfter = time.Hour
)

// An Attempt is what became of one request.
type Attempt struct {
	Status     int    // of the answer; 0: there was none
	Reason     string // why it failed, in our own words; "": it did not
	Took       time.Duration
	RetryAfter time.Duration // what the receiver asks for
	Gone       bool          // whether the receiver wants no more
}

// A caller sends deliveries by HTTP. It is safe for concurrent use.
type caller struct {
	client  *http.Client
	source  string
	agent   string
	timeout time.Duration
}

func newCaller(c Config) *caller {
	g := &guard{allowed: c.Allow, resolve: c.Resolver}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = callTimeout
	}
	return &caller{
		source: c.Source, agent: c.UserAgent, timeout: timeout,
		client: &http.Client{
			// Without Proxy: a proxy of the environment could lead anywhere.
			Transport: &http.Transport{
				DialContext: g.dial, TLSClientConfig: &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
				MaxIdleConnsPerHost: 1, MaxIdleConns: 100, IdleConnTimeout: 30 * time.Second,
				TLSHandshakeTimeout: dialTimeout, MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// call sends a delivery once, signed with each of the secrets.
func (c *caller) call(ctx context.Context, to string, d Delivery, secrets ...Secret) (a Attempt) {
	begun := time.Now()
	defer func() { a.Took = time.Since(begun) }()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, to, d, begun, secrets)
	if err != nil {
		return Attempt{Reason: "the request cannot be made"}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return Attempt{Reason: reasonOf(err)}
	}
	defer resp.Body.Close()
	// What the body says may be secret, and is not kept.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return answered(resp)
}

func (c *caller) request(
	ctx context.Context, to string, d Delivery, at time.Time, secrets []Secret,
) (*http.Request, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	body, err := d.body(c.source)
	if err != nil {
		return nil, err
	}
	ctx = context.WithValue(ctx, schemeKey{}, u.Scheme)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	var signatures []string
	for _, s := range secrets {
		signatures = append(signatures, s.Sign(d.Event, at, body))
	}
	req.GetBody = nil // so that no attempt becomes two
	req.Header = http.Header{
		"Content-Type": {"application/cloudevents+json; charset=utf-8"}, "User-Agent": {c.agent},
		"Webhook-Id": {d.Event}, "Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
		"Webhook-Signature": {strings.Join(signatures, " ")},
	}
	return req, nil
}

// answered returns what an answer means.
func answered(resp *http.Response) Attempt {
	a := Attempt{Status: resp.StatusCode}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
	case code == http.StatusGone:
		a.Reason, a.Gone = "the receiver answered 410 Gone: it wants no more events", true
	case code >= 300 && code < 400:
		a.Reason = fmt.Sprintf("the receiver answered %d, a redirect, which is not followed", code)
	default:
		a.Reason = fmt.Sprintf("the receiver answered %d", code)
		if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
			a.RetryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
		}
	}
	return a
}

// reasonOf returns why a request failed, in our own words: an error of net/http can quote what
// the receiver has sent.
func reasonOf(err error) string {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
	)
	switch {
	case errors.Is(err, errPrivate):
		return "the address of the receiver is private: webhooks.allow_networks can allow it"
	case errors.Is(err, errPlain):
		return "the URL is http, which is sent only to addresses in webhooks.allow_networks: use https"
	case errors.Is(err, errPort):
		return "the port of the receiver is that of another service: use 443, or one from 1024 on"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the host of the receiver is not known"
	case errors.As(err, &dns):
		return "the host of the receiver cannot be looked up"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "the receiver did not answer in time"
	case errors.As(err, &certificate), errors.As(err, &authority):
		return "the certificate of the receiver is not trusted"
	case isRefused(err):
		return "the receiver refused the connection"
	case errors.Is(err, context.Canceled):
		return "the indexer was stopped"
	}
	return "the connection to the receiver broke"
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func isRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

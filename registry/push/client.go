// Package push makes images and other OCI content and pushes them to a
// registry over HTTP. Tests, the benchmark and the sample images use it.
//
// The same input gives the same bytes and so the same digests, on every
// machine and with every release of Go: times are given, never taken from the
// clock, and files are stored, not compressed. It knows nothing of daemons,
// docker's login files or the token server; it reads content back only so that
// a test can compare.
package push

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// timeout bounds one request, body included. Everything here is small; a
// registry that needs a minute is stuck, and a test should say so.
const timeout = time.Minute

// errorBody is the most bytes of a refusal that an Error keeps: enough for the
// code and message of distribution's JSON errors, short enough for a log line.
const errorBody = 300

// A Client pushes to one registry. It is safe for concurrent use as long as
// its fields are not changed.
type Client struct {
	Base string       // scheme, host and port: http://127.0.0.1:5000
	HTTP *http.Client // used for every request

	User, Password string // sent as HTTP Basic if User is set
	Token          string // sent as a Bearer token if set, instead of User
}

// New returns a client of the registry at base, without credentials.
//
// It has its own transport: the notification sender of a registry in the same
// process closes the idle connections of http.DefaultTransport after each event
// (distribution v3.1.2, notifications/http.go, Write).
func New(base string) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64 // the benchmark's most concurrent pushes
	return &Client{
		Base: base,
		HTTP: &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: dropCredentials},
	}
}

// dropCredentials follows a redirect without credentials if it leaves the host
// and port. A registry on S3 redirects blob reads to signed URLs, and S3 answers
// 400 to a signed URL with an Authorization header; net/http itself keeps the
// header between two ports of one host.
func dropCredentials(r *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return http.ErrUseLastResponse
	}
	if r.URL.Host != via[0].URL.Host {
		r.Header.Del("Authorization")
	}
	return nil
}

// An Error is an answer of the registry that is not the one asked for.
type Error struct {
	Op     string // what was asked, with its operands: put manifest "demo/app:v1"
	Status int    // HTTP status
	Body   string // the first bytes of the answer
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.Op, e.Status, e.Body)
}

// A call is one request and the only status that is success.
type call struct {
	op          string // see Error.Op
	method, url string
	contentType string
	accept      []string
	body        []byte
	want        int
	limit       int64 // most bytes of the answer that are read; more is an error
}

// do makes the request and returns the header and the body of the answer.
func (c *Client) do(ctx context.Context, q call) (http.Header, []byte, error) {
	req, err := c.request(ctx, q)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", q.op, err)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", q.op, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != q.want {
		// What cannot be read of a refusal is only missing in the message.
		text, _ := io.ReadAll(io.LimitReader(resp.Body, errorBody))
		return nil, nil, &Error{Op: q.op, Status: resp.StatusCode, Body: string(text)}
	}
	body, err := readAll(resp.Body, q.limit)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", q.op, err)
	}
	return resp.Header, body, nil
}

// readAll reads r, which must not hold more than limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("answer of more than %d bytes", limit)
	}
	return b, nil
}

func (c *Client) request(ctx context.Context, q call) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "portbook-push")
	if q.contentType != "" {
		req.Header.Set("Content-Type", q.contentType)
	}
	for _, a := range q.accept {
		req.Header.Add("Accept", a)
	}
	switch {
	case c.Token != "":
		req.Header.Set("Authorization", "Bearer "+c.Token)
	case c.User != "":
		req.SetBasicAuth(c.User, c.Password)
	}
	return req, nil
}

// url is the address of a resource of a repository: kind is manifests, blobs.
func (c *Client) url(repository, kind, reference string) string {
	return c.Base + "/v2/" + repository + "/" + kind + "/" + reference
}

// uploadURL is where an upload that was begun at begun is finished: the
// registry's Location, which may be relative, with the digest added.
func uploadURL(begun, location, dgst string) (string, error) {
	from, err := url.Parse(begun)
	if err != nil {
		return "", err
	}
	to, err := from.Parse(location)
	if err != nil {
		return "", err
	}
	q := to.Query()
	q.Set("digest", dgst)
	to.RawQuery = q.Encode()
	return to.String(), nil
}

// Package push builds images and other OCI content and pushes them to a registry
// over HTTP. Tests, the benchmark and the sample images use it.
//
// The same input gives the same bytes and digests on every machine and with every
// release of Go: no time comes from the clock, and files are stored uncompressed.
// The package does not use daemons, docker's login files or token servers. It reads
// content back only for tests.
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

// timeout limits a request with its body: 1 minute. All content here is small, so a
// slower registry hangs, and the test should fail.
const timeout = time.Minute

// errorBody is the maximum number of bytes of an answer that an Error keeps: 300,
// enough for the code and message of distribution's JSON errors, and short enough for a
// log line.
const errorBody = 300

// A Client pushes to one registry. It is safe for concurrent use while its fields
// do not change.
type Client struct {
	Base string       // scheme, host and port: http://127.0.0.1:5000
	HTTP *http.Client // used for every request

	User, Password string // sent as HTTP Basic if User is set
	Token          string // sent as a Bearer token if set, instead of User
}

// New returns a client of the registry at base, without credentials.
//
// The client has its own transport, because a registry in the same process closes
// the idle connections of http.DefaultTransport after each event that it sends
// (distribution v3.1.2, notifications/http.go, Write).
func New(base string) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64 // the benchmark runs at most 64 pushes at once
	return &Client{
		Base: base,
		HTTP: &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: dropCredentials},
	}
}

// dropCredentials removes the credentials from a redirect to another host or port.
// A registry on S3 redirects reads of blobs to signed URLs, and S3 answers 400 to a
// signed URL with an Authorization header. net/http removes the header for another
// host only, not for another port.
func dropCredentials(r *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return http.ErrUseLastResponse
	}
	if r.URL.Host != via[0].URL.Host {
		r.Header.Del("Authorization")
	}
	return nil
}

// An Error is an answer of the registry with another status than that of success.
type Error struct {
	Op     string // the operation with its operands: put manifest "demo/app" "v1"
	Status int    // HTTP status
	Body   string // the first bytes of the answer
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.Op, e.Status, e.Body)
}

// A call is one request.
type call struct {
	op          string // see Error.Op
	method, url string
	contentType string
	accept      []string
	body        []byte
	want        int   // the status of success; any other is an Error
	limit       int64 // the most bytes of the answer; a longer answer is an error
}

// do sends the request and returns the header and the body of the answer.
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
		// If the body cannot be read, the message is shorter.
		text, _ := io.ReadAll(io.LimitReader(resp.Body, errorBody))
		return nil, nil, &Error{Op: q.op, Status: resp.StatusCode, Body: string(text)}
	}
	body, err := readAll(resp.Body, q.limit)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", q.op, err)
	}
	return resp.Header, body, nil
}

// readAll returns all of r. It fails if that is more than limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("answer has more than %d bytes", limit)
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

// url returns the URL of a resource of a repository. Kind is manifests or blobs.
func (c *Client) url(repository, kind, reference string) string {
	return c.Base + "/v2/" + repository + "/" + kind + "/" + reference
}

// uploadURL returns the URL that ends an upload: location, which may be relative to
// begun, with the digest added. Begun is the URL of the request that began it.
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

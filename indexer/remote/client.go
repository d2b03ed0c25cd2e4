// Package remote reads and changes a registry through its HTTP API (distribution-spec 1.1):
// repositories, tags, manifests and blobs.
//
// It checks what it reads: manifests and blobs are returned only if they match the requested
// digest, every body has a size limit and every request a timeout. It changes only what
// package manage asks for: it deletes tags, manifests and links of blobs, and puts manifests
// whose bytes it is given; it uploads no blob. Errors are of the kinds of package indexer, and
// except for the end of the caller's context each is an indexer.Fault. Its texts never quote
// an answer.
package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/portbook/portbook/indexer"
)

const (
	// requestTimeout limits one request with its body: 60 s. The slowest answer measured,
	// a 4 MiB manifest from a busy registry, took less than 2 s.
	requestTimeout = 60 * time.Second
	// catalogTimeout limits one page of the catalogue: 10 min. A registry on S3 lists
	// its whole bucket for each page, which takes minutes for 100,000 repositories
	// (distribution/distribution#3678).
	catalogTimeout = 10 * time.Minute
)

// A Config says which registry to read, and as whom.
type Config struct {
	URL                string // http or https, without a path
	Username, Password string // empty: anonymous
	UserAgent          string // distinguishes our own reads from real pulls
	Connections        int    // idle connections to keep
	// Token returns a token to pull from a repository, and one to change another: either may
	// be "". Without both it is to list all repositories. If it is nil, the client logs in as
	// the registry asks it to.
	Token func(pull, change string) (string, error)
}

// A Client reads one registry. It is safe for concurrent use.
type Client struct {
	base       *url.URL
	userAgent  string
	http       *http.Client
	auth       *auth.Client                              // http, with authentication
	token      func(pull, change string) (string, error) // nil: see Config
	challenged atomic.Bool                               // the registry requires authentication
}

// New returns a client. It returns ErrInvalid if the URL is invalid.
func New(c Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(c.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("registry URL %q: %w", c.URL, indexer.ErrInvalid)
	}
	client := &Client{
		base: base, userAgent: c.UserAgent, token: c.Token,
		http: &http.Client{Transport: transport(c.Connections), CheckRedirect: redirect},
	}
	client.auth = &auth.Client{Client: client.http, Cache: auth.NewCache()}
	if c.Username != "" || c.Password != "" {
		client.auth.Credential = auth.StaticCredential(base.Host, auth.Credential{Username: c.Username, Password: c.Password})
		client.challenged.Store(true)
	}
	return client, nil
}

// UserAgent returns the user agent by which the registry knows our requests.
func (c *Client) UserAgent() string { return c.userAgent }

// transport returns a new transport. In a process with a registry, http.DefaultTransport
// must not be shared: the notifier closes its idle connections after each event
// (distribution v3.1.2, notifications/http.go).
func transport(connections int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = connections, connections
	t.ResponseHeaderTimeout = catalogTimeout
	t.DisableCompression = true // digests are of the bytes as stored
	t.ForceAttemptHTTP2 = false // one connection would serialise our reads
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	return t
}

// redirect allows redirects, such as to a presigned URL of S3, and refuses the fifth of
// a request. It removes our credentials if they would go to another server: net/http
// removes them for another host name only, not for another port or from https to http.
func redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errRedirects
	}
	if last, ok := req.Context().Value(redirected{}).(*hop); ok && strings.HasPrefix(via[0].URL.Path, "/v2/") {
		*last = hop{req.URL.Host, storage}
		if strings.HasPrefix(req.URL.Path, "/v2/") {
			last.who = registry // under another name, or with TLS
		}
	}
	if req.URL.Host != via[0].URL.Host || req.URL.Scheme == "http" && via[0].URL.Scheme == "https" {
		req.Header.Del("Authorization")
	}
	return nil
}

// do sends a request for a path below /v2/ and returns the answer if its status is one
// of accept, and an error otherwise.
func (c *Client) do(
	ctx context.Context, method, path string, header http.Header, accept ...int,
) (*http.Response, error) {
	return c.doWith(ctx, method, path, header, nil, accept...)
}

// doWith is do with a body.
func (c *Client) doWith(
	ctx context.Context, method, path string, header http.Header, body []byte, accept ...int,
) (*http.Response, error) {
	ctx = context.WithValue(ctx, redirected{}, new(hop))
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+"/v2/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, invalid("the name %q cannot be requested", path)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.userAgent)
	resp, err := c.send(req)
	if err != nil {
		return nil, c.unreachable(ctx, method, path, nil, err)
	}
	for _, status := range accept {
		if resp.StatusCode == status {
			return resp, nil
		}
	}
	defer resp.Body.Close()
	return nil, c.statusError(method, path, resp)
}

// send sends a request without authentication until the registry requires it: most
// registries are in a closed network and never do.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	if c.token != nil {
		token, err := c.tokenFor(req)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		return c.http.Do(req)
	}
	if c.challenged.Load() {
		return c.auth.Do(req)
	}
	resp, err := c.http.Do(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	discard(resp)
	c.challenged.Store(true)
	if req.Body, err = req.GetBody(); err != nil { // the first request has read it
		return nil, err
	}
	return c.auth.Do(req)
}

// tokenFor returns a token for a request.
func (c *Client) tokenFor(req *http.Request) (string, error) {
	repository := repositoryIn(req.URL.Path)
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		return c.token(repository, "")
	}
	return c.token(req.URL.Query().Get("from"), repository)
}

// repositoryIn returns the name of the repository that a path of the registry's API is in;
// "" for the catalogue.
func repositoryIn(path string) string {
	name, end := strings.TrimPrefix(path, "/v2/"), 0
	for _, part := range []string{"/tags/", "/manifests/", "/blobs/"} { // a name may contain them too
		end = max(end, strings.LastIndex(name, part))
	}
	return name[:end]
}

// discard reads the rest of a body, at most 4 KiB, so that the connection can be used
// again, and closes the body.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // a new connection costs less than reading more
	resp.Body.Close()
}

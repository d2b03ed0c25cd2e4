package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/portbook/portbook/indexer"
)

// The servers that may fail, as named in reasons. A registry may redirect us to the
// storage that holds a blob, or send us to a token service to log in.
const (
	registry     = "the registry"
	storage      = "the storage behind the registry"
	tokenService = "the registry's token service"
)

// errRedirects is the error after too many redirects.
var errRedirects = errors.New("redirected 5 times")

// A StatusError is an answer with an unexpected status. Its text is for the log. It
// quotes no header and no body, and no query, since the query of a presigned URL has
// the signature.
type StatusError struct {
	Method, Path string // the request to the registry; Path is below /v2/
	Host         string // that answered
	Status       int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %s answered %s", request(e.Method, e.Path), e.Host, statusText(e.Status))
}

// Unwrap returns ErrNotFound for 404, and ErrUnavailable for the statuses of a registry
// that is starting, is overloaded, or is behind a gateway that cannot reach it. It
// returns nil for any other status: the cause of a 500 may be this one reference.
func (e *StatusError) Unwrap() error {
	switch e.Status {
	case http.StatusNotFound:
		return indexer.ErrNotFound
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return indexer.ErrUnavailable
	}
	return nil
}

// request returns the method and path of a request for the log, without the query.
func request(method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	return method + " /v2/" + path
}

func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// statusError returns the error for an answer, which may follow redirects.
func (c *Client) statusError(method, path string, resp *http.Response) error {
	u := resp.Request.URL
	status := &StatusError{Method: method, Path: path, Host: u.Host, Status: resp.StatusCode}
	who, did := c.party(resp.Request.Context(), u), "answered "+statusText(resp.StatusCode)
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		did = "refused: it " + did
	}
	return &indexer.Fault{Reason: who + " " + did, Err: status}
}

// unreachable wraps an error of the transport or of the login: there was no answer, or
// it was incomplete. at is the URL of the incomplete answer, or nil if there was none.
func (c *Client) unreachable(ctx context.Context, method, path string, at *url.URL, err error) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", request(method, path), ctx.Err())
	}
	login := false
	if at == nil {
		if at = askedURL(ctx, err); at == nil {
			at, login = c.base, true // only net/http names the URL; oras-go, which logs in, does not
		}
	}
	who, cause := c.party(ctx, at), indexer.CauseOf(err)
	var refused *errcode.ErrorResponse
	switch {
	case errors.Is(err, errRedirects):
		cause = indexer.Cause{Public: "redirects too often"}
	case errors.As(err, &refused):
		who, at, cause = tokenService, refused.URL, indexer.Cause{Public: "answered " + statusText(refused.StatusCode)}
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		cause = indexer.Cause{Public: "requires a login", Detail: "registry.username and registry.password are not set"}
	case login:
		cause = indexer.Cause{Public: "requires a login, which failed", Detail: loginError(err)}
	}
	text := fmt.Sprintf("%s: %s %s", request(method, path), at.Host, cause.Public)
	if cause.Detail != "" {
		text += " (" + cause.Detail + ")"
	}
	return &indexer.Fault{Reason: who + " " + cause.Public, Err: fmt.Errorf("%s: %w", text, indexer.ErrUnavailable)}
}

// askedURL returns the URL of the last request of net/http, or nil if the error is not
// from net/http.
func askedURL(ctx context.Context, err error) *url.URL {
	var asked *url.Error
	if !errors.As(err, &asked) || asked.Op == "parse" {
		return nil
	}
	if u, err := url.Parse(asked.URL); err == nil && u.Host != "" {
		return u
	}
	last, _ := ctx.Value(redirected{}).(*hop) // the error is about a Location without a host
	return &url.URL{Host: last.host}
}

// loginError returns the text of an error of oras-go for the log, such as the realm
// that it refuses, without anything that it quotes except hosts. If oras-go wraps an
// error, which may contain a part of an answer, it returns only the type of that error.
func loginError(err error) string {
	if last := fmt.Sprintf("%T", indexer.Innermost(err)); last != "*errors.errorString" {
		return last
	}
	return quoted.ReplaceAllStringFunc(err.Error(), hostOf)
}

// quoted matches the output of Go's %q.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// hostOf returns the scheme and host of a quoted URL, and "…" for any other text.
func hostOf(quoted string) string {
	if text, err := strconv.Unquote(quoted); err == nil {
		if u, err := url.Parse(text); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
			return u.Scheme + "://" + u.Host
		}
	}
	return "…"
}

// redirected is the context key of the *hop of a request.
type redirected struct{}

// A hop is the target of the last redirect of a request.
type hop struct{ host, who string }

// party returns the name of the server at a URL: registry, storage or tokenService.
func (c *Client) party(ctx context.Context, u *url.URL) string {
	last, _ := ctx.Value(redirected{}).(*hop)
	switch {
	case u.Host == c.base.Host:
		return registry
	case last != nil && last.who != "" && last.host == u.Host:
		return last.who
	}
	return tokenService
}

// invalid returns an ErrInvalid for an answer that cannot be used. Its text is public
// and must contain only names and numbers.
func invalid(format string, a ...any) error {
	text := fmt.Sprintf(format, a...)
	return &indexer.Fault{Reason: text, Err: fmt.Errorf("%s: %w", text, indexer.ErrInvalid)}
}

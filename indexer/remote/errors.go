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

// Who may fail us. A registry sends us on to the storage that holds a blob, or to
// a token service that says who we are.
const (
	registry     = "the registry"
	storage      = "the storage behind the registry"
	tokenService = "the registry's token service"
)

// errRedirects ends a chain of redirects.
var errRedirects = errors.New("redirected 5 times")

// A StatusError is an answer that was not asked for. Its text is for the log. It
// quotes neither header nor body, and no query: a presigned address has its
// signature there.
type StatusError struct {
	Method, Path string // the request to the registry; Path is below /v2/
	Host         string // whose answer it is
	Status       int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %s answered %s", request(e.Method, e.Path), e.Host, statusText(e.Status))
}

// Unwrap returns the kind of error: a registry that is starting, overloaded or behind a
// gateway that cannot reach it is unavailable; 500 is about this one reference.
func (e *StatusError) Unwrap() error {
	switch e.Status {
	case http.StatusNotFound:
		return indexer.ErrNotFound
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return indexer.ErrUnavailable
	}
	return nil
}

// request names a request for the log, without its query.
func request(method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	return method + " /v2/" + path
}

func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// statusError is about the last answer of what may be a chain.
func (c *Client) statusError(method, path string, resp *http.Response) error {
	u := resp.Request.URL
	status := &StatusError{Method: method, Path: path, Host: u.Host, Status: resp.StatusCode}
	who, did := c.party(resp.Request.Context(), u), "answered "+statusText(resp.StatusCode)
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		did = "refused: it " + did
	}
	return &indexer.Fault{Reason: who + " " + did, Err: status}
}

// unreachable wraps an error of the transport or of the login: nobody answered,
// or stopped half-way. at is whose answer broke off, nil if there was none.
func (c *Client) unreachable(ctx context.Context, method, path string, at *url.URL, err error) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", request(method, path), ctx.Err())
	}
	login := false
	if at == nil {
		if at = askedURL(ctx, err); at == nil {
			at, login = c.base, true // net/http says whom it asked; oras-go, which logs in, does not
		}
	}
	who, cause := c.party(ctx, at), indexer.CauseOf(err)
	var refused *errcode.ErrorResponse
	switch {
	case errors.Is(err, errRedirects):
		cause = indexer.Cause{Public: "redirects without end"}
	case errors.As(err, &refused):
		who, at, cause = tokenService, refused.URL, indexer.Cause{Public: "answered " + statusText(refused.StatusCode)}
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		cause = indexer.Cause{Public: "asks for a login", Detail: "registry.username and registry.password are not set"}
	case login:
		cause = indexer.Cause{Public: "asks for a login that cannot be made", Detail: loginError(err)}
	}
	text := fmt.Sprintf("%s: %s %s", request(method, path), at.Host, cause.Public)
	if cause.Detail != "" {
		text += " (" + cause.Detail + ")"
	}
	return &indexer.Fault{Reason: who + " " + cause.Public, Err: fmt.Errorf("%s: %w", text, indexer.ErrUnavailable)}
}

// askedURL is whom net/http asked last, nil if the error is not its own.
func askedURL(ctx context.Context, err error) *url.URL {
	var asked *url.Error
	if !errors.As(err, &asked) || asked.Op == "parse" {
		return nil
	}
	if u, err := url.Parse(asked.URL); err == nil && u.Host != "" {
		return u
	}
	last, _ := ctx.Value(redirected{}).(*hop) // a Location without a host was refused
	return &url.URL{Host: last.host}
}

// loginError gives for the log what oras-go says in words of its own, as which
// realm it refuses, without what it quotes. Of an error that it wraps, which may
// hold a number or a letter of an answer, the log gets the type.
func loginError(err error) string {
	if last := fmt.Sprintf("%T", indexer.Innermost(err)); last != "*errors.errorString" {
		return last
	}
	return quoted.ReplaceAllStringFunc(err.Error(), hostOf)
}

// quoted matches what Go's %q writes.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// hostOf leaves of a quoted address its scheme and host, and of another text
// nothing.
func hostOf(quoted string) string {
	if text, err := strconv.Unquote(quoted); err == nil {
		if u, err := url.Parse(text); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
			return u.Scheme + "://" + u.Host
		}
	}
	return "…"
}

// redirected is the key, in the context of a request, of the *hop that it came to.
type redirected struct{}

// A hop is where the registry sent a request on to.
type hop struct{ host, who string }

// party says who stands at an address.
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

// invalid is an answer that cannot be taken. Its text holds nothing but names and
// numbers, and is for everybody.
func invalid(format string, a ...any) error {
	text := fmt.Sprintf(format, a...)
	return &indexer.Fault{Reason: text, Err: fmt.Errorf("%s: %w", text, indexer.ErrInvalid)}
}

package web_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/errorreport"
	"github.com/portbook/portbook/indexer/errorreport/errorreporttest"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Every route that fails must be reported, and nothing of the request or of the error with it.
func TestReportsOfAnswers(t *testing.T) {
	t.Parallel()
	server := errorreporttest.Start(t, http.StatusOK)
	reports, err := errorreport.New(errorreport.Config{
		DSN: server.DSN, Release: "v1.2.3", Role: "reader", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reports.Close)
	failure := fmt.Errorf("postgres://u:s3cret-password@s3cret-host/d: %w",
		&pgconn.PgError{Code: "XX000", Message: "s3cret-text"})
	for _, test := range []struct {
		method, target string
		err            error
		panics         bool
		message, route string
	}{
		{"GET", "/api/v1/search?q=s3cret-query", failure, false, "request failed", "GET /api/v1/search"},
		{"GET", "/r/s3cret/path", errors.Join(failure, indexer.ErrUnavailable), false, "request unavailable",
			"GET /r/{reference...}"},
		{"GET", "/v1/search?q=s3cret-query", failure, true, "panic", "GET /v1/search"},
		{"POST", "/events?x=s3cret-query", failure, true, "panic", "POST /events"},
		{"GET", "/?q=s3cret-query", failure, false, "request failed", "GET /{$}"},
	} {
		before := len(server.Events())
		b := &book{err: test.err}
		o := observe(b, func(c *web.Config) {
			c.Reports, c.Log = reports, slog.New(reports.Handler(c.Log.Handler()))
			c.Events = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("s3cret-event") })
			if test.panics {
				c.Read = func(context.Context, indexer.Asker, func(answer.Book) error) error { panic(failure) }
			}
		})
		r := httptest.NewRequestWithContext(t.Context(), test.method, test.target, strings.NewReader("s3cret-body"))
		r.RemoteAddr = "203.0.113.77:65021"
		r.Header.Set("Authorization", "Bearer s3cret-bearer")
		r.Header.Set("User-Agent", "s3cret-agent")
		r.Header.Set("X-S3cret-Header", "s3cret-header")
		r.AddCookie(&http.Cookie{Name: "session", Value: "s3cret-cookie"})
		w := httptest.NewRecorder()
		func() {
			defer func() { _ = recover() }() // as net/http does
			o.ServeHTTP(w, r)
		}()
		if w.Code < 500 && !test.panics {
			t.Fatalf("%s: status %d", test.target, w.Code)
		}
		e := server.Await(t, before+1)[before]
		tags, _ := e["tags"].(map[string]any)
		if e["message"] != test.message || tags["route"] != test.route ||
			tags["request_id"] != w.Header().Get("X-Request-Id") {
			t.Errorf("%s: report %v", test.target, e)
		}
		if !strings.Contains(o.log.String(), "s3cret") {
			t.Errorf("%s: the log does not have the error: %s", test.target, &o.log)
		}
	}
	reports.Close()
	if n := len(server.Events()); n != 5 {
		t.Errorf("%d reports of five requests", n)
	}
	server.Check(t, "s3cret", "S3cret", "203.0.113", ":65021") // no port of a test is above 61000
}

package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

func TestOperations(t *testing.T) {
	t.Parallel()
	down := fmt.Errorf("database: %w", indexer.ErrUnavailable)
	secret := errors.New("password=hunter2")
	for _, test := range []struct {
		path  string
		ready error
		code  int
		want  string
	}{
		{"/healthz", down, 200, "ok\n"},
		{"/health", down, 200, "ok\n"},
		{"/readyz", nil, 200, "ok\n"},
		{"/readiness", nil, 200, "ok\n"},
		{"/readyz", down, 503, "not ready: the indexer's database did not answer\n"},
		{"/readyz", secret, 503, "not ready: the indexer had an internal error: see its log\n"},
		{"/readiness", secret, 503, `{"error":"service not ready"}` + "\n"},
		{"/version", down, 200, `{"version":"v1"}` + "\n"},
		{"/other", nil, 404, "404 page not found\n"},
	} {
		s := httptest.NewServer(web.Operations(web.OperationsConfig{
			Gatherer: prometheus.NewRegistry(), Ready: func(context.Context) error { return test.ready }, Version: "v1",
		}))
		t.Cleanup(s.Close)
		resp, body := get(t, s.URL+test.path)
		if resp.StatusCode != test.code || body != test.want {
			t.Errorf("%s, %v: %d %q, want %d %q", test.path, test.ready, resp.StatusCode, body, test.code, test.want)
		}
		if resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control %q", test.path, resp.Header.Get("Cache-Control"))
		}
	}
}

// The health routes also exist on the public listener, and do not tell strangers the
// reason of a failure.
func TestHealthIsPublic(t *testing.T) {
	t.Parallel()
	var down error
	s := serve(t, stocked("x"), func(c *web.Config) {
		c.Ready = func(context.Context) error { return down }
	})
	ask := func(path string, code int, want string) {
		t.Helper()
		resp, body := get(t, s.URL+path)
		if resp.StatusCode != code || body != want || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s, %v: %d %q, Cache-Control %q, want %d %q, no-store", path, down, resp.StatusCode, body, resp.Header.Get("Cache-Control"), code, want)
		}
	}
	ask("/health", 200, "ok\n")
	ask("/readiness", 200, "ok\n")
	ask("/version", 200, `{"version":"v1"}`+"\n")
	down = fmt.Errorf("host=db.internal: %w", indexer.ErrUnavailable)
	ask("/health", 200, "ok\n")
	ask("/readiness", 503, `{"error":"service not ready"}`+"\n")
}

// The path of a request must not become a label: otherwise anybody could create any
// number of time series.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	s := serve(t, stocked("x"), func(c *web.Config) { c.Metrics = registry })
	for _, path := range []string{"/v1/search?q=x", "/?q=x", "/index/static", "/index/static?tag=%00", "/r/app", "/r/absent", "/junk/path"} {
		get(t, s.URL+path)
	}
	do(t, "DELETE", s.URL+"/junk/path", "")
	o := httptest.NewServer(web.Operations(web.OperationsConfig{Gatherer: registry}))
	t.Cleanup(o.Close)
	_, metrics := get(t, o.URL+"/metrics")
	for _, want := range []string{
		`portbook_search_duration_seconds_count{endpoint="docker"} 1`,
		`portbook_search_duration_seconds_count{endpoint="index"} 1`,
		`portbook_search_duration_seconds_count{endpoint="page"} 1`,
		`portbook_http_requests_total{code="200",route="GET /v1/search"} 1`,
		`portbook_http_requests_total{code="200",route="GET /index/static"} 1`,
		`portbook_http_requests_total{code="400",route="GET /index/static"} 1`,
		`portbook_http_requests_total{code="404",route="GET /r/{reference...}"} 1`,
		`portbook_http_requests_total{code="404",route="GET /"} 1`,
		`portbook_http_requests_total{code="405",route="none"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("%s is not in %s", want, metrics)
		}
	}
	if strings.Contains(metrics, "junk") {
		t.Error("a path is in the metrics")
	}
}

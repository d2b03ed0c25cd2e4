package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/errorreport/errorreporttest"
)

// The program reports what fails in it, with its release and role, and nothing secret of its
// configuration, its environment, the request or the database.
func TestErrorsAreReported(t *testing.T) {
	t.Parallel()
	f := launch(t)
	server := errorreporttest.Start(t, http.StatusOK)
	pool := f.pool()
	key, address, _ := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(server.DSN, "/7"), "http://"), "@")
	// By a proxy, which gets what the server would get.
	f.settings = append(f.settings, "SENTRY_DSN=http://"+key+"@sentry.example.com/7", "HTTP_PROXY=http://"+address,
		"SENTRY_ENVIRONMENT=s3cret-environment",
		"SENTRY_RELEASE=s3cret-release", "SENTRY_TAGS_x=s3cret-tag", "SENTRYGODEBUG=httpdump=1", "USER=s3cret-user",
		"PORTBOOK_INTERNAL_SECRET=s3cret-internal", "PORTBOOK_WEBHOOKS_KEY=s3cret-"+strings.Repeat("k", 32),
		"PORTBOOK_LOG_LEVEL=error")
	i := f.indexer(f.address)
	if _, err := pool.Exec(t.Context(), `ALTER TABLE search_change RENAME TO "s3cret-table"`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `ALTER TABLE tag RENAME TO "s3cret-tags"`); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+i.address+
		"/api/v1/repositories/s3cret/repository/-/tags", strings.NewReader("s3cret-body"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Request-Id", "7e57-1d")
	r.Header.Set("Authorization", "Bearer s3cret-bearer")
	r.Header.Set("Cookie", "session=s3cret-cookie")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("status %d", resp.StatusCode)
	}
	found := false
	within(t, patience, "the report", func() bool {
		for _, e := range server.Events() {
			tags, _ := e["tags"].(map[string]any)
			release, _ := e["release"].(string)
			route, _ := tags["route"].(string)
			found = found || e["message"] == "request failed" && tags["request_id"] == "7e57-1d" && tags["role"] == "writer" &&
				route != "" && tags["status"] == "500" && strings.HasPrefix(release, "portbook@")
		}
		return found
	})
	i.stop(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(f.registry.URL, "http://"), ":")
	server.Check(t, "s3cret", f.dir, ":"+port, token, frontToken)
	if strings.Contains(i.process.Tail(), errorreporttest.Key) {
		t.Errorf("the log has the key: %s", i.process.Tail())
	}
}

// A wrong DSN must be an error at start that names its key and not its value.
func TestWrongDSN(t *testing.T) {
	t.Parallel()
	out, code := indexerCommand(t, []string{"SENTRY_DSN=https://s3cret-key@sentry.example.com/",
		"DB_URL=postgres://u@127.0.0.1:1/d",
		"PORTBOOK_REGISTRY_URL=http://127.0.0.1:1"}, "serve")
	if code != 1 || !strings.Contains(out, "errors.sentry_dsn is not a DSN (value not shown)") ||
		!strings.Contains(out, "environment SENTRY_DSN") || strings.Contains(out, "s3cret") {
		t.Errorf("exit status %d: %s", code, out)
	}
}

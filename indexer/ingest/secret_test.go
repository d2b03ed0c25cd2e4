package ingest_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// secret is in the URLs, headers and bodies of a failing registry and its storage;
// inside is an internal host name.
const (
	secret = "hunter2secret"
	inside = "storage.internal"
)

// A lockedBuffer holds a log. It is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// writeSecrets answers with secrets in headers and in the body.
func writeSecrets(w http.ResponseWriter, code int) bool {
	w.Header().Set("X-Secret", secret)
	w.Header().Set("Docker-Content-Digest", secret)
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"errors":[{"code":"%s","message":"http://%s/%s?X-Amz-Signature=%s"}]}`, secret, inside, secret, secret)
	return true
}

// harvest returns every public answer about the book.
func (h *harness) harvest(metrics prometheus.Gatherer) map[string]string {
	h.t.Helper()
	s := h.catalogue()
	operations := httptest.NewServer(web.Operations(web.OperationsConfig{Gatherer: metrics}))
	h.t.Cleanup(operations.Close)
	shown := map[string]string{}
	addresses := []string{"/", "/status", "/activity", "/activity.atom", "/storage", "/v1/search?q=demo", "/v0/search?q=demo", "/index/static",
		"/api/v1/status", "/api/v1/search?q=demo", "/api/v1/repositories", "/api/v1/dump"}
	for _, name := range h.column("SELECT name FROM repository") {
		addresses = append(addresses, "/r/"+name, "/api/v1/repositories/"+name, "/api/v1/repositories/"+name+"/-/tags")
	}
	for _, reference := range h.column("SELECT r.name || ':' || t.name FROM tag t JOIN repository r ON r.id = t.repository_id") {
		addresses = append(addresses, "/r/"+reference, "/api/v1/repositories/"+strings.Replace(reference, ":", "/-/manifests/", 1))
	}
	for _, address := range addresses {
		_, shown[address], _ = h.page(s.URL+address, "")
	}
	_, shown["/metrics"], _ = h.page(operations.URL+"/metrics", "")
	return shown
}

// Reads of every kind fail, with secrets in URLs, headers and bodies. No page, answer,
// metric or log line may contain them, but the kinds of the errors must be shown.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	for _, name := range []string{"demo/listing", "demo/tag", "demo/digest", "demo/config", "demo/login", "demo/good"} {
		if _, err := h.push.Image(t.Context(), name, "v1", push.ImageSpec{Env: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	var log lockedBuffer
	metrics := prometheus.NewRegistry()
	h.settings.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.settings.Metrics = ingest.NewMetrics(metrics)
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeSecrets(w, http.StatusForbidden) }))
	t.Cleanup(storage.Close)
	var away atomic.Bool
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case away.Load():
			return writeSecrets(w, http.StatusServiceUnavailable)
		case strings.HasPrefix(r.URL.Path, "/v2/demo/listing/tags"):
			return writeSecrets(w, http.StatusInternalServerError)
		case strings.HasPrefix(r.URL.Path, "/v2/demo/tag/manifests/v1"):
			return writeSecrets(w, http.StatusInternalServerError)
		case strings.HasPrefix(r.URL.Path, "/v2/demo/digest/manifests/"):
			return writeSecrets(w, http.StatusTeapot)
		case strings.HasPrefix(r.URL.Path, "/v2/demo/config/blobs/"):
			http.Redirect(w, r, storage.URL+"/"+secret+"?X-Amz-Security-Token="+secret+"&X-Amz-Signature="+secret, http.StatusTemporaryRedirect)
			return true
		case strings.HasPrefix(r.URL.Path, "/v2/demo/login/manifests/"):
			w.Header().Set("WWW-Authenticate", `Basic realm="`+secret+`"`)
			return writeSecrets(w, http.StatusUnauthorized)
		}
		return false
	})
	h.scan()
	if err := h.store.Ask(t.Context(), []indexer.Ask{{Repository: "demo/digest", Reference: indexer.TagOrDigest("sha256:" + strings.Repeat("0", 64)), Priority: indexer.PriorityScan}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every failing reference is given up", func() bool {
		h.drain()
		return len(h.column("SELECT reference FROM task WHERE repository <> 'demo/login' AND given_up_at IS NULL")) == 0
	})
	away.Store(true)
	if err := h.store.RequestScan(t.Context(), "command"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.scanner.Run(t.Context()); err == nil {
		t.Error("a scan of an unavailable registry returned no error")
	}
	shown := h.harvest(metrics)
	for _, c := range []struct{ at, want string }{
		{"/status", "the registry answered 418"},
		{"/status", "the registry requires a login"},
		{"/status", "The running scan cannot continue: the registry answered 503 Service Unavailable"},
		{"/r/demo/tag", "the registry answered 500 Internal Server Error"},
		{"/api/v1/repositories/demo/tag/-/tags", "the registry answered 500 Internal Server Error"},
		{"/api/v1/repositories/demo/config/-/tags", "the storage behind the registry refused: it answered 403 Forbidden"},
		{"/api/v1/dump", "the registry answered 500 Internal Server Error"},
	} {
		if !strings.Contains(shown[c.at], c.want) {
			t.Errorf("%s does not contain %q: %s", c.at, c.want, shown[c.at])
		}
	}
	shown["the log"] = log.String()
	if !strings.Contains(shown["the log"], "/v2/demo/tag/manifests/v1") || !strings.Contains(shown["the log"], strings.TrimPrefix(storage.URL, "http://")) {
		t.Errorf("the log lacks the request or the host of the storage: %s", shown["the log"])
	}
	// All errors in the tables, which a dump of the database would contain.
	shown["the tables"] = strings.Join(h.column(`SELECT concat_ws(' ', error) FROM task UNION ALL SELECT concat_ws(' ', error) FROM scan
		UNION ALL SELECT concat_ws(' ', problem) FROM tag UNION ALL SELECT array_to_string(problems, ' ') FROM manifest`), "\n")
	for where, text := range shown {
		for _, hidden := range []string{secret, inside, "X-Amz"} {
			if strings.Contains(text, hidden) {
				t.Errorf("%s contains %q: %s", where, hidden, text)
			}
		}
		if where != "the log" && (strings.Contains(text, "127.0.0.1") || strings.Contains(text, "dial tcp")) {
			t.Errorf("%s contains the address of the registry or its storage: %s", where, text)
		}
	}
}

// A reason that an older version of the program stored must not be shown, since it may
// contain anything.
func TestOldReasonsAreNotShown(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	if _, err := h.push.Image(t.Context(), "demo/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	h.scan()
	const old = `GET /v2/demo/app/manifests/v1: Get "http://` + inside + `/` + secret + `?X-Amz-Signature=` + secret + `": dial tcp: refused`
	h.exec("UPDATE tag SET problem = $1", old)
	h.exec("INSERT INTO task (repository, reference, priority, error, given_up_at) VALUES ('demo/app', 'v1', 1, $1, now())", old)
	h.exec("INSERT INTO scan (reason, started_at, error) VALUES ('start', now(), $1)", old)
	shown := 0
	for where, text := range h.harvest(prometheus.NewRegistry()) {
		if strings.Contains(text, secret) || strings.Contains(text, inside) {
			t.Errorf("%s contains a reason of an older program: %s", where, text)
		}
		if strings.Contains(text, "stored by an older version of the indexer") {
			shown++
		}
	}
	if shown < 4 { // the status, the page of the repository, its tags, the dump
		t.Errorf("only %d answers say that a reason is not shown", shown)
	}
}

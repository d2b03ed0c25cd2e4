package ingest_test

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/schematest"
)

// A harness is a registry and a book that receives its notifications.
type harness struct {
	t        *testing.T
	registry *registrytest.Registry
	push     *push.Client
	pool     *pgxpool.Pool
	store    *postgres.Store
	remote   *remote.Client
	settings ingest.WorkersConfig
	workers  *ingest.Workers
	woken    atomic.Pointer[ingest.Workers] // workers, for the receiver
	working  bool                           // whether the workers run until the test ends
	scanner  *ingest.Scanner
	receiver *httptest.Server

	parallelism int // of scans; 0: 4
}

const token = "s3cret"

// open starts a registry that sends its events to a receiver. No worker runs before the
// test starts one.
func open(t *testing.T, config registrytest.Config) *harness {
	t.Helper()
	pool := schematest.New(t)
	h := &harness{t: t, pool: pool, store: postgres.New(pool, postgres.Config{})}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	metrics := ingest.NewMetrics(prometheus.NewRegistry())
	h.settings = ingest.WorkersConfig{
		Store: h.store, Log: log, Metrics: metrics, MaxMeta: 262144, Events: 4, Scans: 2, Retry: 10 * time.Millisecond,
	}
	h.receiver = httptest.NewServer(ingest.NewReceiver(ingest.ReceiverConfig{
		Token: token, Receive: h.store.Receive, Pulls: h.store.CountPulls, Heard: h.store.HearPull, Scanners: []string{"*trivy*"},
		Wake: func() { h.woken.Load().Wake() }, Log: log, Metrics: metrics,
	}))
	t.Cleanup(h.receiver.Close)
	if config.Notify == "" {
		config.Notify, config.Token = h.receiver.URL, token
	}
	h.registry = registrytest.Start(t, config)
	h.push = h.registry.Push
	client, err := remote.New(remote.Config{URL: h.registry.URL, Username: config.User, Password: config.Password, UserAgent: "portbook-indexer", Connections: 8})
	if err != nil {
		t.Fatal(err)
	}
	h.remote = client
	h.configure(func(c *ingest.WorkersConfig) { c.Remote = client })
	return h
}

// configure changes the settings, and replaces the workers and the scanner by new ones.
// It must not be called while workers run.
func (h *harness) configure(change func(*ingest.WorkersConfig)) {
	h.t.Helper()
	if h.working {
		h.t.Fatal("configure called while workers run")
	}
	change(&h.settings)
	h.workers = ingest.NewWorkers(h.settings)
	h.woken.Store(h.workers)
	h.scanner = ingest.NewScanner(ingest.ScannerConfig{
		Store: h.store, Remote: h.settings.Remote, Log: h.settings.Log, Metrics: h.settings.Metrics,
		Parallelism: cmp.Or(h.parallelism, 4), Wake: h.workers.WakeForScan,
	})
}

// work runs the workers until the test ends.
func (h *harness) work() {
	h.working = true
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.workers.Run(ctx); err != nil {
			h.t.Error(err)
		}
	}()
	h.t.Cleanup(func() { stop(); <-done })
}

// scan requests a scan, does it, and reads all tasks that it added.
func (h *harness) scan() {
	h.t.Helper()
	ctx := h.t.Context()
	if err := h.store.RequestScan(ctx, "command"); err != nil {
		h.t.Fatal(err)
	}
	if ran, err := h.scanner.Run(ctx); err != nil || !ran {
		h.t.Fatalf("scan: ran %v, %v", ran, err)
	}
	h.drain()
}

// drain works until no task is due.
func (h *harness) drain() {
	h.t.Helper()
	for range 1000 {
		n, err := h.workers.Step(h.t.Context(), indexer.PriorityConfirm, 32)
		if err != nil {
			h.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
	h.t.Fatal("tasks are still due after many steps")
}

// equal fails the test unless the book equals the registry.
func (h *harness) equal() {
	h.t.Helper()
	var out strings.Builder
	n, err := ingest.Verify(h.t.Context(), h.store, h.remote, 4, &out)
	if err != nil {
		h.t.Fatal(err)
	}
	if n > 0 {
		h.t.Errorf("%d differences:\n%s", n, out.String())
	}
}

// eventually waits for a condition, and fails the test if it does not become true.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	eventuallyWithin(t, time.Minute, what, condition)
}

func eventuallyWithin(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("timeout: %s", what)
}

func (h *harness) search(text string) []string {
	h.t.Helper()
	var names []string
	h.view(func(v *postgres.View) error {
		results, err := v.Search(h.t.Context(), query.Plain(text).Page(25, 0))
		for _, r := range results.Items {
			names = append(names, r.Name)
		}
		return err
	})
	return names
}

func (h *harness) view(f func(*postgres.View) error) {
	h.t.Helper()
	if err := h.store.View(h.t.Context(), indexer.Everyone, f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) manifest(reference string) indexer.Manifest {
	h.t.Helper()
	ref, err := indexer.ParseReference(reference)
	if err != nil {
		h.t.Fatal(err)
	}
	var m indexer.Manifest
	h.view(func(v *postgres.View) error {
		m, err = v.Manifest(h.t.Context(), ref)
		return err
	})
	return m
}

// With events alone, the book must follow pushes, moves of tags and deletions.
func TestRoad(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{})
	h.work()
	ctx := t.Context()
	first, err := h.push.Image(ctx, "demo/app", "v1", push.ImageSpec{Labels: map[string]string{
		"org.opencontainers.image.description": "Weighs anchors", "team": "deck"}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pushed image is found by its description", func() bool { return len(h.search("anch")) == 1 })
	if got := h.manifest("demo/app:v1"); got.Digest != first.Digest || got.Labels["team"] != "deck" {
		t.Errorf("demo/app:v1: got %v, labels %v, want %v with team=deck", got.Digest, got.Labels, first.Digest)
	}

	second, err := h.push.Image(ctx, "demo/app", "v1", push.ImageSpec{Env: []string{"A=b"}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tag moves", func() bool { return h.manifest("demo/app:v1").Digest == second.Digest })

	if err := h.push.Delete(ctx, "demo/app", "v1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "search no longer finds the deleted tag", func() bool { return len(h.search("app")) == 0 })
	h.equal()
}

// With scans alone, the book must become equal to the registry, and a second scan of
// the same registry must write nothing.
func TestScan(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: "http://127.0.0.1:1/nobody"})
	if err := push.Samples(t.Context(), h.push); err != nil {
		t.Fatal(err)
	}
	h.scan()
	h.equal()
	if got := h.search("harbour"); len(got) == 0 || got[0] != "samples/harbour" {
		t.Errorf("search for harbour: got %v", got)
	}
	before := h.version()
	h.scan()
	if after := h.version(); after != before {
		t.Errorf("a scan without differences moved the catalogue version from %v to %v", before, after)
	}
}

func (h *harness) version() (version indexer.Version) {
	h.t.Helper()
	h.view(func(v *postgres.View) (err error) {
		version, err = v.Version(h.t.Context())
		return err
	})
	return version
}

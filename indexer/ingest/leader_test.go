package ingest_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/registrytest"
)

// The leader must notice a restart of the registry even if no push follows, and request
// a scan for the lost events.
func TestLeaderNoticesRestart(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Root: t.TempDir(), Notify: nobody}) // all events are lost
	h.image("demo/app", "v1", "x")
	ctx, stop := context.WithCancel(t.Context())
	var looks atomic.Int32
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			looks.Add(1)
		}
		return false
	})
	h.work()
	leader := ingest.NewLeader(ingest.LeaderConfig{Store: h.store, Scanner: h.scanner, Watch: 10 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: ingest.NewMetrics(prometheus.NewRegistry())})
	done := make(chan error)
	go func() { done <- leader.Run(ctx) }()
	eventually(t, "the leader has checked the registry", func() bool { return looks.Load() > 2 })
	if got := h.column("SELECT reason FROM scan"); len(got) > 0 {
		t.Errorf("before a restart: got scans requested for %v, want none", got)
	}
	h.registry.Stop()
	n := looks.Load()
	eventually(t, "the leader has checked the unavailable registry", func() bool { return looks.Load() > n+1 })
	h.registry.Restart()
	eventually(t, "the lost push is in the book", func() bool { return len(h.column("SELECT name FROM tag")) == 1 })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := h.column("SELECT DISTINCT reason FROM scan"); !cmp.Equal(got, []string{"restart"}) {
		t.Errorf("got scans requested for %v", got)
	}
}

// The leader must count the storage without a request.
func TestLeaderCountsStorage(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.image("demo/app", "v1", "x")
	h.scan()
	leader := ingest.NewLeader(ingest.LeaderConfig{Store: h.store, Scanner: h.scanner,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: ingest.NewMetrics(prometheus.NewRegistry())})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- leader.Run(ctx) }()
	var total indexer.Storage
	eventually(t, "the storage is counted", func() bool {
		h.view(func(v *postgres.View) (err error) {
			total, err = v.Storage(t.Context())
			return err
		})
		return !total.CountedAt.IsZero()
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if total.Repositories != 1 || total.Manifests != 1 || total.Size == 0 {
		t.Errorf("got storage %+v", total)
	}
}

// The states of the leader's jobs are seen in every process: while it leads, after it has
// stopped, and when another process leads.
func TestLeaderReportsJobs(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	reader := postgres.New(h.pool, postgres.Config{})
	report := func() (r indexer.JobReport) {
		if err := reader.View(t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
			r, err = v.Jobs(t.Context())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return r
	}
	lead := func() (stop func()) {
		leader := ingest.NewLeader(ingest.LeaderConfig{Store: h.store, Scanner: h.scanner,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: ingest.NewMetrics(prometheus.NewRegistry())})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- leader.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stop := lead()
	ran := func(j indexer.Job) bool { return j.Name == "partitions" && !j.LastEnd.IsZero() && j.LastError == "" }
	eventually(t, "a run is reported", func() bool { return slices.ContainsFunc(report().Jobs, ran) })
	first := report()
	if len(first.Jobs) != 15 || first.Jobs[0].Name != "scan" || !first.IsCurrent() {
		t.Errorf("reported %+v", first)
	}
	stop()
	for _, j := range report().Jobs {
		if j.Running || !j.Next.IsZero() {
			t.Errorf("after the end: %+v", j)
		}
	}
	stop = lead()
	eventually(t, "the next leader reports", func() bool { return report().Since.After(first.Since) })
	stop()
}

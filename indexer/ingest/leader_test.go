package ingest_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/registrytest"
)

// Whoever leads counts what is stored, without being asked.
func TestLeaderCountsStorage(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.image("demo/app", "v1", "x")
	h.scan()
	leader := &ingest.Leader{Store: h.store, Scanner: h.scanner, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: ingest.NewMetrics(prometheus.NewRegistry())}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- leader.Run(ctx) }()
	var total indexer.Storage
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); total.CountedAt.IsZero() && time.Now().Before(end); <-tick.C {
		h.view(func(v *postgres.View) (err error) {
			total, err = v.Storage(t.Context())
			return err
		})
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if total.Repositories != 1 || total.Manifests != 1 || total.Size == 0 {
		t.Errorf("it counted %+v", total)
	}
}

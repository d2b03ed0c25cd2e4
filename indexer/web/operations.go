package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// An OperationsConfig configures Operations.
type OperationsConfig struct {
	Gatherer prometheus.Gatherer
	// Ready returns an error if the program cannot serve now. The reason is sent, the
	// error is logged. nil: always ready.
	Ready   func(context.Context) error
	Version string       // of the program
	Log     *slog.Logger // nil: no log
}

// Operations returns the handler for orchestrators and Prometheus, which has its own
// listener.
func Operations(c OperationsConfig) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m := &mux{}
	m.Handle("GET /healthz", http.HandlerFunc(healthy))
	m.Handle("GET /readyz", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := askReady(r, c.Ready, c.Log); err != nil {
			http.Error(w, "not ready: "+indexer.Reason(err), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}))
	handleHealth(m, c.Ready, c.Version, c.Log)
	m.Handle("GET /metrics", promhttp.HandlerFor(c.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
		// A failing collector must not hide the metrics of the others.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		answer.SetDeadline(w, answer.Timeout)
		m.serve.ServeHTTP(w, r)
	})
}

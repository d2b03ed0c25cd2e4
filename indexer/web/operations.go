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

// An OperationsConfig says what Operations tells.
type OperationsConfig struct {
	Gatherer prometheus.Gatherer
	// Ready says why the program cannot serve just now, or nil: the reason is
	// shown, the error logged. A nil Ready is always ready.
	Ready   func(context.Context) error
	Version string       // of the program
	Log     *slog.Logger // nil: no log
}

// Operations gives the handler of what orchestrators and Prometheus ask, for a
// listener of its own.
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
		// One collector that fails must not hide what the others say.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		answer.SetDeadline(w, answer.Timeout)
		m.serve.ServeHTTP(w, r)
	})
}

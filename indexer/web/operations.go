package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/portbook/portbook/indexer"
)

// readyTimeout is how long we ask whether we are ready: 2 s. A database that
// takes longer to say a word serves nobody.
const readyTimeout = 2 * time.Second

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
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthy)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := askReady(r, c.Ready, c.Log); err != nil {
			http.Error(w, "not ready: "+indexer.Reason(err), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	handleHealth(mux, c.Ready, c.Version, c.Log)
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
		// One collector that fails must not hide what the others say.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		setDeadline(w, timeout)
		mux.ServeHTTP(w, r)
	})
}

// handleHealth adds what is asked on both addresses. None of it tells a stranger
// more than whether we serve.
func handleHealth(mux *http.ServeMux, ready func(context.Context) error, version string, log *slog.Logger) {
	mux.HandleFunc("GET /health", healthy)
	mux.HandleFunc("GET /readiness", func(w http.ResponseWriter, r *http.Request) {
		if err := askReady(r, ready, log); err != nil {
			w.Header().Set("Retry-After", "1")
			tellJSON(w, http.StatusServiceUnavailable, "service not ready")
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		_ = writeJSON(w, http.StatusOK, map[string]string{"version": version})
	})
}

func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, "ok")
}

func askReady(r *http.Request, ready func(context.Context) error, log *slog.Logger) error {
	if ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	err := ready(ctx)
	if err != nil {
		log.WarnContext(ctx, "not ready", "error", err)
	}
	return err
}

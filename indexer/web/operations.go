package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/portbook/portbook/indexer"
)

// readyTimeout is how long we ask whether we are ready: 2 s. A database that
// takes longer to say a word serves nobody.
const readyTimeout = 2 * time.Second

// Operations gives the handler of what orchestrators and Prometheus ask, for a
// listener of its own. ready says why the program cannot serve just now, or
// nil; the text of an error of kind ErrUnavailable is shown, any other only
// logged.
func Operations(gatherer prometheus.Gatherer, ready func(context.Context) error, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/health"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "ok")
		})
	}
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := askReady(r, ready, log); err != nil {
			http.Error(w, reason(err), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readiness", func(w http.ResponseWriter, r *http.Request) {
		if err := askReady(r, ready, log); err != nil {
			tellJSON(w, http.StatusServiceUnavailable, "service not ready")
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
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

// reason gives one short line of err, if its text was written to be shown.
func reason(err error) string {
	if !errors.Is(err, indexer.ErrUnavailable) {
		return "not ready"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return "not ready: " + oneLine(line, 200)
}

package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer/web/answer"
)

// readyTimeout is the timeout of the readiness check: 2 s. A database that needs
// longer for the simplest query is of no use.
const readyTimeout = 2 * time.Second

// handleHealth adds the health routes, which exist on both listeners. To strangers
// they tell only whether the program serves.
func handleHealth(m *mux, ready func(context.Context) error, version string, log *slog.Logger) {
	m.Handle("GET /health", http.HandlerFunc(healthy))
	m.Handle("GET /readiness", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := askReady(r, ready, log); err != nil {
			w.Header().Set("Retry-After", "1")
			answer.WriteErrorJSON(w, http.StatusServiceUnavailable, "service not ready")
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, "ok")
	}))
	m.Handle("GET /version", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = answer.WriteJSON(w, http.StatusOK, map[string]string{"version": version})
	}))
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

package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer/web/answer"
)

// readyTimeout is how long we ask whether we are ready: 2 s. A database that
// takes longer to say a word serves nobody.
const readyTimeout = 2 * time.Second

// handleHealth adds what is asked on both addresses. None of it tells a stranger
// more than whether we serve.
func handleHealth(m *mux, ready func(context.Context) error, version string, log *slog.Logger) {
	m.Handle("GET /health", http.HandlerFunc(healthy))
	m.Handle("GET /readiness", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := askReady(r, ready, log); err != nil {
			w.Header().Set("Retry-After", "1")
			answer.TellJSON(w, http.StatusServiceUnavailable, "service not ready")
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

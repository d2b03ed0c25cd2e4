package web

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/portbook/portbook/indexer/web/answer"
)

// At most this many characters of a method and a User-Agent are logged. The longest
// registered method has 17 (UPDATEREDIRECTREF). A browser's User-Agent has about 110.
const (
	maxLoggedMethod = 17
	maxLoggedAgent  = 200
)

// healthRoutes are the routes that orchestrators request every few seconds.
var healthRoutes = map[string]bool{"GET /health": true, "GET /readiness": true, "GET /version": true}

// logAccess logs one line about a request that has ended. It leaves out the query,
// because that of a search is private, and that of an upload has the state with which
// anybody could continue it. Of the header it logs only the User-Agent.
func logAccess(log *slog.Logger, r *http.Request, rec *recorder, aborted bool) {
	status, sent := rec.status(), rec.bytes
	if aborted {
		status = rec.code // 0 if the header was not sent
	}
	if r.Method == http.MethodHead {
		sent = 0 // net/http discards what the handler writes
	}
	if status == http.StatusOK && healthRoutes[r.Pattern] {
		return
	}
	attrs := []any{
		"method", answer.Cut(r.Method, maxLoggedMethod), "route", routeOf(r), "path", answer.LoggedPath(r),
		"status", status, "bytes", sent, "seconds", time.Since(rec.began).Round(time.Microsecond).Seconds(),
		"client", clientText(answer.ClientOf(r)), "user_agent", answer.Cut(r.UserAgent(), maxLoggedAgent),
	}
	if aborted {
		attrs = append(attrs, "aborted", true)
	}
	log.InfoContext(r.Context(), "request", attrs...)
}

// clientText writes an IPv4 address alone, and an IPv6 network with its length.
func clientText(client netip.Prefix) string {
	if client.Addr().Is4() {
		return client.Addr().String()
	}
	return client.String()
}

package web

import (
	"net/http"

	"github.com/portbook/portbook/indexer/web/answer"
)

// guard sets headers on every answer that let a browser only show it, and sets the
// deadline of every request.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; "+
			"connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		answer.SetDeadline(w, answer.Timeout)
		next.ServeHTTP(w, r)
	})
}

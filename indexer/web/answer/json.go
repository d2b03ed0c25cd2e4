package answer

import (
	"encoding/json"
	"net/http"
)

// WriteErrorJSON writes an error as {"error": text}.
func WriteErrorJSON(w http.ResponseWriter, code int, text string) {
	_ = WriteJSON(w, code, map[string]string{"error": text})
}

// WriteJSON writes v as JSON, and forbids caches to store it.
func WriteJSON(w http.ResponseWriter, code int, v any) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
	return nil
}

// Map returns f(x) for each x. The result is never nil, so it is never null in JSON.
func Map[X, Y any](list []X, f func(X) Y) []Y {
	out := make([]Y, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

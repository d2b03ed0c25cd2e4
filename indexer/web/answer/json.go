package answer

import (
	"encoding/json"
	"net/http"
)

// TellJSON tells an error as {"error": text}.
func TellJSON(w http.ResponseWriter, code int, text string) {
	_ = WriteJSON(w, code, map[string]string{"error": text})
}

// WriteJSON answers with v, which no cache may keep.
func WriteJSON(w http.ResponseWriter, code int, v any) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
	return nil
}

// Map gives f(x) of each x, and never null.
func Map[X, Y any](list []X, f func(X) Y) []Y {
	out := make([]Y, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

package web

import (
	"encoding/json"
	"net/http"
)

// tellJSON tells an error as {"error": text}.
func tellJSON(w http.ResponseWriter, code int, text string) {
	_ = writeJSON(w, code, map[string]string{"error": text})
}

func writeJSON(w http.ResponseWriter, code int, v any) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
	return nil
}

// fitting gives f(x) of each x, and never null.
func fitting[X, Y any](list []X, f func(X) Y) []Y {
	out := make([]Y, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

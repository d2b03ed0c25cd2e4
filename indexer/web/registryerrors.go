package web

import "net/http"

// tellRegistry tells an error in the shape that a registry's clients read
// (distribution-spec 1.1, "Error Codes").
func tellRegistry(w http.ResponseWriter, code int, text string) {
	kind := map[int]string{http.StatusBadRequest: "DIGEST_INVALID", http.StatusNotFound: "NAME_UNKNOWN"}[code]
	if kind == "" {
		kind = "UNAVAILABLE"
	}
	_ = writeJSON(w, code, registryErrors{[]registryError{{Code: kind, Message: text}}})
}

type registryErrors struct {
	Errors []registryError `json:"errors"`
}

type registryError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

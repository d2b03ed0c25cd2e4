package answer

import "net/http"

// WriteErrorRegistry writes an error in the format of a registry (distribution-spec 1.1,
// "Error Codes").
func WriteErrorRegistry(w http.ResponseWriter, code int, text string) {
	kind := map[int]string{
		http.StatusBadRequest: "DIGEST_INVALID", http.StatusNotFound: "NAME_UNKNOWN", http.StatusUnauthorized: "UNAUTHORIZED",
		http.StatusTooManyRequests: "TOOMANYREQUESTS",
	}[code]
	if kind == "" {
		kind = "UNAVAILABLE"
	}
	_ = WriteJSON(w, code, RegistryErrors{[]RegistryError{{Code: kind, Message: text}}})
}

// RegistryErrors is the body of an error in the format of a registry
// (distribution-spec 1.1, "Error Codes").
type RegistryErrors struct {
	Errors []RegistryError `json:"errors"`
}

// A RegistryError is one error of RegistryErrors. Its code is from the
// specification.
type RegistryError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

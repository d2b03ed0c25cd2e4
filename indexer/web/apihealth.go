package web

import "net/http"

type healthAnswer struct {
	Status string `json:"status" doc:"ok"`
}

// health asks nobody: that a database is away is no reason to end a program.
func (s *apiServer) health(w http.ResponseWriter, _ asked) error {
	return writeJSON(w, http.StatusOK, healthAnswer{"ok"})
}

package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer/web/answer"
)

type healthAnswer struct {
	Status string `json:"status" doc:"ok"`
}

// health asks nobody: that a database is away is no reason to end a program.
func (s *API) health(w http.ResponseWriter, _ asked) error {
	return answer.WriteJSON(w, http.StatusOK, healthAnswer{"ok"})
}

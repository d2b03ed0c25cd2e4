package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer/web/answer"
)

type healthAnswer struct {
	Status string `json:"status" doc:"ok"`
}

// health checks nothing else: a database that is down is no reason to restart the
// program.
func (s *API) health(w http.ResponseWriter, _ asked) error {
	return answer.WriteJSON(w, http.StatusOK, healthAnswer{"ok"})
}

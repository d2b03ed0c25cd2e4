package api

import (
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

type statusAnswer struct {
	Status    string            `json:"status" doc:"healthy: the book can be read; else the answer is a problem, 503"`
	Version   string            `json:"version" doc:"of the program"`
	Revision  string            `json:"revision" doc:"of the source that it was built from; empty if unknown"`
	Timestamp answer.Timestamp  `json:"timestamp" doc:"when this was answered"`
	Catalogue string            `json:"catalogue" doc:"the version of the catalogue, for min_version"`
	ScannedAt *answer.Timestamp `json:"scanned_at,omitempty" doc:"when the last whole scan ended; left out before the first"`
	TasksDue  int               `json:"tasks_due" doc:"references waiting to be read"`
	GivenUp   int               `json:"given_up" doc:"references that could not be read"`
}

// status shows the current state, which has no version of its own, so it must not be
// cached.
func (s *API) status(w http.ResponseWriter, r asked) error {
	a := statusAnswer{Status: "healthy", Version: s.config.Version, Revision: s.config.Revision}
	var fresh indexer.Freshness
	err := s.answerer.ReadSince(r.Request, func(b answer.Book, f indexer.Freshness) error {
		fresh = f
		status, err := b.Status(r.Context())
		a.TasksDue, a.GivenUp = status.TasksDue, status.GivenUp
		return err
	})
	if err != nil {
		return err
	}
	a.Catalogue, a.Timestamp = fresh.Version.String(), answer.Timestamp{Time: time.Now().Truncate(time.Second)}
	if !fresh.ScannedAt.IsZero() {
		a.ScannedAt = &answer.Timestamp{Time: fresh.ScannedAt}
	}
	answer.SetFreshness(w.Header(), fresh)
	return answer.WriteJSON(w, http.StatusOK, a)
}

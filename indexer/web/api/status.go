package api

import (
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

type statusAnswer struct {
	Status    string            `json:"status" doc:"healthy if the book can be read; otherwise the answer is a problem with status 503"`
	Version   string            `json:"version" doc:"version of the program"`
	Revision  string            `json:"revision" doc:"revision of the source of the program; empty if unknown"`
	Timestamp answer.Timestamp  `json:"timestamp" doc:"time of this answer"`
	Catalogue string            `json:"catalogue" doc:"version of the catalogue, for min_version"`
	ScannedAt *answer.Timestamp `json:"scanned_at,omitempty" doc:"when the last full scan ended; absent before the first"`
	TasksDue  int               `json:"tasks_due" doc:"number of references waiting to be read"`
	GivenUp   int               `json:"given_up" doc:"number of references that could not be read"`

	Protection []levelAnswer `json:"protection" doc:"how far this indexer keeps what is protected, frozen or over its quota"`
}

type levelAnswer struct {
	Level  string `json:"level" doc:"token: refused when the token for the registry is given; front: refused before the registry; put back: seen and put back afterwards"`
	Active bool   `json:"active"`
	Text   string `json:"text" doc:"what it does, or why it is not active"`
}

func levelOf(l indexer.ProtectionLevel) levelAnswer { return levelAnswer{l.Name, l.Active, l.Text} }

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
	a.Protection = answer.Map(s.config.Levels(), levelOf)
	a.Catalogue, a.Timestamp = fresh.Version.String(), answer.Timestamp{Time: time.Now().Truncate(time.Second)}
	if !fresh.ScannedAt.IsZero() {
		a.ScannedAt = &answer.Timestamp{Time: fresh.ScannedAt}
	}
	answer.SetFreshness(w.Header(), fresh)
	return answer.WriteJSON(w, http.StatusOK, a)
}

package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type suggestAnswer struct {
	Suggestions []suggestion `json:"suggestions" doc:"best first"`
}

type suggestion struct {
	Text string `json:"text" doc:"the whole query after completion"`
	Name string `json:"name,omitempty" doc:"the suggested repository or namespace"`
}

func (s *API) suggest(w http.ResponseWriter, r asked) error {
	text := r.values.Get("q")
	if len(text) > query.MaxLength {
		return answer.Invalid("q", "has %d bytes: write at most %d", len(text), query.MaxLength)
	}
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		var found []indexer.Suggestion
		err := s.answerer.Timed("suggest", func() (err error) {
			found, err = b.Suggest(r.Context(), text, r.number("limit", defaultSuggestions))
			return err
		})
		return suggestAnswer{answer.Map(found, func(s indexer.Suggestion) suggestion { return suggestion(s) })}, "", err
	})
}

// maxSuggestions is the maximum number of suggestions: 20. Nobody reads more while
// typing.
const maxSuggestions = 20

const defaultSuggestions = 10

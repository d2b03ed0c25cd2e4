package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type historyAnswer struct {
	Moves []move `json:"moves" doc:"moves of tags, latest first"`
	Next  string `json:"next,omitempty" doc:"address of the next page, with older moves; absent on the last page"`
}

type move struct {
	ID         int64            `json:"id" doc:"number of the move; later moves have greater numbers"`
	Repository string           `json:"repository"`
	Tag        string           `json:"tag"`
	From       string           `json:"from,omitempty" doc:"digest; absent if the tag was new"`
	To         string           `json:"to,omitempty" doc:"digest; absent if the tag was deleted"`
	SeenAt     answer.Timestamp `json:"seen_at" doc:"when the indexer saw the move, not when the tag was pushed"`
	SeenBy     string           `json:"seen_by" doc:"event or scan"`
}

// history returns the moves of all tags, of a repository, or of one tag. Deleted
// names have a history too, so an unknown name is not an error.
func (s *API) history(w http.ResponseWriter, r asked) (err error) {
	var repository string
	if r.PathValue("name") != "" {
		if repository, err = r.repository(); err != nil {
			return err
		}
	}
	name := r.PathValue("tag")
	if name != "" && !indexer.IsTag(name) {
		return indexer.InvalidTag(name)
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	before, limit := int64(r.number("before", 0)), r.number("limit", defaultList)
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		moves, next, err := movesUntil(r, b, repository, name, at, before, limit)
		if err != nil {
			return nil, "", err
		}
		var a historyAnswer
		if next > 0 {
			a.Next = r.page("before", strconv.FormatInt(next, 10))
		}
		a.Moves = answer.Map(moves, moveOf)
		return a, a.Next, nil
	})
}

// movesUntil is like answer.MovesBefore, for moves seen until at; if at is zero, for
// all.
func movesUntil(r asked, b answer.Book, repository, tag string, at time.Time, before int64,
	limit int) (moves []indexer.Move, next int64, err error) {
	if !at.IsZero() {
		if err := answer.KnownAt(r.Context(), b, at); err != nil {
			return nil, 0, err
		}
		end, err := b.HistoryAt(r.Context(), at)
		if err != nil {
			return nil, 0, err
		}
		if before == 0 || end > 0 && end < before {
			before = end
		}
	}
	return answer.MovesBefore(r.Request, b, repository, tag, before, limit)
}

func moveOf(m indexer.Move) move {
	return move{
		ID: m.ID, Repository: m.Repository, Tag: m.Tag, From: m.From.String(), To: m.To.String(),
		SeenAt: answer.Timestamp{Time: m.SeenAt}, SeenBy: string(m.SeenBy),
	}
}

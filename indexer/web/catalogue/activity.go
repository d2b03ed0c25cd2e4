package catalogue

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// An activityView lists the moves of tags by day, latest first.
type activityView struct {
	Repository string // the only repository shown; "" for all
	Days       []activityDay
	Feed       string // address of the feed
	Back, More string // addresses of the latest moves and of older ones; "" if there are none
}

type activityDay struct {
	Day   time.Time // in UTC
	Moves []moveView
}

type moveView struct {
	indexer.Move
	What string // pushed, moved, deleted
	Gone bool   // whether the tag was deleted, by this move or by a later one on the page
}

// activityAddress returns the address of path for a repository; "" means all.
func activityAddress(path, repository string, before int64) string {
	v := url.Values{}
	if repository != "" {
		v.Set("repository", repository)
	}
	if before > 0 {
		v.Set("before", strconv.FormatInt(before, 10))
	}
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

// activityAsked parses the request. Deleted repositories have a history too, so an
// unknown name is not an error.
func activityAsked(r *http.Request) (repository string, before int64, err error) {
	v := r.URL.Query()
	repository = v.Get("repository")
	if repository != "" && !indexer.IsRepository(repository) {
		return "", 0, indexer.InvalidRepository(repository)
	}
	if text := v.Get("before"); text != "" {
		before, err = strconv.ParseInt(text, 10, 64)
		if err != nil || before < 1 {
			return "", 0, answer.Invalid("before", "is %.64q: write the id of a move", text)
		}
	}
	return repository, before, nil
}

// Activity serves the moves of tags, latest first.
func (s *Catalogue) Activity(w http.ResponseWriter, r *http.Request) error {
	repository, before, err := activityAsked(r)
	if err != nil {
		return err
	}
	return s.html(w, r, "activity", func(b answer.Book) (page, error) {
		moves, next, err := answer.MovesBefore(r, b, repository, "", before, pageSize)
		if err != nil {
			return page{}, err
		}
		feed := activityAddress("/activity.atom", repository, 0)
		view := activityView{Repository: repository, Days: daysOf(moves), Feed: feed}
		if before > 0 {
			view.Back = activityAddress("/activity", repository, 0)
		}
		if next > 0 {
			view.More = activityAddress("/activity", repository, next)
		}
		return page{Title: "Activity", Main: view}, nil
	})
}

// daysOf groups moves by the day, in UTC, on which they were seen.
func daysOf(moves []indexer.Move) []activityDay {
	var days []activityDay
	gone := map[string]bool{} // by tag: whether its latest move on the page deleted it
	for _, m := range moves {
		tag := m.Repository + ":" + m.Tag
		if _, known := gone[tag]; !known {
			gone[tag] = m.To == ""
		}
		day := m.SeenAt.UTC().Truncate(24 * time.Hour)
		if n := len(days); n == 0 || !days[n-1].Day.Equal(day) {
			days = append(days, activityDay{Day: day})
		}
		last := &days[len(days)-1]
		last.Moves = append(last.Moves, moveView{m, whatOf(m), gone[tag]})
	}
	return days
}

// whatOf returns one word for what a move did to its tag.
func whatOf(m indexer.Move) string {
	switch {
	case m.To == "":
		return "deleted"
	case m.From == "":
		return "pushed"
	}
	return "moved"
}

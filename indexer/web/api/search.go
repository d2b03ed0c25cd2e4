package api

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type searchAnswer struct {
	Query        string            `json:"query" doc:"the query as it was parsed"`
	Sort         string            `json:"sort"`
	Total        *int              `json:"total,omitempty" doc:"number of results on all pages; absent after the first page of sort=name"`
	TotalIsFloor bool              `json:"total_is_floor" doc:"whether there may be more results than total"`
	DidYouMean   string            `json:"did_you_mean,omitempty" doc:"if nothing was found: a similar query that finds something"`
	Results      []searchResult    `json:"results"`
	Past         []pastResult      `json:"past,omitempty" doc:"with at, instead of results: the repositories that matched then, by name"`
	Incomplete   bool              `json:"incomplete,omitempty" doc:"with at: whether more or other repositories may have matched, because the book no longer has some of the manifests"`
	At           *answer.Timestamp `json:"at,omitempty" doc:"the requested time, if any"`
	Next         string            `json:"next,omitempty" doc:"address of the next page; absent on the last page"`
}

// A pastResult is a repository as it was at a time.
type pastResult struct {
	Name        string           `json:"name"`
	Title       string           `json:"title"`
	Description string           `json:"description" doc:"one line of at most 500 characters"`
	Tags        int              `json:"tags" doc:"number of tags"`
	Leading     string           `json:"leading" doc:"the tag that represented the repository"`
	Digest      string           `json:"digest" doc:"what that tag showed"`
	MovedAt     answer.Timestamp `json:"moved_at,omitzero" doc:"when a tag last moved until then; absent if that is not kept"`
	Incomplete  bool             `json:"incomplete" doc:"whether the book no longer has some of the manifests that the search looked for"`
}

type searchResult struct {
	Name        string           `json:"name"`
	Namespace   string           `json:"namespace" doc:"the part of the name before the first slash"`
	Title       string           `json:"title"`
	Description string           `json:"description" doc:"one line of at most 500 characters"`
	Tags        int              `json:"tags" doc:"number of tags"`
	Size        int64            `json:"size" doc:"bytes of config and layers of what the leading tag shows"`
	Pulls       int64            `json:"pulls" doc:"pulls that were counted; see usage"`
	PulledAt    answer.Timestamp `json:"pulled_at,omitzero" doc:"the last pull; absent if none was counted"`
	Stars       int              `json:"stars"`
	Official    bool             `json:"official" doc:"whether the namespace is one of search.official_namespaces"`
	UpdatedAt   answer.Timestamp `json:"updated_at" doc:"when anything in the repository last changed"`
	Leading     string           `json:"leading" doc:"the tag that represents the repository: latest, else the highest version, else the tag that moved last"`
	TagsWith    tagsWith         `json:"tags_with" doc:"number of tags by what is attached to their manifest; an index also counts if every image in it has it"`
	Facts       []indexer.Fact   `json:"facts" doc:"conditions of the query language that at least one of its images fulfils; has:signature means that a signature is attached, not that it was verified"`
}

// search searches repositories. Ranked results are paged by offset, up to MaxOffset;
// results ordered by name are paged by name, without limit.
func (s *API) search(w http.ResponseWriter, r asked) error {
	q, err := r.query()
	if err != nil {
		return orWrong(w, err)
	}
	if sort := r.values.Get("sort"); sort != "" {
		q.Sort = query.Sort(sort)
	}
	if q.Sort == "relevance" {
		q.Sort = query.SortRelevance
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	if !at.IsZero() {
		return s.searchAt(w, r, q, at)
	}
	if q, err = turnTo(r.values.Get("cursor"), q.Page(r.number("limit", answer.DefaultPage), 0)); err != nil {
		return err
	}
	return s.json(w, r, q, func(b answer.Book) (any, string, error) {
		var found indexer.Results
		err := s.answerer.Timed("api", func() (err error) {
			found, err = b.Search(r.Context(), q)
			return err
		})
		if err != nil {
			return nil, "", err
		}
		a := answerSearch(q, found)
		if found.Total == 0 && len(q.Clauses) > 0 && q.Offset == 0 && q.After == "" {
			a.DidYouMean, err = b.Correct(r.Context(), q)
		}
		if c := cursorAfter(q, found); c != "" {
			a.Next = r.page("cursor", c)
		}
		return a, a.Next, err
	})
}

// searchAt searches the repositories as they were at a time. They are in order of name, and
// a page may end early.
func (s *API) searchAt(w http.ResponseWriter, r asked, q query.Query, at time.Time) error {
	if q.Sort != query.SortRelevance && q.Sort != query.SortName {
		return answer.Invalid("sort", "is %q: with at, results are in order of name", q.Sort)
	}
	q, err := query.Parse(q.Text, at) // ages are those of then
	if err != nil {
		return orWrong(w, err)
	}
	q.Sort = query.SortName
	q, err = turnTo(r.values.Get("cursor"), q.Page(r.number("limit", answer.DefaultPage), 0))
	if err != nil {
		return err
	}
	return s.json(w, r, q, func(b answer.Book) (any, string, error) {
		if err := answer.KnownAt(r.Context(), b, at); err != nil {
			return nil, "", err
		}
		found, err := b.SearchAt(r.Context(), q, at)
		a := searchAnswer{Query: q.Text, Sort: string(q.Sort), Results: []searchResult{}, At: &answer.Timestamp{Time: at},
			Past: answer.Map(found.Items, pastOf), Incomplete: found.Incomplete, TotalIsFloor: true}
		if found.Next != "" {
			a.Next = r.page("cursor", encodeCursor("n"+found.Next))
		}
		return a, a.Next, err
	})
}

func pastOf(r indexer.PastRepository) pastResult {
	return pastResult{
		Name: r.Name, Title: answer.OneLine(r.Title, answer.MaxDescription), Tags: r.Tags, Leading: r.Leading,
		Description: answer.OneLine(r.Description, answer.MaxDescription), Digest: r.Digest.String(),
		MovedAt: answer.Timestamp{Time: r.MovedAt}, Incomplete: r.Incomplete,
	}
}

func answerSearch(q query.Query, found indexer.Results) searchAnswer {
	a := searchAnswer{Query: q.Text, Sort: string(q.Sort), Results: answer.Map(found.Items, resultOf)}
	if q.Sort == query.SortRelevance {
		a.Sort = "relevance"
	}
	if q.After == "" {
		a.Total, a.TotalIsFloor = &found.Total, found.AtLeast
	}
	return a
}

func resultOf(r indexer.Result) searchResult {
	return searchResult{
		Name: r.Name, Namespace: r.Namespace(), Title: answer.OneLine(r.Title, answer.MaxDescription),
		Description: answer.OneLine(r.Description, answer.MaxDescription),
		Tags:        r.Tags, Size: r.Size, Pulls: r.Pulls, Stars: r.Stars, Official: r.Official,
		PulledAt:  answer.Timestamp{Time: r.PulledAt},
		UpdatedAt: answer.Timestamp{Time: r.UpdatedAt},
		Leading:   r.Leading, TagsWith: tagsWith(r.TagsWith), Facts: append([]indexer.Fact{}, r.Facts...),
	}
}

// A cursor is "o" and an offset, or "n" and a name. It is in base64 so that clients
// do not build their own.
func encodeCursor(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// cursorAfter returns the cursor of the page after that of q, or "" if there is
// none.
func cursorAfter(q query.Query, found indexer.Results) string {
	n := len(found.Items)
	if q.Sort == query.SortName {
		if n < q.Limit || q.After == "" && found.Total <= n {
			return ""
		}
		return encodeCursor("n" + found.Items[n-1].Name)
	}
	next := q.Offset + q.Limit
	if next >= found.Total || next > query.MaxOffset {
		return ""
	}
	return encodeCursor("o" + strconv.Itoa(next))
}

// turnTo returns q for the page at a cursor.
func turnTo(cursor string, q query.Query) (query.Query, error) {
	if cursor == "" {
		return q, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	text := string(raw)
	name, byName := strings.CutPrefix(text, "n")
	offset, byPlace := strings.CutPrefix(text, "o")
	n := answer.Number(offset, -1)
	switch {
	case err == nil && byName && q.Sort == query.SortName && indexer.IsRepository(name):
		q.After = name
	case err == nil && byPlace && q.Sort != query.SortName && n >= 0 && n <= query.MaxOffset:
		q.Offset = n
	default:
		return q, answer.Invalid("cursor", "%.64q is not from a page with this sort: start without a cursor", cursor)
	}
	return q, nil
}

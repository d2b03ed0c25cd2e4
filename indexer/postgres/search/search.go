package search

import (
	"context"
	"slices"
	"strings"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// A search is a query as SQL on repository_search AS s.
type search struct {
	query.Query
	words  string         // tsquery of all clauses that are words only; "" if there is none
	images []query.Clause // clauses that one image must fulfil
	where  sq.And         // every condition, and that the asker may see the repository
}

func (rd *Reader) compile(q query.Query) *search {
	s := &search{Query: q, where: sq.And{rd.sees("s.name")}}
	var words []string
	for _, c := range q.Effective().Clauses {
		switch {
		case c.OnlyWords():
			words = append(words, tsqueryOf(c))
		case c.AboutImages():
			s.images = append(s.images, c)
		default:
			s.where = append(s.where, anyOf(c))
		}
	}
	if s.words = strings.Join(words, " & "); s.words != "" {
		s.where = append(s.where, hasWords("s.all_words", s.words))
	}
	if len(s.images) > 0 {
		s.where = append(s.where, ofImages(s.images))
	}
	if q.After != "" {
		s.where = append(s.where, sq.Expr("s.name > ?", q.After))
	}
	return s
}

// sees returns the condition that the asker may see the repository of a name, an
// expression.
func (rd *Reader) sees(name string) sq.Sqlizer {
	return pg.VisibleOf(rd.visible).Name(name)
}

// order returns the columns of from that the results are sorted by.
func (s *search) order() sq.Sqlizer {
	switch {
	case s.Sort == query.SortName:
		return sq.Expr("s.name")
	case s.Sort == query.SortSize:
		return sq.Expr("s.size DESC, s.repository_id DESC")
	case s.Sort == query.SortPulls:
		return sq.Expr("s.pulls DESC, s.repository_id DESC")
	case s.latestFirst():
		return sq.Expr("r.updated_at DESC, r.id DESC")
	}
	return sq.Expr("?, s.pulls DESC, s.updated_at DESC, s.repository_id DESC", s.class())
}

// latestFirst reports whether the results are sorted by the latest change.
func (s *search) latestFirst() bool {
	return s.Sort == query.SortUpdated || s.Sort == query.SortRelevance && s.words == ""
}

// from returns the tables to read. The times of changes are the same in both, but only
// repository has an index of them.
func (s *search) from() string {
	if s.latestFirst() {
		return "repository r JOIN repository_search s ON s.repository_id = r.id"
	}
	return "repository_search s"
}

// class returns an expression for how well a repository matches; 0 is best. '~' is
// greater than every character of a name.
func (s *search) class() sq.Sqlizer {
	inName := hasWords("s.name_words", s.words)
	if s.Name == "" {
		return sq.Expr("CASE WHEN ? THEN 3 ELSE 4 END", inName)
	}
	return sq.Expr(`CASE WHEN s.name = ? THEN 0 WHEN s.basename = ? THEN 1
		WHEN s.basename > ? AND s.basename < ? THEN 2 WHEN ? THEN 3 ELSE 4 END`,
		s.Name, s.Name, s.Name, s.Name+"~", inName)
}

// Search returns one page of the repositories that q selects, in the order of q. The
// order of relevance: repositories whose name is the text; whose last path component
// is the text; whose last path component begins with it; with all words in the name;
// with all words anywhere. Equal matches are sorted by most pulls, then by latest
// change.
func (rd *Reader) Search(ctx context.Context, q query.Query) (indexer.Results, error) {
	results, err := rd.search(ctx, q)
	return results, pg.Wrap("search", err)
}

func (rd *Reader) search(ctx context.Context, q query.Query) (indexer.Results, error) {
	st, err := rd.state(ctx)
	if err != nil {
		return indexer.Results{}, err
	}
	if st != nil {
		if results, known, err := rd.searchCopy(ctx, st, q); known || err != nil {
			return results, err
		}
	}
	s := rd.compile(q)
	items, err := rd.page(ctx, s)
	if err != nil {
		return indexer.Results{}, err
	}
	results := indexer.Results{Items: items}
	switch n := len(items); {
	case q.After != "":
	case n < q.Limit && (n > 0 || q.Offset == 0): // the last page
		results.Total = q.Offset + n
	default:
		results.Total, err = rd.total(ctx, s)
		results.AtLeast = results.Total > query.MaxTotal
		results.Total = min(results.Total, query.MaxTotal)
	}
	return results, err
}

// page returns the results on the page of a search.
func (rd *Reader) page(ctx context.Context, s *search) ([]indexer.Result, error) {
	q := "SELECT " + foundColumns + " FROM " + s.from() + " WHERE ? ORDER BY ? LIMIT ? OFFSET ?"
	return rd.results(planned(ctx, rd, pgx.RowToStructByName[foundRow], q, s.where, s.order(), s.Limit, s.Offset))
}

// total returns how many repositories match. Above query.MaxTotal it is a lower bound.
func (rd *Reader) total(ctx context.Context, s *search) (int, error) {
	const q = "SELECT count(*) FROM (SELECT FROM repository_search s WHERE ? LIMIT ?) AS capped"
	return one(planned(ctx, rd, pgx.RowTo[int], q, s.where, query.MaxTotal+1))
}

// CountRepositories returns the number of repositories with a tag, without those that are
// unlisted.
func (rd *Reader) CountRepositories(ctx context.Context) (int, error) {
	st, err := rd.state(ctx)
	if err != nil {
		return 0, pg.Wrap("count of repositories", err)
	}
	if st != nil {
		return st.Count(rd.visible), nil
	}
	const q = "SELECT count(*) FROM repository_search s WHERE ? AND " + isShownRow
	n, err := one(planned(ctx, rd, pgx.RowTo[int], q, rd.sees("s.name")))
	return n, pg.Wrap("count of repositories", err)
}

// verify returns those of the repositories that q selects, in order of id. It ignores
// the order and the page of q.
func (rd *Reader) verify(ctx context.Context, q query.Query, ids []int32) ([]int32, error) {
	const text = "SELECT s.repository_id FROM repository_search s WHERE s.repository_id = ANY(?) AND ? ORDER BY 1"
	return planned(ctx, rd, pgx.RowTo[int32], text, ids, rd.compile(q).where)
}

// rows returns what results show of the repositories, in the order of ids.
func (rd *Reader) rows(ctx context.Context, ids []int32) ([]indexer.Result, error) {
	const q = "SELECT " + foundColumns + ` FROM unnest($1::int[]) WITH ORDINALITY AS page (repository_id, place)
		JOIN repository_search s USING (repository_id) ORDER BY page.place`
	return rd.results(pg.Collect[foundRow](ctx, rd.db, q, ids))
}

// RepositoryColumns are the columns of a RepositoryRow in repository_search AS s.
const RepositoryColumns = "s.name, s.title, s.description, s.tags, s.updated_at, " +
	"COALESCE(s.leading_tag, '') AS leading_tag, s.own_tags, s.signature_tags, s.sbom_tags, s.attestation_tags"

// A RepositoryRow is the data of a repository in lists, from repository_search.
type RepositoryRow struct {
	Name, Title, Description                          string
	Tags                                              int
	UpdatedAt                                         time.Time
	LeadingTag                                        string
	OwnTags, SignatureTags, SBOMTags, AttestationTags int
}

// Repository returns r as a repository, without the number of its manifests.
func (r RepositoryRow) Repository() indexer.Repository {
	return indexer.Repository{
		Name: r.Name, Title: r.Title, Description: r.Description,
		Tags: r.Tags, UpdatedAt: r.UpdatedAt, Leading: r.LeadingTag,
		TagsWith: indexer.TagsWith{
			Of: r.OwnTags, Signature: r.SignatureTags, SBOM: r.SBOMTags, Attestation: r.AttestationTags,
		},
	}
}

// foundColumns are the columns of a foundRow in repository_search AS s.
const foundColumns = RepositoryColumns + ", s.size, s.pulls, s.pulled_at, s.facts"

type foundRow struct {
	RepositoryRow
	Size, Pulls int64
	PulledAt    *time.Time
	Facts       []indexer.Fact
}

func (rd *Reader) results(rows []foundRow, err error) (results []indexer.Result, _ error) {
	for _, r := range rows {
		found := r.Repository()
		results = append(results, indexer.Result{
			Repository: found, Official: slices.Contains(rd.official, found.Namespace()),
			Size: r.Size, Pulls: r.Pulls, PulledAt: pg.TimeOrZero(r.PulledAt), Facts: r.Facts,
		})
	}
	return results, err
}

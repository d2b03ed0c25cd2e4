package search

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

const (
	// A search reads and sorts at most fewRows matching repositories: 6,000, some
	// 7 ms. If more match, it walks the repositories in the requested order and skips
	// those that do not match. The more match, the sooner a page is full: with 6,000
	// of a million after 4,000 rows, which takes as long.
	fewRows = 6000
	// A search reads at most fewImages images with a label to find their
	// repositories: 4,000, enough for 400 repositories of ten images.
	fewImages = 4000
	// A search checks the images of at most fewDoubtful repositories one repository
	// after another: 640, about 20 ms, and ten rows of a sample.
	fewDoubtful = 640
	// A search sorts at most coldRows equally good matches of the last tier: 2,000. If
	// a common word has more, the search takes the first ones that it finds.
	coldRows = 2000
)

// A search is a query, compiled to conditions on repository_search AS s.
type search struct {
	query.Query
	words        string // tsquery of all clauses that are words only; "" if there is none
	firm         string // clauses of words without a prefix, or whose prefixes spell has replaced
	loose        string // the other clauses of words
	aside        bool   // whether loose is checked in the rows, without the index
	asideInTotal bool   // whether loose is checked in the rows when the total is counted
	index        sq.And // other conditions that the indexes of words and terms serve
	filters      sq.And // conditions without those indexes
	costly       bool   // whether filters read more than the row
	drivers      []driver
	images       []query.Clause // clauses that one image must fulfil; they are part of index and filters too
}

func newSearch(q query.Query) *search {
	q.Clauses = withoutReferences(q.Clauses)
	s := &search{Query: q}
	var words []string
	for _, c := range q.Clauses {
		switch {
		case onlyWords(c):
			words = append(words, tsqueryOf(c))
		case aboutImages(c):
			s.images = append(s.images, c)
		case len(c) > 1:
			s.add(anyOf(c))
		default:
			s.add(conditionOf(c[0]))
		}
		if len(c) == 1 {
			s.drive(c[0])
		}
	}
	if len(s.images) > 0 {
		s.add(ofImages(s.images))
	}
	if q.After != "" {
		s.filters = append(s.filters, sq.Expr("s.name > ?", q.After))
	}
	s.words = strings.Join(words, " & ")
	s.firm = s.words
	return s
}

// withoutReferences splits each clause that is a single pasted reference
// ("nginx:1.25") into its words and a condition on the tag of an image.
func withoutReferences(clauses []query.Clause) []query.Clause {
	var all []query.Clause
	for _, c := range clauses {
		if len(c) == 1 && c[0].Tag != "" && !c[0].Not {
			words := c[0]
			words.Tag = ""
			all = append(all, query.Clause{words}, query.Clause{{Field: query.FieldTag, Value: c[0].Tag}})
			continue
		}
		all = append(all, c)
	}
	return all
}

func (s *search) add(c rowCondition) {
	if c.index != nil {
		s.index = append(s.index, c.index)
	}
	if c.filter != nil {
		s.filters, s.costly = append(s.filters, c.filter), s.costly || c.costly
	}
}

// anyOf returns the condition of a clause of several terms.
func anyOf(clause query.Clause) rowCondition {
	any, costly := sq.Or{}, false
	for _, t := range clause {
		c := conditionOf(t)
		any, costly = append(any, c.whole()), costly || c.costly
	}
	return rowCondition{filter: any, costly: costly}
}

// A driver is a statement that returns the ids of all repositories that one term
// allows, possibly more than once.
type driver struct {
	ids sq.Sqlizer
	// sample selects one in sampleShare of the rows that ids reads; nil if the
	// statistics of Postgres are enough to estimate their number.
	sample sq.Sqlizer
	// doubt selects, among one in sampleShare of the repositories, those whose row
	// does not tell whether they fulfil the term; nil if rows never do. If there are
	// few, checking their images is faster than ids.
	doubt sq.Sqlizer
	most  float64 // the driver is used if it reads at most this number of rows
}

// drive adds a driver for a term if an index serves it, other than those of words and
// terms.
func (s *search) drive(t query.Term) {
	if t.Not {
		return
	}
	d := driver{most: fewRows}
	switch t.Field {
	case query.FieldDigest:
		from, to := digestRange(t.Value)
		d.ids = sq.Expr("SELECT repository_id FROM manifest WHERE digest BETWEEN ? AND ?", from, to)
	case query.FieldTag:
		if isGlob(t.Value) {
			return
		}
		d.ids = sq.Expr("SELECT repository_id FROM tag WHERE name = ?", t.Value)
	case query.FieldRepository, query.FieldNamespace:
		d.ids = sq.Expr("SELECT repository_id FROM repository_search s WHERE ?", nameCondition(t))
	case query.FieldLabel, query.FieldAnnotation:
		term, exact := termOf(t)
		if !t.Valued || !exact || term == "" {
			return // the row of the repository shows whether it has a key
		}
		d = driver{
			ids:    sq.Expr("SELECT repository_id FROM image_search i WHERE ?", imageHas(term)),
			sample: sq.Expr("SELECT FROM image_search i WHERE hashint8(i.manifest_id) % 64 = 0 AND ?", imageHas(term)),
			doubt:  sq.Expr("SELECT FROM repository_search s WHERE ? AND ? AND NOT ?", inSample, ofOneImage(t).index, hasTerm(term)),
			most:   fewImages,
		}
	default:
		return
	}
	s.drivers = append(s.drivers, d)
}

// Search returns one page of the repositories that q selects, in the order of q. The
// order of relevance: repositories whose name is the text; whose last path component
// is the text; whose last path component begins with it; with all words in the name;
// with all words anywhere. Equal matches are sorted by tier, then by most pulls, then
// by latest change.
func (rd *Reader) Search(ctx context.Context, q query.Query) (indexer.Results, error) {
	s := newSearch(q)
	results, err := rd.search(ctx, s)
	return results, pg.Wrap("search", err)
}

func (rd *Reader) search(ctx context.Context, s *search) (indexer.Results, error) {
	p, err := rd.plan(ctx, s)
	if err != nil {
		return indexer.Results{}, err
	}
	return rd.show(ctx, s, p)
}

// found returns the ids of one page of results.
func (rd *Reader) found(ctx context.Context, s *search) ([]int32, error) {
	p, err := rd.plan(ctx, s)
	if err != nil {
		return nil, err
	}
	return pg.Column[int32](ctx, rd.db, "SELECT repository_id FROM ("+p.sql+") AS page ORDER BY place", p.args...)
}

// A page is a statement that selects the place and repository_id of the results of
// one page, and the total, or null if it does not count it.
type page struct {
	sql  string
	args []any
	ids  []int32 // all candidates; nil if they are not known
}

// plan chooses the method that reads the fewest rows.
func (rd *Reader) plan(ctx context.Context, s *search) (page, error) {
	if hasPrefix(s.Query) {
		if err := rd.spell(ctx, s); err != nil {
			return page{}, err
		}
	}
	ids, few, err := rd.candidates(ctx, s)
	if err == nil && !few {
		err = rd.setAside(ctx, s)
	}
	switch {
	case err != nil:
		return page{}, err
	case few:
		return s.sorted(ids)
	case s.aside:
		return s.sorted(nil)
	case s.words != "" && s.Sort == query.SortRelevance:
		return s.ranked()
	case len(s.served()) > 0:
		n, err := rd.expected(ctx, s.served(), fewRows)
		if err != nil {
			return page{}, err
		}
		if n <= fewRows {
			return s.sorted(nil)
		}
	}
	return s.walked()
}

// candidates returns all repositories that the narrowest driver allows, if they are
// few.
func (rd *Reader) candidates(ctx context.Context, s *search) (ids []int32, few bool, err error) {
	var best *driver
	var least float64
	for _, d := range s.drivers {
		n, err := rd.rowsOf(ctx, d)
		if err != nil {
			return nil, false, err
		}
		if n <= d.most && (best == nil || n < least) {
			least, best = n, &d
		}
	}
	if best == nil {
		return nil, false, nil
	}
	// The estimate may be wrong: if there are too many rows, they are not used.
	limit := 2 * int(best.most)
	sql, args, err := pg.Statement("SELECT repository_id FROM (?) AS all_of_them LIMIT ?", best.ids, limit)
	if err != nil {
		return nil, false, err
	}
	if ids, err = pg.Column[int32](ctx, rd.db, sql, args...); err != nil || len(ids) == limit {
		return nil, false, err
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return ids, true, nil
}

// rowsOf returns how many rows a driver is expected to read. Above d.most, the number
// is only a lower bound. It is infinite if the driver is not needed.
func (rd *Reader) rowsOf(ctx context.Context, d driver) (n float64, err error) {
	if d.sample == nil {
		return pg.Estimate(ctx, rd.db, d.ids)
	}
	doubtful, err := rd.sampled(ctx, d.doubt, fewDoubtful/sampleShare+1)
	if err != nil || doubtful <= fewDoubtful/sampleShare {
		return math.Inf(1), err
	}
	found, err := rd.sampled(ctx, d.sample, int(d.most)/sampleShare+1)
	return float64(found * sampleShare), err
}

// served returns the conditions that the indexes of words and terms serve.
func (s *search) served() sq.And {
	words := s.words
	if s.aside {
		words = s.firm
	}
	var all sq.And
	if words != "" {
		all = append(all, sq.Expr("s.all_words @@ ?::text::tsquery", words))
	}
	return append(all, s.index...)
}

// everything returns all conditions of the search.
func (s *search) everything() sq.And {
	all := append(append(sq.And{sq.Expr("true")}, s.served()...), s.filters...)
	if s.aside {
		all = append(all, sq.Expr("(s.all_words @@ ?::text::tsquery) IS TRUE", s.loose))
	}
	return all
}

// class returns an expression for how well a repository matches; 0 is best.
func (s *search) class() sq.Sqlizer {
	if s.words == "" || s.Name == "" {
		return sq.Expr("CASE WHEN s.name_words @@ ?::text::tsquery THEN 3 ELSE 4 END", s.words)
	}
	return sq.Expr(`CASE WHEN s.name = ? THEN 0 WHEN s.basename = ? THEN 1 WHEN s.basename > ? AND s.basename < ? THEN 2
		WHEN s.name_words @@ ?::text::tsquery THEN 3 ELSE 4 END`, s.Name, s.Name, s.Name, s.Name+"~", s.words)
}

// order returns the columns of s that the results are sorted by.
func (s *search) order() string {
	switch s.Sort {
	case query.SortName:
		return "s.name"
	case query.SortUpdated:
		return "s.updated_at DESC, s.repository_id DESC"
	case query.SortSize:
		return "s.size DESC, s.repository_id DESC"
	case query.SortPulls:
		return "s.pulls DESC, s.repository_id DESC"
	}
	if s.words == "" {
		return "s.updated_at DESC, s.repository_id DESC"
	}
	return "class, s.tier, s.pulls DESC, s.updated_at DESC, s.repository_id DESC"
}

// show reads the results of a page.
func (rd *Reader) show(ctx context.Context, s *search, p page) (indexer.Results, error) {
	type row struct {
		foundRow
		Total *int
	}
	// OFFSET 0 makes Postgres read the rows of a page one by one. Otherwise it would
	// read the texts of all rows before sorting, and sort them too.
	rows, err := pg.Collect[row](ctx, rd.db, `
		SELECT `+RepositoryColumns+`, s.size, s.pulls, s.facts, page.total FROM (`+p.sql+`) AS page
		CROSS JOIN LATERAL (SELECT * FROM repository_search s WHERE s.repository_id = page.repository_id OFFSET 0) AS s
		ORDER BY page.place`, p.args...)
	if err != nil {
		return indexer.Results{}, err
	}
	results := indexer.Results{Total: len(rows)}
	for _, r := range rows {
		results.Items = append(results.Items, rd.result(r.foundRow))
	}
	switch {
	case len(rows) > 0 && rows[0].Total != nil:
		results.Total = min(*rows[0].Total, query.MaxTotal)
	case s.Offset > 0 || len(rows) == s.Limit: // otherwise the first page is not full, so it has all results
		results.Total, err = rd.total(ctx, s, p.ids)
	}
	return results, err
}

// sorted reads all matching repositories and sorts them. If ids is not nil, only
// those repositories can match.
func (s *search) sorted(ids []int32) (page, error) {
	matching := s.matching("s.repository_id, s.tier, s.pulls, s.updated_at, s.size, s.name, ? AS class", ids, s.class())
	sql, args, err := pg.Statement("SELECT row_number() OVER () AS place, page.* FROM ("+
		"SELECT s.repository_id, count(*) OVER () AS total FROM (?) AS s ORDER BY "+s.order()+" LIMIT ? OFFSET ?) AS page",
		matching, s.Limit, s.Offset)
	return page{sql, args, ids}, err
}

// matching returns a query for columns of all repositories that match, only among ids
// if not nil. args are parameters in columns.
func (s *search) matching(columns string, ids []int32, args ...any) sq.Sqlizer {
	one := func(conditions ...sq.Sqlizer) sq.Sqlizer {
		return sq.Expr("SELECT "+columns+" FROM repository_search s WHERE (?)", append(args, append(s.everything(), conditions...))...)
	}
	if ids != nil {
		return one(sq.Expr("s.repository_id = ANY(?)", ids))
	}
	if len(s.served()) == 0 {
		return one()
	}
	return sq.Expr("? UNION ALL ? UNION ALL ?", one(sq.Expr("s.tier = 0")), one(sq.Expr("s.tier = 1")), one(sq.Expr("s.tier = 2")))
}

// walked reads all repositories in the requested order and takes those that match.
// OFFSET 0 makes Postgres follow the index of that order, whatever number of rows it
// expects.
func (s *search) walked() (page, error) {
	order := s.order()
	if strings.HasPrefix(order, "class") {
		order = "s.updated_at DESC, s.repository_id DESC"
	}
	all := sq.Expr("SELECT * FROM repository_search s WHERE s.name > ? ORDER BY "+order, s.After)
	if strings.HasPrefix(order, "s.updated_at") { // this index is on the table repository, so that a push writes few index entries
		all = sq.Expr("SELECT s.id AS repository_id, s.updated_at FROM repository s ORDER BY s.updated_at DESC, s.id DESC")
	}
	sql, args, err := pg.Statement("SELECT row_number() OVER () AS place, page.*, NULL::bigint AS total FROM ("+
		"SELECT s.repository_id FROM (? OFFSET 0) AS walk CROSS JOIN LATERAL ("+
		"SELECT * FROM repository_search s WHERE s.repository_id = walk.repository_id OFFSET 0) AS s WHERE (?) LIMIT ? OFFSET ?) AS page",
		all, append(sq.And{hidden(s.served())}, s.filters...), s.Limit, s.Offset)
	return page{sql, args, nil}, err
}

// hidden returns conditions in a form for which Postgres uses no index.
func hidden(conditions sq.And) sq.Sqlizer {
	return sq.Expr("(?) IS TRUE", append(sq.And{sq.Expr("true")}, conditions...))
}

// ranked finds words in order of relevance: one class after another, and in each
// class one tier after another. Postgres stops when the page is full; for a common
// word, the bitmap of a million repositories alone would take 70 ms.
//
// All branches share their parameters: the name, the end of the range of names that
// begin with it, the words, offset plus limit of the page, its limit, its offset, and
// those of the other conditions.
func (s *search) ranked() (page, error) {
	// The question marks before the first separator only reserve the parameters $1 to
	// $6.
	others, args, err := pg.Statement("? ? ? ? ? ?"+pg.Separator+"?"+pg.Separator+"?"+pg.Separator+"?", s.Name, s.Name+"~", s.words, s.Limit+s.Offset, s.Limit, s.Offset,
		append(sq.And{sq.Expr("true")}, s.index...), append(sq.And{sq.Expr("true")}, s.filters...), hidden(s.index))
	if err != nil {
		return page{}, err
	}
	parts := strings.Split(others, pg.Separator)
	index, filters, unserved := parts[1], parts[2], parts[3]
	const (
		name   = "s.name = $1"
		base   = "s.basename = $1"
		longer = "s.basename > $1 AND s.basename < $2"
		inName = "s.name_words @@ $3::text::tsquery"
		inAll  = "s.all_words @@ $3::text::tsquery"
		inBest = name + " OR " + base + " OR " + longer
	)
	classes := []struct{ driver, not string }{
		{name + " AND " + unserved, "false"},
		{base + " AND " + unserved, name},
		{longer + " AND (" + inAll + ") IS TRUE AND " + unserved, "false"}, // only the last word is a prefix
		{inName + " AND " + index, inBest},
		{inAll + " AND " + index, inBest + " OR " + inName},
	}
	if s.Name == "" {
		classes = classes[3:]
		classes[0].not, classes[1].not = "false", inName
	}
	var branches []string
	for _, c := range classes {
		for tier := range 3 {
			most := ""
			if tier == 2 {
				most = fmt.Sprintf("LIMIT GREATEST(%d, $4)", coldRows)
			}
			branches = append(branches, fmt.Sprintf(`(SELECT s.repository_id FROM (
				SELECT s.repository_id, s.pulls, s.updated_at, s.name, s.basename, s.name_words
				FROM repository_search s WHERE s.tier = %d AND %s AND %s %s OFFSET 0) AS s
			WHERE NOT (%s) ORDER BY s.pulls DESC, s.updated_at DESC, s.repository_id DESC LIMIT $4)`, tier, c.driver, filters, most, c.not))
		}
	}
	// Every parameter must occur and have a type, even if no branch uses it.
	const typed = "$1::text IS NOT NULL AND $2::text IS NOT NULL AND $3::text IS NOT NULL"
	sql := "SELECT row_number() OVER () AS place, best.repository_id, NULL::bigint AS total FROM (" + strings.Join(branches, " UNION ALL ") +
		" LIMIT $5::bigint OFFSET $6::bigint) AS best WHERE " + typed
	return page{sql, args, nil}, nil
}

// RepositoryColumns are the columns of a RepositoryRow in repository_search AS s.
const RepositoryColumns = "s.name, s.title, s.description, s.tags, s.updated_at, COALESCE(s.leading_tag, '') AS leading_tag, s.own_tags, s.signature_tags, s.sbom_tags, s.attestation_tags"

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
	return indexer.Repository{Name: r.Name, Title: r.Title, Description: r.Description, Tags: r.Tags, UpdatedAt: r.UpdatedAt, Leading: r.LeadingTag,
		TagsWith: indexer.TagsWith{Of: r.OwnTags, Signature: r.SignatureTags, SBOM: r.SBOMTags, Attestation: r.AttestationTags}}
}

type foundRow struct {
	RepositoryRow
	Size, Pulls int64
	Facts       []indexer.Fact
}

func (rd *Reader) result(r foundRow) indexer.Result {
	found := r.Repository()
	return indexer.Result{
		Repository: found, Official: slices.Contains(rd.official, found.Namespace()), Size: r.Size, Pulls: r.Pulls, Facts: r.Facts,
	}
}

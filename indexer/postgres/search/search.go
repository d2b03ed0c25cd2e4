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
	// fewRows is up to how many repositories a search reads all of and sorts:
	// 6,000, some 7 ms. With more of a million it walks them in the order asked for
	// and leaves out those that do not match, which finds a page the sooner the
	// more of them do: of 6,000 in 4,000 steps, which take as long.
	fewRows = 6000
	// fewImages is up to how many images with a label are read for the
	// repositories that they are of: 4,000, ten of each.
	fewImages = 4000
	// fewDoubtful is up to how many repositories are asked for their images one by
	// one: 640, some 20 ms, and ten of a sample.
	fewDoubtful = 640
	// coldRows is how many of the repositories of the last tier that match in
	// the same way are compared: 2,000. Of more, which are common words in names
	// that nobody asks for, the first found are taken.
	coldRows = 2000
)

// A search is a query, made into conditions on repository_search AS s.
type search struct {
	query.Query
	words        string // a tsquery of all clauses that are words alone; "" if there is none
	firm         string // of those, the ones that are no beginnings of too many words
	loose        string // and the others
	aside        bool   // whether loose ones are looked at in the rows, and not asked of the index
	asideInTotal bool   // whether they are so when the total is counted
	index        sq.And // conditions beside the words that the same indexes serve
	filters      sq.And // the others
	dear         bool   // whether filters take more than a look at the row
	drivers      []driver
	images       []query.Clause // those that one and the same image must fulfil; they stand among the conditions too
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

// withoutReferences returns clauses in which a pasted reference that stands by
// itself ("nginx:1.25") is its words, and its tag as a condition on an image.
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
		s.filters, s.dear = append(s.filters, c.filter), s.dear || c.dear
	}
}

// anyOf gives a clause of several terms.
func anyOf(clause query.Clause) rowCondition {
	any, dear := sq.Or{}, false
	for _, t := range clause {
		c := conditionOf(t)
		any, dear = append(any, c.whole()), dear || c.dear
	}
	return rowCondition{filter: any, dear: dear}
}

// A driver is a statement that gives the ids of all repositories that one term
// allows, some of them more than once.
type driver struct {
	ids sq.Sqlizer
	// sample selects one in sampleShare of the rows that ids reads; nil if the
	// statistics of Postgres know how many these are.
	sample sq.Sqlizer
	// doubt selects, of one in sampleShare of the repositories, those whose row
	// does not tell whether the term allows them; nil if no row does. Are they few,
	// the rows are quicker.
	doubt sq.Sqlizer
	most  float64 // rows up to which reading all of them is quick
}

// drive adds the driver of a term, if an index other than that of words and
// terms serves it.
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
			return // whether a key is there, the row of the repository tells
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

// Search gives one page of the repositories that q selects, in the order that it
// asks for. The order of relevance: the repository whose name is the text, then
// those whose last path component is, then those where that begins with it, then
// those that have every word in their name, then those that have them anywhere;
// among equals the tier, what is pulled more, what changed later.
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

// found gives the ids of a page of what is searched for.
func (rd *Reader) found(ctx context.Context, s *search) ([]int32, error) {
	p, err := rd.plan(ctx, s)
	if err != nil {
		return nil, err
	}
	return pg.Column[int32](ctx, rd.db, "SELECT repository_id FROM ("+p.sql+") AS page ORDER BY place", p.args...)
}

// A page is a statement that selects the place and repository_id of one page, and
// the total, null if it has not counted.
type page struct {
	sql  string
	args []any
	ids  []int32 // to which the search is narrowed; nil if it is not
}

// plan chooses the way that reads least.
func (rd *Reader) plan(ctx context.Context, s *search) (page, error) {
	if beginning(s.Query) {
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

// candidates gives all repositories that the narrowest driver allows, if they
// are few.
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
	// What was expected may be wrong: more than that are counted and left.
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

// rowsOf is how many rows a driver is expected to read; beyond what is few it is
// any number beyond, as for one that is not needed.
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

// served are the conditions that the indexes of words and terms serve.
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

// everything is all conditions of the search.
func (s *search) everything() sq.And {
	all := append(append(sq.And{sq.Expr("true")}, s.served()...), s.filters...)
	if s.aside {
		all = append(all, sq.Expr("(s.all_words @@ ?::text::tsquery) IS TRUE", s.loose))
	}
	return all
}

// class is how well a repository matches, best 0.
func (s *search) class() sq.Sqlizer {
	if s.words == "" || s.Name == "" {
		return sq.Expr("CASE WHEN s.name_words @@ ?::text::tsquery THEN 3 ELSE 4 END", s.words)
	}
	return sq.Expr(`CASE WHEN s.name = ? THEN 0 WHEN s.basename = ? THEN 1 WHEN s.basename > ? AND s.basename < ? THEN 2
		WHEN s.name_words @@ ?::text::tsquery THEN 3 ELSE 4 END`, s.Name, s.Name, s.Name, s.Name+"~", s.words)
}

// order gives the columns of s that a search is sorted by.
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

// show reads a page.
func (rd *Reader) show(ctx context.Context, s *search, p page) (indexer.Results, error) {
	type row struct {
		foundRow
		Total *int
	}
	// The rows of a page are read one by one, behind a fence: else Postgres would
	// read their texts before it sorts, and sort them too.
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
	case s.Offset > 0 || len(rows) == s.Limit: // else the page is not full, and so tells it
		results.Total, err = rd.total(ctx, s, p.ids)
	}
	return results, err
}

// sorted reads all that match and sorts them; ids, if not nil, are all that may.
func (s *search) sorted(ids []int32) (page, error) {
	matching := s.matching("s.repository_id, s.tier, s.pulls, s.updated_at, s.size, s.name, ? AS class", ids, s.class())
	sql, args, err := pg.Statement("SELECT row_number() OVER () AS place, page.* FROM ("+
		"SELECT s.repository_id, count(*) OVER () AS total FROM (?) AS s ORDER BY "+s.order()+" LIMIT ? OFFSET ?) AS page",
		matching, s.Limit, s.Offset)
	return page{sql, args, ids}, err
}

// matching selects columns of all repositories that match, of those with ids if
// they are given. args are of the columns.
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

// walked goes through all repositories in the order asked for, and takes those
// that match. The fences have Postgres go by the index, however many it expects.
func (s *search) walked() (page, error) {
	order := s.order()
	if strings.HasPrefix(order, "class") {
		order = "s.updated_at DESC, s.repository_id DESC"
	}
	all := sq.Expr("SELECT * FROM repository_search s WHERE s.name > ? ORDER BY "+order, s.After)
	if strings.HasPrefix(order, "s.updated_at") { // the index stands where no other does, so that a push writes few
		all = sq.Expr("SELECT s.id AS repository_id, s.updated_at FROM repository s ORDER BY s.updated_at DESC, s.id DESC")
	}
	sql, args, err := pg.Statement("SELECT row_number() OVER () AS place, page.*, NULL::bigint AS total FROM ("+
		"SELECT s.repository_id FROM (? OFFSET 0) AS walk CROSS JOIN LATERAL ("+
		"SELECT * FROM repository_search s WHERE s.repository_id = walk.repository_id OFFSET 0) AS s WHERE (?) LIMIT ? OFFSET ?) AS page",
		all, append(sq.And{hidden(s.served())}, s.filters...), s.Limit, s.Offset)
	return page{sql, args, nil}, err
}

// hidden keeps Postgres from using an index for conditions.
func hidden(conditions sq.And) sq.Sqlizer {
	return sq.Expr("(?) IS TRUE", append(sq.And{sq.Expr("true")}, conditions...))
}

// ranked finds words in order of relevance: class after class, and in each tier
// after tier. Postgres goes no further than the page is long; the bitmap of a
// common word over all repositories alone would take 70 ms of a million.
//
// All branches share their parameters: the name, the end of the names that begin
// with it, the words, the depth of the page, its limit and offset, and those of
// the other conditions.
func (s *search) ranked() (page, error) {
	// The question marks before the first separator only count the parameters.
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
		{longer + " AND (" + inAll + ") IS TRUE AND " + unserved, "false"}, // a word before others is no beginning of a longer one
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
	// Every parameter is there whether it is needed or not, and has its type.
	const typed = "$1::text IS NOT NULL AND $2::text IS NOT NULL AND $3::text IS NOT NULL"
	sql := "SELECT row_number() OVER () AS place, best.repository_id, NULL::bigint AS total FROM (" + strings.Join(branches, " UNION ALL ") +
		" LIMIT $5::bigint OFFSET $6::bigint) AS best WHERE " + typed
	return page{sql, args, nil}, nil
}

// RepositoryColumns are the columns of a RepositoryRow, of repository_search AS s.
const RepositoryColumns = "s.name, s.title, s.description, s.tags, s.updated_at, COALESCE(s.leading_tag, '') AS leading_tag, s.own_tags, s.signature_tags, s.sbom_tags, s.attestation_tags"

// A RepositoryRow is what repository_search says of a repository in lists.
type RepositoryRow struct {
	Name, Title, Description                          string
	Tags                                              int
	UpdatedAt                                         time.Time
	LeadingTag                                        string
	OwnTags, SignatureTags, SBOMTags, AttestationTags int
}

// Repository returns the row as a repository, without the number of its manifests.
func (r RepositoryRow) Repository() indexer.Repository {
	return indexer.Repository{Name: r.Name, Title: r.Title, Description: r.Description, Tags: r.Tags, UpdatedAt: r.UpdatedAt, Leading: r.LeadingTag,
		TagsWith: indexer.TagsWith{Of: r.OwnTags, Signature: r.SignatureTags, SBOM: r.SBOMTags, Attestation: r.AttestationTags}}
}

type foundRow struct {
	RepositoryRow
	Size, Pulls int64
	Facts       []string
}

func (rd *Reader) result(r foundRow) indexer.Result {
	found := r.Repository()
	return indexer.Result{
		Repository: found, Official: slices.Contains(rd.official, found.Namespace()), Size: r.Size, Pulls: r.Pulls, Facts: r.Facts,
	}
}

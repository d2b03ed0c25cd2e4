package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
)

const (
	// fewRows is up to how many repositories a search reads all of and sorts:
	// 10,000, some 20 ms. With more it walks them in the order asked for and
	// leaves out those that do not match, which finds a page the sooner the more
	// of them do.
	fewRows = 10_000
	// coldRows is how many of the repositories of the last tier that match in
	// the same way are compared: 2,000. Of more, which are common words in names
	// that nobody asks for, the first found are taken.
	coldRows = 2000
)

// A search is a query, made into conditions on repository_search AS s.
type search struct {
	indexer.Query
	words   string       // a tsquery of all clauses that are words alone; "" if there is none
	filters sq.And       // the other clauses
	drivers []sq.Sqlizer // statements of which each gives all repository ids that one clause allows

	uncounted bool // the total is not asked for
}

func newSearch(q indexer.Query) *search {
	s := &search{Query: q}
	var words []string
	var image sq.And
	for _, c := range q.Clauses {
		switch {
		case onlyWords(c):
			words = append(words, tsqueryOf(c))
		case len(c) == 1 && !c[0].Not && ofImage(c[0].Field):
			image = append(image, imageCondition(c[0]))
			s.filters = append(s.filters, summary(c[0])...)
			s.drive(c[0])
		case len(c) == 1:
			s.filters = append(s.filters, repositoryCondition(c[0]))
			if !c[0].Not {
				s.drive(c[0])
			}
		default:
			any := sq.Or{}
			for _, t := range c {
				any = append(any, repositoryCondition(t))
			}
			s.filters = append(s.filters, any)
		}
	}
	if len(image) > 0 {
		s.filters = append(s.filters, hasImage(image))
	}
	if q.After != "" {
		s.filters = append(s.filters, sq.Expr("s.name > ?", q.After))
	}
	s.words = strings.Join(words, " & ")
	return s
}

// onlyWords reports whether an index of words serves a clause.
func onlyWords(c indexer.Clause) bool {
	return !slices.ContainsFunc(c, func(t indexer.Term) bool { return t.Field != indexer.FieldText || t.Tag != "" || t.Not })
}

// ofImage reports whether a field asks about an image, and not about the
// repository as a whole.
func ofImage(f indexer.Field) bool {
	switch f {
	case indexer.FieldTag, indexer.FieldOS, indexer.FieldArchitecture, indexer.FieldPlatform, indexer.FieldType, indexer.FieldLabel,
		indexer.FieldAnnotation, indexer.FieldSize, indexer.FieldLayers, indexer.FieldCreated, indexer.FieldPushed:
		return true
	}
	return false
}

// tsqueryOf makes a tsquery of a clause of words.
func tsqueryOf(c indexer.Clause) string {
	var any []string
	for _, t := range c {
		any = append(any, tsquery(t))
	}
	return "(" + strings.Join(any, " | ") + ")"
}

// tsquery asks for every word of a term. Words hold letters and digits only; the
// quotes keep them from being operators.
func tsquery(t indexer.Term) string {
	quoted := make([]string, len(t.Words))
	for i, w := range t.Words {
		quoted[i] = "'" + w[:min(len(w), maxLexeme)] + "'"
	}
	operator := " & "
	if t.Phrase {
		operator = " <-> "
	}
	text := strings.Join(quoted, operator)
	if t.Prefix {
		text += ":*"
	}
	return "(" + text + ")"
}

// repositoryCondition is one term as a condition on a repository.
func repositoryCondition(t indexer.Term) sq.Sqlizer {
	var c sq.Sqlizer
	switch t.Field {
	case indexer.FieldText:
		c = sq.Expr("s.all_words @@ ?::text::tsquery", tsquery(t))
		if t.Tag != "" {
			c = sq.And{c, hasImage(imageCondition(indexer.Term{Field: indexer.FieldTag, Value: t.Tag}))}
		}
	case indexer.FieldRepository:
		c = glob("s.name", t.Value)
	case indexer.FieldNamespace:
		c = glob("s.name", likeLiteral(t.Value)+"/*")
	case indexer.FieldHas:
		c = sq.Expr("s.facts @> ARRAY[?::text]", "has:"+t.Value)
	case indexer.FieldIs:
		if c = sq.Expr("s.facts @> ARRAY[?::text]", "is:"+t.Value); t.Value == "tagged" {
			c = sq.Expr("s.tags > 0")
		}
	case indexer.FieldDigest:
		from, to := digestRange(t.Value)
		c = sq.Expr("EXISTS (SELECT FROM manifest m WHERE m.repository_id = s.repository_id AND m.digest BETWEEN ? AND ?)", from, to)
	default:
		c = sq.And(append(summary(t), hasImage(imageCondition(t))))
	}
	if t.Not {
		return sq.Expr("NOT (?)", c)
	}
	return c
}

// likeLiteral keeps a namespace from being a glob beyond its stars.
func likeLiteral(s string) string { return strings.TrimSuffix(s, "/") }

// hasImage asks for an image of the repository. OFFSET 0 keeps Postgres from
// looking for such images of all repositories first, which of a common label
// takes seconds.
func hasImage(c sq.Sqlizer) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM image_search i WHERE i.repository_id = s.repository_id AND (?) OFFSET 0)", c)
}

// summary is what the search row of a repository knows of a term about images:
// quicker to look at, and true for every repository for which the term is.
func summary(t indexer.Term) sq.And {
	if fact := factOf(t); fact != "" {
		return sq.And{sq.Expr("s.facts @> ARRAY[?::text]", fact)}
	}
	return nil
}

// factOf gives a term as it stands among the facts, "" if it does not.
func factOf(t indexer.Term) string {
	prefix := map[indexer.Field]string{
		indexer.FieldOS: "os:", indexer.FieldArchitecture: "arch:", indexer.FieldPlatform: "platform:", indexer.FieldType: "type:",
	}[t.Field]
	if prefix == "" || isGlob(t.Value) {
		return ""
	}
	return prefix + t.Value
}

func isGlob(s string) bool { return strings.ContainsAny(s, "*?") }

// glob compares an expression with a value that may hold stars.
func glob(expression, value string) sq.Sqlizer {
	if isGlob(value) {
		return sq.Expr(expression+" LIKE ?", like(value))
	}
	return sq.Expr(expression+" = ?", indexer.CleanText(value))
}

// imageCondition is a term as a condition on image_search AS i.
func imageCondition(t indexer.Term) sq.Sqlizer {
	switch t.Field {
	case indexer.FieldTag:
		if isGlob(t.Value) {
			return sq.Expr("EXISTS (SELECT FROM unnest(i.tags) AS tag WHERE tag LIKE ?)", like(t.Value))
		}
		return sq.Expr("i.tags @> ARRAY[?::text]", t.Value)
	case indexer.FieldLabel:
		return keyCondition(t, "label:", "m.labels")
	case indexer.FieldAnnotation:
		return keyCondition(t, "annotation:", "m.annotations")
	case indexer.FieldSize:
		return sq.Expr("i.size "+operator(t.Compare)+" ?", t.Number)
	case indexer.FieldLayers:
		return sq.Expr("i.layers "+operator(t.Compare)+" ?", t.Number)
	case indexer.FieldCreated:
		return within("i.created_at", t)
	case indexer.FieldPushed:
		return within("i.pushed_at", t)
	}
	if fact := factOf(t); fact != "" {
		return sq.Expr("i.facts @> ARRAY[?::text]", fact)
	}
	prefix := map[indexer.Field]string{
		indexer.FieldOS: "os:", indexer.FieldArchitecture: "arch:", indexer.FieldPlatform: "platform:", indexer.FieldType: "type:",
	}[t.Field]
	return sq.Expr("EXISTS (SELECT FROM unnest(i.facts) AS fact WHERE fact LIKE ?)", like(prefix+t.Value))
}

// operator gives a comparison as SQL has it.
func operator(c indexer.Comparison) string {
	switch c {
	case indexer.Above, indexer.AtLeast, indexer.Below, indexer.AtMost:
		return string(c)
	}
	return "="
}

// within compares a moment with the span that a date names.
func within(column string, t indexer.Term) sq.Sqlizer {
	switch t.Compare {
	case indexer.Above:
		if t.From.Equal(t.To) { // an age
			return sq.Expr(column+" > ?", t.To)
		}
		return sq.Expr(column+" >= ?", t.To)
	case indexer.AtLeast:
		return sq.Expr(column+" >= ?", t.From)
	case indexer.Below:
		return sq.Expr(column+" < ?", t.From)
	case indexer.AtMost:
		if t.From.Equal(t.To) {
			return sq.Expr(column+" <= ?", t.To)
		}
		return sq.Expr(column+" < ?", t.To)
	}
	return sq.Expr(column+" >= ? AND "+column+" < ?", t.From, t.To)
}

// maxTerm is how many characters of a key and of a value stand in the terms of
// image_search; of longer ones the manifest itself is asked.
const maxTerm = 200

// keyCondition compares a label or annotation.
func keyCondition(t indexer.Term, prefix, column string) sq.Sqlizer {
	all := sq.And{}
	term, exact := termOf(t, prefix)
	if term != "" {
		// IS TRUE hides the condition from the index, which Postgres would ask for
		// all images with the term, again for each repository that it looks at.
		all = append(all, sq.Expr("(i.terms @> ARRAY[?::text]) IS TRUE", term))
	}
	if exact {
		return all
	}
	inner := sq.And{glob("pair.key", t.Name)}
	if t.Valued {
		inner = append(inner, glob("pair.value", t.Value))
	}
	return append(all, sq.Expr("EXISTS (SELECT FROM manifest m, jsonb_each_text("+column+") AS pair "+
		"WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND (?))", inner))
}

// termOf gives the term of image_search that every image has for which t is
// true, "" if there is none; exact says that t is true for all that have it.
func termOf(t indexer.Term, prefix string) (term string, exact bool) {
	switch {
	case isGlob(t.Name):
		return "", false
	case len(t.Name) > maxTerm:
		return "", false
	case !t.Valued:
		return prefix + t.Name, true
	case isGlob(t.Value), len(t.Value) > maxTerm, strings.HasSuffix(t.Name, "created"), strings.HasSuffix(t.Name, "build-date"):
		return prefix + t.Name, false
	}
	return prefix + t.Name + separator + t.Value, true
}

// digestRange gives the least and the greatest digest that begin with the digits
// of a query.
func digestRange(value string) (from, to []byte) {
	algorithm, hex, _ := strings.Cut(value, ":")
	digits := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
	return unhex(hex + strings.Repeat("0", digits-len(hex))), unhex(hex + strings.Repeat("f", digits-len(hex)))
}

func unhex(s string) []byte {
	b := make([]byte, len(s)/2)
	for i := range b {
		fmt.Sscanf(s[2*i:2*i+2], "%02x", &b[i]) // the parser has let hexadecimal digits through alone
	}
	return b
}

// drive adds the statement that gives what a term allows, if an index serves it.
func (s *search) drive(t indexer.Term) {
	var d sq.Sqlizer
	switch t.Field {
	case indexer.FieldDigest:
		from, to := digestRange(t.Value)
		d = sq.Expr("SELECT repository_id FROM manifest WHERE digest BETWEEN ? AND ?", from, to)
	case indexer.FieldTag:
		if !isGlob(t.Value) {
			d = sq.Expr("SELECT repository_id FROM tag WHERE name = ?", t.Value)
		}
	case indexer.FieldRepository, indexer.FieldNamespace:
		if t.Field == indexer.FieldRepository && !isGlob(t.Value) {
			d = sq.Expr("SELECT repository_id FROM repository_search WHERE name = ?", t.Value)
		} else if from, to := nameRange(t); from != "" {
			d = sq.Expr("SELECT repository_id FROM repository_search WHERE name >= ? AND name < ?", from, to)
		}
	case indexer.FieldLabel, indexer.FieldAnnotation:
		if term, _ := termOf(t, string(t.Field)+":"); term != "" {
			d = sq.Expr("SELECT repository_id FROM image_search WHERE terms @> ARRAY[?::text]", term)
		}
	case indexer.FieldHas, indexer.FieldIs:
		if t.Value != "tagged" {
			d = sq.Expr("SELECT repository_id FROM repository_search WHERE facts @> ARRAY[?::text]", string(t.Field)+":"+t.Value)
		}
	default:
		if fact := factOf(t); fact != "" {
			d = sq.Expr("SELECT repository_id FROM repository_search WHERE facts @> ARRAY[?::text]", fact)
		}
	}
	if d != nil {
		s.drivers = append(s.drivers, d)
	}
}

// nameRange gives the names that a pattern allows as a range, from included and
// to not; from is "" if it begins with a star. '/' is followed by '0' in bytewise
// order, and '~' is above every character of a name.
func nameRange(t indexer.Term) (from, to string) {
	head, _, star := strings.Cut(t.Value, "*")
	head, _, mark := strings.Cut(head, "?")
	switch {
	case head == "":
		return "", ""
	case star || mark:
		return head, head + "~"
	}
	return head + "/", head + "0" // a namespace
}

// Search gives one page of the repositories that q selects, in the order that it
// asks for. The order of relevance: the repository whose name is the text, then
// those whose last path component is, then those where that begins with it, then
// those that have every word in their name, then those that have them anywhere;
// among equals the tier, what is pulled more, what changed later.
func (v *View) Search(ctx context.Context, q indexer.Query) (indexer.Results, error) {
	s := newSearch(q)
	results, err := v.search(ctx, s)
	return results, wrap("search", err)
}

func (v *View) search(ctx context.Context, s *search) (indexer.Results, error) {
	ids, few, err := v.candidates(ctx, s)
	switch {
	case err != nil:
		return indexer.Results{}, err
	case few:
		return v.sorted(ctx, s, ids)
	case s.words != "" && s.Sort == indexer.SortRelevance:
		return v.ranked(ctx, s)
	case s.words != "":
		n, err := v.estimate(ctx, sq.Expr("SELECT FROM repository_search WHERE all_words @@ ?::text::tsquery", s.words))
		if err != nil || n > fewRows {
			return v.walked(ctx, s)
		}
		return v.sorted(ctx, s, nil)
	}
	return v.walked(ctx, s)
}

// candidates gives all repositories that the narrowest driver allows, if they
// are few.
func (v *View) candidates(ctx context.Context, s *search) (ids []int32, few bool, err error) {
	least := float64(fewRows)
	var best sq.Sqlizer
	for _, d := range s.drivers {
		n, err := v.estimate(ctx, d)
		if err != nil {
			return nil, false, err
		}
		if n <= least {
			least, best = n, d
		}
	}
	if best == nil {
		return nil, false, nil
	}
	// The estimate may be wrong: more than expected are counted and left.
	sql, args, err := statement("SELECT DISTINCT repository_id FROM (SELECT repository_id FROM (?) AS all_of_them LIMIT ?) AS bounded", best, 2*fewRows)
	if err != nil {
		return nil, false, err
	}
	ids, err = column[int32](ctx, v.tx, sql, args...)
	return ids, len(ids) <= fewRows, err
}

// estimate is how many rows Postgres expects a statement to give. It knows the
// thousand most common elements of each column (ANALYZE), and mostly that others
// are rare, which is all that is asked here.
func (v *View) estimate(ctx context.Context, q sq.Sqlizer) (float64, error) {
	sql, args, err := statement("EXPLAIN (FORMAT JSON) ?", q)
	if err != nil {
		return 0, err
	}
	var raw []byte
	if err := v.tx.QueryRow(ctx, sql, args...).Scan(&raw); err != nil {
		return 0, err
	}
	var plan []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(raw, &plan); err != nil || len(plan) == 0 {
		return 0, fmt.Errorf("EXPLAIN gave %q: %w", raw, err)
	}
	return plan[0].Plan.Rows, nil
}

// statement puts parts into a statement with placeholders as Postgres has them.
func statement(text string, args ...any) (string, []any, error) {
	sql, args, err := sq.Expr(text, args...).ToSql()
	if err != nil {
		return "", nil, err
	}
	sql, err = sq.Dollar.ReplacePlaceholders(sql)
	return sql, args, err
}

// arguments puts before the arguments how a statement is planned. One of words
// alone is the same for all words, and its plan is kept; one with filters is
// planned for their values: with a plan for all, a common word with a common
// filter took 1,200 ms over 600,000 repositories, with its own 66 (measured).
func (s *search) arguments(args []any) []any {
	if len(s.filters) == 0 {
		return args
	}
	return append([]any{pgx.QueryExecModeCacheDescribe}, args...)
}

// everything is all conditions of the search.
func (s *search) everything() sq.And {
	all := sq.And{sq.Expr("true")}
	if s.words != "" {
		all = append(all, sq.Expr("s.all_words @@ ?::text::tsquery", s.words))
	}
	return append(all, s.filters...)
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
	case indexer.SortName:
		return "s.name"
	case indexer.SortUpdated:
		return "s.updated_at DESC, s.repository_id DESC"
	case indexer.SortSize:
		return "s.size DESC, s.repository_id DESC"
	case indexer.SortPulls:
		return "s.pulls DESC, s.repository_id DESC"
	}
	if s.words == "" {
		return "s.updated_at DESC, s.repository_id DESC"
	}
	return "class, s.tier, s.pulls DESC, s.updated_at DESC, s.repository_id DESC"
}

const resultColumns = "s.name, s.title, s.description, s.tags, s.updated_at, s.size, s.pulls, s.facts"

// sorted reads all candidates and sorts them; nil means all that have the words.
func (v *View) sorted(ctx context.Context, s *search, ids []int32) (indexer.Results, error) {
	where := s.everything()
	if ids != nil {
		where = append(where, sq.Expr("s.repository_id = ANY(?)", ids))
	}
	// The rows are sorted without their texts, which would go through the sort by
	// disk; the fence keeps Postgres from reading all texts for them.
	total := "count(*) OVER ()"
	if s.uncounted {
		total = "0"
	}
	sql, args, err := statement("SELECT "+resultColumns+", page.total, page.class FROM (SELECT s.repository_id, "+total+" AS total, ? AS class "+
		"FROM repository_search s WHERE (?) ORDER BY "+s.order()+" LIMIT ? OFFSET ?) AS page "+
		"CROSS JOIN LATERAL (SELECT * FROM repository_search s WHERE s.repository_id = page.repository_id OFFSET 0) AS s ORDER BY "+s.order(),
		s.class(), where, s.Limit, s.Offset)
	if err != nil {
		return indexer.Results{}, err
	}
	type row struct {
		foundRow
		Total, Class int
	}
	rows, err := collect[row](ctx, v.tx, sql, s.arguments(args)...)
	if err != nil {
		return indexer.Results{}, err
	}
	var found []foundRow
	for _, r := range rows {
		found = append(found, r.foundRow)
	}
	results := v.results(found)
	switch {
	case len(rows) > 0:
		results.Total = min(rows[0].Total, indexer.MaxTotal)
	case s.Offset > 0 && !s.uncounted:
		return results, v.count(ctx, s, &results, sq.Expr("SELECT FROM repository_search s WHERE (?)", where))
	}
	return results, nil
}

// walked goes through all repositories in the order asked for, and takes those
// that match.
func (v *View) walked(ctx context.Context, s *search) (indexer.Results, error) {
	from := "repository_search s"
	order := s.order()
	if strings.HasPrefix(order, "class") || strings.HasPrefix(order, "s.updated_at") { // the index stands where no other does, so that a push writes few
		from = "repository r JOIN repository_search s ON s.repository_id = r.id"
		order = "r.updated_at DESC, r.id DESC"
	}
	sql, args, err := statement("SELECT "+resultColumns+" FROM "+from+" WHERE (?) ORDER BY "+order+" LIMIT ? OFFSET ?",
		s.everything(), s.Limit, s.Offset)
	if err != nil {
		return indexer.Results{}, err
	}
	rows, err := collect[foundRow](ctx, v.tx, sql, s.arguments(args)...)
	if err != nil {
		return indexer.Results{}, err
	}
	results := v.results(rows)
	results.Total = len(rows)
	if !s.uncounted && (s.Offset > 0 || len(rows) == s.Limit) {
		err = v.count(ctx, s, &results, sq.Expr("SELECT FROM repository_search s WHERE (?)", s.everything()))
	}
	return results, err
}

// manyRows is how many rows Postgres must expect of a condition before it is believed
// that there are MaxTotal: three times as many. Of a word in every thirtieth of a
// million repositories ANALYZE sees a thousand, and errs by a tenth.
const manyRows = 3 * indexer.MaxTotal

// count counts what a statement gives, up to MaxTotal. Of a condition that very
// many fulfil it believes the statistics: to read ten thousand rows takes 30 ms.
func (v *View) count(ctx context.Context, s *search, results *indexer.Results, q sq.Sqlizer) error {
	if one := s.oneCondition(); one != nil {
		n, err := v.estimate(ctx, one)
		if err != nil {
			return err
		}
		if n >= manyRows {
			results.Total = indexer.MaxTotal
			return nil
		}
	}
	sql, args, err := statement("SELECT count(*) FROM (? LIMIT ?) AS capped", q, indexer.MaxTotal)
	if err != nil {
		return err
	}
	return v.tx.QueryRow(ctx, sql, s.arguments(args)...).Scan(&results.Total)
}

// oneCondition gives what selects the repositories of a query that asks for one
// word, or for one thing that stands in the search row, and for nothing else; nil
// for other queries. Of several conditions, Postgres can only guess how often
// they come together, and of images not how many repositories have them.
func (s *search) oneCondition() sq.Sqlizer {
	if len(s.Clauses) != 1 || len(s.Clauses[0]) != 1 || s.Clauses[0][0].Not {
		return nil
	}
	t := s.Clauses[0][0]
	switch fact := factOf(t); {
	case len(s.filters) == 0 && len(t.Words) == 1:
		return sq.Expr("SELECT FROM repository_search WHERE all_words @@ ?::text::tsquery", s.words)
	case fact != "":
		return sq.Expr("SELECT FROM repository_search WHERE facts @> ARRAY[?::text]", fact)
	}
	return nil
}

// ranked finds words in order of relevance: class after class, and in each tier
// after tier. Postgres goes no further than the page is long; the bitmap of a
// common word over all repositories alone would take 70 ms of a million.
func (v *View) ranked(ctx context.Context, s *search) (indexer.Results, error) {
	depth := s.Limit + s.Offset
	var branches []string
	var args []any
	add := func(class, tier int, driver, not sq.Sqlizer) error {
		cap := ""
		if tier == 2 {
			cap = fmt.Sprintf(" LIMIT %d", max(coldRows, depth))
		}
		where := append(sq.And{sq.Expr(fmt.Sprintf("s.tier = %d", tier)), driver}, s.everything()[1:]...)
		sql, more, err := sq.Expr(fmt.Sprintf(`(SELECT %d AS class, s.repository_id FROM (
				SELECT s.repository_id, s.tier, s.pulls, s.updated_at, s.name, s.basename, s.name_words
				FROM repository_search s WHERE (?)%s) AS s
			WHERE NOT (?) ORDER BY s.pulls DESC, s.updated_at DESC, s.repository_id DESC LIMIT %d)`, class, cap, depth), where, not).ToSql()
		branches, args = append(branches, sql), append(args, more...)
		return err
	}
	name := sq.Expr("s.name = ?", s.Name)
	base := sq.Expr("s.basename = ?", s.Name)
	longer := sq.Expr("s.basename > ? AND s.basename < ?", s.Name, s.Name+"~")
	if s.Name == "" {
		longer = sq.Expr("false")
	}
	inName := sq.Expr("s.name_words @@ ?::text::tsquery", s.words)
	classes := []struct {
		driver, not sq.Sqlizer
	}{
		{name, sq.Expr("false")},
		{base, name},
		{longer, name},
		{inName, sq.Or{name, base, longer}},
		{sq.Expr("s.all_words @@ ?::text::tsquery", s.words), sq.Or{name, base, longer, inName}},
	}
	for class, c := range classes {
		if s.Name == "" && class < 3 {
			continue
		}
		for tier := range 3 {
			if err := add(class, tier, c.driver, c.not); err != nil {
				return indexer.Results{}, err
			}
		}
	}
	text := "SELECT " + resultColumns + " FROM (SELECT row_number() OVER () AS place, best.* FROM (" +
		strings.Join(branches, " UNION ALL ") + fmt.Sprintf(" LIMIT %d OFFSET %d) AS best) AS page ", s.Limit, s.Offset) +
		"JOIN repository_search s USING (repository_id) ORDER BY page.place"
	sql, err := sq.Dollar.ReplacePlaceholders(text)
	if err != nil {
		return indexer.Results{}, err
	}
	rows, err := collect[foundRow](ctx, v.tx, sql, s.arguments(args)...)
	if err != nil {
		return indexer.Results{}, err
	}
	results := v.results(rows)
	results.Total = len(rows)
	if !s.uncounted && (s.Offset > 0 || len(rows) == s.Limit) {
		var tiers []string
		var args []any
		for tier := range 3 {
			where := append(sq.And{sq.Expr(fmt.Sprintf("s.tier = %d", tier))}, s.everything()[1:]...)
			sql, more, err := sq.Expr("SELECT FROM repository_search s WHERE (?)", where).ToSql()
			if err != nil {
				return results, err
			}
			tiers, args = append(tiers, sql), append(args, more...)
		}
		err = v.count(ctx, s, &results, sq.Expr("SELECT FROM ("+strings.Join(tiers, " UNION ALL ")+") AS tiers", args...))
	}
	return results, err
}

type resultRow struct {
	Name, Title, Description string
	Tags                     int
	UpdatedAt                time.Time
}

func (r resultRow) repository() indexer.Repository {
	return indexer.Repository{Name: r.Name, Title: r.Title, Description: r.Description, Tags: r.Tags, UpdatedAt: r.UpdatedAt}
}

type foundRow struct {
	resultRow
	Size, Pulls int64
	Facts       []string
}

func (v *View) results(rows []foundRow) indexer.Results {
	var results indexer.Results
	for _, r := range rows {
		found := r.repository()
		results.Items = append(results.Items, indexer.Result{
			Repository: found, Official: slices.Contains(v.official, found.Namespace()), Size: r.Size, Pulls: r.Pulls, Facts: r.Facts,
		})
	}
	return results
}

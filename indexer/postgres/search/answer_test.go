package search_test

import (
	"cmp"
	"context"
	"flag"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/search"
	"github.com/portbook/portbook/indexer/query"
)

var queries = flag.Int("queries", 300, "number of random queries that are compared with the oracle")

// A book answers the questions of an asker, who may see the repositories in visible.
type book struct {
	visible indexer.Visibility
	seen    []*oracleRepository // set by check
	search  func(query.Query) (indexer.Results, error)
	facets  func(query.Query) (indexer.Facets, error)
	suggest func(text string, limit int) ([]indexer.Suggestion, error)
	correct func(query.Query) (string, error)
}

// bookOf returns the book that views of a store are.
func bookOf(ctx context.Context, s *postgres.Store, visible indexer.Visibility) book {
	view := func(f func(*postgres.View) error) error { return s.View(ctx, indexer.AskerOf(visible), f) }
	return book{
		visible: visible,
		search: func(q query.Query) (found indexer.Results, err error) {
			err = view(func(v *postgres.View) error { found, err = v.Search(ctx, q); return err })
			return found, err
		},
		facets: func(q query.Query) (facets indexer.Facets, err error) {
			err = view(func(v *postgres.View) error { facets, err = v.Facets(ctx, q); return err })
			return facets, err
		},
		suggest: func(text string, limit int) (s []indexer.Suggestion, err error) {
			err = view(func(v *postgres.View) error { s, err = v.Suggest(ctx, text, limit); return err })
			return s, err
		},
		correct: func(q query.Query) (text string, err error) {
			err = view(func(v *postgres.View) error { text, err = v.Correct(ctx, q); return err })
			return text, err
		},
	}
}

// Every answer is that of the oracle: which repositories, in which order, how many, the
// facets, the suggestions and the corrections; by SQL and from memory, for everyone, and
// for an asker who sees a tenth.
func TestOracle(t *testing.T) {
	t.Parallel()
	o := newOracle(t, 250, 750)
	visible := indexer.VisibleNames("team2/c*", "a/?????-*1*", "nothing*", "*-tool20?")
	bySQL := postgres.New(o.Pool, postgres.Config{})
	fromMemory := postgres.New(o.Pool, postgres.Config{Memory: 1 << 30})
	if err := fromMemory.CopyStep(t.Context()); err != nil {
		t.Fatal(err)
	}
	withImages := postgres.New(o.Pool, postgres.Config{Memory: 1 << 30})
	if err := withImages.CopyStep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if more, err := withImages.CopyImages(t.Context()); err != nil || !more {
		t.Fatalf("no images were read: %v", err)
	}
	for _, test := range []struct {
		name  string
		store *postgres.Store
	}{{"SQL", bySQL}, {"memory", fromMemory}, {"memory with images", withImages}} {
		t.Run(test.name, func(t *testing.T) {
			o.check(bookOf(t.Context(), test.store, indexer.AllVisible), *queries)
			o.check(bookOf(t.Context(), test.store, visible), *queries/4)
		})
	}
	if !fromMemory.SearchCopy().Ready {
		t.Error("the copy in memory was not used")
	}
}

// check compares the answers of a book with those of the oracle.
func (o *oracle) check(b book, queries int) {
	o.T.Helper()
	b.seen = slices.DeleteFunc(o.all(), func(r *oracleRepository) bool { return !b.visible.Sees(r.name) })
	if n := len(o.names); !b.visible.All() && (len(b.seen) < n/20 || len(b.seen) > n/5) {
		o.T.Errorf("sees %d of %d repositories: not about a tenth", len(b.seen), n)
	}
	several := 0
	for range queries {
		text := o.query()
		q, err := query.Parse(text, now)
		if err != nil {
			o.T.Error(err)
			continue
		}
		q.Sort = pick(o.random, []query.Sort{"", "", "", query.SortName, query.SortUpdated, query.SortSize, query.SortPulls})
		found := find(q, b.seen)
		if len(found) > 1 && len(found) < len(b.seen) {
			several++
		}
		o.checkSearch(b, q, found)
		o.checkFacets(b, q, found)
	}
	if several < queries/4 {
		o.T.Errorf("only %d of %d queries selected some repositories and not others: too few for a test", several, queries)
	}
	o.checkSuggestions(b, queries/10)
	o.checkCorrections(b, queries/10)
}

// all returns the repositories that have a tag.
func (o *oracle) all() (all []*oracleRepository) {
	for _, name := range o.names {
		all = append(all, o.repositories[name])
	}
	return all
}

// find returns the repositories that a query selects, in its order.
func find(q query.Query, among []*oracleRepository) (found []*oracleRepository) {
	for _, r := range among {
		if r.holds(q) {
			found = append(found, r)
		}
	}
	words := wordClauses(q)
	slices.SortFunc(found, func(a, b *oracleRepository) int {
		latest := cmp.Or(b.updated.Compare(a.updated), cmp.Compare(b.id, a.id))
		switch {
		case q.Sort == query.SortName:
			return cmp.Compare(a.name, b.name)
		case q.Sort == query.SortSize:
			return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(b.id, a.id))
		case q.Sort == query.SortPulls:
			return cmp.Or(cmp.Compare(b.pulls, a.pulls), cmp.Compare(b.id, a.id))
		case q.Sort == query.SortUpdated || len(words) == 0:
			return latest
		}
		return cmp.Or(cmp.Compare(a.class(q, words), b.class(q, words)), cmp.Compare(b.pulls, a.pulls), latest)
	})
	return found
}

// wordClauses returns the clauses of a query that are only words.
func wordClauses(q query.Query) []query.Clause {
	_, others := imageClauses(q)
	return slices.DeleteFunc(others, func(c query.Clause) bool {
		return slices.ContainsFunc(c, func(t query.Term) bool { return t.Field != query.FieldText || t.Not || t.Tag != "" })
	})
}

// class returns how well the name matches the words of a query; 0 is best.
func (r *oracleRepository) class(q query.Query, words []query.Clause) int {
	inName := func(c query.Clause) bool {
		return slices.ContainsFunc(c, func(t query.Term) bool { return hasWords(t, r.texts[:1]) })
	}
	switch base := path.Base(r.name); {
	case q.Name == r.name:
		return 0
	case q.Name == base:
		return 1
	case q.Name != "" && strings.HasPrefix(base, q.Name):
		return 2
	case !slices.ContainsFunc(words, func(c query.Clause) bool { return !inName(c) }):
		return 3
	}
	return 4
}

// checkSearch reads all pages of a query.
func (o *oracle) checkSearch(b book, q query.Query, found []*oracleRepository) {
	o.T.Helper()
	q = q.Page(1+o.random.IntN(query.MaxPage), 0)
	var got, want []indexer.Result
	for _, r := range found {
		want = append(want, indexer.Result{Repository: indexer.Repository{Name: r.name, UpdatedAt: r.updated}, Size: r.size, Pulls: int64(r.pulls)})
	}
	for {
		page, err := b.search(q)
		total := len(found)
		if q.After != "" {
			total = 0
		}
		if err != nil || page.Total != total || page.AtLeast {
			o.T.Fatalf("%q by %q: total %d, at least: %v, %v; want %d", q.Text, q.Sort, page.Total, page.AtLeast, err, total)
		}
		for _, r := range page.Items {
			got = append(got, indexer.Result{Repository: indexer.Repository{Name: r.Name, UpdatedAt: r.UpdatedAt}, Size: r.Size, Pulls: r.Pulls})
		}
		if len(page.Items) < q.Limit {
			break
		}
		if q = q.Page(q.Limit, len(got)); q.Sort == query.SortName {
			q.Offset, q.After = 0, got[len(got)-1].Name
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		o.T.Errorf("%q by %q (-want +got)\n%s", q.Text, q.Sort, diff)
	}
}

func (o *oracle) checkFacets(b book, q query.Query, found []*oracleRepository) {
	o.T.Helper()
	got, err := b.facets(q)
	if err != nil {
		o.T.Fatalf("facets of %q: %v", q.Text, err)
	}
	want := o.facets(q, found)
	if diff := gocmp.Diff(want, got); diff != "" {
		o.T.Errorf("facets of %q (-want +got)\n%s", q.Text, diff)
	}
	// The number beside a value is how many the longer query finds.
	if len(want.Facets) == 0 {
		return
	}
	f := pick(o.random, want.Facets)
	v := pick(o.random, f.Values)
	if term, ok := query.FieldTerm(string(f.Name), v.Value); ok {
		linked := parsed(o.T, query.WithTerm(q.Text, term))
		if n := len(find(linked, b.seen)); n != v.Count {
			o.T.Errorf("facet %s of %q counts %d, and %q finds %d", term, q.Text, v.Count, linked.Text, n)
		}
	}
}

// facets counts the facts of the repositories that a query found.
func (o *oracle) facets(q query.Query, found []*oracleRepository) indexer.Facets {
	same, _ := imageClauses(q)
	offered := map[string]bool{}
	for _, r := range found {
		for _, key := range r.labels {
			offered[key] = true
		}
	}
	counts := map[indexer.Fact]int{}
	for _, r := range found {
		for fact := range r.facts(same, offered) {
			counts[fact]++
		}
	}
	facets := indexer.Facets{Counted: len(found), All: true}
	for _, kind := range []indexer.FactKind{"namespace", "os", "arch", "type", "licence", "label"} {
		var values []indexer.FacetValue
		for fact, n := range counts {
			if fact.Kind() == kind {
				values = append(values, indexer.FacetValue{Value: fact.Value(), Count: n})
			}
		}
		slices.SortFunc(values, func(a, b indexer.FacetValue) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
		})
		if len(values) > 0 {
			facets.Facets = append(facets.Facets, indexer.Facet{Name: kind, Values: values[:min(len(values), search.MaxFacetValues)]})
		}
	}
	return facets
}

// facts returns the facts of a repository and of those of its images that fulfil
// clauses, with those of the offered keys of labels that an image has.
func (r *oracleRepository) facts(same []query.Clause, offered map[string]bool) map[indexer.Fact]bool {
	facts := map[indexer.Fact]bool{}
	for _, i := range r.images {
		if !i.all(same) {
			continue
		}
		for fact := range i.facts {
			facts[indexer.Fact(fact)] = true
		}
		for key := range i.Labels {
			if key = first200(key); offered[key] {
				facts[indexer.FactLabel.Fact(key)] = true
			}
		}
	}
	if r.licence != "" {
		facts[indexer.FactLicence.Fact(r.licence)] = true
	}
	if namespace, _, inside := strings.Cut(r.name, "/"); inside {
		facts[indexer.FactNamespace.Fact(namespace)] = true
	}
	return facts
}

// checkSuggestions compares what completes random beginnings of names and values.
func (o *oracle) checkSuggestions(b book, n int) {
	o.T.Helper()
	for range n {
		field := pick(o.random, []string{"", "", "repo:", "ns:", "os:", "arch:", "platform:", "type:"})
		text := pick(o.random, o.names)
		switch field {
		case "":
			text = path.Base(text)
		case "os:", "arch:", "platform:", "type:":
			text = pick(o.random, []string{"", "l", "linux/a", "ar", "a", "i", "application/", "win"})
		}
		text = text[:o.random.IntN(len(text)+1)]
		limit := 1 + o.random.IntN(12)
		var got []string
		suggestions, err := b.suggest(field+text, limit)
		if err != nil {
			o.T.Fatal(err)
		}
		for _, s := range suggestions {
			if value, named := strings.CutPrefix(s.Text, field); named && (s.Name != "" || field != "") {
				got = append(got, value) // not the name of a field
			}
		}
		want := completions(field, text, b.seen)
		if field == "" {
			limit -= len(query.FieldsFrom(text))
		}
		if diff := gocmp.Diff(want[:min(len(want), max(limit, 0))], got, equateEmpty); diff != "" {
			o.T.Errorf("suggestions for %q (-want +got)\n%s", field+text, diff)
		}
	}
}

var equateEmpty = gocmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })

// completions returns all values of a field that complete text, best first.
func completions(field, text string, seen []*oracleRepository) (all []string) {
	type candidate struct {
		value              string
		class, n           int
		pulls, updated, id int64
	}
	candidates := map[string]candidate{}
	for _, r := range seen {
		base := path.Base(r.name)
		c := candidate{value: r.name, class: 9, pulls: int64(r.pulls), updated: r.updated.UnixMicro(), id: int64(r.id)}
		switch {
		case field == "ns:":
			if i := strings.IndexByte(r.name[min(len(text), len(r.name)):], '/'); i >= 0 && strings.HasPrefix(r.name, text) {
				value := r.name[:len(text)+i]
				candidates[value] = candidate{value: value}
			}
			continue
		case field != "" && field != "repo:":
			for fact := range r.facts(nil, nil) {
				if value, is := strings.CutPrefix(string(fact), field); is && strings.HasPrefix(value, text) {
					candidates[value] = candidate{value: value, class: 1, n: candidates[value].n + 1}
				}
			}
			continue
		case text == "":
		case r.name == text:
			c.class = 0
		case base == text:
			c.class = 1
		case strings.HasPrefix(base, text):
			c.class = 2
		case strings.HasPrefix(r.name, text):
			c.class = 3
		}
		if c.class < 9 {
			candidates[r.name] = c
		}
	}
	if field == "type:" {
		for _, kind := range []string{"image", "index", "artifact"} {
			if delete(candidates, kind); strings.HasPrefix(kind, text) {
				all = append(all, kind)
			}
		}
	}
	for _, c := range slices.SortedFunc(maps.Values(candidates), func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(b.n, a.n), cmp.Compare(b.pulls, a.pulls),
			cmp.Compare(b.updated, a.updated), cmp.Compare(b.id, a.id), cmp.Compare(a.value, b.value))
	}) {
		all = append(all, c.value)
	}
	return all
}

// checkCorrections compares the corrections of random mistakes.
func (o *oracle) checkCorrections(b book, n int) {
	o.T.Helper()
	corrected := 0
	for range n {
		var typed []string
		for range 1 + o.random.IntN(2) {
			w := []byte(pick(o.random, []string{"proxy", "edge", "reverse", "cache", "nginx", "app", "tool", "library", "team"}))
			for range o.random.IntN(3) {
				w[o.random.IntN(len(w))] = "abeilnoprtxyz"[o.random.IntN(13)]
			}
			typed = append(typed, string(w))
		}
		q := parsed(o.T, strings.Join(typed, " "))
		if len(find(q, b.seen)) > 0 {
			continue
		}
		got, err := b.correct(q)
		want := o.correction(q, b.seen)
		if got != want || err != nil {
			o.T.Errorf("correction of %q: got %q, %v, want %q", q.Text, got, err, want)
		}
		if want != "" {
			corrected++
		}
	}
	if corrected < n/20 {
		o.T.Errorf("only %d of %d queries were corrected: too few for a test", corrected, n)
	}
}

// correction returns the text of a query of words in which each word that no
// repository has is replaced by the nearest word of names, "" if there is none.
func (o *oracle) correction(q query.Query, seen []*oracleRepository) string {
	in := map[string]int{} // how many names have a word
	for _, r := range seen {
		for _, w := range query.Words(r.name) {
			in[w]++
		}
	}
	words := strings.Fields(q.Text)
	for i, w := range words {
		if len(find(query.Query{Clauses: []query.Clause{{{Words: []string{w}, Prefix: w == words[len(words)-1]}}}}, seen)) > 0 {
			continue
		}
		most, best := 1, ""
		if len(w) >= 8 {
			most = 2
		}
		for near := range in {
			d := indexer.EditDistance(w, near)
			if d > most || len(near) < 3 || strings.Trim(near, "0123456789") == "" {
				continue
			}
			if best == "" || cmp.Or(cmp.Compare(d, indexer.EditDistance(w, best)), cmp.Compare(in[best], in[near]), cmp.Compare(near, best)) < 0 {
				best = near
			}
		}
		if best == "" {
			return ""
		}
		words[i] = best
	}
	text := strings.Join(words, " ")
	if text == q.Text || len(find(parsed(o.T, text), seen)) == 0 {
		return ""
	}
	return text
}

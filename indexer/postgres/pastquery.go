package postgres

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
	"github.com/portbook/portbook/indexer/query"
)

// A pastQuery tests a query on repositories of the past, as doc/search.md describes it.
type pastQuery struct {
	clauses []query.Clause
	needs   needs
	globs   map[string]func(string) bool
}

// newPastQuery returns ErrInvalid for a condition that cannot be tested on the past: what is
// attached to an image has no history.
func newPastQuery(q query.Query) (*pastQuery, error) {
	q.Unlisted = true // what was yanked then is not known
	past := &pastQuery{clauses: q.Effective().Clauses, globs: map[string]func(string) bool{}}
	for _, c := range past.clauses {
		for _, t := range c {
			switch t.Field {
			case query.FieldHas, query.FieldIs:
				if t.Field != query.FieldIs || t.Value != "tagged" {
					return nil, indexer.Invalid("%s:%s cannot be asked about the past: what was attached then, and what "+
						"indexes listed, is not kept", t.Field, t.Value)
				}
			case query.FieldText, query.FieldLicence:
				past.needs.texts = true
			case query.FieldRepository, query.FieldNamespace, query.FieldTag, query.FieldPushed:
			default:
				past.needs.images = true
			}
		}
	}
	return past, nil
}

// nameSpan returns a name before all names that match a pattern, and one that is not before
// any of them: '~' is greater than every character of a name.
func nameSpan(pattern string) (low, high string) {
	beginning := pattern
	if i := strings.IndexAny(pattern, "*?"); i >= 0 {
		beginning = pattern[:i]
	}
	if beginning == "" {
		return "", spanEnd
	}
	return indexer.TextBefore(beginning), beginning + spanEnd
}

func (q *pastQuery) matches(pattern, text string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return pattern == text
	}
	if q.globs[pattern] == nil {
		q.globs[pattern] = indexer.Glob(pattern)
	}
	return q.globs[pattern](text)
}

func (q *pastQuery) matchesAny(pattern string, texts []string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return q.matches(pattern, text) })
}

// holds reports whether a repository matched, and returns it.
func (q *pastQuery) holds(r *pastRepository) (indexer.PastRepository, bool) {
	test := pastTest{pastQuery: q, r: r, images: r.images()}
	var ofImage []query.Clause
	for _, c := range q.clauses {
		if c.AboutImages() {
			ofImage = append(ofImage, c)
		} else if !slices.ContainsFunc(c, test.fulfils) {
			return r.repository(), false
		}
	}
	matched := len(ofImage) == 0 || slices.ContainsFunc(test.images, func(i pastImage) bool {
		return !slices.ContainsFunc(ofImage, func(c query.Clause) bool {
			return !slices.ContainsFunc(c, func(t query.Term) bool { return test.ofImage(i, t) })
		})
	})
	return r.repository(), matched
}

// A pastTest tests the terms of a query on one repository.
type pastTest struct {
	*pastQuery
	r      *pastRepository
	images []pastImage
	texts  [][]string // words; read when they are needed
}

// A pastImage is what tags showed.
type pastImage struct {
	tags                []string
	pushed              time.Time // the last move of a tag to it
	known               bool      // whether the book still has the manifest
	index               bool
	facts               []string // os:x, type:x and so on
	size, layers        int64
	created             time.Time
	labels, annotations map[string]string
}

func (m *pastManifest) facts() (facts []string) {
	add := func(field query.Field, values ...string) {
		for _, v := range values {
			facts = append(facts, string(field)+":"+strings.ToLower(v))
		}
	}
	add(query.FieldType, m.Kind)
	if m.ArtifactType != "" {
		add(query.FieldType, m.ArtifactType)
	}
	if p := (indexer.Platform{OS: m.OS, Architecture: m.Architecture, Variant: m.Variant}); !p.IsUnknown() {
		add(query.FieldOS, p.OS)
		add(query.FieldArchitecture, p.Architecture)
		add(query.FieldPlatform, p.OS+"/"+p.Architecture, p.String())
	}
	return facts
}

// fulfils reports whether the repository fulfils a term.
func (t *pastTest) fulfils(term query.Term) bool {
	if term.Not {
		term.Not = false
		return !t.fulfils(term)
	}
	switch term.Field {
	case query.FieldText:
		tagged := func(tag indexer.Tag) bool { return tag.Name == term.Tag }
		return t.hasWords(term) && (term.Tag == "" || slices.ContainsFunc(t.r.tags, tagged))
	case query.FieldRepository:
		return t.matches(term.Value, t.r.name)
	case query.FieldNamespace:
		return t.matches(strings.TrimSuffix(term.Value, "/")+"/*", t.r.name)
	case query.FieldLicence:
		licence := indexer.Licence(t.r.metadata()...)
		return licence != "" && t.matches(term.Value, licence)
	case query.FieldIs:
		return true // is:tagged
	case query.FieldDigest:
		return t.hasDigest(term.Value)
	}
	return slices.ContainsFunc(t.images, func(i pastImage) bool { return t.ofImage(i, term) })
}

func (t *pastTest) hasDigest(prefix string) bool {
	for _, tag := range t.r.tags {
		if strings.HasPrefix(tag.Digest.String(), prefix) {
			return true
		}
	}
	for _, m := range t.r.manifests {
		for _, c := range m.children {
			if strings.HasPrefix(pg.DigestFrom(c.Digest).String(), prefix) {
				return true
			}
		}
	}
	return false
}

// hasWords reports whether the name, or a text of the leading tag's manifest, has the words
// of a term: all in one place and in order if it is a phrase.
func (t *pastTest) hasWords(term query.Term) bool {
	if t.texts == nil {
		metadata := t.r.metadata()
		title, description := indexer.Describe(metadata...)
		texts := []string{t.r.name, title, description}
		for _, m := range metadata {
			texts = append(texts, search.LabelTexts(m)...)
		}
		for _, text := range texts {
			t.texts = append(t.texts, query.WordsInOrder(text))
		}
	}
	if term.Phrase {
		return slices.ContainsFunc(t.texts, func(words []string) bool { return hasPhrase(term, words) })
	}
	for i := range term.Words {
		one := query.Term{Words: term.Words[i : i+1], Prefix: term.Prefix && i == len(term.Words)-1}
		if !slices.ContainsFunc(t.texts, func(words []string) bool { return hasPhrase(one, words) }) {
			return false
		}
	}
	return true
}

// hasPhrase reports whether the words of a term follow each other in words.
func hasPhrase(term query.Term, words []string) bool {
	last := len(term.Words) - 1
	for at := 0; at+last < len(words); at++ {
		end := words[at+last]
		if slices.Equal(words[at:at+last], term.Words[:last]) &&
			(end == term.Words[last] || term.Prefix && strings.HasPrefix(end, term.Words[last])) {
			return true
		}
	}
	return false
}

// ofImage reports whether an image fulfils a term. Of one that the book no longer has, only
// its tags and when they moved are known.
func (t *pastTest) ofImage(i pastImage, term query.Term) bool {
	switch term.Field {
	case query.FieldTag:
		return t.matchesAny(term.Value, i.tags)
	case query.FieldPushed:
		return !i.pushed.IsZero() && compares(term.Compare, compareSpan(i.pushed, term))
	}
	if !i.known {
		return false
	}
	switch term.Field {
	case query.FieldLabel:
		return t.hasPair(i.labels, term)
	case query.FieldAnnotation:
		return t.hasPair(i.annotations, term)
	case query.FieldSize:
		return compares(term.Compare, cmp.Compare(i.size, term.Number))
	case query.FieldLayers:
		return !i.index && compares(term.Compare, cmp.Compare(i.layers, term.Number))
	case query.FieldCreated:
		return !i.created.IsZero() && compares(term.Compare, compareSpan(i.created, term))
	case query.FieldArchitecture:
		return t.matchesAny("architecture:"+term.Value, i.facts)
	}
	return t.matchesAny(string(term.Field)+":"+term.Value, i.facts)
}

func (t *pastTest) hasPair(pairs map[string]string, term query.Term) bool {
	for key, value := range pairs {
		if t.matches(term.Name, key) && (!term.Valued || t.matches(term.Value, value)) {
			return true
		}
	}
	return false
}

// compareSpan compares a time with the span of a term; 0 is a time in it.
func compareSpan(at time.Time, term query.Term) int {
	switch {
	case at.Before(term.From):
		return -1
	case at.Before(term.To) || at.Equal(term.From):
		return 0
	}
	return 1
}

func compares(c query.Comparison, order int) bool {
	switch c {
	case query.Above:
		return order > 0
	case query.AtLeast:
		return order >= 0
	case query.Below:
		return order < 0
	case query.AtMost:
		return order <= 0
	}
	return order == 0
}

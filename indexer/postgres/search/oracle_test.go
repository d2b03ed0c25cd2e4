package search_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
	"github.com/portbook/portbook/indexer/query"
)

// An oracle is a random catalogue, stored both in PostgreSQL and as Go values. It
// evaluates the query language on the values in the simplest way that doc/search.md
// allows.
type oracle struct {
	shelf
	random       *rand.Rand
	repositories map[string]*oracleRepository
	names        []string // of the repositories that have a tag, sorted; set by settle
}

type oracleRepository struct {
	id        int32
	name      string
	updated   time.Time
	pulls     int
	pulled    time.Time // of the last pull; zero: none
	manifests map[digest.Digest]indexer.Manifest
	tags      map[string]digest.Digest
	moved     map[string]time.Time // when each tag last moved, as stored in PostgreSQL
	images    []oracleImage        // set by settle
	size      int64                // of what the leading tag shows
	texts     [][]string           // the words of each text that is searched, those of the name first
	labels    []string             // keys of labels that facets offer
	licence   string
}

// An oracleImage is a manifest that a tag points to, or that a tagged image index
// lists.
type oracleImage struct {
	indexer.Manifest
	tags   map[string]bool
	pushed time.Time
	size   int64
	facts  map[string]bool // "os:linux", as in the query language
}

// The values from which contents and queries are made.
var (
	oracleWords      = []string{"proxy", "edge", "reverse", "cache", "nginx", "app", "tool", "o'brien", "é", "x86_64", "über", "überall"}
	oracleNamespaces = []string{"library", "team", "team2", "a", ""}
	oracleTags       = []string{"latest", "v1", "v2", "1.25", "V1"}
	oraclePlatforms  = []indexer.Platform{
		{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "arm", Variant: "v7"},
		{OS: "Windows", Architecture: "AMD64"}, {OS: "unknown", Architecture: "unknown"}, {},
	}
	oracleLong    = strings.Repeat("a", 199)
	oracleKeys    = []string{"team", "stage", "k", "k=v", "two words", "build", "name", "license", "org.opencontainers.image.title", "org.opencontainers.image.created", "build-date", "long", oracleLong + "bk"}
	oracleValues  = []string{"edge", "core", "x=y", "v=odd", "odd", "", "reverse proxy", "100% _real_", "Team", "https://edge", "2026-01-31T10:00:00Z", "Überall x", oracleLong + "b", oracleLong + "bc", oracleLong + "c", "MIT", "Apache-2.0"}
	oracleTypes   = []string{"application/vnd.cncf.helm.config.v1+json", "application/X-Thing"}
	oracleMoments = []time.Time{
		time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC), time.Date(2026, 1, 31, 10, 0, 0, 500e6, time.UTC), time.Date(2026, 1, 31, 10, 0, 1, 0, time.UTC),
		time.Date(2026, 1, 31, 23, 59, 59, 999999e3, time.UTC), time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		now.AddDate(0, 0, -30), now.AddDate(0, 0, -30).Add(time.Second), {},
	}
	oraclePulled = oracleMoments[:len(oracleMoments)-1]
	oracleSizes  = []int64{0, 1, 1000, 1024, 5e6, 1<<53 - 1}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// newOracle returns an oracle of repositories with tags that are added, moved and
// deleted.
func newOracle(t *testing.T, repositories, changes int) *oracle {
	t.Helper()
	o := &oracle{shelf: newShelf(t), random: rand.New(rand.NewPCG(7, 11)), repositories: map[string]*oracleRepository{}}
	var names []string
	for len(names) < repositories {
		name := strings.ToLower(strings.TrimLeft(pick(o.random, oracleNamespaces)+"/"+pick(o.random, oracleWords[:7]), "/"))
		if o.random.IntN(4) > 0 {
			name += fmt.Sprint("-", pick(o.random, oracleWords[:7]), o.random.IntN(repositories))
		}
		if o.repositories[name] == nil {
			o.repositories[name] = &oracleRepository{name: name, manifests: map[digest.Digest]indexer.Manifest{}, tags: map[string]digest.Digest{}}
			names = append(names, name)
		}
	}
	findings := map[indexer.Reference]indexer.Finding{}
	for i := range repositories + changes {
		name := names[i%len(names)]
		reference, f := o.change(name)
		findings[indexer.Reference{Repository: name, Tag: reference}] = f
		if len(findings) == 50 || i == repositories+changes-1 {
			o.store(findings)
			clear(findings)
		}
	}
	o.settle()
	return o
}

// change returns a random change of a repository, and applies it to the Go values.
func (o *oracle) change(name string) (reference string, f indexer.Finding) {
	r := o.repositories[name]
	tag := pick(o.random, oracleTags)
	f = indexer.Finding{Outcome: indexer.Found}
	switch o.random.IntN(8) {
	case 0: // delete the tag
		delete(r.tags, tag)
		f.Outcome = indexer.Gone
		return tag, f
	case 1, 2:
		children := []indexer.Manifest{o.image(name), o.image(name), o.image(name)}[:1+o.random.IntN(3)]
		list := listing(name, children...)
		list.Annotations, list.CreatedAt = o.pairs(2), pick(o.random, oracleMoments)
		f.Manifests = append([]indexer.Manifest{o.identified(list)}, children...)
	case 3: // add a referrer to an image
		subjects := slices.Sorted(maps.Keys(r.manifests))
		if len(subjects) > 0 {
			m := o.image(name)
			m.Kind, m.Subject, m.ArtifactType = indexer.KindArtifact, pick(o.random, subjects), pick(o.random, []string{"application/vnd.cncf.notary.signature", "application/spdx+json", "text/plain"})
			f.Manifests = []indexer.Manifest{o.identified(m)}
			tag = f.Manifests[0].Digest.String()
			break
		}
		fallthrough
	default:
		f.Manifests = []indexer.Manifest{o.image(name)}
	}
	f.Digest = f.Manifests[0].Digest
	if !strings.Contains(tag, ":") {
		r.tags[tag] = f.Digest
	}
	for _, m := range f.Manifests {
		r.manifests[m.Digest] = m
	}
	return tag, f
}

// image returns a random image or artifact.
func (o *oracle) image(repository string) indexer.Manifest {
	p := pick(o.random, oraclePlatforms)
	m := made(repository, p.String(), pick(o.random, oracleSizes), o.random.IntN(4), "")
	m.Platform, m.CreatedAt = p, pick(o.random, oracleMoments)
	m.Labels, m.Annotations = o.pairs(5), o.pairs(2)
	if o.random.IntN(6) == 0 {
		m.Kind, m.ArtifactType, m.Platform, m.Labels = indexer.KindArtifact, pick(o.random, oracleTypes), indexer.Platform{}, map[string]string{}
	}
	if o.random.IntN(150) == 0 { // more keys than the row of a repository holds
		for i := range search.MaxKeys {
			m.Labels["key"+fmt.Sprint(i)] = "value"
		}
	}
	return o.identified(m)
}

func (o *oracle) pairs(most int) map[string]string {
	pairs := map[string]string{}
	for range o.random.IntN(most + 1) {
		pairs[pick(o.random, oracleKeys)] = pick(o.random, oracleValues)
	}
	if o.random.IntN(3) == 0 {
		pairs["build"] = fmt.Sprint(o.random.IntN(9))
	}
	return pairs
}

// identified returns m with a unique digest.
func (o *oracle) identified(m indexer.Manifest) indexer.Manifest {
	m.Body = fmt.Appendf(nil, `{"schemaVersion":2,"is":"%d"}`, o.random.Uint64())
	m.Digest, m.Size = digest.FromBytes(m.Body), int64(len(m.Body))
	return m
}

// store stores findings in one batch.
func (o *oracle) store(findings map[indexer.Reference]indexer.Finding) {
	ctx := o.T.Context()
	var asks []indexer.Ask
	for at := range findings {
		asks = append(asks, indexer.Ask{Repository: at.Repository, Reference: indexer.TagOrDigest(at.Tag)})
	}
	if err := o.Ask(ctx, asks); err != nil {
		o.T.Fatal(err)
	}
	tasks, err := o.Claim(ctx, indexer.PriorityConfirm, 1000, time.Minute)
	if err != nil {
		o.T.Fatal(err)
	}
	var all []indexer.Finding
	for _, task := range tasks {
		f, asked := findings[indexer.Reference{Repository: task.Repository, Tag: string(task.Reference)}]
		if !asked { // a tag moved away from it: it is unchanged
			f = indexer.Finding{Outcome: indexer.Found, Digest: task.Reference.Digest()}
		}
		f.Task = task
		if asked || task.Reference.IsDigest() {
			all = append(all, f)
		}
	}
	if err := o.Apply(ctx, all); err != nil {
		o.T.Fatal(err)
	}
}

// settle gives some repositories pulls, and derives the images and words of
// repositories after all changes.
func (o *oracle) settle() {
	if _, err := o.Pool.Exec(o.T.Context(), `
		UPDATE repository_search SET pulls = repository_id % 7,
			pulled_at = CASE WHEN repository_id % 7 > 0 THEN ($1::timestamptz[])[1 + repository_id % cardinality($1)] END
		WHERE repository_id % 2 = 0`, oraclePulled); err != nil {
		o.T.Fatal(err)
	}
	type row struct {
		ID                 int32
		Name, Tag          string
		MovedAt, UpdatedAt time.Time
	}
	rows, err := pg.Collect[row](o.T.Context(), o.Pool, `
		SELECT r.id, r.name, t.name AS tag, t.moved_at, r.updated_at FROM repository r JOIN tag t ON t.repository_id = r.id`)
	if err != nil {
		o.T.Fatal(err)
	}
	for _, r := range o.repositories {
		r.moved = map[string]time.Time{}
	}
	for _, row := range rows {
		r := o.repositories[row.Name]
		r.id, r.updated, r.moved[row.Tag] = row.ID, row.UpdatedAt, row.MovedAt
		if r.id%2 == 0 {
			r.pulls = int(r.id % 7)
			if r.pulls > 0 {
				r.pulled = oraclePulled[int(r.id)%len(oraclePulled)]
			}
		}
	}
	for name, r := range o.repositories {
		if len(r.moved) != len(r.tags) {
			o.T.Fatalf("got tags of %s in the book: %v, want %v", name, r.moved, r.tags)
		}
		r.settle()
		if len(r.tags) == 0 {
			delete(o.repositories, name)
		}
	}
	o.names = slices.Sorted(maps.Keys(o.repositories))
}

func (r *oracleRepository) settle() {
	shown := map[digest.Digest]map[string]bool{}
	show := func(d digest.Digest, tag string) {
		if _, held := r.manifests[d]; !held {
			return
		}
		if shown[d] == nil {
			shown[d] = map[string]bool{}
		}
		shown[d][tag] = true
	}
	for tag, d := range r.tags {
		show(d, tag)
		for _, e := range r.manifests[d].Entries {
			show(e.Digest, tag)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(shown)) {
		r.images = append(r.images, r.image(r.manifests[d], shown[d]))
	}
	var tags []indexer.Tag
	for name, d := range r.tags {
		tags = append(tags, indexer.Tag{Name: name, Digest: d, MovedAt: r.moved[name]})
	}
	m := r.manifests[r.tags[indexer.LeadingTag(tags)]]
	if len(r.tags) > 0 {
		r.size = r.image(m, nil).size
	}
	metadata := []map[string]string{m.Annotations, m.Labels}
	keys := slices.Collect(maps.Keys(m.Labels))
	for _, e := range m.Entries[:min(len(m.Entries), 1)] {
		metadata = append(metadata, r.manifests[e.Digest].Annotations, r.manifests[e.Digest].Labels)
		keys = slices.AppendSeq(keys, maps.Keys(r.manifests[e.Digest].Labels))
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return len(key) > search.MaxTerm })
	slices.Sort(keys)
	keys = slices.Compact(keys)
	r.labels = keys[:min(len(keys), search.MaxLabelKeys)]
	title, description := indexer.Describe(metadata...)
	texts := []string{r.name, title, description}
	for _, pairs := range metadata {
		for key, value := range pairs {
			if len(value) <= 1000 && !strings.Contains(value, "://") && !strings.HasSuffix(key, ".created") && !strings.HasSuffix(key, ".revision") {
				texts = append(texts, value)
			}
		}
	}
	for _, text := range texts {
		r.texts = append(r.texts, query.WordsInOrder(text))
	}
	if r.licence = indexer.Licence(metadata...); len(r.licence) > search.MaxTerm {
		r.licence = ""
	}
}

func (r *oracleRepository) image(m indexer.Manifest, tags map[string]bool) oracleImage {
	i := oracleImage{Manifest: m, tags: tags, size: m.ContentSize, facts: map[string]bool{"type:" + string(m.Kind): true}}
	for tag := range tags {
		if at := r.moved[tag]; at.After(i.pushed) {
			i.pushed = at
		}
	}
	if m.ArtifactType != "" {
		i.facts["type:"+strings.ToLower(m.ArtifactType)] = true
	}
	if p := m.Platform; !p.IsUnknown() {
		i.facts["os:"+strings.ToLower(p.OS)], i.facts["arch:"+strings.ToLower(p.Architecture)] = true, true
		i.facts["platform:"+strings.ToLower(p.OS+"/"+p.Architecture)], i.facts["platform:"+strings.ToLower(p.String())] = true, true
	}
	for kind := range r.attached(m.Digest) {
		i.facts["has:"+kind] = true
	}
	if m.Kind != indexer.KindIndex {
		return i
	}
	every := r.attached(m.Entries[0].Digest)
	for _, e := range m.Entries {
		has := r.attached(e.Digest)
		maps.DeleteFunc(every, func(kind string, _ bool) bool { return !has[kind] })
	}
	for kind := range every {
		i.facts["has:"+kind] = true
	}
	platforms := map[indexer.Platform]bool{}
	for _, e := range m.Entries {
		i.size = min(i.size+r.manifests[e.Digest].ContentSize, 1<<53-1)
		if !e.Platform.IsUnknown() {
			platforms[e.Platform] = true
		}
	}
	if len(platforms) > 1 {
		i.facts["is:multiarch"] = true
	}
	return i
}

// attached returns the kinds of the referrers of a manifest.
func (r *oracleRepository) attached(subject digest.Digest) map[string]bool {
	kinds := map[string]bool{}
	for _, m := range r.manifests {
		if m.Subject == subject {
			kinds["referrer"] = true
			if kind := (indexer.Referrer{ArtifactType: m.ArtifactType}).Kind(); kind != "" {
				kinds[string(kind)] = true
			}
		}
	}
	return kinds
}

// imageClauses returns the clauses of a query that one image must fulfil, and the
// others. The former are those whose terms are all about images and not negated, and
// the tags of pasted references.
func imageClauses(q query.Query) (same, others []query.Clause) {
	for _, c := range q.Clauses {
		switch {
		case len(c) == 1 && c[0].Tag != "" && !c[0].Not:
			words := c[0]
			words.Tag = ""
			same, others = append(same, query.Clause{{Field: query.FieldTag, Value: c[0].Tag}}), append(others, query.Clause{words})
		case !slices.ContainsFunc(c, func(t query.Term) bool { return t.Not || !oracleImageFields[t.Field] }):
			same = append(same, c)
		default:
			others = append(others, c)
		}
	}
	return same, others
}

var oracleImageFields = map[query.Field]bool{
	query.FieldTag: true, query.FieldOS: true, query.FieldArchitecture: true, query.FieldPlatform: true, query.FieldType: true, query.FieldHas: true,
	query.FieldLabel: true, query.FieldAnnotation: true, query.FieldSize: true, query.FieldLayers: true, query.FieldCreated: true, query.FieldPushed: true,
}

func (r *oracleRepository) holds(q query.Query) bool {
	same, others := imageClauses(q)
	for _, c := range others {
		if !slices.ContainsFunc(c, r.fulfils) {
			return false
		}
	}
	return len(same) == 0 || slices.ContainsFunc(r.images, func(i oracleImage) bool { return i.all(same) })
}

func (i oracleImage) all(clauses []query.Clause) bool {
	return !slices.ContainsFunc(clauses, func(c query.Clause) bool { return !slices.ContainsFunc(c, i.fulfils) })
}

// fulfils evaluates a single term.
func (r *oracleRepository) fulfils(t query.Term) bool {
	if t.Not {
		t.Not = false
		return !r.fulfils(t)
	}
	switch t.Field {
	case query.FieldText:
		return hasWords(t, r.texts) && (t.Tag == "" || r.tags[t.Tag] != "")
	case query.FieldRepository:
		return globbed(t.Value, r.name)
	case query.FieldNamespace:
		return globbed(strings.TrimSuffix(t.Value, "/")+"/*", r.name)
	case query.FieldLicence:
		return r.licence != "" && globbed(t.Value, r.licence)
	case query.FieldDigest:
		for d := range r.manifests {
			if strings.HasPrefix(d.String(), t.Value) {
				return true
			}
		}
		return false
	case query.FieldPulls:
		return compares(t.Compare, cmp.Compare(int64(r.pulls), t.Number))
	case query.FieldPulled:
		return r.pulled.IsZero() == (t.Value == query.Never) && (t.Value == query.Never || spans(t, r.pulled))
	case query.FieldIs:
		return t.Value == "tagged" || slices.ContainsFunc(r.images, func(i oracleImage) bool { return i.facts["is:multiarch"] })
	}
	return slices.ContainsFunc(r.images, func(i oracleImage) bool { return i.fulfils(t) })
}

// hasWords reports whether texts have the words of a term.
func hasWords(t query.Term, texts [][]string) bool {
	is := func(i int, word string) bool {
		return word == t.Words[i] || t.Prefix && i == len(t.Words)-1 && strings.HasPrefix(word, t.Words[i])
	}
	if !t.Phrase {
		for i := range t.Words {
			if !slices.ContainsFunc(texts, func(text []string) bool {
				return slices.ContainsFunc(text, func(word string) bool { return is(i, word) })
			}) {
				return false
			}
		}
		return true
	}
	for _, text := range texts {
		for at := range text {
			n := 0
			for n < len(t.Words) && at+n < len(text) && is(n, text[at+n]) {
				n++
			}
			if n == len(t.Words) {
				return true
			}
		}
	}
	return false
}

func (i oracleImage) fulfils(t query.Term) bool {
	switch t.Field {
	case query.FieldTag:
		return anyGlobbed(t.Value, maps.Keys(i.tags))
	case query.FieldLabel:
		return hasPair(t, i.Labels)
	case query.FieldAnnotation:
		return hasPair(t, i.Annotations)
	case query.FieldSize:
		return compares(t.Compare, cmp.Compare(i.size, t.Number))
	case query.FieldLayers:
		return i.Kind != indexer.KindIndex && compares(t.Compare, cmp.Compare(int64(len(i.Layers)), t.Number))
	case query.FieldCreated:
		return !i.CreatedAt.IsZero() && spans(t, i.CreatedAt)
	case query.FieldPushed:
		return spans(t, i.pushed)
	case query.FieldArchitecture:
		return anyGlobbed("arch:"+t.Value, maps.Keys(i.facts))
	}
	return anyGlobbed(string(t.Field)+":"+t.Value, maps.Keys(i.facts))
}

func anyGlobbed(pattern string, texts func(func(string) bool)) bool {
	for text := range texts {
		if globbed(pattern, text) {
			return true
		}
	}
	return false
}

// hasPair compares the first 200 characters of keys and values.
func hasPair(t query.Term, pairs map[string]string) bool {
	for key, value := range pairs {
		if globbed(first200(t.Name), first200(key)) && (!t.Valued || globbed(first200(t.Value), first200(value))) {
			return true
		}
	}
	return false
}

func first200(s string) string {
	if len(s) <= 200 || strings.ContainsAny(s, "*?") {
		return s
	}
	return string([]rune(s)[:min(len([]rune(s)), 200)])
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

// spans compares a time with the span of a term.
func spans(t query.Term, at time.Time) bool {
	switch {
	case at.Before(t.From):
		return t.Compare == query.Below || t.Compare == query.AtMost
	case at.Before(t.To) || at.Equal(t.From):
		return t.Compare == query.Equal || t.Compare == query.AtMost || t.Compare == query.AtLeast
	}
	return t.Compare == query.Above || t.Compare == query.AtLeast
}

// globbed reports whether a whole text matches a pattern of * and ?.
func globbed(pattern, text string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return pattern == text
	}
	s := []rune(text)
	row := make([]bool, len(s)+1) // the lengths of the prefixes of text that the pattern so far matches
	row[0] = true
	for _, c := range pattern {
		next := make([]bool, len(s)+1)
		for i := range next {
			switch {
			case c == '*':
				next[i] = row[i] || i > 0 && next[i-1]
			case i > 0:
				next[i] = row[i-1] && (c == '?' || c == s[i-1])
			}
		}
		row = next
	}
	return row[len(s)]
}

// query returns a random query of terms, some of them negated or joined by OR.
func (o *oracle) query() string {
	var tokens []string
	for i := range 1 + o.random.IntN(4) {
		if i > 0 && o.random.IntN(3) == 0 {
			tokens = append(tokens, "OR")
		}
		term := o.term()
		if o.random.IntN(5) == 0 {
			term = "-" + term
		}
		tokens = append(tokens, term)
	}
	return strings.Join(tokens, " ")
}

func (o *oracle) term() string {
	r := o.random
	switch r.IntN(22) {
	case 0, 1:
		return pick(r, oracleWords)
	case 2:
		return pick(r, []string{`"reverse proxy"`, `"proxy reverse"`, "pro*", "ca", `"edge"`, "über*", "übe", "tea*"})
	case 3:
		return "repo:" + pick(r, []string{"team/*", "*proxy*", "nginx", "library/app", "t??m/*"})
	case 4:
		return pick(r, []string{"namespace:", "ns:"}) + pick(r, []string{"team", "library", "tea*"})
	case 5:
		return pick(r, []string{"has:referrer", "has:signature", "has:sbom", "is:multiarch", "is:tagged"})
	case 6:
		return "licence:" + pick(r, []string{"MIT", "Apache-*", "mit", "edge", "?IT"})
	case 7:
		return "tag:" + pick(r, []string{"latest", "v1", "v*", "V1", "1.25"})
	case 8:
		return pick(r, []string{"nginx:1.25", "team/app:latest", "proxy:v1"})
	case 9:
		return "os:" + pick(r, []string{"linux", "windows", "Windows", "lin*", "plan9"})
	case 10:
		return "arch:" + pick(r, []string{"amd64", "arm*", "arm64", "arm"})
	case 11:
		return "platform:" + pick(r, []string{"linux/amd64", "windows/amd64", "linux/arm/v7", "linux/arm", "*/arm*"})
	case 12:
		return "type:" + pick(r, []string{"image", "index", "artifact", "*helm*", "application/x-thing"})
	case 13, 14, 15:
		return o.pairTerm()
	case 16:
		return "size:" + pick(r, []string{"", "=", ">", ">=", "<", "<="}) + pick(r, []string{"0", "1", "1kB", "1KiB", "5MB", "9007199254740991", "9007199254740992"})
	case 17:
		return "layers:" + pick(r, []string{"", "=", ">", ">=", "<", "<="}) + pick(r, []string{"0", "1", "2", "99999999999"})
	case 20:
		return "pulls:" + pick(r, []string{"", "=", ">", ">=", "<", "<="}) + pick(r, []string{"0", "1", "3", "6", "7"})
	case 21:
		return "pulled:" + pick(r, []string{"never", o.when(pick(r, oracleMoments))})
	case 18:
		return "created:" + o.when(pick(r, oracleMoments))
	}
	moved := o.repositories[pick(r, o.names)].moved
	return "pushed:" + o.when(moved[pick(r, slices.Sorted(maps.Keys(moved)))])
}

func (o *oracle) pairTerm() string {
	r := o.random
	field := pick(r, []string{"label:", "annotation:"})
	key := `"` + pick(r, oracleKeys) + `"`
	if r.IntN(6) == 0 {
		key = pick(r, []string{"te*", "*", "st?ge", "lo*", "aaa*k", "aaa*b"})
	}
	if r.IntN(3) == 0 {
		if strings.Contains(key, "=") {
			key += "=*"
		}
		return field + key
	}
	value := `"` + pick(r, oracleValues) + `"`
	if r.IntN(4) == 0 {
		value = pick(r, []string{"e*", "*", "*=*", "a*", "a*b", "a*bc", "a*c", "??", "0", "1", "2", "3", "8", "*o*d*"})
	}
	return field + key + "=" + value
}

// when returns a random comparison with a time near at.
func (o *oracle) when(at time.Time) string {
	r := o.random
	if at.IsZero() {
		return pick(r, []string{"<30d", "<=30d", ">30d", ">=30d", ">1y", "<1h"})
	}
	at = at.Add(pick(r, []time.Duration{0, 0, time.Second, -time.Second, time.Microsecond, -time.Microsecond}))
	layout := pick(r, []string{"2006", "2006-01", "2006-01-02", "2006-01-02T15:04Z07:00", time.RFC3339, time.RFC3339Nano, "2006-01-02T15:04:05.000000Z07:00"})
	return pick(r, []string{"", "=", ">", ">=", "<", "<="}) + at.Format(layout)
}

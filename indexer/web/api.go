package web

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

const (
	apiPrefix = "/api/v1"
	// maxList is the most of a list in one answer: 1,000, some 300 KB of tags.
	maxList = 1000
	// defaultList is how many are given if limit does not say.
	defaultList = 100
	// maxNames is the most names of repositories in one answer, and how many are
	// given if limit does not say: 10,000, so that a client which knows of no
	// pages has all of all but the largest registries. They are 400 KB.
	maxNames = 10_000
	// maxSuggestions is the most that is suggested: 20. Nobody reads more while
	// typing.
	maxSuggestions     = 20
	defaultSuggestions = 10
)

// An endpoint is one route below /api/v1, as it is served and as the OpenAPI
// document describes it. It takes the parameters that it names and no other: one
// that is misspelt must not be passed over, and a cache shall not keep an answer
// under a thousand addresses.
type endpoint struct {
	path    string // as OpenAPI writes it: {name} may hold slashes
	id      string // of the operation; unique
	summary string
	takes   []parameter // of the query
	gives   any         // a zero value of what is answered, as JSON
	media   string      // if it is not JSON
	streams bool        // whether it sends while it reads, and has a time limit of its own
	book    bool        // whether it is an answer of a state of the book, which takes min_version too
	f       func(http.ResponseWriter, asked) error
}

// A parameter is one of a query.
type parameter struct {
	name, doc string
	oneOf     []string // the values it may have; nil: any
	max       int      // of a number from 1; 0: it is none
}

// endpoints are all of the API, in the order of doc/api.md.
func (s *server) endpoints() []endpoint {
	q := parameter{name: "q", doc: "a query in the language of doc/search.md; without it, everything"}
	at := parameter{name: "at", doc: "a time (RFC 3339): as the history tells that it was then"}
	limit := func(standard, max int) parameter {
		return parameter{name: "limit", doc: "how many, " + strconv.Itoa(standard) + " if not said", max: max}
	}
	after := func(what string) parameter {
		return parameter{name: "after", doc: "only what comes after this " + what}
	}
	older := parameter{name: "before", doc: "only moves older than the one of this id", max: query.MaxNumber}
	return []endpoint{
		{path: "/search", id: "search", summary: "Searches repositories", gives: searchAnswer{}, book: true, f: s.apiSearch, takes: []parameter{
			q, {name: "sort", doc: "the order, relevance if not said", oneOf: sorts}, limit(defaultPage, query.MaxPage),
			{name: "cursor", doc: "where the page before said that the next one begins"}}},
		{path: "/facets", id: "facets", summary: "Counts what a query finds by what it is", gives: facetsAnswer{}, book: true, f: s.apiFacets, takes: []parameter{q}},
		{path: "/suggest", id: "suggest", summary: "Completes a query that is being typed", gives: suggestAnswer{}, book: true, f: s.apiSuggest, takes: []parameter{
			{name: "q", doc: "what was typed so far"}, limit(defaultSuggestions, maxSuggestions)}},
		{path: "/repositories", id: "repositories", summary: "Names of the repositories that have a tag, in order", gives: repositoriesAnswer{}, book: true, f: s.apiRepositories,
			takes: []parameter{limit(maxNames, maxNames), after("name"), at}},
		{path: "/repositories/{name}", id: "repository", summary: "One repository", gives: repositoryAnswer{}, book: true, f: s.apiRepository},
		{path: "/repositories/{name}/-/tags", id: "tags", summary: "Its tags, in bytewise order", gives: tagsAnswer{}, book: true, f: s.apiTags,
			takes: []parameter{limit(defaultList, maxList), after("tag"), at}},
		{path: "/repositories/{name}/-/tags/{tag}/history", id: "tagHistory", summary: "The moves of one tag, latest first", gives: historyAnswer{}, book: true, f: s.apiHistory,
			takes: []parameter{limit(defaultList, maxList), older, at}},
		{path: "/repositories/{name}/-/manifests/{reference}", id: "manifest", summary: "One manifest, read", gives: manifestAnswer{}, book: true, f: s.apiManifest},
		{path: "/repositories/{name}/-/manifests/{reference}/raw", id: "rawManifest", summary: "The bytes of one manifest", media: "application/*", book: true, f: s.apiRaw},
		{path: "/repositories/{name}/-/manifests/{reference}/layers", id: "layers", summary: "The layers of one image", gives: layersAnswer{}, book: true, f: s.apiLayers},
		{path: "/repositories/{name}/-/manifests/{reference}/referrers", id: "referrers", summary: "What says that it belongs to one manifest", gives: referrersAnswer{}, book: true, f: s.apiReferrers,
			takes: []parameter{limit(maxReferrers, maxReferrers), after("referrer, as the next address has it")}},
		{path: "/repositories/{name}/-/history", id: "repositoryHistory", summary: "The moves of a repository's tags, latest first", gives: historyAnswer{}, book: true, f: s.apiHistory,
			takes: []parameter{limit(defaultList, maxList), older, at}},
		{path: "/history", id: "history", summary: "The moves of all tags, latest first", gives: historyAnswer{}, book: true, f: s.apiHistory,
			takes: []parameter{limit(defaultList, maxList), older, at}},
		{path: "/digests/{digest}", id: "uses", summary: "Where a manifest, config or layer is used", gives: usesAnswer{}, book: true, f: s.apiUses,
			takes: []parameter{limit(defaultList, maxList), after("use, as repository@digest")}},
		{path: "/storage", id: "storage", summary: "What repositories take, as it was last counted", gives: storageAnswer{}, book: true, f: s.apiStorage,
			takes: []parameter{limit(defaultList, maxList), after("name")}},
		{path: "/dump", id: "dump", summary: "The whole book, one record a line", gives: dumpRecord{}, media: "application/x-ndjson", book: true, streams: true, f: s.apiDump,
			takes: []parameter{{name: "after", doc: "where another dump was broken off: the latest \"after\" of its records"}}},
		{path: "/status", id: "status", summary: "Whether this indexer answers, and how fresh its book is", gives: statusAnswer{}, book: true, f: s.apiStatus},
		{path: "/health", id: "health", summary: "That this indexer runs", gives: healthAnswer{}, f: s.apiHealth},
		{path: "/config", id: "config", summary: "What anybody may know of the configuration", gives: configAnswer{}, f: s.apiConfig},
	}
}

// serve checks the parameters before it asks f.
func (e endpoint) serve(w http.ResponseWriter, r *http.Request) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("the query of the address", "cannot be read: %s", err)
	}
	for name, given := range values {
		p, known := e.parameter(name)
		switch {
		case !known:
			return invalid("parameter", "%.64q is none of this address: it takes %s", name, e.names())
		case len(given) > 1:
			return invalid("parameter", "%q is given %d times: give it once", name, len(given))
		case given[0] != indexer.CleanText(given[0]) && name != "q": // in a query it is a word like another
			return invalid(name, "is %.64q: it has bytes that are no text", given[0])
		case given[0] != "":
			if err := p.check(given[0]); err != nil {
				return err
			}
		}
	}
	return e.f(w, asked{r, values})
}

func (e endpoint) parameter(name string) (parameter, bool) {
	for _, p := range e.parameters() {
		if p.name == name {
			return p, true
		}
	}
	return parameter{}, false
}

// parameters are all that e takes.
func (e endpoint) parameters() []parameter {
	if !e.book {
		return e.takes
	}
	return append(e.takes[:len(e.takes):len(e.takes)],
		parameter{name: "min_version", doc: "a Portbook-Version: waits up to 10 s until the book has come to it"})
}

func (e endpoint) names() string {
	var names []string
	for _, p := range e.parameters() {
		names = append(names, p.name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (p parameter) check(value string) error {
	if p.oneOf != nil {
		for _, v := range p.oneOf {
			if v == value {
				return nil
			}
		}
		return invalid(p.name, "is %.64q: write one of %s", value, strings.Join(p.oneOf, ", "))
	}
	if n, err := strconv.Atoi(value); p.max > 0 && (err != nil || n < 1 || n > p.max) {
		return invalid(p.name, "is %.64q: write a number from 1 to %d", value, p.max)
	}
	return nil
}

// An asked is a request whose parameters have been checked.
type asked struct {
	*http.Request
	values url.Values
}

// number reads a parameter that was checked to be one, or absent.
func (r asked) number(name string, standard int) int { return number(r.values.Get(name), standard) }

// query reads q; its error is an *query.Error.
func (r asked) query() (query.Query, error) {
	return query.Parse(r.values.Get("q"), time.Now())
}

// at reads the time for which the history is asked, zero for now. What has not
// been cannot be told.
func (r asked) at() (time.Time, error) {
	text := r.values.Get("at")
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		return at, invalid("at", "is %.64q: write a time as 2026-01-31T12:00:00Z (a + is %%2B in an address)", text)
	case at.After(time.Now()):
		return at, invalid("at", "is %.64q, which is in the future", text)
	case at.Before(time.Unix(0, 0)):
		return at, invalid("at", "is %.64q: no history is older than 1970", text)
	}
	return at.UTC(), nil
}

// repository reads the name in the address.
func (r asked) repository() (string, error) {
	name := r.PathValue("name")
	if !indexer.IsRepository(name) {
		return "", indexer.InvalidRepository(name)
	}
	return name, nil
}

// reference reads the name and the tag or digest in the address.
func (r asked) reference() (ref indexer.Reference, err error) {
	if ref.Repository, err = r.repository(); err != nil {
		return ref, err
	}
	text := r.PathValue("reference")
	if strings.Contains(text, ":") {
		ref.Digest, err = indexer.ParseDigest(text)
		return ref, err
	}
	if ref.Tag = text; !indexer.IsTag(text) {
		return ref, indexer.InvalidTag(text)
	}
	return ref, nil
}

// digest reads the digest in the address.
func (r asked) digest() (digest.Digest, error) { return indexer.ParseDigest(r.PathValue("digest")) }

// page gives the address of r with a parameter changed, for the page after this.
func (r asked) page(name, value string) string {
	next := url.Values{}
	for k, v := range r.values {
		if k != "min_version" { // the next page is of no older state anyway
			next[k] = v
		}
	}
	next.Set(name, value)
	return r.URL.EscapedPath() + "?" + next.Encode()
}

// json answers with what build gives, and next, the address of the page after
// it, in the Link field; "" if there is none.
func (s *server) json(w http.ResponseWriter, r asked, q query.Query, build func(Book) (answer any, next string, err error)) error {
	var next string
	as := form{contentType: "application/json", maxAge: s.MaxAgeIndex, gzip: true}.of(q)
	as.headers = func(h http.Header) {
		if next != "" {
			h.Set("Link", "<"+next+`>; rel="next"`)
		}
	}
	return s.answer(w, r.Request, as, func(b Book, out io.Writer) (err error) {
		var answer any
		if answer, next, err = build(b); err != nil {
			return err
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false) // it is never HTML
		return e.Encode(answer)
	})
}

// fitting gives f(x) of each x, and never null.
func fitting[X, Y any](list []X, f func(X) Y) []Y {
	out := make([]Y, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

// withAPI gives what is below /api/v1 to api and the rest to others.
func withAPI(api, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == apiPrefix || strings.HasPrefix(r.URL.Path, apiPrefix+"/") {
			api.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

var (
	// repositoryPath has the name of a repository, and what follows it. No name
	// has a component "-" (distribution-spec 1.1, "Pulling manifests").
	repositoryPath = regexp.MustCompile(`^(/api/v1/repositories/)(.+?)(/-/.*)?$`)
	referrersPath  = regexp.MustCompile(`^(/v2/)(.+)(/referrers/[^/]*)$`)
)

func asksReferrers(r *http.Request) bool { return referrersPath.MatchString(r.URL.Path) }

// withNames makes the name of a repository one segment of the path, for a mux
// whose wildcards are segments: /team/app becomes /team%2Fapp, as which clients
// made from the OpenAPI document send it.
func withNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, form := range []*regexp.Regexp{repositoryPath, referrersPath} {
			if part := form.FindStringSubmatch(r.URL.Path); part != nil {
				u := *r.URL
				u.RawPath = part[1] + url.PathEscape(part[2]) + (&url.URL{Path: part[3]}).EscapedPath()
				r.URL = &u
			}
		}
		next.ServeHTTP(w, r)
	})
}

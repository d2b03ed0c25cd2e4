package web

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer/query"
)

const (

	// maxList is the most of a list in one answer: 1,000, some 300 KB of tags.
	maxList = 1000
	// defaultList is how many are given if limit does not say.
	defaultList = 100
)

// An apiServerConfig says what the API tells, besides the book.
type apiServerConfig struct {
	Answerer *answerer
	Log      *slog.Logger
	// MaxAge and MaxAgeHTML are how long a cache may serve answers, and the OpenAPI
	// document, without asking again.
	MaxAge, MaxAgeHTML time.Duration
	// Others are the operations of other protocols, which the OpenAPI document
	// describes after those of the API.
	Others []operation
	// Version and Revision are of the program.
	Version, Revision string
	// LogLevel and Address are what /api/v1/config tells of the configuration.
	LogLevel, Address string
}

// An apiServer answers below /api/v1.
type apiServer struct {
	config   apiServerConfig
	answerer *answerer
	openAPI  []byte
	dumps    *places
}

func newAPIServer(c apiServerConfig) *apiServer {
	s := &apiServer{config: c, answerer: c.Answerer, dumps: newPlaces(maxDumps, maxDumpsEach)}
	s.openAPI = s.describe()
	return s
}

// A route is an address of the API, and what answers GET there.
type route struct {
	Path  string // from the root, as OpenAPI and net/http write it
	Serve func(http.ResponseWriter, *http.Request) error
}

// routes are all of the API, in the order of doc/api.md.
func (s *apiServer) routes() (list []route) {
	for _, e := range s.endpoints() {
		serve := e.serve
		if e.book && !e.streams {
			serve = s.answerer.reading(serve)
		}
		list = append(list, route{apiPrefix + e.path, serve})
	}
	return list
}

// endpoints are all of the API, in the order of doc/api.md.
func (s *apiServer) endpoints() []endpoint {
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
		{path: "/search", id: "search", summary: "Searches repositories", gives: searchAnswer{}, book: true, f: s.search, takes: []parameter{
			q, {name: "sort", doc: "the order, relevance if not said", oneOf: sorts}, limit(defaultPage, query.MaxPage),
			{name: "cursor", doc: "where the page before said that the next one begins"}}},
		{path: "/facets", id: "facets", summary: "Counts what a query finds by what it is", gives: facetsAnswer{}, book: true, f: s.facets, takes: []parameter{q}},
		{path: "/suggest", id: "suggest", summary: "Completes a query that is being typed", gives: suggestAnswer{}, book: true, f: s.suggest, takes: []parameter{
			{name: "q", doc: "what was typed so far"}, limit(defaultSuggestions, maxSuggestions)}},
		{path: "/repositories", id: "repositories", summary: "Names of the repositories that have a tag, in order", gives: repositoriesAnswer{}, book: true, f: s.repositories,
			takes: []parameter{limit(maxNames, maxNames), after("name"), at}},
		{path: "/repositories/{name}", id: "repository", summary: "One repository", gives: repositoryAnswer{}, book: true, f: s.repository},
		{path: "/repositories/{name}/-/tags", id: "tags", summary: "Its tags, in bytewise order", gives: tagsAnswer{}, book: true, f: s.tags,
			takes: []parameter{limit(defaultList, maxList), after("tag"), at}},
		{path: "/repositories/{name}/-/tags/{tag}/history", id: "tagHistory", summary: "The moves of one tag, latest first", gives: historyAnswer{}, book: true, f: s.history,
			takes: []parameter{limit(defaultList, maxList), older, at}},
		{path: "/repositories/{name}/-/manifests/{reference}", id: "manifest", summary: "One manifest, read", gives: manifestAnswer{}, book: true, f: s.manifest},
		{path: "/repositories/{name}/-/manifests/{reference}/raw", id: "rawManifest", summary: "The bytes of one manifest", media: "application/*", book: true, f: s.raw},
		{path: "/repositories/{name}/-/manifests/{reference}/layers", id: "layers", summary: "The layers of one image", gives: layersAnswer{}, book: true, f: s.layers},
		{path: "/repositories/{name}/-/manifests/{reference}/referrers", id: "referrers", summary: "What says that it belongs to one manifest", gives: referrersAnswer{}, book: true, f: s.referrers,
			takes: []parameter{limit(maxReferrers, maxReferrers), after("referrer, as the next address has it")}},
		{path: "/repositories/{name}/-/history", id: "repositoryHistory", summary: "The moves of a repository's tags, latest first", gives: historyAnswer{}, book: true, f: s.history,
			takes: []parameter{limit(defaultList, maxList), older, at}},
		{path: "/history", id: "history", summary: "The moves of all tags, latest first", gives: historyAnswer{}, book: true, f: s.history,
			takes: []parameter{limit(defaultList, maxList), older, at}},
		{path: "/digests/{digest}", id: "uses", summary: "Where a manifest, config or layer is used", gives: usesAnswer{}, book: true, f: s.uses,
			takes: []parameter{limit(defaultList, maxList), after("use, as repository@digest")}},
		{path: "/storage", id: "storage", summary: "What repositories take, as it was last counted", gives: storageAnswer{}, book: true, f: s.storage,
			takes: []parameter{limit(defaultList, maxList), after("name")}},
		{path: "/dump", id: "dump", summary: "The whole book, one record a line", gives: dumpRecord{}, media: "application/x-ndjson", book: true, streams: true, f: s.dump,
			takes: []parameter{{name: "after", doc: "where another dump was broken off: the latest \"after\" of its records"}}},
		{path: "/status", id: "status", summary: "Whether this indexer answers, and how fresh its book is", gives: statusAnswer{}, book: true, f: s.status},
		{path: "/health", id: "health", summary: "That this indexer runs", gives: healthAnswer{}, f: s.health},
		{path: "/config", id: "config", summary: "What anybody may know of the configuration", gives: configAnswer{}, f: s.configuration},
	}
}

// Package api is the JSON API below /api/v1, with its OpenAPI document and the dump
// of the whole catalogue.
package api

import (
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

const (
	// maxList is the maximum number of elements in one answer: 1,000, about 300 KB of
	// tags.
	maxList = 1000
	// defaultList is the number of elements if limit is not set.
	defaultList = 100
)

// A Config configures an API.
type Config struct {
	Answerer *answer.Answerer
	Log      *slog.Logger
	// MaxAge and MaxAgeHTML are how long a cache may serve answers and the OpenAPI
	// document without revalidation.
	MaxAge, MaxAgeHTML time.Duration
	// Others are the operations of other protocols. The OpenAPI document describes them
	// after those of the API.
	Others []answer.Operation
	// Login finds out who asks; nil: everybody sees everything. With its Accounts, those who
	// may manage accounts and grants.
	Login *login.Login
	// Jobs has the leader run jobs; nil on a reader, which cannot.
	Jobs Jobs
	// Webhooks are those that who oversees their pattern manages; nil: nobody does.
	Webhooks *deliver.Webhooks
	// Version and Revision are those of the program.
	Version, Revision string
	// LogLevel and Address are the settings that /api/v1/config shows.
	LogLevel, Address string
	// Levels says how far what is protected is kept.
	Levels func() []indexer.ProtectionLevel
}

// An API serves the routes below /api/v1.
type API struct {
	config   Config
	answerer *answer.Answerer
	openAPI  []byte
	dumps    *answer.Places
}

// New returns an API that is configured by c.
func New(c Config) *API {
	s := &API{config: c, answerer: c.Answerer, dumps: answer.NewPlaces(maxDumps, maxDumpsEach)}
	s.openAPI = s.describe()
	return s
}

// A route is an operation of the API and its handler.
type route struct {
	Method string
	Path   string // from the root, in the syntax of OpenAPI and net/http
	Serve  answer.HandlerFunc
}

// Routes returns all routes of the API, in the order of doc/api.md.
func (s *API) Routes() (list []route) {
	for _, e := range s.endpoints() {
		serve := e.serve
		if e.book && !e.streams {
			serve = s.answerer.Reading(serve)
		}
		if e.method != "" && !e.urgent {
			serve = s.config.Login.LimitWrites(s.config.Login.Known, serve)
		}
		list = append(list, route{e.operation().Verb(), answer.APIPrefix + e.path, serve})
	}
	return list
}

// endpoints returns all endpoints, in the order of doc/api.md.
func (s *API) endpoints() []endpoint {
	q := answer.Parameter{Name: "q", Doc: "a query in the language of doc/search.md; everything if it is absent"}
	at := answer.Parameter{Name: "at", Doc: "a time (RFC 3339): answer for that time, from the history"}
	limit := func(standard, max int) answer.Parameter {
		doc := "maximum number of elements (default " + strconv.Itoa(standard) + ")"
		return answer.Parameter{Name: "limit", Doc: doc, Max: max}
	}
	after := func(what string) answer.Parameter {
		return answer.Parameter{Name: "after", Doc: "only elements after this " + what}
	}
	older := answer.Parameter{Name: "before", Doc: "only moves older than the one with this id", Max: query.MaxNumber}
	const repository = "/repositories/{name}"
	const manifest = repository + "/-/manifests/{reference}"
	all := []endpoint{
		{path: "/search", id: "search", summary: "Search repositories",
			gives: searchAnswer{}, book: true, f: s.search, takes: []answer.Parameter{
				q, at, {Name: "sort", Doc: "the order (default relevance)", OneOf: answer.Sorts},
				limit(answer.DefaultPage, query.MaxPage),
				{Name: "cursor", Doc: "where the page begins, from the next address of the page before"}}},
		{path: "/facets", id: "facets", summary: "Count the results of a query by their properties",
			gives: facetsAnswer{}, book: true, f: s.facets, takes: []answer.Parameter{q}},
		{path: "/suggest", id: "suggest", summary: "Complete a partly typed query",
			gives: suggestAnswer{}, book: true, f: s.suggest, takes: []answer.Parameter{
				{Name: "q", Doc: "the query as typed so far"}, limit(defaultSuggestions, maxSuggestions)}},
		{path: "/repositories", id: "repositories", summary: "List the names of repositories that have a tag, in order",
			gives: repositoriesAnswer{}, book: true, f: s.repositories,
			takes: []answer.Parameter{limit(maxNames, maxNames), after("name"), at}},
		{path: repository, id: "repository", summary: "Get one repository",
			gives: repositoryAnswer{}, book: true, f: s.repository, takes: []answer.Parameter{at}},
		{path: repository + "/-/notices", id: "notices", summary: "Get what is yanked, protected and frozen in a repository",
			gives: noticesAnswer{}, book: true, f: s.notices},
		{path: repository + "/-/tags", id: "tags", summary: "List the tags of a repository, in bytewise order",
			gives: tagsAnswer{}, book: true, f: s.tags,
			takes: []answer.Parameter{limit(defaultList, maxList), after("tag"), at}},
		{path: repository + "/-/tags/{tag}/history", id: "tagHistory", summary: "List the moves of one tag, latest first",
			gives: historyAnswer{}, book: true, f: s.history,
			takes: []answer.Parameter{limit(defaultList, maxList), older, at}},
		{path: manifest, id: "manifest", summary: "Get one manifest, decoded",
			gives: manifestAnswer{}, book: true, f: s.manifest, takes: []answer.Parameter{at}},
		{path: manifest + "/raw", id: "rawManifest", summary: "Get the bytes of one manifest",
			media: "application/*", book: true, f: s.raw},
		{path: manifest + "/layers", id: "layers", summary: "List the layers of one image",
			gives: layersAnswer{}, book: true, f: s.layers},
		{path: manifest + "/referrers", id: "referrers", summary: "List what is attached to one manifest",
			gives: referrersAnswer{}, book: true, f: s.referrers, takes: []answer.Parameter{
				limit(answer.MaxReferrers, answer.MaxReferrers), after("referrer, as in the address of the next page")}},
		{path: manifest + "/storage", id: "manifestStorage",
			summary: "Get what one tag or manifest takes, and what deleting it would free",
			gives:   holdingAnswer{}, book: true, f: s.manifestStorage},
		{path: repository + "/-/storage", id: "repositoryStorage",
			summary: "Get what one repository takes, and what deleting it would free",
			gives:   holdingAnswer{}, book: true, f: s.repositoryStorage},
		{path: repository + "/-/history", id: "repositoryHistory",
			summary: "List the moves of a repository's tags, latest first", gives: historyAnswer{}, book: true, f: s.history,
			takes: []answer.Parameter{limit(defaultList, maxList), older, at}},
		{path: repository + "/-/usage", id: "usage",
			summary: "Get how often a repository, or one of its tags or manifests, was pulled and pushed",
			gives:   usageAnswer{}, book: true, f: s.usage, takes: []answer.Parameter{
				{Name: "tag", Doc: "only pulls by this tag, and its pushes"},
				{Name: "digest", Doc: "only pulls of this manifest"},
				{Name: "days", Doc: "number of days (default 90)", Max: maxUsageDays}}},
		{path: "/history", id: "history", summary: "List the moves of all tags, latest first",
			gives: historyAnswer{}, book: true, f: s.history,
			takes: []answer.Parameter{limit(defaultList, maxList), older, at}},
		{path: "/digests/{digest}", id: "uses", summary: "List where a manifest, config or layer is used",
			gives: usesAnswer{}, book: true, f: s.uses,
			takes: []answer.Parameter{limit(defaultList, maxList), after("use, as repository@digest")}},
		{path: "/storage", id: "storage", summary: "List the storage that repositories take, as last counted",
			gives: storageAnswer{}, book: true, f: s.storage,
			takes: []answer.Parameter{limit(defaultList, maxList), after("name")}},
		{path: "/namespaces/{namespace}/storage", id: "namespaceStorage",
			summary: "Get what one namespace takes, and what deleting all of it would free",
			gives:   holdingAnswer{}, book: true, f: s.namespaceStorage},
		{path: "/dump", id: "dump", summary: "Get the whole book, one record per line",
			gives: dumpRecord{}, media: "application/x-ndjson", book: true, streams: true, f: s.dump, takes: []answer.Parameter{
				{Name: "after", Doc: "where to continue an interrupted dump: the last \"after\" of its records"}}},
		{path: "/status", id: "status", summary: "Get the state of this indexer and of its book",
			gives: statusAnswer{}, book: true, f: s.status},
		{path: "/health", id: "health", summary: "Check that this indexer runs", gives: healthAnswer{}, f: s.health},
		{path: "/config", id: "config", summary: "Get the public part of the configuration",
			gives: configAnswer{}, f: s.configuration},
	}
	return slices.Concat(all, s.operationEndpoints(), s.retentionEndpoints(), s.protectionEndpoints(), s.jobEndpoints(),
		s.accountEndpoints(), s.webhookEndpoints())
}

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// firstPage is the goal for the front page: the median in milliseconds.
const firstPage = 15

// A page is a measured page, requested at a different address each time.
type page struct {
	name string
	path func(draw) string
	goal float64 // 0: none
	// status is the expected status; 0 means 200. If another page answers 404, it does
	// not exist.
	status int
	again  bool // whether the client already has the page and revalidates it
}

var pages = []page{
	{name: "catalogue", path: at("/"), goal: firstPage},
	{name: "catalogue, again", path: at("/"), again: true},
	{name: "catalogue, a later page", path: func(d draw) string {
		return "/?after=" + url.QueryEscape(d.one().repository)
	}},
	{name: "search for a word", path: search(draw.word)},
	{name: "search for two words", path: search(func(d draw) string { return d.word() + " " + d.word() })},
	{name: "search, newest first", path: func(d draw) string { return "/?sort=updated&q=" + d.word() }},
	{name: "all, newest first", path: at("/?sort=updated")},
	{name: "search that finds nothing", path: search(func(d draw) string { return fmt.Sprintf("qq%x", d.Uint32()) })},
	{name: "search that is wrong", path: search(func(d draw) string {
		return "size:>many-" + d.word()
	}), status: http.StatusBadRequest},
	{name: "namespace", path: func(d draw) string { return "/n/" + d.namespace() }},
	{name: "repository", path: func(d draw) string { return "/r/" + d.one().repository }},
	{name: "repository, again", path: func(d draw) string { return "/r/" + d.one().repository }, again: true},
	{name: "image by tag", path: func(d draw) string { return d.one().byTag() }},
	{name: "image by digest", path: func(d draw) string { s := d.one(); return "/r/" + s.repository + "@" + s.digest }},
	{name: "compare two images", path: func(d draw) string {
		a, b := d.one(), d.one()
		return "/compare?a=" + url.QueryEscape(a.byTag()[len("/r/"):]) + "&b=" + url.QueryEscape(b.byTag()[len("/r/"):])
	}},
	{name: "activity", path: at("/activity")},
	{name: "storage", path: at("/storage")},
	{name: "status", path: at("/status")},
	{name: "API", path: at("/api/v1/")},
	{name: "no such repository", path: func(d draw) string {
		return "/r/" + d.one().repository + "x"
	}, status: http.StatusNotFound},
}

func (p page) wantStatus() int {
	switch {
	case p.again:
		return http.StatusNotModified
	case p.status != 0:
		return p.status
	}
	return http.StatusOK
}

func at(path string) func(draw) string { return func(draw) string { return path } }

func search(query func(draw) string) func(draw) string {
	return func(d draw) string { return "/?q=" + url.QueryEscape(query(d)) }
}

// A draw returns the parameters of one request, the same in every run.
type draw struct {
	*rand.Rand
	samples []sample
}

func newDraw(page string, number int, samples []sample) draw {
	seed := uint64(number)
	for _, c := range page {
		seed = seed*31 + uint64(c)
	}
	return draw{rand.New(rand.NewPCG(1, seed)), samples}
}

// A sample is one tag of the book.
type sample struct{ repository, tag, digest string }

func (s sample) byTag() string { return "/r/" + s.repository + ":" + s.tag }

func (d draw) one() sample { return d.samples[d.IntN(len(d.samples))] }

// namespace returns the namespace of a repository; if it finds none that has one, it
// returns the name of the first repository.
func (d draw) namespace() string {
	for range 100 {
		if namespace, _, ok := strings.Cut(d.one().repository, "/"); ok {
			return namespace
		}
	}
	return d.samples[0].repository
}

// word returns a word of a repository's name.
func (d draw) word() string {
	words := strings.FieldsFunc(d.one().repository, func(r rune) bool { return r == '/' || r == '-' })
	return words[d.IntN(len(words))]
}

// sampleSize is about how many tags are sampled: more than the requests for a page.
const sampleSize = 5000

// sampleTags draws tags of a book.
func sampleTags(ctx context.Context, conn *pgx.Conn) ([]sample, error) {
	// BERNOULLI reads the whole table, some seconds for 10 million tags: SYSTEM would
	// sample blocks, whose tags belong to few repositories.
	const share = `SELECT least(100, 100.0 * $1 / greatest(1, reltuples))::float8 FROM pg_class WHERE oid = 'tag'::regclass`
	const q = `
		SELECT r.name, t.name, 'sha256:' || encode(m.digest, 'hex')
		FROM tag t TABLESAMPLE BERNOULLI ($1) REPEATABLE (1)
		JOIN repository r ON r.id = t.repository_id
		JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id
		WHERE length(m.digest) = 32
		ORDER BY r.name, t.name`
	var percent float64
	if err := conn.QueryRow(ctx, share, sampleSize).Scan(&percent); err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, q, percent)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sample, err error) {
		return s, row.Scan(&s.repository, &s.tag, &s.digest)
	})
}

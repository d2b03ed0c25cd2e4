package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/portbook/portbook/test/bench/content"
	"github.com/portbook/portbook/test/bench/harness"
)

// A question is a kind of question that both peers answer.
type question string

const (
	commonWord question = "common word"
	rareWord   question = "rare word"
	noMatch    question = "no match"
	typeAhead  question = "three letters of a word, as one types"
	firstPage  question = "first page"
	newest     question = "newest first"
	byDigest   question = "images with a digest"
	repository question = "one repository"
)

var questions = []question{commonWord, rareWord, noMatch, typeAhead, firstPage, newest, byDigest, repository}

// words are what the questions ask for: the words of the names of the repositories.
type words struct {
	names        []string
	common, rare []string // the most common word first
	digests      []string // of some manifests
}

// newWords returns the words of names. A common one is in a hundredth of all names, a
// rare one in one to three.
func newWords(repositories []content.Repository) words {
	var w words
	count := map[string]int{}
	for _, r := range repositories {
		w.names = append(w.names, r.Name)
		for word := range strings.FieldsFuncSeq(r.Name, func(c rune) bool { return c == '/' || c == '-' }) {
			count[word]++
		}
	}
	for word, n := range count {
		if _, err := strconv.Atoi(word); err == nil {
			continue // the end of a name that was drawn twice
		}
		if n >= max(len(repositories)/100, 4) {
			w.common = append(w.common, word)
		} else if n <= 3 {
			w.rare = append(w.rare, word)
		}
	}
	slices.SortFunc(w.common, func(a, b string) int {
		if n := count[b] - count[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	slices.Sort(w.rare)
	return w
}

// A draw draws the parameters of one request, the same in every run and for each peer.
type draw struct {
	*rand.Rand
	words
}

func newDraw(q question, turn string, number int, w words) draw {
	seed := uint64(number)
	for _, c := range string(q) + turn {
		seed = seed*31 + uint64(c)
	}
	return draw{rand.New(rand.NewPCG(1, seed)), w}
}

func (d draw) one(of []string) string { return of[d.IntN(len(of))] }

// parameter returns what a question asks for.
func (d draw) parameter(q question) string {
	switch q {
	case commonWord:
		return d.one(d.common)
	case rareWord:
		return d.one(d.rare)
	case noMatch:
		return "qq" + strconv.FormatUint(d.Uint64()>>16, 36)
	case typeAhead:
		w := d.one(d.common)
		if d.IntN(2) == 0 {
			w = d.one(d.rare)
		}
		return w[:min(len(w), 3)]
	case byDigest:
		return d.one(d.digests)
	case repository:
		return d.one(d.names)
	}
	return strconv.Itoa(15 + d.IntN(20)) // results of a page
}

// portbookPath is a request of Portbook's API.
func portbookPath(q question, d draw) string {
	p := d.parameter(q)
	switch q {
	case typeAhead:
		return "/api/v1/suggest?q=" + p
	case firstPage:
		return "/api/v1/search?limit=" + p
	case newest:
		return "/api/v1/search?sort=updated&limit=" + p
	case byDigest:
		return "/api/v1/search?q=digest:" + p
	case repository:
		return "/api/v1/repositories/" + p
	}
	return "/api/v1/search?q=" + p
}

// Fields that zot's own pages request, without those that need its scanner.
const (
	zotRepository = "Name LastUpdated Size Platforms {Os Arch} NewestImage {Tag Description Licenses Vendor}"
	zotImage      = "RepoName Tag Digest Size LastUpdated Manifests {Digest Platform {Os Arch}}"
)

// zotPath is a request of zot's search, in GraphQL (project-zot/zot,
// pkg/extensions/search/schema.graphql).
func zotPath(q question, d draw) string {
	p := strconv.Quote(d.parameter(q))
	var text string
	switch q {
	case typeAhead:
		text = fmt.Sprintf("{GlobalSearch(query: %s, requestedPage: {limit: 10, offset: 0, sortBy: RELEVANCE})"+
			" {Repos {Name} Images {RepoName Tag}}}", p)
	case firstPage:
		text = fmt.Sprintf("{RepoListWithNewestImage(requestedPage: {limit: %s, offset: 0})"+
			" {Page {TotalCount ItemCount} Results {%s}}}", strings.Trim(p, `"`), zotRepository)
	case newest:
		text = fmt.Sprintf("{RepoListWithNewestImage(requestedPage: {limit: %s, offset: 0, sortBy: UPDATE_TIME})"+
			" {Page {TotalCount ItemCount} Results {%s}}}", strings.Trim(p, `"`), zotRepository)
	case byDigest:
		text = fmt.Sprintf("{ImageListForDigest(id: %s, requestedPage: {limit: 25, offset: 0}) {Results {%s}}}", p, zotImage)
	case repository:
		text = fmt.Sprintf("{ExpandedRepoInfo(repo: %s) {Images {%s} Summary {%s}}}", p, zotImage, zotRepository)
	default:
		text = fmt.Sprintf("{GlobalSearch(query: %s, requestedPage: {limit: 25, offset: 0, sortBy: RELEVANCE})"+
			" {Page {TotalCount ItemCount} Repos {%s}}}", p, zotRepository)
	}
	return "/v2/_zot/ext/search?query=" + url.QueryEscape(text)
}

// An asker sends questions to a peer.
type asker struct {
	*harness.Asker
	path func(question, draw) string
	words
}

func (a *asker) paths(q question, turn string, n int) (paths []string) {
	for number := range n {
		paths = append(paths, a.path(q, newDraw(q, turn, number, a.words)))
	}
	return paths
}

// finds reports whether a search for the name of a repository shows it.
func (a *asker) finds(ctx context.Context, name string) (bool, error) {
	w := words{names: []string{name}, common: []string{name}}
	body, err := a.body(ctx, a.path(commonWord, newDraw(commonWord, "", 0, w)))
	return strings.Contains(body, `"`+name+`"`), err
}

// check checks that a peer answers a question: an error of GraphQL has the status 200.
func (a *asker) check(ctx context.Context, q question) error {
	path := a.paths(q, "check", 1)[0]
	body, err := a.body(ctx, path)
	if err != nil {
		return err
	}
	found := slices.ContainsFunc(a.names, func(name string) bool { return strings.Contains(body, name) })
	if strings.Contains(body, `"errors"`) || found != (q != noMatch) {
		return fmt.Errorf("GET %s: %.300s", path, body)
	}
	return nil
}

// maxBody is the most bytes of an answer that is checked: 8 MiB.
const maxBody = 8 << 20

func (a *asker) body(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.300s", path, resp.Status, b)
	}
	return string(b), err
}

// maxDigests is how many digests are asked for.
const maxDigests = 500

// digests returns the digests of the first tag of some repositories, as the registry
// tells them.
func digests(ctx context.Context, registry string, repositories []content.Repository) (all []string, err error) {
	for i := 0; i < len(repositories); i += max(len(repositories)/maxDigests, 1) {
		url := registry + "/v2/" + repositories[i].Name + "/manifests/" + content.FirstTag
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		digest := resp.Header.Get("Docker-Content-Digest")
		if digest == "" {
			return nil, fmt.Errorf("HEAD %s: %s without a digest", req.URL, resp.Status)
		}
		all = append(all, digest)
	}
	return all, nil
}

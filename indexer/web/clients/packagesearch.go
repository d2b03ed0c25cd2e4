package clients

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/pesde"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// packagePage is how many packages an answer has: 50, as in pesde's registry
// (registry/src/endpoints/search.rs of branch 0.7).
const packagePage = 50

// packagesAnswer is the answer of pesde's GET /v1/search and /v0/search.
type packagesAnswer struct {
	Data  []packageResponse `json:"data"`
	Count int               `json:"count" doc:"number of packages on all pages"`
}

// packageResponse describes a repository as a package for pesde's clients.
type packageResponse struct {
	Name        string           `json:"name"`
	Version     string           `json:"version" doc:"the tag of the highest version; if there is none, the leading tag"`
	Targets     []packageTarget  `json:"targets" doc:"platforms of its images"`
	Description string           `json:"description,omitempty"`
	PublishedAt answer.Timestamp `json:"published_at" doc:"when anything in the repository last changed"`
	License     string           `json:"license,omitempty"`
	Authors     []string         `json:"authors,omitempty" doc:"of a package of pesde"`
	Repository  string           `json:"repository,omitempty" doc:"of a package of pesde: where its source is"`
}

type packageTarget struct {
	Kind    string   `json:"kind" doc:"os_architecture[_variant] of an image, or a target of pesde"`
	Yanked  bool     `json:"yanked,omitempty"`
	Lib     bool     `json:"lib"`
	Bin     bool     `json:"bin"`
	Scripts []string `json:"scripts,omitempty"`
}

// Search serves two protocols at one address: pesde's client sends query and offset,
// docker and podman send q.
func (s *Clients) Search(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	if !v.Has("query") && !v.Has("offset") {
		return s.dockerSearch(w, r)
	}
	var refused *answer.Refusal
	err := s.PackageSearch(w, r)
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, indexer.ErrInvalid): // in the format of that protocol
		answer.WriteErrorJSON(w, http.StatusBadRequest, answer.ErrorText(err))
		return nil
	}
	return err
}

// PackageSearch serves pesde's search: 50 results from offset; without a query, the
// latest changes first.
func (s *Clients) PackageSearch(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	offset := 0
	if text := v.Get("offset"); text != "" {
		var err error
		if offset, err = strconv.Atoi(text); err != nil && !errors.Is(err, strconv.ErrRange) || offset < 0 {
			return answer.Invalid("offset", "is %.64q: write a number, 0 or greater", text)
		}
	}
	q, err := query.Parse(v.Get("query"), time.Now())
	if word := dangling(v.Get("query")); word != "" && err == nil {
		err = indexer.Invalid("%.64s", word)
	}
	if err != nil {
		answer.WriteErrorJSON(w, http.StatusBadRequest, fmt.Sprintf("failed to parse query: Syntax Error: %s", err))
		return nil
	}
	q = q.Page(packagePage, offset)
	as := answer.Form{ContentType: "application/json", MaxAge: s.config.MaxAge, Gzip: true}.Of(q)
	return s.answerer.Answer(w, r, as, func(b answer.Book, out io.Writer) error {
		var found indexer.Results
		err := s.answerer.Timed("package", func() (err error) {
			found, err = searchPackages(r, b, q)
			return err
		})
		if err != nil {
			return err
		}
		if offset > query.MaxOffset { // else a client that reads until there are no results would never end
			found.Items = nil
		}
		versions, err := b.Versions(r.Context(), answer.Map(found.Items, func(i indexer.Result) string { return i.Name }))
		if err != nil {
			return err
		}
		packages := answer.Map(found.Items, func(i indexer.Result) packageResponse { return packageOf(i, versions[i.Name]) })
		if err := s.replacePackages(r.Context(), b, packages); err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(packagesAnswer{packages, found.Total})
	})
}

// dangling returns the first word of a query that is a field without a value, such as name:. In our
// own searches it is a word that somebody is still typing.
func dangling(text string) string {
	for _, word := range strings.Fields(text) {
		name, ok := strings.CutSuffix(word, ":")
		if ok && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") == "" {
			return word
		}
	}
	return ""
}

// replacePackages replaces repositories that are packages of pesde by what the index says of them,
// under their own names.
func (s *Clients) replacePackages(ctx context.Context, b answer.Book, all []packageResponse) error {
	var names []string
	for _, p := range all {
		if name, ok := s.packageName(p.Name); ok {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	files, err := b.PackageFiles(ctx, s.config.Package.Prefix, names)
	if err != nil {
		return err
	}
	for i, p := range all {
		name, _ := s.packageName(p.Name)
		if text := files[name]; text != nil {
			all[i] = found(name, text, p)
		}
	}
	return nil
}

// packageName returns the name of the package that a repository may be.
func (s *Clients) packageName(repository string) (string, bool) {
	if s.config.Package.Packages == nil {
		return "", false
	}
	return strings.CutPrefix(repository, s.config.Package.Prefix)
}

// found returns the package in a file of the index as a search shows it; p if that is not possible.
func found(name string, file []byte, p packageResponse) packageResponse {
	f, err := pesde.ParseFile(file)
	all := publishedIn(f)
	v, ok := pesde.Highest(all)
	if err != nil || !ok {
		return p
	}
	of := pesde.OfVersion(all, v)
	newest := slices.MaxFunc(of, func(a, b pesde.Published) int { return strings.Compare(a.PublishedAt, b.PublishedAt) })
	p = packageResponse{
		Name: name, Version: v.String(), Description: newest.Description, License: newest.License, Authors: newest.Authors,
		Repository: newest.Repository,
	}
	p.PublishedAt.Time, _ = time.Parse(time.RFC3339Nano, newest.PublishedAt) // ParseFile has checked it
	for _, t := range of {
		p.Targets = append(p.Targets, packageTarget{string(t.Target), t.Yanked, t.Lib, t.Bin, t.Scripts})
	}
	return p
}

// searchPackages is a search that also matches words inside a name, as pesde's registry
// does. That has to look at every name, so it is done only if the words alone find less
// than a page.
func searchPackages(r *http.Request, b answer.Book, q query.Query) (indexer.Results, error) {
	found, err := b.Search(r.Context(), q)
	if err != nil || found.Total >= packagePage {
		return found, err
	}
	text := substrings(q)
	wide, err := query.Parse(text, time.Now())
	if text == "" || err != nil { // not words alone, or too long
		return found, nil
	}
	return b.Search(r.Context(), wide.Page(q.Limit, q.Offset))
}

// substrings returns the text of a query for names that contain the words of q, also as
// parts of other words; "" if q is not words alone.
func substrings(q query.Query) string {
	var terms []string
	for _, c := range q.Clauses {
		if len(c) != 1 || c[0].Field != query.FieldText || c[0].Not || c[0].Phrase || c[0].Tag != "" || len(c[0].Words) == 0 {
			return ""
		}
		for _, w := range c[0].Words {
			terms = append(terms, w+" OR repo:*"+w+"*")
		}
	}
	return strings.Join(terms, " ")
}

// packageOf returns a result as a package. versions are its tags that look like
// versions.
func packageOf(r indexer.Result, versions []string) packageResponse {
	p := packageResponse{
		Name: r.Name, Version: r.Leading, Targets: targetsOf(r.Facts),
		Description: answer.OneLine(r.Description, answer.MaxDescription), PublishedAt: answer.Timestamp{Time: r.UpdatedAt},
	}
	if len(versions) > 0 {
		p.Version = slices.MinFunc(versions, indexer.CompareTags)
	}
	for _, licence := range indexer.FactLicence.Values(r.Facts) {
		p.License = licence
	}
	return p
}

// targetsOf returns a target for each platform among facts, sorted by kind. A platform
// with a variant also has a fact without it, which is not another platform.
func targetsOf(facts []indexer.Fact) []packageTarget {
	platforms := map[string]bool{}
	for _, platform := range indexer.FactPlatform.Values(facts) {
		platforms[platform] = true
	}
	for platform := range maps.Clone(platforms) {
		if parts := strings.Split(platform, "/"); len(parts) > 2 {
			delete(platforms, parts[0]+"/"+parts[1])
		}
	}
	kinds := map[string]bool{}
	for platform := range platforms {
		kinds[strings.ReplaceAll(platform, "/", "_")] = true
	}
	targets := []packageTarget{}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		targets = append(targets, packageTarget{Kind: kind, Bin: true})
	}
	return targets
}

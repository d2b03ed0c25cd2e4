package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

// packagePage is how many packages an answer has: 50, as pesde's registry
// (registry/src/endpoints/search.rs of branch 0.7).
const packagePage = 50

// packagesAnswer is the answer of pesde's GET /v1/search and /v0/search.
type packagesAnswer struct {
	Data  []packageResponse `json:"data"`
	Count int               `json:"count" doc:"of all pages; exact below 10,000"`
}

// packageResponse is a repository as pesde's clients know a package. A search
// knows no single tag, so the version is the word that they have for it.
type packageResponse struct {
	Name        string          `json:"name"`
	Version     string          `json:"version" doc:"latest"`
	Targets     []packageTarget `json:"targets" doc:"platforms of its images"`
	Description string          `json:"description,omitempty"`
	PublishedAt timestamp       `json:"published_at" doc:"when anything under it last changed"`
	License     string          `json:"license,omitempty"`
}

type packageTarget struct {
	Kind string `json:"kind" doc:"os_architecture[_variant]"`
	Lib  bool   `json:"lib"`
	Bin  bool   `json:"bin"`
}

// search answers two protocols that have one address: pesde's client sends
// query and offset, docker and podman send q.
func (s *server) search(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	if !v.Has("query") && !v.Has("offset") {
		return s.dockerSearch(w, r)
	}
	var refused *refusal
	err := s.packageSearch(w, r)
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, indexer.ErrInvalid): // in the shape of that protocol
		tellJSON(w, http.StatusBadRequest, told(err))
		return nil
	}
	return err
}

// packageSearch answers pesde's search: 50 from offset on; without a query what
// changed last.
func (s *server) packageSearch(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	offset := 0
	if text := v.Get("offset"); text != "" {
		var err error
		if offset, err = strconv.Atoi(text); err != nil && !errors.Is(err, strconv.ErrRange) || offset < 0 {
			return invalid("offset", "is %.64q: write a number from 0", text)
		}
	}
	q, err := indexer.ParseQuery(v.Get("query"), time.Now())
	if err != nil {
		tellJSON(w, http.StatusBadRequest, fmt.Sprintf("failed to parse query: %s", err))
		return nil
	}
	q = q.Page(packagePage, offset)
	as := form{contentType: "application/json", maxAge: s.MaxAgeIndex, gzip: true}.of(q)
	return s.answer(w, r, as, func(b Book, out io.Writer) error {
		var found indexer.Results
		err := s.metrics.timed("package", func() (err error) {
			found, err = b.Search(r.Context(), q)
			return err
		})
		if err != nil {
			return err
		}
		if offset > indexer.MaxOffset { // else whoever asks until nothing comes would never end
			found.Items = nil
		}
		return json.NewEncoder(out).Encode(packagesAnswer{fitting(found.Items, packageOf), found.Total})
	})
}

func packageOf(r indexer.Result) packageResponse {
	p := packageResponse{
		Name: r.Name, Version: "latest", Targets: []packageTarget{},
		Description: oneLine(r.Description, maxDescription), PublishedAt: timestamp{r.UpdatedAt},
	}
	for _, fact := range r.Facts {
		if platform, ok := strings.CutPrefix(fact, "platform:"); ok {
			p.Targets = append(p.Targets, packageTarget{Kind: strings.ReplaceAll(platform, "/", "_"), Bin: true})
		}
		if licence, ok := strings.CutPrefix(fact, "licence:"); ok {
			p.License = licence
		}
	}
	return p
}

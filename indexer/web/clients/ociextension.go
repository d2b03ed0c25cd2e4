package clients

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Parts of the registry's API that are proposed for the distribution specification, as an extension
// of the name _oci: the history of a tag (pull request 606 of distribution-spec), and tags with
// their digests and times, also only those that changed since (575 and 579). No registry has them
// yet, and their form may still change: so they are experimental, and off unless configured.

const (
	// maxExtension is the maximum number of elements in one answer: 1,000, as of /v2/_catalog.
	maxExtension = 1000
	// maxLooked is how many tags are looked at for one answer: 10,000. If few of them have changed,
	// an answer has fewer elements than asked for, and a link to the next.
	maxLooked = 10_000
)

// An extensionTags is the answer with the tags of a repository.
type extensionTags struct {
	Name string         `json:"name"`
	Tags []extensionTag `json:"tags"`
}

type extensionTag struct {
	Name      string        `json:"name"`
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	// Updated is when we first saw the tag show the digest.
	Updated time.Time `json:"updated"`
}

// ExtensionTags serves GET /v2/NAME/_oci/tags: the tags of a repository in order of name, with the
// parameters n and last of the specification, and updated-since.
func (s *Clients) ExtensionTags(w http.ResponseWriter, r *http.Request) error {
	name, n, err := extensionPage(r)
	if err != nil {
		return err
	}
	values := r.URL.Query()
	var since time.Time
	if text := values.Get("updated-since"); text != "" {
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			return answer.Invalid("updated-since", "is %.64q: write a time such as 2026-01-31T12:00:00Z", text)
		}
	}
	return s.extension(w, r, func(b answer.Book) (any, url.Values, error) {
		if _, err := b.Repository(r.Context(), name); err != nil {
			return nil, nil, err
		}
		tags := extensionTags{Name: name, Tags: []extensionTag{}}
		last := values.Get("last")
		for looked := 0; len(tags.Tags) < n && looked < maxLooked; looked += maxExtension {
			page, err := b.Tags(r.Context(), name, last, maxExtension)
			if err != nil {
				return nil, nil, err
			}
			for _, t := range page {
				if len(tags.Tags) == n {
					break
				}
				last = t.Name
				if t.Digest != "" && !t.MovedAt.Before(since) {
					tags.Tags = append(tags.Tags, extensionTag{t.Name, t.MediaType, t.Digest, t.MovedAt.UTC()})
				}
			}
			if len(page) < maxExtension && (len(page) == 0 || last == page[len(page)-1].Name) {
				return tags, nil, nil
			}
		}
		next := url.Values{"last": {last}, "n": {strconv.Itoa(n)}}
		if !since.IsZero() {
			next.Set("updated-since", values.Get("updated-since"))
		}
		return tags, next, nil
	})
}

// An extensionHistory is the answer with the history of a tag.
type extensionHistory struct {
	Name    string           `json:"name"`
	Tag     string           `json:"tag"`
	History []extensionEntry `json:"history"`
}

type extensionEntry struct {
	// Digest is what the tag showed from then on; absent if it was deleted.
	Digest  digest.Digest `json:"digest,omitempty"`
	Deleted bool          `json:"deleted,omitempty"`
	// Timestamp is when we saw the change.
	Timestamp time.Time `json:"timestamp"`
}

// ExtensionHistory serves GET /v2/NAME/_oci/tag-history/TAG: what a tag has shown, the latest first,
// also if it is deleted. last is the cursor of the previous page.
func (s *Clients) ExtensionHistory(w http.ResponseWriter, r *http.Request) error {
	name, n, err := extensionPage(r)
	if err != nil {
		return err
	}
	tag := r.PathValue("tag")
	if !indexer.IsTag(tag) {
		return indexer.InvalidTag(tag)
	}
	before := int64(0)
	if text := r.URL.Query().Get("last"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before <= 0 {
			return answer.Invalid("last", "is %.64q: follow the link of the previous answer", text)
		}
	}
	return s.extension(w, r, func(b answer.Book) (any, url.Values, error) {
		moves, err := b.History(r.Context(), name, tag, before, n+1)
		if err != nil {
			return nil, nil, err
		}
		if len(moves) == 0 && before == 0 {
			return nil, nil, answer.Refuse(http.StatusNotFound, "no history of %s:%s is known", name, tag)
		}
		var next url.Values
		if len(moves) > n {
			moves = moves[:n]
			next = url.Values{"last": {strconv.FormatInt(moves[n-1].ID, 10)}, "n": {strconv.Itoa(n)}}
		}
		history := extensionHistory{name, tag, []extensionEntry{}}
		for _, m := range moves {
			history.History = append(history.History, extensionEntry{m.To, m.To == "", m.SeenAt.UTC()})
		}
		return history, next, nil
	})
}

// extensionPage returns the repository that a request names, and how many elements it wants.
func extensionPage(r *http.Request) (name string, n int, err error) {
	name, n = r.PathValue("name"), maxExtension
	if !indexer.IsRepository(name) {
		return name, n, indexer.InvalidRepository(name)
	}
	if text := r.URL.Query().Get("n"); text != "" {
		n, err = strconv.Atoi(text)
		if err != nil || n < 1 {
			return name, n, answer.Invalid("n", "is %.16q: write a number from 1 to %d", text, maxExtension)
		}
	}
	return name, min(n, maxExtension), nil
}

// extension answers with a value, and a link to the next page if f returns its parameters.
func (s *Clients) extension(
	w http.ResponseWriter, r *http.Request, f func(answer.Book) (value any, next url.Values, err error),
) error {
	var next url.Values
	as := answer.Form{ContentType: "application/json", MaxAge: s.config.MaxAge, Gzip: true}
	as.Headers = func(h http.Header) {
		h.Set("X-Experimental", "the form of this answer may change")
		if next != nil {
			h.Set("Link", "<"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
		}
	}
	return s.answerer.Answer(w, r, as, func(b answer.Book, out io.Writer) (err error) {
		var value any
		if value, next, err = f(b); err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(value)
	})
}

// ExtensionDiscover serves GET /v2/_oci/ext/discover (distribution-spec, extensions/_oci.md): which
// extensions there are.
func (s *Clients) ExtensionDiscover(w http.ResponseWriter, _ *http.Request) error {
	return answer.WriteJSON(w, http.StatusOK, map[string]any{"extensions": []map[string]any{{
		"name":        "_oci",
		"description": "experimental: tags with digests and times, and the history of a tag",
		"url":         "https://github.com/opencontainers/distribution-spec/pull/606",
		"endpoints":   []string{"_oci/ext/discover", "_oci/tags", "_oci/tag-history"},
	}}})
}

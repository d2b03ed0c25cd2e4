package clients

import (
	"cmp"
	"context"
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

// experimental is the X-Experimental field of each answer.
const experimental = "the form of this answer may change"

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
	values := r.URL.Query()
	name, n, err := extensionPage(r, values)
	if err != nil {
		return err
	}
	since, err := extensionTime(values, "updated-since")
	if err != nil {
		return err
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

// Annotations of an entry in the history of a tag; each entry has one of them.
const (
	annotationCreated = "org.opencontainers.distribution.tag.created"
	annotationDeleted = "org.opencontainers.distribution.tag.deleted"
)

// An extensionEntry is an entry in the history of a tag: a descriptor of the manifest that the tag
// was set to, or that it showed until it was deleted. Type and size are absent if the book no longer
// holds the manifest.
type extensionEntry struct {
	MediaType   string            `json:"mediaType,omitempty"`
	Size        int64             `json:"size,omitempty"`
	Digest      digest.Digest     `json:"digest"`
	Annotations map[string]string `json:"annotations"`
}

// A historyAsked is a request for the history of a tag.
type historyAsked struct {
	name, tag string
	n         int
	last      int64         // the id of the last entry of the previous page; 0: from the latest
	before    time.Time     // only older entries; zero: all
	digest    digest.Digest // only entries of this manifest; "": all
}

// readHistoryAsked parses a request for the history of a tag.
func readHistoryAsked(r *http.Request) (a historyAsked, err error) {
	values := r.URL.Query()
	a.tag = r.PathValue("tag")
	if values.Get("n") == "0" { // is there a history?
		values.Del("n")
		a.name, _, err = extensionPage(r, values)
	} else {
		a.name, a.n, err = extensionPage(r, values)
	}
	if err != nil {
		return a, err
	}
	if !indexer.IsTag(a.tag) {
		return a, indexer.InvalidTag(a.tag)
	}
	if text := values.Get("last"); text != "" {
		if a.last, err = strconv.ParseInt(text, 10, 64); err != nil || a.last <= 0 {
			return a, answer.Invalid("last", "is %.64q: follow the link of the previous answer", text)
		}
	}
	if a.before, err = extensionTime(values, "before"); err != nil {
		return a, err
	}
	if text := values.Get("digest"); text != "" {
		a.digest, err = indexer.ParseDigest(text)
	}
	return a, err
}

// extensionTime returns the time in a parameter; the zero time if there is none.
func extensionTime(values url.Values, key string) (time.Time, error) {
	text := values.Get(key)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, answer.Invalid(key, "is %.64q: write a time such as 2026-01-31T12:00:00Z", text)
	}
	return t, nil
}

// next returns the parameters of the page after a move.
func (a historyAsked) next(last indexer.Move) url.Values {
	values := url.Values{"last": {strconv.FormatInt(last.ID, 10)}, "n": {strconv.Itoa(a.n)}}
	if a.digest != "" {
		values.Set("digest", a.digest.String())
	}
	return values
}

// ExtensionHistory serves GET /v2/NAME/_oci/tag-history/TAG: what a tag has shown, the latest first,
// also if it is deleted.
func (s *Clients) ExtensionHistory(w http.ResponseWriter, r *http.Request) error {
	a, err := readHistoryAsked(r)
	if err != nil {
		return err
	}
	return s.extension(w, r, func(b answer.Book) (any, url.Values, error) {
		moves, err := a.moves(r.Context(), b)
		if err != nil {
			return nil, nil, err
		}
		var next url.Values
		if len(moves) > a.n {
			if moves = moves[:a.n]; a.n > 0 {
				next = a.next(moves[a.n-1])
			}
		}
		entries, err := a.entries(r.Context(), b, moves)
		return entries, next, err
	})
}

// moves returns the moves that are asked for, one more than n if there are more. It returns
// ErrNotFound if there is neither a history nor a repository.
func (a historyAsked) moves(ctx context.Context, b answer.Book) ([]indexer.Move, error) {
	last := a.last
	if !a.before.IsZero() {
		// The database keeps microseconds, so these are the moves before that time.
		first, err := b.HistoryAt(ctx, a.before.Add(-time.Microsecond))
		if err != nil {
			return nil, err
		}
		if first > 0 && (last == 0 || first < last) {
			last = first
		}
	}
	if a.digest != "" {
		return a.movesOf(ctx, b, last)
	}
	moves, err := b.History(ctx, a.name, a.tag, last, a.n+1)
	if err == nil && len(moves) == 0 {
		err = a.exists(ctx, b)
	}
	return moves, err
}

// exists returns ErrNotFound if there is no such repository, and the tag never had a history.
func (a historyAsked) exists(ctx context.Context, b answer.Book) error {
	moves, err := b.History(ctx, a.name, a.tag, 0, 1)
	if err == nil && len(moves) == 0 {
		_, err = b.Repository(ctx, a.name)
	}
	return err
}

// movesOf returns the moves of one manifest, among the latest maxLooked. There must be one.
func (a historyAsked) movesOf(ctx context.Context, b answer.Book, last int64) (of []indexer.Move, err error) {
	for looked := 0; len(of) <= a.n; looked += maxExtension {
		if looked == maxLooked {
			return nil, answer.Refuse(http.StatusUnprocessableEntity,
				"the tag has moved more than %d times: read its history without digest", maxLooked)
		}
		page, err := b.History(ctx, a.name, a.tag, last, maxExtension)
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			last = m.ID
			if cmp.Or(m.To, m.From) == a.digest {
				of = append(of, m)
			}
		}
		if len(page) < maxExtension {
			break
		}
	}
	if len(of) > 0 || a.last > 0 {
		return of, nil
	}
	if err := a.exists(ctx, b); err != nil {
		return nil, err
	}
	return nil, answer.Invalid("digest", "%s is not in the history of %s:%s", a.digest, a.name, a.tag)
}

// entries returns moves in the form of the answer.
func (a historyAsked) entries(ctx context.Context, b answer.Book, moves []indexer.Move) ([]extensionEntry, error) {
	shown := func(m indexer.Move) digest.Digest { return cmp.Or(m.To, m.From) }
	known, err := b.Descriptors(ctx, a.name, answer.Map(moves, shown))
	entries := []extensionEntry{}
	for _, m := range moves {
		d := known[shown(m)]
		event := annotationCreated
		if m.To == "" {
			event = annotationDeleted
		}
		entries = append(entries, extensionEntry{d.MediaType, d.Size, shown(m),
			map[string]string{event: m.SeenAt.UTC().Format(time.RFC3339Nano)}})
	}
	return entries, err
}

// extensionPage returns the repository that a request names, and how many elements it wants.
func extensionPage(r *http.Request, values url.Values) (name string, n int, err error) {
	name, n = r.PathValue("name"), maxExtension
	if !indexer.IsRepository(name) {
		return name, n, indexer.InvalidRepository(name)
	}
	if text := values.Get("n"); text != "" {
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
		h.Set("X-Experimental", experimental)
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
	w.Header().Set("X-Experimental", experimental)
	return answer.WriteJSON(w, http.StatusOK, map[string]any{"extensions": []map[string]any{{
		"name":        "_oci",
		"description": "experimental: tags with digests and times, and the history of a tag",
		"url":         "https://github.com/opencontainers/distribution-spec/pull/606",
		"endpoints":   []string{"_oci/ext/discover", "_oci/tags", "_oci/tag-history"},
	}}})
}

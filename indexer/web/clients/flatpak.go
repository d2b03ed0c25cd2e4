package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// maxParameters is the most values in one query of images: 100. Each adds a
	// condition, or a part of one, to the database query; flatpak sends 4.
	maxParameters = 100
	// maxParameter is the most bytes of a key or a value: 1,024. A tag has at most 128
	// and a repository name 255; the time to match a glob with many stars grows with
	// its length.
	maxParameter = 1024
	// maxForm is the most bytes of a posted form: 256 KiB, enough for maxParameters of
	// the longest values, percent-encoded where that is likely.
	maxForm = 256 << 10
)

// flatpakIndex is flatpak's registry index (flatpak-oci-specs, registry-index.md).
// Fields without omitempty must be present and not null: otherwise flatpak refuses the
// whole index, and up to 1.16 it crashes if Registry is missing.
type flatpakIndex struct {
	Registry string
	Results  []flatpakRepository
}

type flatpakRepository struct {
	Name   string
	Images []flatpakImage
	Lists  []flatpakList
}

type flatpakImage struct {
	Digest       string
	MediaType    string
	OS           string
	Architecture string
	Annotations  map[string]string `json:",omitempty"`
	Labels       map[string]string `json:",omitempty"`
	Tags         *[]string         `json:",omitempty"` // never null; absent inside a list, as in the specification
}

type flatpakList struct {
	Digest      string
	MediaType   string
	Images      []flatpakImage
	Annotations map[string]string `json:",omitempty"`
	Tags        []string
}

// leftOutField holds how many images are missing in an index because it would be too
// large; it is absent if none is missing.
const leftOutField = "Portbook-Left-Out"

// maxMaking is how many indexes are made at the same time: 2, and 1 for one client, so
// that a client that waits for its turn to read never holds both. The largest takes
// some 120 MB of memory: 50 MB for labels and the rest for the answer. A request that
// waits for its turn holds no database connection, and usually finds its index made
// afterwards. So at most maxMaking requests hold one: to make an index, or to wait for
// another request that makes the same.
const (
	maxMaking     = 2
	maxMakingEach = 1
)

// errNotMade says that an index must be made while others are being made.
var errNotMade = errors.New("the index is not made yet")

// Index serves /index/static and, with noStore, /index/dynamic.
func (s *Clients) Index(noStore bool) answer.HandlerFunc {
	as := answer.Form{ContentType: "application/json", MaxAge: s.config.MaxAge, NoStore: noStore, Gzip: true}
	return func(w http.ResponseWriter, r *http.Request) error {
		parameters, err := parametersOf(w, r)
		if err != nil {
			return err
		}
		q, _, err := imageQuery(parameters)
		if err != nil {
			return err
		}
		err = s.answerIndex(w, r, as, q, s.indexes.GetNow, s.makeIndexNow)
		if !errors.Is(err, errNotMade) && !errors.Is(err, answer.ErrBeingMade) {
			return err
		}
		done, err := s.making.Take(r.Context(), "index", answer.ClientOf(r))
		if err != nil {
			return err
		}
		defer done()
		return s.answerIndex(w, r, as, q, s.indexes.Get, s.makeIndex)
	}
}

// A documentGetter is Get or GetNow of answer.Documents.
type documentGetter func(
	context.Context, answer.Book, string, func() (string, error), func() (*answer.Document, error),
) (*answer.Document, error)

// An indexMaker makes the index that q selects.
type indexMaker func(r *http.Request, b answer.Book, q query.Images) (*answer.Document, error)

// answerIndex answers with the index that q selects. It calls build if the index is not
// cached.
func (s *Clients) answerIndex(
	w http.ResponseWriter, r *http.Request, as answer.Form, q query.Images, get documentGetter, build indexMaker,
) error {
	as.Headers = func(h http.Header) {
		if n := as.Prepared.LeftOut; n > 0 {
			h.Set(leftOutField, strconv.Itoa(n))
		}
	}
	return s.answerer.AnswerAs(w, r, &as, func(b answer.Book, _ io.Writer) (err error) {
		as.Prepared, err = get(r.Context(), b, fmt.Sprintf("%q", q),
			func() (string, error) { return b.ImagesState(r.Context(), q) },
			func() (*answer.Document, error) { return build(r, b, q) })
		return err
	})
}

// makeIndexNow makes an index if fewer than maxMaking are being made, or returns
// errNotMade.
func (s *Clients) makeIndexNow(r *http.Request, b answer.Book, q query.Images) (*answer.Document, error) {
	done, err := s.making.TakeNow("index", answer.ClientOf(r))
	if err != nil {
		return nil, errNotMade
	}
	defer done()
	return s.makeIndex(r, b, q)
}

// makeIndex makes an index. The caller has a turn of making.
func (s *Clients) makeIndex(r *http.Request, b answer.Book, q query.Images) (*answer.Document, error) {
	results, leftOut, err := s.images(r, b, q)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // never HTML, and appstream labels contain much markup
	err = e.Encode(flatpakIndex{Registry: registryField(s.config.PublicURL), Results: results})
	return &answer.Document{Plain: out.Bytes(), LeftOut: leftOut}, err
}

func (s *Clients) images(r *http.Request, b answer.Book,
	q query.Images) (results []flatpakRepository, leftOut int, err error) {
	var found []indexer.RepositoryImages
	err = s.answerer.Timed("index", func() (err error) {
		found, err = b.Images(r.Context(), q)
		return err
	})
	results, leftOut = flatpakResults(found, s.owners)
	return results, leftOut, err
}

// registryField returns publicURL if flatpak resolves it as we mean it, else "/", the
// host that answered. Flatpak resolves it against the address of the index, so "" and
// "." would lead to /index/v2/.
func registryField(publicURL string) string {
	if u, err := url.Parse(publicURL); err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		return publicURL
	}
	return "/"
}

// parametersOf reads the parameters of a query of images from the URL and, for a POST,
// from the form in its body.
func parametersOf(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodPost && r.ContentLength != 0 {
		// net/http ignores a body that is not declared as a form; without its
		// conditions the query would find everything.
		t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || t != "application/x-www-form-urlencoded" {
			return nil, answer.Invalid("Content-Type", "of a query must be application/x-www-form-urlencoded")
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, answer.Invalid("parameters", "cannot be parsed")
	}
	return r.Form, nil
}

// imageQuery parses the parameters of flatpak's index: a key is a condition, its values
// are alternatives. Conditions are sorted by key, so that the order of parameters does
// not change the query.
//
// Unknown keys are returned, and /index ignores them: flatpak filters the answer
// itself, so a newer flatpak with one more parameter must get too much rather than
// nothing. A known key with an operator that it does not have is an error, since the
// client relies on it.
func imageQuery(parameters url.Values) (q query.Images, unknown []string, err error) {
	count := 0
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		values := parameters[key]
		if count += len(values); count > maxParameters {
			return nil, nil, answer.Invalid("the query", "has more than %d parameters", maxParameters)
		}
		if err := checkParameter(key, values); err != nil {
			return nil, nil, err
		}
		c, known, err := parseCondition(key, values)
		if err != nil {
			return nil, nil, err
		}
		if key == "at" {
			return nil, nil, answer.Invalid("at", "is not supported here, because the index shows only the present")
		}
		if !known {
			unknown = append(unknown, key)
			continue
		}
		q = append(q, c)
	}
	return q, unknown, nil
}

// checkParameter refuses a parameter that the database cannot look for.
func checkParameter(key string, values []string) error {
	for _, s := range append([]string{key}, values...) {
		switch {
		case len(s) > maxParameter:
			return answer.Invalid("parameter", "%q has more than %d bytes", answer.Cut(key, 64), maxParameter)
		case !utf8.ValidString(s), strings.ContainsRune(s, 0):
			return answer.Invalid("parameter", "%q is not text: write UTF-8 without NUL", answer.Cut(key, 64))
		}
	}
	return nil
}

// parseCondition parses one parameter; known is false if the key is unknown.
//
// The name of a label or annotation may contain colons, so only an operator at the end
// counts. For a label whose name ends in ":exists", use "label:NAME:exists:matches"
// with a value without stars.
func parseCondition(key string, values []string) (c query.Condition, known bool, err error) {
	head, rest, _ := strings.Cut(key, ":")
	c = query.Condition{Field: query.Field(head), Op: query.OpEquals, Values: values}
	switch c.Field {
	case query.FieldLabel, query.FieldAnnotation:
		return parseNamed(c, key, rest)
	case query.FieldTag:
		if rest == "matches" {
			c.Op = query.OpMatches
			return c, true, nil
		}
	case query.FieldRepository, query.FieldOS, query.FieldArchitecture:
	default:
		return c, false, nil
	}
	if head != key {
		return c, true, answer.Invalid("parameter", "%q is unknown: %s has no such operator", answer.Cut(key, 64), head)
	}
	return c, true, nil
}

// parseNamed parses the rest of the key of a label or annotation: NAME, NAME:exists or
// NAME:matches.
func parseNamed(c query.Condition, key, rest string) (query.Condition, bool, error) {
	c.Name = rest
	if name, ok := strings.CutSuffix(rest, ":matches"); ok {
		c.Name, c.Op = name, query.OpMatches
	} else if name, ok := strings.CutSuffix(rest, ":exists"); ok {
		// The specification does not say what a value other than 1 means. To read 0 as
		// "exists" would return the opposite of what was asked for.
		if slices.ContainsFunc(c.Values, func(v string) bool { return v != "1" }) {
			return c, true, answer.Invalid("parameter", "%q: the value must be 1", answer.Cut(key, 64))
		}
		c.Name, c.Op, c.Values = name, query.OpExists, nil
	}
	if c.Name == "" {
		return c, true, answer.Invalid("parameter", "%q has no name: write %s:NAME", answer.Cut(key, 64), c.Field)
	}
	return c, true, nil
}

// WriteErrorFlatpak never sends 500: flatpak repeats a request six times at once after 500,
// and once after 503 (seen with 1.14.10).
func WriteErrorFlatpak(w http.ResponseWriter, code int, text string) {
	if code == http.StatusInternalServerError {
		code = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	answer.WriteErrorText(w, code, text)
}

package answer

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// A Form says what an answer is and how long it stays fresh.
type Form struct {
	ContentType string
	MaxAge      time.Duration
	NoStore     bool   // whether caches on the way must not keep it; maxAge says nothing then
	Gzip        bool   // whether it is compressed for a client that takes it so
	key         string // what the bytes depend on beyond URL, book and configuration
	// headers gives those that only build can know; nil: none. A 304 goes
	// without them (RFC 9110, 15.4.5).
	Headers func(http.Header)
	// prepared is the answer, if build sets it instead of writing one.
	Prepared *Document
}

// Of gives the form of an answer to q. One that asks for ages asks for something
// else each minute, so it is no longer fresh than the minute.
func (as Form) Of(q query.Query) Form {
	if from := q.AgeFrom(); !from.IsZero() {
		now := time.Now()
		as.key += from.Format(time.RFC3339)
		as.MaxAge = min(as.MaxAge, now.Truncate(time.Minute).Add(time.Minute).Sub(now))
	}
	return as
}

// Answer answers from one state of the catalogue. A client that has the answer
// of that state hears 304, and nothing but how fresh it is is asked of the book.
// Otherwise build writes the whole answer, and only then does the first byte
// of it leave: an error of build can still become an error response.
//
// What build writes must depend on nothing but the request's URL, the form's
// key, the book and the configuration, else the ETag lies.
func (a *Answerer) Answer(w http.ResponseWriter, r *http.Request, as Form, build func(Book, io.Writer) error) error {
	return a.AnswerAs(w, r, &as, build)
}

// AnswerAs is Answer for a build that finds out the content type.
func (a *Answerer) AnswerAs(w http.ResponseWriter, r *http.Request, as *Form, build func(Book, io.Writer) error) error {
	coding := ""
	if as.Gzip && TakesGzip(r.Header.Values("Accept-Encoding")) {
		coding = "gzip"
	}
	var (
		fresh indexer.Freshness
		asker indexer.Asker
		etag  string
		known bool
		body  bytes.Buffer
	)
	err := a.ReadSince(r, func(b Book, f indexer.Freshness) error {
		fresh, asker = f, b.Asker()
		etag = a.etag(f.Version, asker, coding, as.key)
		match, star := matchETag(conditions(r), etag)
		if known = match; known {
			return nil
		}
		body.Reset()
		known = star // if there is something to know, which build finds out
		return build(b, &body)
	})
	if err != nil {
		return err
	}

	h := w.Header()
	TellFreshness(h, fresh)
	h.Set("ETag", etag)
	h.Set("Cache-Control", as.cacheControl(asker))
	if vary := a.vary(as); vary != "" {
		h.Set("Vary", vary)
	}
	if known {
		// With the headers above again: flatpak forgets what a 304 does not
		// repeat, and then asks no more for 30 minutes.
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if as.Headers != nil {
		as.Headers(h)
	}
	h.Set("Content-Type", as.ContentType)
	doc := as.Prepared
	if doc == nil {
		doc = &Document{Plain: body.Bytes()}
	}
	if coding == "gzip" {
		h.Set("Content-Encoding", "gzip")
		return Write(w, doc.gzip())
	}
	return Write(w, doc.Plain)
}

// Write sends a whole body. That it does not arrive is the client's business.
func Write(w http.ResponseWriter, body []byte) error {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// cacheControl forbids caches to keep an answer of noStore. It says no-cache too:
// flatpak, which keeps answers all the same, takes one with no-store alone for fresh
// for 30 minutes (seen of 1.14.10 and 1.16.6).
//
// Only the client itself may keep an answer to an asker other than Everyone.
func (as *Form) cacheControl(asker indexer.Asker) string {
	switch {
	case as.NoStore:
		return "no-store, no-cache"
	case asker != indexer.Everyone:
		return "private, " + CacheControl(as.MaxAge)
	}
	return CacheControl(as.MaxAge)
}

// vary names the fields of a request that an answer depends on, "" if there are none:
// where askers are told apart, the one that tells who they are.
func (a *Answerer) vary(as *Form) string {
	var fields []string
	if as.Gzip {
		fields = append(fields, "Accept-Encoding")
	}
	if a.asker != nil {
		fields = append(fields, "Authorization")
	}
	return strings.Join(fields, ", ")
}

// CacheControl never is empty: without it flatpak asks no more for 30 minutes.
func CacheControl(maxAge time.Duration) string {
	if seconds := int64(maxAge / time.Second); seconds > 0 {
		return "max-age=" + strconv.FormatInt(seconds, 10)
	}
	return "no-cache"
}

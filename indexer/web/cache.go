package web

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// A form says what an answer is and how long it stays fresh.
type form struct {
	contentType string
	maxAge      time.Duration
	noStore     bool   // whether caches on the way must not keep it; maxAge says nothing then
	gzip        bool   // whether it is compressed for a client that takes it so
	key         string // what the bytes depend on beyond URL, book and configuration
	// headers gives those that only build can know; nil: none. A 304 goes
	// without them (RFC 9110, 15.4.5).
	headers func(http.Header)
	// prepared is the answer, if build sets it instead of writing one.
	prepared *document
}

// of gives the form of an answer to q. One that asks for ages asks for something
// else each minute, so it is no longer fresh than the minute.
func (as form) of(q query.Query) form {
	if from := q.AgeFrom(); !from.IsZero() {
		now := time.Now()
		as.key += from.Format(time.RFC3339)
		as.maxAge = min(as.maxAge, now.Truncate(time.Minute).Add(time.Minute).Sub(now))
	}
	return as
}

// answer answers from one state of the catalogue. A client that has the answer
// of that state hears 304, and nothing but how fresh it is is asked of the book.
// Otherwise build writes the whole answer, and only then does the first byte
// of it leave: an error of build can still become an error response.
//
// What build writes must depend on nothing but the request's URL, the form's
// key, the book and the configuration, else the ETag lies.
func (a *answerer) answer(w http.ResponseWriter, r *http.Request, as form, build func(Book, io.Writer) error) error {
	return a.answerAs(w, r, &as, build)
}

// answerAs is answer for a build that finds out the content type.
func (a *answerer) answerAs(w http.ResponseWriter, r *http.Request, as *form, build func(Book, io.Writer) error) error {
	coding := ""
	if as.gzip && takesGzip(r.Header.Values("Accept-Encoding")) {
		coding = "gzip"
	}
	var (
		fresh indexer.Freshness
		etag  string
		known bool
		body  bytes.Buffer
	)
	err := a.readSince(r, func(b Book, f indexer.Freshness) error {
		fresh, etag = f, a.etag(f.Version, coding, as.key)
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
	tellFreshness(h, fresh)
	h.Set("ETag", etag)
	h.Set("Cache-Control", as.cacheControl())
	if as.gzip {
		h.Set("Vary", "Accept-Encoding")
	}
	if known {
		// With the headers above again: flatpak forgets what a 304 does not
		// repeat, and then asks no more for 30 minutes.
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if as.headers != nil {
		as.headers(h)
	}
	h.Set("Content-Type", as.contentType)
	doc := as.prepared
	if doc == nil {
		doc = &document{plain: body.Bytes()}
	}
	if coding == "gzip" {
		h.Set("Content-Encoding", "gzip")
		return write(w, doc.gzip())
	}
	return write(w, doc.plain)
}

// write sends a whole body. That it does not arrive is the client's business.
func write(w http.ResponseWriter, body []byte) error {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// cacheControl forbids caches to keep an answer of noStore. It says no-cache too:
// flatpak, which keeps answers all the same, takes one with no-store alone for fresh
// for 30 minutes (seen of 1.14.10 and 1.16.6).
func (as *form) cacheControl() string {
	if as.noStore {
		return "no-store, no-cache"
	}
	return cacheControl(as.maxAge)
}

// cacheControl never is empty: without it flatpak asks no more for 30 minutes.
func cacheControl(maxAge time.Duration) string {
	if seconds := int64(maxAge / time.Second); seconds > 0 {
		return "max-age=" + strconv.FormatInt(seconds, 10)
	}
	return "no-cache"
}

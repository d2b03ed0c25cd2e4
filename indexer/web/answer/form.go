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

// A Form describes the type and caching of an answer.
type Form struct {
	ContentType string
	MaxAge      time.Duration
	NoStore     bool   // whether caches must not store it; MaxAge is then ignored
	Gzip        bool   // whether it is compressed if the client accepts gzip
	ByAgent     bool   // whether another program would get another answer
	ByAccept    bool   // whether a client that asks for another type would get another answer
	key         string // what the bytes depend on besides URL, book and configuration
	// Headers sets the headers that are known only after build has run; nil: none. A
	// 304 is sent without them (RFC 9110, 15.4.5).
	Headers func(http.Header)
	// Prepared is the answer if build sets it instead of writing to its Writer.
	Prepared *Document
}

// Of returns the form of an answer to q. The result of a query with ages changes
// every minute, so such an answer is fresh until the end of the minute.
func (as Form) Of(q query.Query) Form {
	if from := q.AgeFrom(); !from.IsZero() {
		now := time.Now()
		as.key += from.Format(time.RFC3339)
		as.MaxAge = min(as.MaxAge, now.Truncate(time.Minute).Add(time.Minute).Sub(now))
	}
	return as
}

// For returns the form of an answer that is different for some of those who see the same of
// the book; whom says for which.
func (as Form) For(whom string) Form {
	as.key += "\x00" + whom
	return as
}

// Answer answers from one state of the catalogue. If the client already has the
// answer of that state, Answer sends 304 and reads only the freshness from the book.
// Otherwise build writes the whole answer before the first byte is sent, so an error
// of build can still become an error response.
//
// The output of build must depend only on the request's URL, the form's key, the
// book and the configuration; otherwise the ETag is wrong.
func (a *Answerer) Answer(w http.ResponseWriter, r *http.Request, as Form, build func(Book, io.Writer) error) error {
	return a.AnswerAs(w, r, &as, build)
}

// AnswerAs is like Answer, but build may change the form, such as its content type.
func (a *Answerer) AnswerAs(w http.ResponseWriter, r *http.Request, as *Form, build func(Book, io.Writer) error) error {
	coding := ""
	if as.Gzip && TakesGzip(r.Header.Values("Accept-Encoding")) {
		coding = "gzip"
	}
	var (
		fresh indexer.Freshness
		etag  string
		known bool
		body  bytes.Buffer
	)
	err := a.ReadSince(r, func(b Book, f indexer.Freshness) error {
		fresh = f
		etag = a.etag(f.Version, b.Asker(), coding, as.key)
		match, star := matchETag(ifNoneMatch(r), etag)
		if known = match; known {
			return nil
		}
		body.Reset()
		known = star // "*" matches if the resource exists, and build returns an error if not
		return build(b, &body)
	})
	if err != nil {
		return err
	}

	h := w.Header()
	SetFreshness(h, fresh)
	h.Set("ETag", etag)
	h.Set("Cache-Control", a.cacheControl(as, r))
	if vary := a.vary(as); vary != "" {
		h.Set("Vary", vary)
	}
	if known {
		// The headers above are sent again because flatpak forgets those that a 304
		// does not repeat, and then sends no request for 30 minutes.
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

// Write sends a whole body. It ignores write errors, which concern only the client.
func Write(w http.ResponseWriter, body []byte) error {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// cacheControl returns the Cache-Control of an answer. If NoStore is set, it also
// contains no-cache, because flatpak stores answers anyway and uses one with
// no-store alone for 30 minutes (seen in 1.14.10 and 1.16.6).
//
// If the answerer tells askers apart, an answer to a client with credentials is private:
// only that client may store it. One to any client without them is public.
func (a *Answerer) cacheControl(as *Form, r *http.Request) string {
	switch {
	case as.NoStore:
		return "no-store, no-cache"
	case a.asker != nil && identified(r):
		return "private, " + CacheControl(as.MaxAge)
	}
	return CacheControl(as.MaxAge)
}

// SessionCookie is the name of the cookie with the session of a browser.
const SessionCookie = "portbook_session"

// identified reports whether a request says who sends it, right or wrong.
func identified(r *http.Request) bool {
	_, err := r.Cookie(SessionCookie)
	return err == nil || r.Header.Get("Authorization") != ""
}

// vary returns the names of the request fields that an answer depends on, or "". If
// the answerer tells askers apart, those that say who asks are among them.
func (a *Answerer) vary(as *Form) string {
	var fields []string
	if as.Gzip {
		fields = append(fields, "Accept-Encoding")
	}
	if a.asker != nil {
		fields = append(fields, "Authorization", "Cookie")
	}
	if as.ByAgent {
		fields = append(fields, "User-Agent")
	}
	if as.ByAccept {
		fields = append(fields, "Accept")
	}
	return strings.Join(fields, ", ")
}

// CacheControl returns the Cache-Control for maxAge. It is never empty: without the
// field flatpak sends no request for 30 minutes.
func CacheControl(maxAge time.Duration) string {
	if seconds := int64(maxAge / time.Second); seconds > 0 {
		return "max-age=" + strconv.FormatInt(seconds, 10)
	}
	return "no-cache"
}

package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
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
func (s *server) answer(w http.ResponseWriter, r *http.Request, as form, build func(Book, io.Writer) error) error {
	return s.answerAs(w, r, &as, build)
}

// answerAs is answer for a build that finds out the content type.
func (s *server) answerAs(w http.ResponseWriter, r *http.Request, as *form, build func(Book, io.Writer) error) error {
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
	err := s.readSince(r, func(b Book, f indexer.Freshness) error {
		fresh, etag = f, s.etag(f.Version, coding, as.key)
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

// etag names the bytes that we write of state v. It is strong, so it differs by
// coding (RFC 9110, 8.8.3.3).
func (s *server) etag(v indexer.Version, coding, key string) string {
	sum := sha256.Sum256([]byte(s.build + "\x00" + coding + "\x00" + key))
	return fmt.Sprintf(`"%s.%016x.%x"`, v, v.State, sum[:4])
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

// conditions are the If-None-Match fields of a request that can be answered
// 304: RFC 9110, 13.1.2 has another answer for methods other than GET and HEAD,
// which we do not need, since ours change nothing.
func conditions(r *http.Request) []string {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil
	}
	return r.Header.Values("If-None-Match")
}

// matchETag reports whether fields, the values of If-None-Match, list etag by
// weak comparison, or are a star. What is no entity tag is passed over: a
// condition that cannot be read is no reason to refuse an answer.
func matchETag(fields []string, etag string) (match, star bool) {
	rest := strings.Trim(strings.Join(fields, ","), " \t")
	if rest == "*" {
		return false, true
	}
	for rest != "" {
		var tag string
		tag, rest = nextETag(rest)
		if tag == etag {
			return true, false
		}
	}
	return false, false
}

// nextETag cuts the first member off a list of entity tags. The tag is without
// its mark of weakness, and "" if the member is none.
func nextETag(list string) (tag, rest string) {
	list = strings.TrimLeft(list, " \t,")
	opaque := strings.TrimPrefix(list, "W/")
	if strings.HasPrefix(opaque, `"`) {
		if end := strings.IndexByte(opaque[1:], '"'); end >= 0 {
			tag, rest = opaque[:end+2], opaque[end+2:]
			after := strings.TrimLeft(rest, " \t")
			if after == "" || after[0] == ',' {
				return tag, after
			}
			list = after // something hangs on it, so it is none
		}
	}
	_, rest, _ = strings.Cut(list, ",")
	return "", rest
}

// takesGzip reads Accept-Encoding, RFC 9110, 12.5.3. A star is not taken up:
// nobody who means gzip says so.
func takesGzip(fields []string) bool {
	for member := range strings.SplitSeq(strings.Join(fields, ","), ",") {
		coding, weight, _ := strings.Cut(member, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		_, q, found := strings.Cut(weight, "=")
		if !found {
			return true
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
		return err == nil && v > 0
	}
	return false
}

// gzips are writers to be used again: a new one is some 800 KB.
var gzips = sync.Pool{New: func() any {
	// Speed over size: on JSON of images the best level saves a few percent
	// more and takes several times as long.
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // errs on a bad level only
	return z
}}

// compressed gives b by gzip. The same bytes give the same bytes.
func compressed(b []byte) (out bytes.Buffer) {
	z := gzips.Get().(*gzip.Writer)
	defer gzips.Put(z)
	z.Reset(&out)
	_, _ = z.Write(b) // a Buffer takes all
	_ = z.Close()
	return out
}

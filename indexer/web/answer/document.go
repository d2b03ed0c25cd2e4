package answer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/portbook/portbook/indexer/cache"
)

// maxDocuments is the most bytes of a cache of documents, uncompressed: 64 MiB. Their
// compressed forms take at most as much again. The index of 4,000 flatpaks is 5 MB, and
// clients use a few architectures and branches.
const maxDocuments = 64 << 20

// A Document is the body of an answer. It is safe for concurrent use.
type Document struct {
	Plain      []byte
	once       sync.Once
	compressed []byte
	LeftOut    int // number of images left out because they are too large
}

func (d *Document) gzip() []byte {
	d.once.Do(func() {
		b := compressed(d.Plain)
		d.compressed = b.Bytes()
	})
	return d.compressed
}

// Fixed answers with a document that depends on the program alone.
func Fixed(w http.ResponseWriter, r *http.Request, contentType, freshness string, d *Document) error {
	content, etag := d.Plain, HashOf(d.Plain)
	h := w.Header()
	if TakesGzip(r.Header.Values("Accept-Encoding")) {
		content, etag = d.gzip(), etag+"-gzip" // a strong ETag differs by coding
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Vary", "Accept-Encoding")
	h.Set("ETag", strconv.Quote(etag))
	h.Set("Cache-Control", freshness)
	if match, _ := matchETag(ifNoneMatch(r), strconv.Quote(etag)); match {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", contentType)
	return Write(w, content)
}

// HashOf returns the first 16 hex digits of the SHA-256 of b.
func HashOf(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b))[:16] }

// Documents is a cache of answers that take longer to make than to send. A document
// is valid for its version of the catalogue and, within one epoch, for as long as
// its state is unchanged. It is safe for concurrent use.
type Documents struct {
	cache *cache.Versioned[statedDocument]
}

// A statedDocument is a document with the name of the state that it was made from.
type statedDocument struct {
	*Document
	state string
}

// NewDocuments returns an empty cache.
func NewDocuments() Documents {
	size := func(d statedDocument) int { return len(d.Plain) + len(d.state) }
	return Documents{cache.New(maxDocuments, maxDocuments, size)}
}

// ErrBeingMade says that another request is making the document.
var ErrBeingMade = cache.ErrRunning

// Get returns the document of a key for the state b of the book. If it is not in the
// cache, Get calls build, or waits while another request does. state names everything
// that the document depends on.
func (d Documents) Get(
	ctx context.Context, b Book, key string, state func() (string, error), build func() (*Document, error),
) (*Document, error) {
	k, err := documentKey(ctx, b, key)
	if err != nil {
		return nil, err
	}
	found, err := d.cache.Get(ctx, k, d.since(k, state, build))
	return found.Document, err
}

// GetNow is like Get, but returns ErrBeingMade instead of waiting.
func (d Documents) GetNow(
	ctx context.Context, b Book, key string, state func() (string, error), build func() (*Document, error),
) (*Document, error) {
	k, err := documentKey(ctx, b, key)
	if err != nil {
		return nil, err
	}
	found, err := d.cache.GetNow(k, d.since(k, state, build))
	return found.Document, err
}

func documentKey(ctx context.Context, b Book, key string) (cache.Key, error) {
	version, err := b.Version(ctx)
	return cache.Key{Version: version, Asker: b.Asker(), Question: key}, err
}

// since returns a function that returns the last document of k if its state has not
// changed since, and else builds another.
func (d Documents) since(
	k cache.Key, state func() (string, error), build func() (*Document, error),
) func() (statedDocument, error) {
	return func() (statedDocument, error) {
		now, err := state()
		if err != nil {
			return statedDocument{}, err
		}
		if last, found := d.cache.Last(k); found && last.state == now {
			return last, nil
		}
		built, err := build()
		return statedDocument{built, now}, err
	}
}

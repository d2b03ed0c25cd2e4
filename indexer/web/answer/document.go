package answer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/cache"
)

// maxDocuments is the most bytes of a cache of documents, uncompressed: 64 MiB. Their
// compressed forms take at most as much again. The index of 4,000 flatpaks is 5 MB, and
// clients use a few architectures and branches.
const maxDocuments = 64 << 20

// maxStates is the most bytes of a cache of states: 256 KiB, for 1,000 documents.
const maxStates = 256 << 10

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
	states    *cache.Versioned[string] // by version of the catalogue
	documents *cache.Versioned[*Document]
}

// NewDocuments returns an empty cache.
func NewDocuments() Documents {
	return Documents{
		states:    cache.New(maxStates, maxStates, func(state string) int { return len(state) }),
		documents: cache.New(maxDocuments, maxDocuments, func(d *Document) int { return len(d.Plain) }),
	}
}

// ErrBeingMade says that another request is making the document.
var ErrBeingMade = cache.ErrRunning

// Get returns the document of a key for the state b of the book. If it is not in the
// cache, Get calls build, or waits while another request does. state names everything
// that the document depends on.
func (d Documents) Get(
	ctx context.Context, b Book, key string, state func() (string, error), build func() (*Document, error),
) (*Document, error) {
	k, err := d.keyOf(ctx, b, key, state)
	if err != nil {
		return nil, err
	}
	return d.documents.Get(ctx, k, build)
}

// GetNow is like Get, but returns ErrBeingMade if another request is making the
// document.
func (d Documents) GetNow(
	ctx context.Context, b Book, key string, state func() (string, error), build func() (*Document, error),
) (*Document, error) {
	k, err := d.keyOf(ctx, b, key, state)
	if err != nil {
		return nil, err
	}
	return d.documents.GetNow(k, build)
}

// keyOf returns the key of a document in documents. Its version is that of the
// document: the epoch and the state, whatever the version of the catalogue is. So a
// document stays until its state changes, and the next one then replaces it.
func (d Documents) keyOf(
	ctx context.Context, b Book, key string, state func() (string, error),
) (cache.Key, error) {
	version, err := b.Version(ctx)
	if err != nil {
		return cache.Key{}, err
	}
	k := cache.Key{Version: version, Asker: b.Asker(), Question: key}
	now, err := d.states.Get(ctx, k, state)
	k.Version = indexer.Version{Epoch: version.Epoch + "\x00" + now}
	return k, err
}

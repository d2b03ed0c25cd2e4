package answer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxDocuments is the maximum number of cached documents: 16. Clients use a few
	// architectures and branches.
	maxDocuments = 16
	// maxKept is the maximum total size of cached documents, uncompressed: 64 MB. Their
	// compressed forms take at most as much again. The index of 4,000 flatpaks is 5 MB.
	maxKept = 64 << 20
)

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
	if match, _ := matchETag(conditions(r), strconv.Quote(etag)); match {
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
	mu  sync.Mutex
	of  map[[sha256.Size]byte]madeOf // by the hash of the asker and the key, since the key may be long
	all int                          // total bytes
}

// madeOf is a document with the version and the state from which it was made.
type madeOf struct {
	*Document
	version indexer.Version
	state   string
}

// Get returns the document of a key for the state b of the book. If it is not in the
// cache, Get calls make. state names everything that the document depends on.
func (d *Documents) Get(ctx context.Context, b Book, key string, state func() (string, error), make func() (*Document, error)) (*Document, error) {
	version, err := b.Version(ctx)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(b.Asker().String() + "\x00" + key))
	d.mu.Lock()
	known, ok := d.of[hash]
	d.mu.Unlock()
	if ok && known.version == version {
		return known.Document, nil
	}
	now := madeOf{version: version}
	if now.state, err = state(); err != nil {
		return nil, err
	}
	if ok && known.version.Epoch == version.Epoch && known.state == now.state {
		now.Document = known.Document
	} else if now.Document, err = make(); err != nil {
		return nil, err
	}
	d.keep(hash, now)
	return now.Document, nil
}

// keep stores a document. If there is no room for it, keep removes all others.
func (d *Documents) keep(key [sha256.Size]byte, m madeOf) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if before, ok := d.of[key]; ok {
		d.all -= len(before.Plain)
		delete(d.of, key)
	}
	if len(d.of) >= maxDocuments || d.all+len(m.Plain) > maxKept || d.of == nil {
		d.of, d.all = map[[sha256.Size]byte]madeOf{}, 0
	}
	if len(m.Plain) <= maxKept {
		d.of[key] = m
		d.all += len(m.Plain)
	}
}

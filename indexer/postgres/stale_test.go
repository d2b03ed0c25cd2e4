package postgres_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/schema/localpg"
)

// A scheme returns the version of the catalogue that a view shows.
type scheme func(context.Context, *postgres.View) (indexer.Version, error)

// numbered is a scheme that uses one number, from a query in the view's snapshot.
func numbered(q string) scheme {
	return func(ctx context.Context, v *postgres.View) (version indexer.Version, err error) {
		version.Epoch = "e"
		return version, postgres.Scan(ctx, v, q, &version.Number)
	}
}

// named is a scheme that uses a text without an ordered number.
func named(q string) scheme {
	return func(ctx context.Context, v *postgres.View) (version indexer.Version, err error) {
		return version, postgres.Scan(ctx, v, "SELECT md5("+q+"::text)", &version.Epoch)
	}
}

// A dated book is the real book with the version of a scheme.
type dated struct {
	*postgres.View
	scheme scheme
}

func (b dated) Freshness(ctx context.Context) (f indexer.Freshness, err error) {
	if f, err = b.View.Freshness(ctx); err == nil && b.scheme != nil {
		f.Version, err = b.scheme(ctx, b.View)
	}
	return f, err
}

// shownField is the header in which a watched server sends the digest of the page in
// the snapshot that it answered from, even if it answered 304.
const shownField = "Shown"

type contextKey string

// A reading is how a watched server reads the book.
type reading struct {
	version scheme // nil: the right one
	memory  int    // of the copy in memory; 0: there is none
	blind   bool   // whether searches use the copy without looking for changes
}

// watched serves the book of one server over HTTP, as an indexer does, and sends
// shownField with each answer. What is right, the database tells.
func watched(t *testing.T, server *localpg.Server, by reading) *httptest.Server {
	t.Helper()
	const viewKey, headerKey, addressKey = contextKey("view"), contextKey("header"), contextKey("address")
	s := postgres.New(connect(t, server.URL("postgres")+"&pool_max_conns=8"), postgres.Config{Memory: by.memory})
	if by.memory > 0 {
		if err := s.CopyStep(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		keeping.Go(func() { _ = s.KeepCopy(ctx) })
		t.Cleanup(func() { stop(); keeping.Wait() })
	}
	truth := web.New(web.Config{Read: func(ctx context.Context, _ indexer.Asker, f func(answer.Book) error) error {
		return f(ctx.Value(viewKey).(answer.Book))
	}})
	handler := web.New(web.Config{Read: func(ctx context.Context, _ indexer.Asker, f func(answer.Book) error) error {
		return s.View(ctx, indexer.Everyone, func(v *postgres.View) error {
			shown := v
			if by.blind {
				shown = s.NotLooking(v)
			}
			if err := f(dated{shown, by.version}); err != nil {
				return err
			}
			w := httptest.NewRecorder()
			told := context.WithValue(ctx, viewKey, s.BySQL(v))
			truth.ServeHTTP(w, httptest.NewRequestWithContext(told, http.MethodGet, ctx.Value(addressKey).(string), nil))
			if w.Code != http.StatusOK {
				return fmt.Errorf("the snapshot shows %d %s", w.Code, w.Body)
			}
			ctx.Value(headerKey).(http.Header).Set(shownField, digestOf(w.Body.Bytes()))
			return nil
		})
	}})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithValue(r.Context(), headerKey, w.Header())
		handler.ServeHTTP(w, r.WithContext(context.WithValue(ctx, addressKey, r.URL.String())))
	}))
	t.Cleanup(front.Close)
	return front
}

func digestOf(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// changingPaths are paths whose answer differs after every change.
var changingPaths = []string{"/api/v1/history?limit=10", "/api/v1/search?q=app&sort=updated", "/index/static?label:content:exists=1"}

// recentETags is the number of ETags that a cache sends. It knows the ETags of the
// other caches too, like a cache that many clients share, and gets 304 if one of
// them matches.
const recentETags = 24

// A ledger is what all caches know together.
type ledger struct {
	mu     sync.Mutex
	stood  map[string]string   // digest of the page, by path, ETag and encoding
	recent map[string][]string // last ETags, by path
	begun  time.Time
	reads  int
	kept   int    // 304 answers
	lie    string // the first wrong answer
}

// note records an answer, and whether it was 304.
func (l *ledger) note(path, etag, shown string, unchanged bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	key := path + " " + etag
	stood, known := l.stood[key]
	if unchanged {
		l.kept++
	}
	if known && stood != shown && l.lie == "" {
		l.lie = fmt.Sprintf("GET %s: ETag %s (304: %v) stands for both %.12s and %.12s", path, etag, unchanged, stood, shown)
	}
	if !known {
		l.stood[key] = shown
		l.recent[path] = append(l.recent[path], etag)
		l.recent[path] = l.recent[path][max(0, len(l.recent[path])-recentETags):]
	}
}

// catch records a wrong answer.
func (l *ledger) catch(lie string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lie == "" {
		l.lie = lie
	}
}

func (l *ledger) asks(path string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.recent[path], ", ")
}

// read sends one request to a server, as a cache does.
func (l *ledger) read(ctx context.Context, url string) error {
	path := changingPaths[rand.IntN(len(changingPaths))]
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("If-None-Match", l.asks(path))
	r.Header.Set("Accept-Encoding", []string{"gzip", "identity"}[rand.IntN(2)])
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	etag, shown := resp.Header.Get("ETag"), resp.Header.Get(shownField)
	switch resp.StatusCode {
	case http.StatusServiceUnavailable: // the machine is busy; this is no answer about a state
		return nil
	case http.StatusNotModified:
	case http.StatusOK:
		if resp.Header.Get("Content-Encoding") == "gzip" {
			if body, err = unzipped(body); err != nil {
				return err
			}
		}
		if digestOf(body) != shown {
			l.catch(fmt.Sprintf("GET %s: the body is not what its snapshot shows: %.200s", path, body))
			return nil
		}
	default:
		return fmt.Errorf("%s: %s %s", path, resp.Status, body)
	}
	l.note(path, etag, shown, resp.StatusCode == http.StatusNotModified)
	return nil
}

func unzipped(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// patience limits how long a test reads. On an idle machine a wrong version is found
// within a few seconds; a busy one may read only 20 times a second.
const patience = 90 * time.Second

// ends reports whether a cache got a wrong answer, all caches have read enough, or
// the patience is over.
func (l *ledger) ends(enough func(*ledger) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lie != "" || enough(l) || time.Since(l.begun) > patience
}

// watched reports whether reading took long enough without a wrong answer: in that
// time most wrong versions cause about ten.
func (l *ledger) watched() bool {
	return time.Since(l.begun) > 3*time.Second && l.kept >= 50 && len(l.stood) >= 100
}

// caches reads from servers, with three readers each, until a wrong answer or
// enough.
func caches(t *testing.T, enough func(*ledger) bool, servers ...*httptest.Server) *ledger {
	t.Helper()
	l := &ledger{stood: map[string]string{}, recent: map[string][]string{}, begun: time.Now()}
	var reading sync.WaitGroup
	for _, server := range servers {
		for range 3 {
			reading.Go(func() {
				for !l.ends(enough) && !t.Failed() {
					if err := l.read(t.Context(), server.URL); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	reading.Wait()
	return l
}

// write runs 16 writers until the test ends: all at once, then none for 50 ms, so
// that readers see some states more than once. Each writer sleeps before its commit,
// so that commits and writes have different orders: up to 3 ms in one second, 20 ms
// in the next and 150 ms in the third. Fast readers see most states in the first,
// slow readers in the last.
func (p *pair) write() {
	t := p.t
	t.Helper()
	_, err := connect(t, p.primary.URL("postgres")).Exec(t.Context(), `
		CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
			PERFORM pg_sleep(random() * (ARRAY[0.003, 0.02, 0.15])[1 + extract(epoch FROM clock_timestamp())::bigint % 3]);
			RETURN NULL;
		END$$;
		CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT OR UPDATE ON tag DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()`)
	p.must(err)
	s := postgres.New(connect(t, p.primary.URL("postgres")+"&pool_max_conns=16"), postgres.Config{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil; i++ {
			var writing sync.WaitGroup
			for w := range 16 {
				writing.Go(func() { apply(t, s, fmt.Sprintf("app-%d", w), "latest", fmt.Sprintf("%d-%d", w, i)) })
			}
			writing.Wait()
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
}

// While 16 writers change the book, no cache gets 304, or keeps a body, for
// something that has changed, whether it reads from the primary, from a standby, or
// from both in turn, and whether searches are answered by SQL or from a copy in memory.
//
// To show that the test would find such an error, it also runs with versions that
// look right but are wrong, some of them only on a standby, and with a copy in memory
// that does not look for changes.
func TestCachesAreNotLiedTo(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.write()
	const memory = 1 << 30
	for _, by := range []reading{{}, {memory: memory}} {
		l := caches(t, (*ledger).watched, watched(t, p.primary, by), watched(t, p.standby, by))
		if l.lie != "" {
			t.Error(l.lie)
		}
		t.Logf("memory %d: %d reads, %d of them 304, of %d ETags", by.memory, l.reads, l.kept, len(l.stood))
		if !l.watched() {
			t.Errorf("memory %d: got %d answers of 304 and %d ETags: nothing was tested", by.memory, l.kept, len(l.stood))
		}
	}

	later := func(server *localpg.Server) scheme {
		other := postgres.New(connect(t, server.URL("postgres")), postgres.Config{})
		return func(ctx context.Context, v *postgres.View) (version indexer.Version, err error) {
			err = other.View(ctx, indexer.Everyone, func(v *postgres.View) error { version, err = v.Version(ctx); return err })
			return version, err
		}
	}
	for _, test := range []struct {
		name   string
		server *localpg.Server
		by     reading
	}{
		{"a sequence on the primary", p.primary, reading{version: numbered("SELECT last_value FROM tag_history_id_seq")}},
		{"a sequence on the standby", p.standby, reading{version: numbered("SELECT last_value FROM tag_history_id_seq")}},
		{"the greatest number on the primary", p.primary, reading{version: numbered("SELECT max(id) FROM tag_history")}},
		{"the greatest number on the standby", p.standby, reading{version: numbered("SELECT max(id) FROM tag_history")}},
		{"the snapshot on the standby", p.standby, reading{version: named("pg_current_snapshot()")}},
		{"the right one, read after the snapshot", p.primary, reading{version: later(p.primary)}},
		{"the right one, with a blind copy on the primary", p.primary, reading{memory: memory, blind: true}},
		{"the right one, with a blind copy on the standby", p.standby, reading{memory: memory, blind: true}},
	} {
		l := caches(t, func(*ledger) bool { return false }, watched(t, test.server, test.by))
		t.Logf("version by %s: after %d reads in %v: %s", test.name, l.reads, time.Since(l.begun).Round(time.Millisecond), l.lie)
		if l.lie == "" {
			t.Errorf("version by %s: no wrong answer in %d reads, so this test would find none elsewhere either", test.name, l.reads)
		}
	}
}

package manage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/manage"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/schematest"
)

// A site is a registry, a book that follows it, and a Manager that changes it through a proxy.
type site struct {
	t        *testing.T
	ctx      context.Context // of an operator
	registry *registrytest.Registry
	push     *push.Client
	pool     *pgxpool.Pool
	store    *postgres.Store
	remote   *remote.Client
	manager  *manage.Manager
	// before is called before each request of the Manager is sent to the registry. If it
	// returns false, the connection is closed instead.
	before atomic.Pointer[func(*http.Request) bool]
	// receive is the time before which the registry's events are refused, if it is not nil.
	receive atomic.Pointer[time.Time]
}

const eventsToken = "s3cret"

// open starts all parts, with a Manager that configure has changed.
func open(t *testing.T, configure func(*manage.Config)) *site {
	t.Helper()
	s := opened(t, configure)
	s.run(s.manager.Run)
	return s
}

// opened is open with a Manager that does not run yet.
func opened(t *testing.T, configure ...func(*manage.Config)) *site {
	t.Helper()
	s := &site{t: t, pool: schematest.New(t)}
	s.store = postgres.New(s.pool, postgres.Config{})
	s.ctx = access.WithActor(t.Context(), access.Actor{Name: "olga", Source: "192.0.2.7"})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	metrics := ingest.NewMetrics(prometheus.NewRegistry())
	var workers atomic.Pointer[ingest.Workers]
	receive := ingest.NewReceiver(ingest.ReceiverConfig{
		Token: eventsToken, Receive: s.store.Receive, Wake: func() { workers.Load().Wake() }, Log: log, Metrics: metrics,
	})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if at := s.receive.Load(); at != nil && time.Now().Before(*at) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		receive.ServeHTTP(w, r)
	}))
	t.Cleanup(receiver.Close)
	front := httptest.NewServer(http.HandlerFunc(s.proxy))
	t.Cleanup(front.Close)
	client, err := remote.New(remote.Config{URL: front.URL, UserAgent: access.Ourselves, Connections: 16})
	if err != nil {
		t.Fatal(err)
	}
	s.remote = client
	w := ingest.NewWorkers(ingest.WorkersConfig{
		Store: s.store, Remote: client, Log: log, Metrics: metrics, MaxMeta: 262144, Events: 4, Scans: 2, Retry: 10 * time.Millisecond,
	})
	workers.Store(w)
	s.registry = registrytest.Start(t, registrytest.Config{Notify: receiver.URL, Token: eventsToken, Root: t.TempDir()})
	s.push = s.registry.Push
	c := manage.Config{Store: s.store, Remote: client, Log: log, Wake: w.Wake}
	for _, f := range configure {
		if f != nil {
			f(&c)
		}
	}
	s.manager = manage.New(c)
	s.run(w.Run)
	return s
}

// run runs f until the test ends.
func (s *site) run(f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f(ctx)
	}()
	s.t.Cleanup(func() { stop(); <-done })
}

// proxy sends requests to the registry.
func (s *site) proxy(w http.ResponseWriter, r *http.Request) {
	if before := s.before.Load(); before != nil && !(*before)(r) {
		panic(http.ErrAbortHandler)
	}
	target, err := url.Parse(s.registry.URL)
	if err != nil {
		s.t.Error(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ServeHTTP(w, r)
}

// once calls f before the first request that matches, and lets all requests through.
func (s *site) once(matches func(*http.Request) bool, f func()) {
	var done atomic.Bool
	before := func(r *http.Request) bool {
		if matches(r) && done.CompareAndSwap(false, true) {
			f()
		}
		return true
	}
	s.before.Store(&before)
}

// deletes returns what matches a request to delete a reference, "" for any.
func deletes(reference string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/manifests/"+reference) ||
			r.Method == http.MethodDelete && reference == "" && strings.Contains(r.URL.Path, "/manifests/")
	}
}

// image pushes an image with a layer of its own under tags, or by its digest, and waits until
// the book has it.
func (s *site) image(repository, content string, tags ...string) ocispec.Descriptor {
	s.t.Helper()
	spec := push.ImageSpec{Labels: map[string]string{"content": content}}
	desc, err := s.push.Image(s.t.Context(), repository, "", spec)
	for _, tag := range tags {
		if err == nil {
			_, err = s.push.Image(s.t.Context(), repository, tag, spec)
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.known(repository, desc.Digest, tags...)
	return desc
}

// index pushes an image index, and waits until the book has it.
func (s *site) index(repository, tag string, of ...ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	desc, err := s.push.Index(s.t.Context(), repository, tag, of, map[string]string{"of": tag})
	if err != nil {
		s.t.Fatal(err)
	}
	s.known(repository, desc.Digest, tag)
	return desc
}

// known waits until the book has had a manifest and tags long enough not to wait for them.
func (s *site) known(repository string, d digest.Digest, tags ...string) {
	s.t.Helper()
	s.until(func() bool {
		bounds, err := s.store.Bounds(s.t.Context(), repository, []digest.Digest{d})
		if err != nil {
			s.t.Fatal(err)
		}
		b, there := bounds[d]
		return there && !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(b.Tags, tag) })
	})
}

// until waits until f is true.
func (s *site) until(f func() bool) {
	s.t.Helper()
	if !s.soon(f) {
		s.t.Fatal("it did not happen within 30 s")
	}
}

// soon waits until f is true, and reports whether it was within 30 s.
func (s *site) soon(f func() bool) bool {
	for end := time.Now().Add(30 * time.Second); !f(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// do performs an operation, which must succeed.
func (s *site) do(o indexer.Operation) indexer.Operation {
	s.t.Helper()
	done, err := s.manager.Do(s.ctx, o)
	if err != nil || done.State != indexer.OperationDone {
		s.t.Fatalf("%s of %s: %v, %v", o.Kind, o.Target(), done, err)
	}
	return done
}

// has reports whether the registry has a manifest under a reference.
func (s *site) has(repository string, reference string) bool {
	s.t.Helper()
	_, _, err := s.push.Fetch(s.t.Context(), repository, reference)
	return err == nil
}

// shows fails the test unless the registry shows a digest under a tag, "" for none. It waits until
// the book does too, which follows by the events of the registry.
func (s *site) shows(repository, tag string, want digest.Digest) {
	s.t.Helper()
	var got, booked digest.Digest
	if desc, _, err := s.push.Fetch(s.t.Context(), repository, tag); err == nil {
		got = desc.Digest
	}
	follows := s.soon(func() bool {
		booked = s.booked(repository, tag)
		return booked == want
	})
	if got != want || !follows {
		s.t.Errorf("%s:%s shows %q in the registry and %q in the book; want %q", repository, tag, got, booked, want)
	}
}

// booked returns what the book shows under a tag, "" for nothing.
func (s *site) booked(repository, tag string) (d digest.Digest) {
	s.t.Helper()
	err := s.store.View(s.t.Context(), indexer.Everyone, func(v *postgres.View) error {
		m, err := v.Manifest(s.t.Context(), indexer.Reference{Repository: repository, Tag: tag})
		if errors.Is(err, indexer.ErrNotFound) {
			return nil
		}
		d = m.Digest
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// gone waits until the book does not have a manifest, and fails the test if the registry has it.
func (s *site) gone(repository string, d digest.Digest) {
	s.t.Helper()
	if s.has(repository, d.String()) {
		s.t.Errorf("%s@%s is still in the registry", repository, d)
	}
	var bounds map[digest.Digest]postgres.Bound
	forgotten := s.soon(func() (ok bool) {
		var err error
		if bounds, err = s.store.Bounds(s.t.Context(), repository, []digest.Digest{d}); err != nil {
			s.t.Fatal(err)
		}
		return len(bounds) == 0
	})
	if !forgotten {
		s.t.Errorf("%s@%s is still in the book: %v", repository, d, bounds)
	}
}

// refused fails the test unless an operation is refused with an error of a kind (nil: any) that has a text.
func (s *site) refused(o indexer.Operation, kind error, text string) {
	s.t.Helper()
	done, err := s.manager.Do(s.ctx, o)
	if err == nil || kind != nil && !errors.Is(err, kind) || !strings.Contains(fmt.Sprint(err), text) {
		s.t.Errorf("%s of %s: %v, %v; want %v with %q", o.Kind, o.Target(), done.State, err, kind, text)
	}
}

func TestUntag(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1", "latest")
	two := s.image("team/app", "two", "v2")
	s.refused(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: two.Digest}, indexer.ErrConflict,
		"shows "+one.Digest.String()+" now")
	s.refused(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v9"}, indexer.ErrNotFound, "no team/app:v9")
	o := s.do(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: one.Digest})
	s.shows("team/app", "v1", "")
	s.shows("team/app", "latest", one.Digest)
	if o.Result.Untagged != 1 || o.Actor != "olga" || o.Done != 1 || o.Total != 1 || o.EndedAt.IsZero() {
		t.Errorf("%+v", o)
	}
	// The audit log names who asked and the operation, once.
	records, err := s.store.Audit(t.Context(), access.AuditQuery{Event: access.TagDelete, Limit: 10})
	if err != nil || len(records) != 1 || records[0].Actor.Name != "olga" || records[0].Target != "team/app:v1" ||
		!strings.Contains(records[0].Detail, fmt.Sprintf("operation %d", o.ID)) {
		t.Errorf("%+v, %v", records, err)
	}
}

// A push that falls between the last look at a tag and its deletion is put back.
func TestPushBetweenLookAndUntag(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1")
	var two ocispec.Descriptor
	s.once(deletes("v1"), func() { two = s.image("team/app", "two", "v1") })
	o := s.do(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: one.Digest})
	s.shows("team/app", "v1", two.Digest)
	if o.Result.PutBack != 1 || len(o.Result.Notes) != 1 {
		t.Errorf("%+v", o.Result)
	}
}

func decode(t *testing.T, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

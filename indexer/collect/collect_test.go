package collect_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/collect"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/registry/sweep"
	"github.com/portbook/portbook/schema/schematest"
)

const token = "0123456789abcdef"

// A system is a registry with its book, a sweep and a collector. Nothing runs by itself but the
// workers, which read what is pushed.
type system struct {
	t      *testing.T
	push   *push.Client
	driver driver.StorageDriver
	pool   *pgxpool.Pool
	store  *postgres.Store
	sweep  *sweep.Sweeper
	front  atomic.Pointer[http.HandlerFunc] // before the sweep; nil: nothing
	url    string                           // of the sweep
	policy indexer.CollectPolicy
}

// open starts a system whose sweep may delete at once.
func open(t *testing.T) *system {
	t.Helper()
	s := &system{t: t, pool: schematest.New(t)}
	s.store = postgres.New(s.pool, postgres.Config{})
	s.policy = indexer.CollectPolicy{Delete: true}
	root := t.TempDir()
	var err error
	if s.driver, err = factory.Create(t.Context(), "filesystem", map[string]any{"rootdirectory": root}); err != nil {
		t.Fatal(err)
	}
	s.index(root)
	s.sweep = sweep.New(sweep.Config{Driver: s.driver, Delete: true})
	handler := s.sweep.Handler(token)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if front := s.front.Load(); front != nil {
			(*front)(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// index starts the registry and what reads it into the book.
func (s *system) index(root string) {
	s.t.Helper()
	log, metrics := slog.New(slog.NewTextHandler(io.Discard, nil)), ingest.NewMetrics(prometheus.NewRegistry())
	var workers atomic.Pointer[ingest.Workers]
	receiver := httptest.NewServer(ingest.NewReceiver(ingest.ReceiverConfig{
		Token: token, Receive: s.store.Receive, Wake: func() { workers.Load().Wake() }, Log: log, Metrics: metrics,
	}))
	s.t.Cleanup(receiver.Close)
	r := registrytest.Start(s.t, registrytest.Config{Root: root, Notify: receiver.URL, Token: token})
	s.push = r.Push
	client, err := remote.New(remote.Config{URL: r.URL, UserAgent: "test", Connections: 8})
	if err != nil {
		s.t.Fatal(err)
	}
	w := ingest.NewWorkers(ingest.WorkersConfig{
		Store: s.store, Remote: client, Log: log, Metrics: metrics, MaxMeta: 262144, Events: 4, Scans: 2,
	})
	workers.Store(w)
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { w.Run(ctx) })
	s.t.Cleanup(func() { stop(); working.Wait() })
}

// collector returns a new collector, as after a restart.
func (s *system) collector() *collect.Collector {
	s.t.Helper()
	client, err := collect.NewClient(s.url, token)
	if err != nil {
		s.t.Fatal(err)
	}
	return collect.New(collect.Config{
		Store: s.store, Client: client, Policy: s.policy, Look: time.Nanosecond,
		First: time.Nanosecond, Most: time.Nanosecond, Poll: time.Millisecond,
	})
}

func (s *system) step(c *collect.Collector) {
	s.t.Helper()
	if err := c.Step(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// orphan pushes a blob and removes its link, as the first phase does.
func (s *system) orphan(repository, text string) digest.Digest {
	s.t.Helper()
	d, err := s.push.Blob(s.t.Context(), repository, []byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodDelete, s.push.Base+"/v2/"+repository+"/blobs/"+d.Digest.String(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.push.HTTP.Do(r)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		s.t.Fatal(resp, err)
	}
	resp.Body.Close()
	return d.Digest
}

// image pushes an image, and waits until the book has it.
func (s *system) image(repository, tag string, layers ...string) {
	s.t.Helper()
	spec := push.ImageSpec{Author: repository + tag}
	for _, l := range layers {
		spec.Layers = append(spec.Layers, []byte(l))
	}
	if _, err := s.push.Image(s.t.Context(), repository, tag, spec); err != nil {
		s.t.Fatal(err)
	}
	s.eventually(repository+":"+tag+" is in the book", func() bool {
		err := s.store.View(s.t.Context(), indexer.Everyone, func(v *postgres.View) error {
			_, err := v.Manifest(s.t.Context(), indexer.Reference{Repository: repository, Tag: tag})
			return err
		})
		return err == nil
	})
}

func (s *system) eventually(what string, condition func() bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("after a minute, it is not so that %s", what)
		}
	}
}

func (s *system) state() indexer.Collection {
	s.t.Helper()
	c, err := s.store.Collection(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// states returns the states of all candidates.
func (s *system) states() map[digest.Digest]indexer.CandidateState {
	s.t.Helper()
	all, err := s.store.Candidates(s.t.Context(), "", "", 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	got := map[digest.Digest]indexer.CandidateState{}
	for _, c := range all {
		got[c.Digest] = c.State
	}
	return got
}

func (s *system) checkStates(what string, want map[digest.Digest]indexer.CandidateState) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.states()); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// isStored reports whether the data of a blob are in their place.
func (s *system) isStored(d digest.Digest) bool {
	_, err := s.driver.Stat(s.t.Context(), "/docker/registry/v2/blobs/sha256/"+d.Encoded()[:2]+"/"+d.Encoded()+"/data")
	return err == nil
}

// What nothing uses goes, step by step; what is linked or used stays; the book is compared with
// the storage.
func TestCollect(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.image("acme/app", "v1", "one", "two")
	linked, err := s.push.Blob(t.Context(), "acme/app", []byte("linked"))
	if err != nil {
		t.Fatal(err)
	}
	alone := s.orphan("acme/app", "alone")
	c := s.collector()
	s.policy.Delete = false
	s.step(s.collector())
	s.checkStates("it only looks", map[digest.Digest]indexer.CandidateState{linked.Digest: "waiting", alone: "waiting"})
	if got := s.state(); got.Does != "the collection only looks: collect.delete is false" || got.Looks != 1 {
		t.Errorf("%+v", got)
	}
	s.policy.Delete = true
	s.step(c)
	s.checkStates("in the trash", map[digest.Digest]indexer.CandidateState{linked.Digest: "waiting", alone: "trashed"})
	if s.isStored(alone) {
		t.Error("what was moved to the trash is in its place")
	}
	s.step(c)
	s.checkStates("deleted", map[digest.Digest]indexer.CandidateState{linked.Digest: "waiting", alone: "deleted"})
	got := s.state()
	if got.Deleted != 1 || got.DeletedBytes != 5 || got.Of(indexer.Waiting).Bytes != 6 {
		t.Errorf("%+v", got)
	}
	l := got.Look
	if l.Blobs != 5 || l.Manifests != 1 || l.BookManifests != 1 || l.OnlyBook != 0 || l.OnlyStorage != 0 ||
		l.Unused != 1 || l.UnusedBytes != 6 || l.Unlinked != 0 || l.Missing != 0 || l.Cut != 0 || l.Trashed != 1 {
		t.Errorf("the last look: %+v", l)
	}
}

// The book and the storage differ, and the look says how.
func TestBookAgainstStorage(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.image("acme/app", "v1", "one")
	s.image("acme/gone", "v1", "two")
	if err := s.driver.Delete(t.Context(), "/docker/registry/v2/repositories/acme/gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pool.Exec(t.Context(), "DELETE FROM repository WHERE name = 'acme/app' AND id IN (SELECT 0)"); err != nil {
		t.Fatal(err)
	}
	layer := digest.FromString("one")
	if err := s.driver.Delete(t.Context(), "/docker/registry/v2/blobs/sha256/"+layer.Encoded()[:2]+"/"+layer.Encoded()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pool.Exec(t.Context(), "UPDATE repository SET name = 'acme/other' WHERE name = 'acme/app'"); err != nil {
		t.Fatal(err)
	}
	s.policy.Delete = false
	s.step(s.collector())
	l := s.state().Look
	if l.OnlyBook != 2 || l.OnlyStorage != 1 || l.Missing != 1 || l.Unlinked != 3 {
		t.Errorf("%+v", l)
	}
	examples := strings.Join(l.Examples, "\n")
	for _, want := range []string{"only in the book: acme/gone@", "only in the storage: acme/app@", "missing: " + layer.String()} {
		if !strings.Contains(examples, want) {
			t.Errorf("%q is not in the examples:\n%s", want, examples)
		}
	}
}

// A blob that is needed again is not deleted, wherever it is, and it is counted after which time.
func TestNeededAgain(t *testing.T) {
	t.Parallel()
	s := open(t)
	waiting, trashed := s.orphan("acme/app", "one"), s.orphan("acme/app", "two")
	s.policy.Delete = false
	s.step(s.collector())
	s.image("acme/app", "v1", "one")
	s.step(s.collector())
	s.checkStates("one is used again", map[digest.Digest]indexer.CandidateState{trashed: "waiting"})
	got := s.state()
	if len(got.Returns) != 1 || got.Returns[0].Used != 1 || got.Longest <= 0 || got.Longest > time.Minute {
		t.Errorf("returns: %+v, longest %v", got.Returns, got.Longest)
	}
	s.policy.Delete = true
	s.step(s.collector())
	if got := s.state(); !strings.Contains(got.Does, "needed again after") || s.states()[trashed] != indexer.Waiting {
		t.Errorf("the refusal does not say why: %q", got.Does)
	}
	if _, err := s.pool.Exec(t.Context(), "DELETE FROM collect_return"); err != nil {
		t.Fatal(err)
	}
	c := s.collector()
	s.step(c)
	s.checkStates("two is in the trash", map[digest.Digest]indexer.CandidateState{trashed: "trashed"})
	// A push that had seen the blob before it was moved links it, and the book knows its manifest.
	link := "/docker/registry/v2/repositories/acme/app/_layers/sha256/" + trashed.Encoded() + "/link"
	if err := s.driver.PutContent(t.Context(), link, []byte(trashed.String())); err != nil {
		t.Fatal(err)
	}
	s.step(c)
	if !s.isStored(trashed) || !s.isStored(waiting) {
		t.Errorf("what is needed is not in its place: %v", s.states())
	}
	if got := s.state(); got.Deleted != 0 || len(got.Returns) == 0 {
		t.Errorf("%+v", got)
	}
}

// The kill switch works at once, also while an order runs; what was under way is put right.
func TestPause(t *testing.T) {
	t.Parallel()
	s := open(t)
	alone := s.orphan("acme/app", "alone")
	began, handler := make(chan struct{}), s.sweep.Handler(token)
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/trash" {
			io.Copy(io.Discard, r.Body) // so that the end of the client is noticed
			close(began)
			<-r.Context().Done() // an order that takes for ever, until its client goes away
			return
		}
		handler.ServeHTTP(w, r)
	})
	s.front.Store(&slow)
	c, ended := s.collector(), make(chan error)
	go func() { ended <- c.Step(t.Context()) }()
	<-began
	ctx := access.WithActor(t.Context(), access.Actor{Name: "cli:op"})
	if err := s.store.PauseCollection(ctx, true); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the order was stopped: %v", err)
	}
	s.front.Store(nil)
	s.step(c)
	s.checkStates("paused", map[digest.Digest]indexer.CandidateState{alone: "waiting"})
	if got := s.state(); !got.Paused || got.Does != "the collection was paused by cli:op" || !s.isStored(alone) {
		t.Errorf("%+v", got)
	}
	if err := s.store.PauseCollection(ctx, false); err != nil {
		t.Fatal(err)
	}
	s.step(c)
	s.step(c)
	s.checkStates("resumed", map[digest.Digest]indexer.CandidateState{alone: "deleted"})
	records, err := s.store.Audit(t.Context(), access.AuditQuery{Actor: "cli:op", Limit: 10})
	if err != nil || len(records) != 2 || records[0].Event != access.CollectResume || records[1].Event != access.CollectPause {
		t.Errorf("records: %+v, %v", records, err)
	}
}

// What the storage refuses is tried again after longer and longer pauses, then it is stuck and
// shown, until somebody asks for another try.
func TestStuck(t *testing.T) {
	t.Parallel()
	s := open(t)
	alone := s.orphan("acme/app", "alone")
	handler := s.sweep.Handler(token)
	refusing := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/trash" {
			io.WriteString(w, `{"done":{"digest":"`+alone.String()+`","outcome":"failed","reason":"permission denied"}}`+"\n"+`{"end":true}`+"\n")
			return
		}
		handler.ServeHTTP(w, r)
	})
	s.front.Store(&refusing)
	c := s.collector()
	for range indexer.MaxCollectFailures + 2 {
		s.step(c)
	}
	s.checkStates("refused", map[digest.Digest]indexer.CandidateState{alone: "stuck"})
	failed, err := s.store.FailedCandidates(t.Context(), 10)
	if err != nil || len(failed) != 1 || failed[0].Failures != indexer.MaxCollectFailures || failed[0].Problem != "permission denied" {
		t.Errorf("%+v, %v", failed, err)
	}
	s.front.Store(nil)
	s.step(c)
	s.checkStates("stuck", map[digest.Digest]indexer.CandidateState{alone: "stuck"})
	if n, err := s.store.RetryCollection(t.Context()); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	s.step(c)
	s.step(c)
	s.checkStates("tried again", map[digest.Digest]indexer.CandidateState{alone: "deleted"})
}

// The pauses double from the first to the longest.
func TestBackoff(t *testing.T) {
	t.Parallel()
	s := open(t)
	alone := s.orphan("acme/app", "alone")
	s.policy.Delete = false
	s.step(s.collector())
	x := postgres.Settlement{Failed: map[digest.Digest]string{alone: "refused"}, First: 5 * time.Minute, Most: time.Hour}
	for _, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
		if err := s.store.Settle(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		failed, err := s.store.FailedCandidates(t.Context(), 10)
		if err != nil || len(failed) != 1 {
			t.Fatal(failed, err)
		}
		if got := time.Until(failed[0].NextTry).Round(time.Minute); got != want*time.Minute {
			t.Errorf("after %d failures, the pause is %v, want %v", failed[0].Failures, got, want*time.Minute)
		}
	}
}

// A sweep that dies in the middle of an order leaves nothing behind that is not put right by the
// next look, also if the collector dies with it.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	s := open(t)
	moved, not, needed := s.orphan("acme/app", "moved"), s.orphan("acme/app", "not"), s.orphan("acme/app", "needed")
	handler := s.sweep.Handler(token)
	dying := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/trash" {
			handler.ServeHTTP(w, r)
			return
		}
		for _, d := range []digest.Digest{moved, needed} { // as Trash does, without a look afterwards
			dir := "/docker/registry/v2/blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded()
			if err := s.driver.Move(r.Context(), dir, "/portbook/trash/20261201T000000.000000000Z-x/"+d.Encoded()); err != nil {
				t.Error(err)
			}
		}
		panic(http.ErrAbortHandler)
	})
	s.front.Store(&dying)
	if err := s.collector().Step(t.Context()); err == nil {
		t.Error("an order that was cut off is no error")
	}
	s.front.Store(nil)
	if err := s.store.PauseCollection(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	link := "/docker/registry/v2/repositories/acme/app/_layers/sha256/" + needed.Encoded() + "/link"
	if err := s.driver.PutContent(t.Context(), link, []byte(needed.String())); err != nil {
		t.Fatal(err)
	}
	s.step(s.collector())
	want := map[digest.Digest]indexer.CandidateState{moved: "trashed", not: "waiting"}
	if !s.isStored(needed) || !s.isStored(not) || s.isStored(moved) {
		t.Errorf("after the next look: %v", s.states())
	}
	s.checkStates("after the next look", want)
}

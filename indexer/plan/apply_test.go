package plan_test

import (
	"context"
	"errors"
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
	"github.com/portbook/portbook/indexer/plan"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/indexer/retention"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/schematest"
)

// A site is a registry, a book that follows it, and what applies plans to it.
type site struct {
	t       *testing.T
	ctx     context.Context // of an operator
	push    *push.Client
	pool    *pgxpool.Pool
	store   *postgres.Store
	config  manage.Config
	manager *manage.Manager
	before  atomic.Pointer[func(*http.Request)] // called before a request is sent to the registry
	deaf    atomic.Bool                         // whether the registry's events are refused
}

func open(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, ctx: operator(t), pool: schematest.New(t)}
	s.store = postgres.New(s.pool, postgres.Config{})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	metrics := ingest.NewMetrics(prometheus.NewRegistry())
	var workers atomic.Pointer[ingest.Workers]
	receive := ingest.NewReceiver(ingest.ReceiverConfig{
		Token: "secret", Receive: s.store.Receive, Wake: func() { workers.Load().Wake() }, Log: log, Metrics: metrics,
	})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.deaf.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		receive.ServeHTTP(w, r)
	}))
	t.Cleanup(receiver.Close)
	registry := registrytest.Start(t, registrytest.Config{Notify: receiver.URL, Token: "secret", Root: t.TempDir()})
	s.push = registry.Push
	target, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before := s.before.Load(); before != nil {
			(*before)(r)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	client, err := remote.New(remote.Config{URL: front.URL, UserAgent: access.Ourselves, Connections: 16})
	if err != nil {
		t.Fatal(err)
	}
	w := ingest.NewWorkers(ingest.WorkersConfig{
		Store: s.store, Remote: client, Log: log, Metrics: metrics, MaxMeta: 262144, Events: 4, Scans: 2, Retry: 10 * time.Millisecond,
	})
	workers.Store(w)
	s.config = manage.Config{
		Store: s.store, Remote: client, Log: log, Wake: w.Wake,
		Performers: map[indexer.OperationKind]manage.Performer{indexer.ApplyPlan: &plan.Applier{Store: s.store, Cap: 20}},
	}
	s.manager = manage.New(s.config)
	s.run(w.Run)
	s.run(s.manager.Run)
	scanned(t, s.pool)
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

// image pushes an image with a layer of its own, under a tag or by its digest.
func (s *site) image(tag, content string) ocispec.Descriptor {
	s.t.Helper()
	desc, err := s.push.Image(s.t.Context(), "team/app", tag, push.ImageSpec{Labels: map[string]string{"content": content}})
	if err != nil {
		s.t.Fatal(err)
	}
	return desc
}

// index pushes an image index.
func (s *site) index(tag string, of ...ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	desc, err := s.push.Index(s.t.Context(), "team/app", tag, of, map[string]string{"of": tag})
	if err != nil {
		s.t.Fatal(err)
	}
	return desc
}

// sign attaches an artifact to a manifest.
func (s *site) sign(subject ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	desc, err := s.push.Artifact(s.t.Context(), "team/app", "", push.ArtifactSpec{
		ArtifactType: "application/vnd.example.signature", Subject: &subject,
		Layers: []push.Blob{{MediaType: "text/plain", Data: []byte("signature of " + subject.Digest)}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return desc
}

// settled waits until the book has all that was pushed.
func (s *site) settled(digests ...digest.Digest) {
	s.t.Helper()
	s.until("the book follows", func() bool {
		bounds, err := s.store.Bounds(s.t.Context(), "team/app", digests)
		var tasks int
		row := s.pool.QueryRow(s.t.Context(), "SELECT count(*) FROM task")
		if err := errors.Join(err, row.Scan(&tasks)); err != nil {
			s.t.Fatal(err)
		}
		return len(bounds) == len(digests) && tasks == 0
	})
}

func (s *site) until(what string, f func() bool) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// shows returns the digest that the registry has under a reference, "" for none.
func (s *site) shows(reference string) digest.Digest {
	s.t.Helper()
	desc, _, err := s.push.Fetch(s.t.Context(), "team/app", reference)
	if err != nil {
		return ""
	}
	return desc.Digest
}

// want fails the test unless the registry has exactly these of the references.
func (s *site) want(when string, all map[string]digest.Digest, there ...string) {
	s.t.Helper()
	for name, d := range all {
		reference := name
		if strings.HasPrefix(name, "@") {
			reference = d.String()
		}
		if got := s.shows(reference); (got == d) != slices.Contains(there, name) {
			s.t.Errorf("%s: %s shows %q, want it there: %v", when, name, got, slices.Contains(there, name))
		}
	}
}

// A plan deletes what it lists and nothing that changed since, and can be undone as a whole.
func TestApplyAndUndo(t *testing.T) {
	t.Parallel()
	s := open(t)
	all := map[string]digest.Digest{}
	put := func(name string, d ocispec.Descriptor) ocispec.Descriptor { all[name] = d.Digest; return d }
	plain := put("pr-plain", s.image("pr-plain", "plain"))
	put("@sig", s.sign(plain))
	moves := s.image("pr-moves", "moves")
	runs := put("pr-runs", s.image("pr-runs", "runs"))
	signed := put("pr-signed", s.image("pr-signed", "signed"))
	both, onlyOld, onlyNew := put("@both", s.image("", "both")), put("@old", s.image("", "old")), put("@new", s.image("", "new"))
	put("@oldsig", s.sign(onlyOld))
	put("@newsig", s.sign(onlyNew))
	put("pr-index", s.index("pr-index", both, onlyOld))
	put("v1", s.index("v1", both, onlyNew))
	put("pr-child", s.image("pr-child", "new")) // the child of v1, under a tag that goes
	if all["pr-child"] != onlyNew.Digest {
		t.Fatal("the child of v1 is another image")
	}
	put("@loose", s.image("", "loose"))
	s.settled(all["@sig"], moves.Digest, all["v1"], all["pr-index"], all["@loose"], all["@newsig"], all["@oldsig"])

	add(t, s.ctx, s.store, "team/*", retention.Delete, retention.Conditions{Tag: "pr-*"})
	p := made(t, s.ctx, s.store, "*")
	if p.TagsDeleted != 6 || p.Tags != 7 || p.Percent != 86 || p.Freed == nil {
		t.Fatalf("%+v", p)
	}
	var names []string
	for name := range all {
		names = append(names, name)
	}
	s.want("before", all, names...)

	// Beyond the cap, it must be said.
	if _, err := s.manager.Do(s.ctx, plan.Applying(p.ID, 0)); !errors.Is(err, indexer.ErrConflict) || !strings.Contains(err.Error(), "86 %") {
		t.Fatalf("beyond the cap: %v", err)
	}
	if _, err := s.manager.Do(s.ctx, plan.Applying(p.ID, 50)); !errors.Is(err, indexer.ErrConflict) {
		t.Fatalf("beyond what was said: %v", err)
	}

	// Meanwhile a tag moves, something runs, and something is signed.
	moved := put("pr-moves", s.image("pr-moves", "moved"))
	if moved.Digest == moves.Digest {
		t.Fatal("it did not move")
	}
	put("@late", s.sign(signed))
	s.settled(moved.Digest, all["@late"])
	use := retention.Use{Repository: "team/app", Digest: runs.Digest, Cluster: "prod", ExpiresAt: time.Now().Add(hour)}
	if err := s.store.ReportUse(s.ctx, []retention.Use{use}); err != nil {
		t.Fatal(err)
	}

	o, err := s.manager.Do(s.ctx, plan.Applying(p.ID, 86))
	if err != nil || o.State != indexer.OperationDone || o.Done != o.Total {
		t.Fatalf("%+v, %v", o, err)
	}
	s.want("after", all, "pr-runs", "pr-moves", "pr-signed", "@late", "v1", "@both", "@new", "@newsig", "@loose")
	got := items(t, s.ctx, s.store, p)
	for name, want := range map[string]string{
		"pr-plain": "", "pr-index": "", "pr-child": "", "pr-moves": "moved", "pr-runs": "a cluster runs it", "pr-signed": "not in the plan",
	} {
		i := got["team/app:"+name]
		if want == "" && i.Outcome != retention.OutcomeDone || want != "" && (i.Outcome != retention.OutcomeSkipped || !strings.Contains(i.Skipped, want)) {
			t.Errorf("%s: %s %q, want %q", name, i.Outcome, i.Skipped, want)
		}
	}
	if i := got["team/app@"+moves.Digest.String()]; i.Outcome != retention.OutcomeSkipped || s.shows(moves.Digest.String()) == "" {
		t.Errorf("what the tag showed before: %+v", i)
	}
	if _, err := s.manager.Do(s.ctx, plan.Applying(p.ID, 86)); !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("applied twice: %v", err)
	}

	// An undo puts back all of it, also the tag whose manifest stayed.
	p, err = s.store.Plan(s.ctx, p.ID)
	if err != nil || p.Operation != o.ID {
		t.Fatalf("%+v, %v", p, err)
	}
	undo, err := plan.Undoing(p)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := s.manager.Do(s.ctx, undo); err != nil || o.State != indexer.OperationDone {
		t.Fatalf("%+v, %v", o, err)
	}
	names = names[:0]
	for name := range all {
		names = append(names, name)
	}
	s.want("after the undo", all, names...)
}

// A writer that dies in the middle is followed by another one, which deletes the rest once.
func TestApplyResumes(t *testing.T) {
	t.Parallel()
	s := open(t)
	var last ocispec.Descriptor
	for _, name := range []string{"pr-1", "pr-2", "pr-3", "pr-4", "pr-5", "v1"} {
		last = s.image(name, name)
	}
	s.settled(last.Digest)
	add(t, s.ctx, s.store, "*", retention.Delete, retention.Conditions{Tag: "pr-*"})
	p := made(t, s.ctx, s.store, "*")

	var deletions atomic.Int32
	hangs, end := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(end) })
	before := func(r *http.Request) {
		if r.Method == http.MethodDelete && deletions.Add(1) == 4 {
			close(hangs) // as a process that was killed, it never hears the answer
			<-end
		}
	}
	s.before.Store(&before)
	done := make(chan error, 1)
	go func() {
		_, err := s.manager.Do(s.ctx, plan.Applying(p.ID, 100))
		done <- err
	}()
	<-hangs
	if _, err := s.pool.Exec(s.ctx, "UPDATE operation SET leased_until = now(), run_after = now()"); err != nil {
		t.Fatal(err)
	}
	s.run(manage.New(s.config).Run)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pr-1", "pr-2", "pr-3", "pr-4", "pr-5"} {
		if i := items(t, s.ctx, s.store, p)["team/app:"+name]; s.shows(name) != "" || i.Outcome != retention.OutcomeDone {
			t.Errorf("%s shows %q: %s %q", name, s.shows(name), i.Outcome, i.Skipped)
		}
	}
	if s.shows("v1") == "" {
		t.Error("v1 is gone")
	}
}

// What a repository of a plan has lost is settled before the plan is through with all others.
func TestApplySettlesEachRepository(t *testing.T) {
	t.Parallel()
	s := open(t)
	first := s.image("pr-1", "one")
	if _, err := s.push.Image(t.Context(), "team/last", "pr-1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	s.settled(first.Digest)
	add(t, s.ctx, s.store, "*", retention.Delete, retention.Conditions{Tag: "pr-*"})
	p := made(t, s.ctx, s.store, "*")
	var deletions atomic.Int32
	before := func(r *http.Request) {
		if r.Method != http.MethodDelete || !strings.HasPrefix(r.URL.Path, "/v2/team/last/") || deletions.Add(1) > 1 {
			return
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			trash, err := s.store.Trash(s.ctx, indexer.TrashQuery{Repository: "team/app", Limit: 1})
			switch {
			case err != nil || time.Now().After(end):
				t.Errorf("what is gone from team/app is not in the trash: %v", err)
				return
			case len(trash) == 1:
				return
			}
		}
	}
	s.before.Store(&before)
	if o, err := s.manager.Do(s.ctx, plan.Applying(p.ID, 100)); err != nil || o.Result.Deleted != 2 {
		t.Errorf("%+v, %v", o, err)
	}
}

// A tag that was pushed without an event keeps what it shows.
func TestApplyAfterLostEvents(t *testing.T) {
	t.Parallel()
	s := open(t)
	loose, tagged := s.image("", "loose"), s.image("v1", "tagged")
	s.settled(loose.Digest, tagged.Digest)
	add(t, s.ctx, s.store, "*", retention.Delete, retention.Conditions{Untagged: true})
	p := made(t, s.ctx, s.store, "*")
	if p.ManifestsDeleted != 1 {
		t.Fatalf("%+v", p)
	}
	s.deaf.Store(true)
	if moved := s.image("v1", "loose"); moved.Digest != loose.Digest {
		t.Fatal("v1 shows another manifest")
	}
	if o, err := s.manager.Do(s.ctx, plan.Applying(p.ID, 100)); err != nil || o.Result.Deleted != 0 {
		t.Errorf("%+v, %v", o, err)
	}
	if got := s.shows("v1"); got != loose.Digest {
		t.Errorf("v1 shows %q, want %s", got, loose.Digest)
	}
}

// The images of an index of which no event has told stay, if a look at the storage has seen it.
func TestApplyAfterALook(t *testing.T) {
	t.Parallel()
	s := open(t)
	loose := s.image("", "loose")
	s.settled(loose.Digest)
	add(t, s.ctx, s.store, "*", retention.Delete, retention.Conditions{Untagged: true})
	p := made(t, s.ctx, s.store, "*")
	s.deaf.Store(true)
	index := s.index("", loose)
	const seen = "INSERT INTO storage_manifest (repository, digest) VALUES ('team/app', decode($1, 'hex'))"
	if _, err := s.pool.Exec(s.ctx, seen, index.Digest.Encoded()); err != nil {
		t.Fatal(err)
	}
	if o, err := s.manager.Do(s.ctx, plan.Applying(p.ID, 100)); err != nil || o.Result.Deleted != 0 || s.shows(loose.Digest.String()) == "" {
		t.Errorf("%+v, %v", o, err)
	}
}

package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// through puts a proxy between the registry and us. intercept returns true for a request
// that it has answered itself.
func (h *harness) through(intercept func(w http.ResponseWriter, r *http.Request) bool) {
	h.t.Helper()
	target, err := url.Parse(h.registry.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{}, // of its own: see push.New
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !intercept(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	h.t.Cleanup(server.Close)
	client, err := remote.New(remote.Config{URL: server.URL, UserAgent: "test", Connections: 8})
	if err != nil {
		h.t.Fatal(err)
	}
	h.remote = client
	h.configure(func(c *ingest.WorkersConfig) { c.Remote = client })
}

func (h *harness) ask(repository string, references ...string) {
	h.t.Helper()
	var asks []indexer.Ask
	for _, r := range references {
		asks = append(asks, indexer.Ask{Repository: repository, Reference: indexer.TagOrDigest(r), Priority: indexer.PriorityScan})
	}
	if err := h.store.Ask(h.t.Context(), asks); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) image(repository, tag, content string) indexer.Reference {
	h.t.Helper()
	d, err := h.push.Image(h.t.Context(), repository, tag, push.ImageSpec{Env: []string{"CONTENT=" + content}})
	if err != nil {
		h.t.Fatal(err)
	}
	return indexer.Reference{Repository: repository, Tag: tag, Digest: d.Digest}
}

// step runs one step of a worker that reads everything.
func (h *harness) step() (n int) {
	h.t.Helper()
	n, err := h.workers.Step(h.t.Context(), indexer.PriorityConfirm, 32)
	if err != nil {
		h.t.Error(err)
	}
	return n
}

func fail(w http.ResponseWriter, status int) bool {
	http.Error(w, "out of order", status)
	return true
}

// A tag that is requested while it is being read must be read again: it may have moved
// since.
func TestAskedWhileRead(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.image("demo/app", "v1", "first")
	reading, moved := make(chan bool), make(chan bool)
	var once sync.Once
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			once.Do(func() { reading <- true; <-moved }) // the manifest has been read
		}
		return false
	})
	h.ask("demo/app", "v1")
	done := make(chan bool)
	go func() { defer close(done); h.step() }()
	<-reading
	second := h.image("demo/app", "v1", "second")
	h.ask("demo/app", "v1")
	if n, err := h.workers.Step(t.Context(), indexer.PriorityConfirm, 32); n > 0 || err != nil {
		t.Errorf("another worker read the reference at the same time: %d, %v", n, err)
	}
	close(moved)
	<-done
	h.drain()
	if got := h.manifest("demo/app:v1").Digest; got != second.Digest {
		t.Errorf("demo/app:v1: got %s, want %s", got, second.Digest)
	}
	if left := h.tasks(); len(left) > 0 {
		t.Errorf("got tasks left: %v", left)
	}
}

// Two processes must never read the same reference at the same time. They must read all
// references, including those that are added meanwhile.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	const tags = 60
	var names []string
	for i := range tags {
		name := fmt.Sprintf("v%d", i)
		names = append(names, name)
		h.image("demo/app", name, name)
	}
	var flight sync.Map // paths that are being read
	var twice atomic.Int32
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/v") {
			return false
		}
		if _, busy := flight.LoadOrStore(r.URL.Path, true); busy {
			twice.Add(1)
		}
		defer flight.Delete(r.URL.Path)
		time.Sleep(time.Millisecond) // a slow registry, so that two reads would overlap
		return false
	})
	first := h.workers
	other := h.settings
	other.Store, other.Events, other.Scans, other.Retry = postgres.New(h.pool, postgres.Config{}), 2, 2, 0
	second := ingest.NewWorkers(other)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = first.Run(ctx) })
	running.Go(func() { _ = second.Run(ctx) })
	for range 5 {
		h.ask("demo/app", names...)
	}
	eventually(t, "all references are read", func() bool { return len(h.tasks()) == 0 })
	stop()
	running.Wait()
	if n := twice.Load(); n > 0 {
		t.Errorf("%d times two workers read a tag at the same time", n)
	}
	h.equal()
}

// If the worker with a task dies, another worker must read the task after the lease has
// expired.
func TestLeaseEnds(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	image := h.image("demo/app", "v1", "x")
	h.ask("demo/app", "v1")
	tasks, err := h.store.Claim(t.Context(), indexer.PriorityConfirm, 1, 100*time.Millisecond)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("claimed %v, %v", tasks, err)
	}
	eventually(t, "another worker reads the reference", func() bool { return h.step() == 1 })
	if got := h.manifest("demo/app:v1").Digest; got != image.Digest {
		t.Errorf("demo/app:v1: got %s, want %s", got, image.Digest)
	}
}

// A reference that cannot be read must be retried after growing pauses, then given up
// and shown with the reason. A new request must reset the attempts.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	image := h.image("demo/app", "v1", "x")
	var broken atomic.Bool
	broken.Store(true)
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		return broken.Load() && strings.Contains(r.URL.Path, "/manifests/") && fail(w, http.StatusInternalServerError)
	})
	h.configure(func(c *ingest.WorkersConfig) { c.Retry = time.Hour }) // the test makes the task due
	h.ask("demo/app", "v1", image.Digest.String())
	const state = `SELECT format('%s attempts, due in %s s, given up %s', attempts, round(extract(epoch FROM run_after - now()), -1), given_up_at IS NOT NULL)
		FROM task WHERE reference = 'v1'`
	for attempt := 1; attempt <= 6; attempt++ {
		h.exec("UPDATE task SET run_after = now()")
		if n := h.step(); n != 2 {
			t.Fatalf("attempt %d: got %d tasks, want 2", attempt, n)
		}
		want := fmt.Sprintf("%d attempts, due in 30 s, given up f", attempt) // an hour, limited to 30 s
		if attempt == 6 {
			want = "6 attempts, due in 0 s, given up t"
		}
		if got := strings.ReplaceAll(h.column(state)[0], "-0", "0"); got != want {
			t.Errorf("after attempt %d: got %s, want %s", attempt, got, want)
		}
	}
	var status indexer.Status
	h.view(func(v *postgres.View) (err error) {
		status, err = v.Status(t.Context())
		return err
	})
	if status.GivenUp != 2 || len(status.Failures) != 2 || status.TasksDue != 0 {
		t.Fatalf("status: got %d given up, %d failures, %d due, want 2, 2, 0", status.GivenUp, len(status.Failures), status.TasksDue)
	}
	for _, f := range status.Failures {
		if f.Attempts != 6 || !f.GivenUp || !strings.Contains(f.Error, "500") {
			t.Errorf("failure %+v", f)
		}
	}
	if n := h.step(); n > 0 {
		t.Errorf("read %d tasks that were given up", n)
	}
	broken.Store(false)
	h.ask("demo/app", "v1", image.Digest.String())
	h.drain()
	if left := h.tasks(); len(left) > 0 || h.tag("demo/app", "v1").Problem != "" {
		t.Errorf("after a new request: got tasks left %v, tag %+v", left, h.tag("demo/app", "v1"))
	}
	h.equal()
}

// While the registry is unavailable, no task may be given up.
func TestRegistryAway(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody, Root: t.TempDir()})
	h.configure(func(c *ingest.WorkersConfig) { c.Retry = time.Millisecond })
	for i := range 5 {
		h.image("demo/app", fmt.Sprintf("v%d", i), "x")
		h.ask("demo/app", fmt.Sprintf("v%d", i))
	}
	h.registry.Stop()
	for range 20 {
		h.exec("UPDATE task SET run_after = now()")
		h.step()
	}
	const q = "SELECT format('attempts %s, leased %s, given up %s', attempts, leased_until IS NOT NULL, given_up_at IS NOT NULL) FROM task GROUP BY 1"
	if got := h.column(q); !cmp.Equal(got, []string{"attempts 0, leased f, given up f"}) {
		t.Errorf("after 20 steps without the registry: got %v", got)
	}
	h.registry.Restart()
	h.exec("UPDATE task SET run_after = now()")
	h.drain()
	h.equal()
	if got := h.tasks(); len(got) > 0 {
		t.Errorf("got tasks left: %v", got)
	}
}

// A worker that is stopped must release its tasks at once, without counting an attempt.
func TestStopped(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	reading := make(chan bool, 10)
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		reading <- true
		<-r.Context().Done()
		return true
	})
	h.ask("demo/app", "v1", "v2", "v3")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() {
		defer close(done)
		if _, err := h.workers.Step(ctx, indexer.PriorityConfirm, 32); err != nil {
			t.Error(err)
		}
	}()
	<-reading
	stop()
	<-done
	tasks, err := h.store.Claim(t.Context(), indexer.PriorityConfirm, 10, time.Minute)
	if err != nil || len(tasks) != 3 {
		t.Fatalf("after the worker was stopped: got %d due tasks, %v, want 3", len(tasks), err)
	}
	for _, task := range tasks {
		if task.Attempts != 1 {
			t.Errorf("%s: got attempt %d, want the first", task.Reference, task.Attempts)
		}
	}
}

// If the registry drops the connection for one reference, the references after it must
// still be read.
func TestDroppedConnectionHidesNoOther(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	for _, tag := range []string{"a", "b", "c"} {
		h.image("demo/app", tag, tag)
	}
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/a") {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	h.ask("demo/app", "a", "b", "c")
	h.step()
	if got := h.tasks(); !cmp.Equal(got, []string{"demo/app a"}) {
		t.Errorf("got tasks left: %v, want demo/app a", got)
	}
}

// If the database refuses a finding, the others of its batch must be stored, and every
// failed task of the batch must be retried.
func TestNotStored(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	for _, tag := range []string{"good", "poison"} {
		h.image("demo/app", tag, tag)
	}
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/manifests/unread") && fail(w, http.StatusInternalServerError)
	})
	h.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON tag FOR EACH ROW WHEN (NEW.name = 'poison') EXECUTE FUNCTION refuse()`)
	h.ask("demo/app", "good", "poison", "unread")
	if _, err := h.workers.Step(t.Context(), indexer.PriorityConfirm, 32); err != nil {
		t.Error(err)
	}
	const q = "SELECT format('%s leased %s, error %s', reference, leased_until IS NOT NULL, error IS NOT NULL) FROM task ORDER BY 1"
	if diff := cmp.Diff([]string{"poison leased f, error t", "unread leased f, error t"}, h.column(q)); diff != "" {
		t.Errorf("tasks left (-want +got):\n%s", diff)
	}
	h.tag("demo/app", "good")
}

// A reference that is requested while its read fails must be due at once: the request
// may be for another push.
func TestAskedWhileFailing(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.configure(func(c *ingest.WorkersConfig) { c.Retry = time.Hour })
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		h.ask("demo/app", "v1")
		return fail(w, http.StatusInternalServerError)
	})
	h.ask("demo/app", "v1")
	h.step()
	if got := h.column("SELECT (run_after <= now())::text FROM task"); !cmp.Equal(got, []string{"true"}) {
		t.Errorf("due: %v, want true", got)
	}
}

// For a batch of tags that have all moved on since their events, a worker must wait
// once and not for each tag: the last would be minutes late.
func TestStaleHintsAreWaitedForTogether(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	const tags, patience = 16, 500 * time.Millisecond
	h.configure(func(c *ingest.WorkersConfig) { c.TagPatience = patience })
	var asks []indexer.Ask
	for i := range tags {
		asks = append(asks, indexer.Ask{Repository: "demo/app", Reference: indexer.TagOrDigest(fmt.Sprintf("v%d", i)), Hint: digest.FromString("moved on")})
	}
	if err := h.store.Ask(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if n, err := h.workers.Step(t.Context(), indexer.PriorityConfirm, tags); err != nil || n != tags {
		t.Fatalf("read %d tasks, %v", n, err)
	}
	if took := time.Since(begin); took > tags*patience/2 {
		t.Errorf("%d tags took %v, but the patience for each is %v", tags, took, patience)
	}
}

// Reads that never end, even a hundred of them, must not keep other references from
// being read. If the registry answers other reads, each counts as an attempt, and the
// reference is given up in the end. If the registry answers nothing, none is given up.
func TestHangingReferences(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{})
	h.configure(func(c *ingest.WorkersConfig) { c.Events, c.Scans = 1, 1 })
	const hanging = 40 // more than the 32 that may wait aside
	drop := make(chan struct{})
	var waiting, refused atomic.Int32
	var away atomic.Bool
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if away.Load() {
			refused.Add(1)
			return fail(w, http.StatusBadGateway)
		}
		if !strings.HasPrefix(r.URL.Path, "/v2/hang/") {
			return false
		}
		waiting.Add(1)
		defer waiting.Add(-1)
		select {
		case <-drop:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	})
	var asks []indexer.Ask
	for i := range hanging {
		asks = append(asks, indexer.Ask{Repository: fmt.Sprintf("hang/app%02d", i), Reference: "v1", Priority: indexer.PriorityEvent})
	}
	if err := h.store.Ask(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	h.work()
	eventually(t, "enough reads hang", func() bool { return waiting.Load() >= 20 })
	for i := range 3 {
		h.image("demo/app", fmt.Sprintf("v%d", i), "x")
		eventually(t, "a push is stored while others hang", func() bool {
			return len(h.column(fmt.Sprintf("SELECT name FROM tag WHERE name = 'v%d'", i))) == 1
		})
	}
	if n := len(h.column("SELECT reference FROM task WHERE attempts > 1 OR given_up_at IS NOT NULL")); n > 0 {
		t.Errorf("%d references have several attempts before their first read has ended", n)
	}
	away.Store(true)
	close(drop)
	eventually(t, "the hanging reads have ended", func() bool { return waiting.Load() == 0 })
	eventually(t, "the reads are retried", func() bool {
		h.exec("UPDATE task SET run_after = now() WHERE id IN (SELECT id FROM task WHERE leased_until IS NULL ORDER BY id FOR UPDATE SKIP LOCKED)")
		h.workers.Wake()
		h.workers.WakeForScan()
		return refused.Load() > 3*hanging
	})
	// A read under way is counted; the attempt is subtracted when the read ends.
	if got := h.column("SELECT attempts::text FROM task WHERE attempts - (leased_until IS NOT NULL)::int > 1 OR given_up_at IS NOT NULL"); len(got) > 0 {
		t.Errorf("without any answer of the registry: got attempts %v, want none counted", got)
	}
	away.Store(false)
	eventually(t, "all are given up", func() bool {
		h.exec("UPDATE task SET run_after = now() WHERE id IN (SELECT id FROM task WHERE given_up_at IS NULL AND leased_until IS NULL ORDER BY id FOR UPDATE SKIP LOCKED)")
		h.workers.Wake()
		h.workers.WakeForScan()
		return len(h.column("SELECT id::text FROM task WHERE given_up_at IS NULL")) == 0
	})
	var status indexer.Status
	h.view(func(v *postgres.View) (err error) {
		status, err = v.Status(t.Context())
		return err
	})
	if status.GivenUp != hanging || len(status.Failures) != hanging || !strings.Contains(status.Failures[0].Error, "the registry") {
		t.Errorf("status: %d given up, failures %+v", status.GivenUp, status.Failures)
	}
}

// A finding that is not stored within the timeout must count as an attempt. It must be
// given up and shown in the end, and must not delay other pushes.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{})
	hurriedConfig := h.settings
	hurriedConfig.StoreTimeout = time.Second // enough on a busy machine, unless rows are locked
	hurried := ingest.NewWorkers(hurriedConfig)
	h.configure(func(c *ingest.WorkersConfig) { c.Events, c.Scans, c.Retry = 1, 1, 0 })
	h.woken.Store(hurried)
	h.image("slow/app", "v0", "x")
	h.scan()
	eventually(t, "the repository is in the book", func() bool { // its first read may take long
		h.step()
		return len(h.column("SELECT name FROM repository WHERE name = 'slow/app'")) == 1
	})
	lock, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback(context.WithoutCancel(t.Context())) }()
	if locked, err := lock.Exec(t.Context(), "SELECT FROM repository WHERE name = 'slow/app' FOR UPDATE"); err != nil || locked.RowsAffected() != 1 {
		t.Fatalf("%d repositories are locked, %v: nothing would be tested", locked.RowsAffected(), err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stopped := make(chan error)
	go func() { stopped <- hurried.Run(ctx) }()
	h.image("slow/app", "v1", "slow")
	for i := range 3 {
		h.image("demo/app", fmt.Sprintf("v%d", i), "x")
		eventually(t, "another push is stored", func() bool {
			return len(h.column(fmt.Sprintf("SELECT t.name FROM tag t JOIN repository r ON r.id = t.repository_id WHERE r.name = 'demo/app' AND t.name = 'v%d'", i))) == 1
		})
	}
	var status indexer.Status
	defer func() {
		if t.Failed() {
			t.Logf("tasks: %q", h.column(`
				SELECT concat_ws(' ', repository, reference, attempts, claims, wanted, run_after - now(), leased_until - now(), error)
				FROM task`))
		}
	}()
	// It takes 13 s. But if a busy machine needs the whole second before a transaction
	// begins, the database seems unavailable, and the task waits for its lease of 10 s.
	eventuallyWithin(t, 3*time.Minute, "the tag is given up", func() bool {
		h.view(func(v *postgres.View) (err error) {
			status, err = v.Status(t.Context())
			return err
		})
		return status.GivenUp > 0
	})
	f := status.Failures[0]
	if f.Repository != "slow/app" || f.Attempts != 6 || !f.GivenUp || f.Error != "the indexer's database took too long" {
		t.Errorf("got failure %+v", f)
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	h.exec("UPDATE task SET leased_until = NULL")
	h.scan()
	h.equal()
}

// A large finding must be stored by itself, so that no push shares its transaction.
func TestLargeIsStoredAlone(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Configure: lax, Notify: nobody})
	if _, err := h.push.Manifest(t.Context(), "large/app", "v1", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+manyEntries(400)+`]}`)); err != nil {
		t.Fatal(err)
	}
	var small []string
	for i := range 5 {
		h.image("demo/app", fmt.Sprintf("v%d", i), "x")
		small = append(small, fmt.Sprintf("v%d", i))
	}
	h.ask("demo/app", small...)
	h.ask("large/app", "v1")
	if n := h.step(); n != 6 {
		t.Fatalf("got %d tasks read, want 6", n)
	}
	const transactions = "SELECT DISTINCT xmin::text FROM tag t WHERE t.name = 'v0' OR EXISTS (SELECT FROM repository r WHERE r.id = t.repository_id AND r.name = 'large/app')"
	if got := h.column(transactions); len(got) != 2 {
		t.Errorf("the small and the large finding were stored in %d transactions, want 2", len(got))
	}
}

// If a config cannot be read, its image and the others of the repository must be in the
// book: the rest is stored with the problem. The config must be retried, and given up
// if all retries fail.
func TestConfigNotRead(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	image := h.image("demo/app", "v1", "x")
	h.image("demo/app", "good", "y")
	var broken atomic.Bool
	broken.Store(true)
	untagged := h.image("demo/app", "", "z")
	h.ask("demo/app", untagged.Digest.String())
	config, another := h.config(image), h.config(untagged)
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if !broken.Load() || !strings.HasSuffix(r.URL.Path, "/blobs/"+config) && !strings.HasSuffix(r.URL.Path, "/blobs/"+another) {
			return false
		}
		http.Redirect(w, r, "http://127.0.0.1:1/storage", http.StatusTemporaryRedirect) // no server is there
		return true
	})
	h.scan()
	const problem = "the config was not read: the storage"
	if m := h.manifest("demo/app:v1"); m.Digest != image.Digest || len(m.Problems) == 0 || !strings.HasPrefix(m.Problems[0], problem) {
		t.Errorf("after one read: got %v with problems %q, want %v and %q", m.Digest, m.Problems, image.Digest, problem)
	}
	if got := h.search("app"); !cmp.Equal(got, []string{"demo/app"}) {
		t.Errorf("search: got %v", got)
	}
	eventually(t, "the task is given up", func() bool {
		h.ask("demo/app", "good") // the registry answers for this one
		h.drain()
		return len(h.column("SELECT reference FROM task WHERE given_up_at IS NULL")) == 0
	})
	if tag := h.tag("demo/app", "v1"); tag.Digest != image.Digest || !strings.HasPrefix(tag.Problem, "the storage") {
		t.Errorf("after it was given up: got tag %v with problem %q", tag.Digest, tag.Problem)
	}
	broken.Store(false)
	h.scan()
	if m := h.manifest("demo/app@" + untagged.Digest.String()); len(m.Problems) > 0 || len(m.ConfigBody) == 0 {
		t.Errorf("untagged image after the storage answers again: got problems %q, config of %d bytes", m.Problems, len(m.ConfigBody))
	}
	if m := h.manifest("demo/app:v1"); len(m.Problems) > 0 || len(m.ConfigBody) == 0 || h.tag("demo/app", "v1").Problem != "" {
		t.Errorf("tagged image after the storage answers again: got problems %q, config of %d bytes, tag %+v", m.Problems, len(m.ConfigBody), h.tag("demo/app", "v1"))
	}
	h.equal()
}

// If the storage with a config is dead or hangs, the image must be in the book right
// after its push, with the problem. Its failed reads must count as attempts, even if
// the registry has nothing else to show that it is available. When the storage answers
// again, no problem may remain.
func TestConfigOfDeadStorage(t *testing.T) {
	t.Parallel()
	for name, storage := range map[string]string{"refused": "http://127.0.0.1:1/", "hangs": hangs(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, registrytest.Config{})
			// Long enough for configs that can be read.
			h.configure(func(c *ingest.WorkersConfig) { c.ConfigTimeout = 250 * time.Millisecond })
			var broken atomic.Bool
			broken.Store(true)
			h.through(func(w http.ResponseWriter, r *http.Request) bool {
				if !broken.Load() || !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				http.Redirect(w, r, storage, http.StatusTemporaryRedirect)
				return true
			})
			h.work()
			untagged := h.image("demo/app", "", "x")
			shown := func(reference string, problems int) func() bool {
				return func() bool {
					return len(h.column("SELECT 'x' FROM manifest WHERE digest = decode('"+reference+"', 'hex') AND cardinality(problems) = "+fmt.Sprint(problems))) == 1
				}
			}
			eventually(t, "the image is stored with the problem", shown(untagged.Digest.Encoded(), 1))
			eventually(t, "the task is given up", func() bool { return len(h.column("SELECT 'x' FROM task WHERE given_up_at IS NOT NULL")) == 1 })
			tagged := h.image("demo/app", "v1", "y")
			eventually(t, "the tag is stored", func() bool { return len(h.search("app")) == 1 })
			if m := h.manifest("demo/app:v1"); m.Digest != tagged.Digest || len(m.Problems) != 1 || !strings.HasPrefix(m.Problems[0], "the config was not read: the storage") {
				t.Errorf("got tag %v with problems %q, want %v and one of the storage", m.Digest, m.Problems, tagged.Digest)
			}
			broken.Store(false)
			h.scan()
			eventually(t, "the untagged image is complete", shown(untagged.Digest.Encoded(), 0))
			eventually(t, "the tagged image is complete", shown(tagged.Digest.Encoded(), 0))
			h.equal()
		})
	}
}

// hangs returns the URL of a server that accepts connections and never answers.
func hangs(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return "http://" + listener.Addr().String() + "/"
}

// If an event announces a manifest that is not in the registry, no worker may wait for
// it. A tag that does not show an existing manifest must not delay other reads: it is
// left to the second look.
func TestForgedEvents(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{})
	h.configure(func(c *ingest.WorkersConfig) { c.Events, c.Scans = 1, 0 })
	h.configure(func(c *ingest.WorkersConfig) { c.TagPatience = time.Hour })
	there := h.image("demo/app", "there", "x")
	const forged = 60 // more reads than may wait aside, for a tag or for any other reason
	var asks []indexer.Ask
	for i := range forged {
		asks = append(asks,
			indexer.Ask{Repository: "demo/ghost", Reference: indexer.TagOrDigest(fmt.Sprintf("v%d", i)), Hint: digest.FromString("nowhere")},
			indexer.Ask{Repository: "demo/app", Reference: indexer.TagOrDigest(fmt.Sprintf("v%d", i)), Hint: there.Digest})
	}
	if err := h.store.Ask(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	h.work()
	count := func(where string) int { return len(h.column("SELECT 'x' FROM task WHERE " + where)) }
	eventually(t, "only tasks that wait for their tag are left", func() bool {
		return count("priority = 0") <= 4 && count("repository = 'demo/ghost' AND priority = 0") == 0
	})
	h.image("demo/app", "pushed", "y")
	eventually(t, "a push is stored", func() bool { return len(h.column("SELECT 'x' FROM tag WHERE name = 'pushed'")) == 1 })
	if n := count("error IS NOT NULL"); n > 0 {
		t.Errorf("got %d failed reads, want none", n)
	}
}

// While many reads of one repository hang, no other read of it may begin, so that other
// repositories get places.
func TestHangingReferencesOfOneRepository(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.configure(func(c *ingest.WorkersConfig) { c.Events, c.Scans = 1, 0 })
	h.configure(func(c *ingest.WorkersConfig) { c.Retry = time.Hour }) // a refused read is not retried
	var begun atomic.Int32
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v2/hang/") {
			return false
		}
		begun.Add(1)
		<-r.Context().Done()
		return true
	})
	const hanging, most = 40, 17 // sixteen aside, and one that finds no room aside
	var asks []indexer.Ask
	for i := range hanging {
		asks = append(asks, indexer.Ask{Repository: "hang/app", Reference: indexer.TagOrDigest(fmt.Sprintf("v%d", i))})
	}
	if err := h.store.Ask(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	h.work()
	eventually(t, "each read hangs or was cancelled", func() bool {
		return len(h.column("SELECT 'x' FROM task WHERE leased_until IS NULL AND error IS NULL")) == 0
	})
	if n := begun.Load(); n > most {
		t.Errorf("%d of %d reads of one repository began, want at most %d", n, hanging, most)
	}
	h.image("demo/app", "v1", "x")
	if err := h.store.Ask(t.Context(), []indexer.Ask{{Repository: "demo/app", Reference: "v1"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another repository is read", func() bool { return len(h.column("SELECT 'x' FROM tag WHERE name = 'v1'")) == 1 })
}

// Findings must be stored even if a later read of the same batch hangs.
func TestReadBeforeOneThatHangs(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.image("demo/app", "a", "x")
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/hangs") {
			return false
		}
		<-r.Context().Done()
		return true
	})
	h.ask("demo/app", "a", "hangs")
	h.work()
	eventually(t, "the first is stored", func() bool { return len(h.column("SELECT name FROM tag")) == 1 })
	if got := h.tasks(); !cmp.Equal(got, []string{"demo/app hangs"}) {
		t.Errorf("got tasks left: %v, want demo/app hangs", got)
	}
}

// Findings of events must be stored before the rest of their batch is read.
func TestEventsOfABatchAreStoredFirst(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	for _, tag := range []string{"a", "b", "c"} {
		h.image("demo/app", tag, tag)
	}
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/b") {
			for r.Context().Err() == nil && len(h.column("SELECT 'x' FROM tag WHERE name = 'a'")) == 0 {
			}
		}
		return false
	})
	if err := h.store.Ask(t.Context(), []indexer.Ask{{Repository: "demo/app", Reference: "a"}}); err != nil {
		t.Fatal(err)
	}
	h.ask("demo/app", "b", "c")
	h.step()
	if got := h.column("SELECT reference FROM task WHERE priority < 2"); len(got) > 0 { // a read that takes long releases the rest
		t.Errorf("got tasks left: %v, want none", got)
	}
}

// config returns the digest of the config of an image in the registry.
func (h *harness) config(image indexer.Reference) string {
	h.t.Helper()
	body, _, err := h.remote.Manifest(h.t.Context(), image.Repository, image.Digest.String())
	if err != nil {
		h.t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		h.t.Fatal(err)
	}
	return m.Config.Digest.String()
}

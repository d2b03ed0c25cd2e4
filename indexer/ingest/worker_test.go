package ingest_test

import (
	"context"
	"fmt"
	"io"
	"log"
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

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// through puts a proxy between the registry and us. What meddle answers itself,
// it returns true for.
func (h *harbour) through(meddle func(w http.ResponseWriter, r *http.Request) bool) {
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
		if !meddle(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	h.t.Cleanup(server.Close)
	client, err := remote.New(remote.Config{URL: server.URL, UserAgent: "test", Connections: 8})
	if err != nil {
		h.t.Fatal(err)
	}
	h.remote, h.workers.Remote, h.scanner.Remote = client, client, client
}

func (h *harbour) ask(repository string, references ...string) {
	h.t.Helper()
	var asks []indexer.Ask
	for _, r := range references {
		asks = append(asks, indexer.Ask{Repository: repository, Reference: r, Priority: indexer.PriorityScan})
	}
	if err := h.store.Ask(h.t.Context(), asks); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harbour) image(repository, tag, content string) indexer.Reference {
	h.t.Helper()
	d, err := h.push.Image(h.t.Context(), repository, tag, push.ImageSpec{Env: []string{"CONTENT=" + content}})
	if err != nil {
		h.t.Fatal(err)
	}
	return indexer.Reference{Repository: repository, Tag: tag, Digest: d.Digest}
}

// step does one step of a worker that reads everything.
func (h *harbour) step() (n int) {
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

// A tag that is asked for while it is being read must be read again: it may have
// moved since.
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
		t.Errorf("while it was being read, somebody else read it too: %d, %v", n, err)
	}
	close(moved)
	<-done
	h.drain()
	if got := h.manifest("demo/app:v1").Digest; got != second.Digest {
		t.Errorf("demo/app:v1 is %s, want %s", got, second.Digest)
	}
	if left := h.asked(); len(left) > 0 {
		t.Errorf("tasks left: %v", left)
	}
}

// Two processes must never read the same reference at the same time, and must
// read all of them, whatever is asked for meanwhile.
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
		time.Sleep(time.Millisecond) // a slow registry, so that two reads would meet
		return false
	})
	first := h.workers
	second := &ingest.Workers{
		Store: postgres.New(h.pool), Remote: h.remote, Log: first.Log, Metrics: first.Metrics, MaxMeta: first.MaxMeta, Events: 2, Scans: 2,
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = first.Run(ctx) })
	running.Go(func() { _ = second.Run(ctx) })
	for range 5 {
		h.ask("demo/app", names...)
	}
	eventually(t, "all is read", func() bool { return len(h.asked()) == 0 })
	stop()
	running.Wait()
	if n := twice.Load(); n > 0 {
		t.Errorf("%d times a tag was read by two at once", n)
	}
	h.equal()
}

// A task whose reader died is read by another when the lease has ended.
func TestLeaseEnds(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	image := h.image("demo/app", "v1", "x")
	h.ask("demo/app", "v1")
	tasks, err := h.store.Claim(t.Context(), indexer.PriorityConfirm, 1, 100*time.Millisecond)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("claimed %v, %v", tasks, err)
	}
	eventually(t, "somebody else reads it", func() bool { return h.step() == 1 })
	if got := h.manifest("demo/app:v1").Digest; got != image.Digest {
		t.Errorf("demo/app:v1 is %s, want %s", got, image.Digest)
	}
}

// A reference that cannot be read is tried again later and later, then given
// up, and shown with the reason. Who asks for it again begins anew.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	image := h.image("demo/app", "v1", "x")
	var broken atomic.Bool
	broken.Store(true)
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		return broken.Load() && strings.Contains(r.URL.Path, "/manifests/") && fail(w, http.StatusInternalServerError)
	})
	h.workers.Retry = time.Hour // the test says when it is time
	h.ask("demo/app", "v1", image.Digest.String())
	const state = `SELECT format('%s attempts, due in %s s, given up %s', attempts, round(extract(epoch FROM run_after - now()), -1), given_up_at IS NOT NULL)
		FROM task WHERE reference = 'v1'`
	for attempt := 1; attempt <= 6; attempt++ {
		h.exec("UPDATE task SET run_after = now()")
		if n := h.step(); n != 2 {
			t.Fatalf("attempt %d: %d tasks, want 2", attempt, n)
		}
		want := fmt.Sprintf("%d attempts, due in 30 s, given up f", attempt) // an hour, bounded by 30 s
		if attempt == 6 {
			want = "6 attempts, due in 0 s, given up t"
		}
		if got := strings.ReplaceAll(h.column(state)[0], "-0", "0"); got != want {
			t.Errorf("after attempt %d: %s; want %s", attempt, got, want)
		}
	}
	var status indexer.Status
	h.view(func(v *postgres.View) (err error) {
		status, err = v.Status(t.Context())
		return err
	})
	if status.GivenUp != 2 || len(status.Failures) != 2 || status.TasksDue != 0 {
		t.Fatalf("status: %d given up, %d failures, %d due; want 2, 2, 0", status.GivenUp, len(status.Failures), status.TasksDue)
	}
	for _, f := range status.Failures {
		if f.Attempts != 6 || !f.GivenUp || !strings.Contains(f.Error, "500") {
			t.Errorf("failure %+v", f)
		}
	}
	if n := h.step(); n > 0 {
		t.Errorf("%d tasks that were given up are read again", n)
	}
	broken.Store(false)
	h.ask("demo/app", "v1", image.Digest.String())
	h.drain()
	if left := h.asked(); len(left) > 0 || h.tag("demo/app", "v1").Problem != "" {
		t.Errorf("asked for anew: tasks left %v, tag %+v", left, h.tag("demo/app", "v1"))
	}
	h.equal()
}

// While the registry is away nothing is given up, however long it takes.
func TestRegistryAway(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody, Root: t.TempDir()})
	h.workers.Retry = time.Millisecond
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
		t.Errorf("after 20 steps with the registry away: %v", got)
	}
	h.registry.Restart()
	h.exec("UPDATE task SET run_after = now()")
	h.drain()
	h.equal()
	if got := h.asked(); len(got) > 0 {
		t.Errorf("tasks left: %v", got)
	}
}

// A worker that is stopped gives its tasks back at once, untried.
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
		t.Fatalf("%d tasks are due after the worker was stopped, %v; want 3", len(tasks), err)
	}
	for _, task := range tasks {
		if task.Attempts != 1 {
			t.Errorf("%s: attempt %d, want the first", task.Reference, task.Attempts)
		}
	}
}

// A reference for which the registry drops the connection must not keep those
// behind it from being read.
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
	if got := h.asked(); !cmp.Equal(got, []string{"demo/app a"}) {
		t.Errorf("tasks left: %v, want demo/app a", got)
	}
}

// A finding that the database refuses hides no other of its batch, and keeps
// none from being tried again.
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
	if _, err := h.workers.Step(t.Context(), indexer.PriorityConfirm, 32); err == nil {
		t.Error("the step tells of no error")
	}
	const q = "SELECT format('%s leased %s, error %s', reference, leased_until IS NOT NULL, error IS NOT NULL) FROM task ORDER BY 1"
	if diff := cmp.Diff([]string{"poison leased f, error t", "unread leased f, error t"}, h.column(q)); diff != "" {
		t.Errorf("tasks left (-want +got):\n%s", diff)
	}
	h.tag("demo/app", "good")
}

// What is asked for while a read fails is due at once: it may be another push.
func TestAskedWhileFailing(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.workers.Retry = time.Hour
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

// A batch of tags that have all moved on since their events must be waited for
// once, not once for each: the last would be minutes late.
func TestStaleHintsAreWaitedForTogether(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	const tags, patience = 16, 500 * time.Millisecond
	h.workers.TagPatience = patience
	var asks []indexer.Ask
	for i := range tags {
		asks = append(asks, indexer.Ask{Repository: "demo/app", Reference: fmt.Sprintf("v%d", i), Hint: digest.FromString("moved on")})
	}
	if err := h.store.Ask(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if n, err := h.workers.Step(t.Context(), indexer.PriorityConfirm, tags); err != nil || n != tags {
		t.Fatalf("read %d tasks, %v", n, err)
	}
	if took := time.Since(begin); took > tags*patience/2 {
		t.Errorf("%d tags took %v, each is given %v", tags, took, patience)
	}
}

package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// listed returns the repository of a request for a list of tags, or "" for any other
// request.
func listed(r *http.Request) string {
	name, found := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v2/"), "/tags/list")
	if !found {
		return ""
	}
	return name
}

// A scan that was stopped must continue where it was, and must not compare repositories
// before its cursor again.
func TestScanResumes(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody, Configure: func(c *configuration.Configuration) { c.Catalog.MaxEntries = 20 }})
	const repositories = 30
	for i := range repositories {
		h.image(fmt.Sprintf("fleet/ship%02d", i), "v1", "x")
	}
	ctx, stop := context.WithCancel(t.Context())
	// While the second page of the catalogue is requested, the repositories are
	// compared one after the other.
	h.parallelism = 1
	again := make(chan bool)
	var mu sync.Mutex
	looks := map[string]int{}
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("last") {
			select {
			case <-again:
			case <-r.Context().Done():
			}
		}
		name := listed(r)
		if name == "" {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		looks[name]++
		if len(looks) == repositories/2 {
			stop()
		}
		return false
	})
	if err := h.store.RequestScan(t.Context(), "command"); err != nil {
		t.Fatal(err)
	}
	if ran, err := h.scanner.Run(ctx); err == nil || !ran {
		t.Fatalf("stopped scan: got ran %v, error %v", ran, err)
	}
	cursor := h.column("SELECT cursor FROM scan WHERE finished_at IS NULL AND started_at IS NOT NULL")
	if !cmp.Equal(cursor, []string{"fleet/ship13"}) {
		t.Fatalf("stopped scan: got cursor %v, want fleet/ship13", cursor)
	}
	close(again)
	first := looks
	looks = map[string]int{}
	if ran, err := h.scanner.Run(t.Context()); err != nil || !ran {
		t.Fatalf("continued scan: got ran %v, error %v", ran, err)
	}
	for i := range repositories {
		name := fmt.Sprintf("fleet/ship%02d", i)
		if name <= cursor[0] && looks[name] > 0 {
			t.Errorf("%s was compared before the scan was stopped at %s, and again afterwards", name, cursor[0])
		}
		if first[name]+looks[name] == 0 {
			t.Errorf("%s was never compared", name)
		}
	}
	if got := h.column("SELECT (finished_at IS NOT NULL)::text FROM scan"); !cmp.Equal(got, []string{"true"}) {
		t.Errorf("got finished scans %v, want one", got)
	}
	h.drain()
	h.equal()
}

// A scan that another process takes over must count each repository once. That includes
// repositories that were compared early, whose names sort differently than in the
// catalogue, or that the catalogue does not list.
func TestScanTakenOverCounts(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	const of = 24
	for i := range of / 4 {
		for _, name := range []string{"fleet%d", "fleet%d/a", "fleet%d-b", "fleet%d/a/0"} { // the catalogue lists fleet0/a/0 first
			h.image(fmt.Sprintf(name, i), "v1", "x")
		}
	}
	h.exec("INSERT INTO repository (name) VALUES ('a/forgotten'), ('z/forgotten')")
	var stop context.CancelFunc
	var looks atomic.Int32
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if name := listed(r); name == "" || strings.HasSuffix(name, "forgotten") {
			return false
		}
		if n := looks.Add(1); n%9 == 0 && n < 30 {
			stop()
		}
		return false
	})
	if err := h.store.RequestScan(t.Context(), "command"); err != nil {
		t.Fatal(err)
	}
	runs := 0
	for ran, err := true, error(nil); runs == 0 || err != nil; runs++ {
		ctx, cancel := context.WithCancel(t.Context())
		stop = cancel
		if ran, err = h.scanner.Run(ctx); !ran || runs > 10 {
			t.Fatalf("run %d: ran %v, %v", runs, ran, err)
		}
		cancel()
	}
	if runs < 2 {
		t.Fatal("the scan was never taken over")
	}
	want := fmt.Sprintf("%d of %d repositories, %d tags, %d changed, 0 errors", of+2, of, of, of)
	const q = "SELECT format('%s of %s repositories, %s tags, %s changed, %s errors', repositories, listed, tags, changed, errors) FROM scan"
	if got := h.column(q); !cmp.Equal(got, []string{want}) {
		t.Errorf("after %d runs: %v, want %s", runs, got, want)
	}
	h.drain()
	h.equal()
}

// A repository that cannot be compared must be counted as an error, and must not hide
// others.
func TestScanOfFailingRepository(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		fail func(w http.ResponseWriter)
	}{
		{"500", func(w http.ResponseWriter) { fail(w, http.StatusInternalServerError) }},
		{"503", func(w http.ResponseWriter) { fail(w, http.StatusServiceUnavailable) }},
		{"401", func(w http.ResponseWriter) { fail(w, http.StatusUnauthorized) }},
		{"not JSON", func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }},
		{"drops the connection", func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := open(t, registrytest.Config{Notify: nobody})
			for i := range 12 {
				h.image(fmt.Sprintf("fleet/ship%02d", i), "v1", "x")
			}
			h.through(func(w http.ResponseWriter, r *http.Request) bool {
				bad := listed(r) == "fleet/ship03" || listed(r) == "fleet/ship04"
				if bad {
					c.fail(w)
				}
				return bad
			})
			h.scan()
			if got := h.column("SELECT errors::text FROM scan WHERE finished_at IS NOT NULL"); !cmp.Equal(got, []string{"2"}) {
				t.Errorf("got errors of finished scans %v, want 2", got)
			}
			if got := h.column("SELECT name FROM repository_search"); len(got) != 10 {
				t.Errorf("got %d repositories in the book, want 10", len(got))
			}
		})
	}
}

// If the registry is unavailable, a scan must end, and continue when the registry
// answers again. It must delete nothing.
func TestScanOfRegistryAway(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	for i := range 20 {
		h.image(fmt.Sprintf("fleet/ship%02d", i), "v1", "x")
	}
	h.scan()
	before := h.version()
	var away, back atomic.Bool
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if listed(r) == "fleet/ship05" {
			away.Store(true)
		}
		return away.Load() && !back.Load() && fail(w, http.StatusBadGateway)
	})
	if err := h.store.RequestScan(t.Context(), "command"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.scanner.Run(t.Context()); err == nil {
		t.Error("a scan of an unavailable registry returned no error")
	}
	if got := h.column("SELECT cursor FROM scan WHERE finished_at IS NULL"); len(got) != 1 || got[0] > "fleet/ship05" {
		t.Errorf("got cursor %v, want one before fleet/ship05", got)
	}
	if after := h.version(); after != before || len(h.tasks()) > 0 {
		t.Errorf("got version %v after %v, tasks %v", after, before, h.tasks())
	}
	problem := func() (why string) {
		h.view(func(v *postgres.View) error {
			s, err := v.Status(t.Context())
			if s.Running != nil {
				why = s.Running.Problem
			}
			return err
		})
		return why
	}
	if why := problem(); !strings.Contains(why, "502") {
		t.Errorf("got status %q, want the registry's 502", why)
	}
	back.Store(true)
	if _, err := h.scanner.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why := h.column("SELECT error FROM scan WHERE error IS NOT NULL"); problem() != "" || len(why) > 0 {
		t.Errorf("after the scan has finished: got status %q, table %v", problem(), why)
	}
}

// If events are lost, the next scan must find the changes: deleted tags and manifests,
// moved tags, and new content.
func TestScanFindsMissedEvents(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	ctx := t.Context()
	moved := h.image("demo/app", "moved", "1")
	deleted := h.image("demo/app", "deleted", "2")
	byDigest := h.image("demo/app", "one", "3")
	h.image("demo/app", "other", "3")
	h.image("demo/gone", "v1", "4")
	untagged := h.image("demo/app", "", "5")
	h.ask("demo/app", untagged.Digest.String())
	h.scan()
	h.equal()

	again := h.image("demo/app", "moved", "6")
	for _, ref := range []indexer.Reference{{Repository: "demo/app", Tag: "deleted"}, {Repository: "demo/gone", Tag: "v1"}} {
		if err := h.push.Delete(ctx, ref.Repository, ref.Tag); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []digest.Digest{byDigest.Digest, untagged.Digest} {
		if err := h.push.Delete(ctx, "demo/app", d.String()); err != nil {
			t.Fatal(err)
		}
	}
	h.image("demo/new", "v1", "7")
	h.scan()
	h.equal()
	if got := h.column("SELECT name FROM tag ORDER BY 1"); !cmp.Equal(got, []string{"moved", "v1"}) {
		t.Errorf("got tags %v in the book", got)
	}
	if got := h.search("gone"); len(got) > 0 {
		t.Errorf("search for a repository without tags: got %v, want nothing", got)
	}
	const history = `SELECT concat_ws(' ', repository, tag, COALESCE(left(encode(from_digest, 'hex'), 8), 'nothing'),
		COALESCE(left(encode(to_digest, 'hex'), 8), 'nothing'), seen_by) FROM tag_history WHERE tag IN ('moved', 'deleted') ORDER BY tag, id`
	short := func(r indexer.Reference) string { return r.Digest.Encoded()[:8] }
	want := []string{
		"demo/app deleted nothing " + short(deleted) + " scan",
		"demo/app deleted " + short(deleted) + " nothing scan",
		"demo/app moved nothing " + short(moved) + " scan",
		"demo/app moved " + short(moved) + " " + short(again) + " scan",
	}
	if diff := cmp.Diff(want, h.column(history)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// The history must say that moves found because of events were seen by an event.
func TestHistoryByEvents(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{})
	h.work()
	first := h.image("demo/app", "v1", "1")
	eventually(t, "the tag is in the book", func() bool { return len(h.column("SELECT name FROM tag")) == 1 })
	second := h.image("demo/app", "v1", "2")
	eventually(t, "the tag moved", func() bool { return len(h.column("SELECT tag FROM tag_history")) == 2 })
	if err := h.push.Delete(t.Context(), "demo/app", "v1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tag is gone", func() bool { return len(h.column("SELECT name FROM tag")) == 0 })
	a, b := first.Digest.Encoded(), second.Digest.Encoded()
	want := []string{" > " + a + " event", a + " > " + b + " event", b + " >  event"}
	const history = `SELECT concat(encode(from_digest, 'hex'), ' > ', encode(to_digest, 'hex'), ' ', seen_by) FROM tag_history ORDER BY id`
	if diff := cmp.Diff(want, h.column(history)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// A tag or repository that is missing from a list must be requested by name before it
// is deleted: it may have been pushed after the scan read the list.
func TestScanAsksBeforeItRemoves(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v2/_catalog", "/v2/demo/app/tags/list"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			h := open(t, registrytest.Config{Notify: nobody})
			h.image("demo/app", "v1", "x")
			h.scan()
			before := h.version()
			h.through(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != path {
					return false
				}
				fmt.Fprint(w, `{"name":"demo/app","tags":[],"repositories":[]}`)
				return true
			})
			h.scan()
			if h.tag("demo/app", "v1").Problem != "" || h.version() != before {
				t.Errorf("got tag %+v, version %v after %v", h.tag("demo/app", "v1"), h.version(), before)
			}
		})
	}
}

// A scan must find a manifest that was pushed after an index that lists it.
func TestScanFindsMissingChild(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody, Configure: lax})
	elsewhere, err := h.push.Image(t.Context(), "demo/elsewhere", "v1", push.ImageSpec{Architecture: "arm64"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.push.Index(t.Context(), "demo/app", "v1", []ocispec.Descriptor{elsewhere}, nil); err != nil {
		t.Fatal(err)
	}
	h.scan()
	h.equal()
	if m := h.manifest("demo/app:v1"); m.Entries[0].Present {
		t.Fatal("the book has the child before its push")
	}
	if _, err := h.push.Image(t.Context(), "demo/app", "", push.ImageSpec{Architecture: "arm64"}); err != nil {
		t.Fatal(err)
	}
	h.scan()
	h.equal()
	if m := h.manifest("demo/app:v1"); !m.Entries[0].Present {
		t.Error("the book lacks the child after a scan")
	}
}

// A registry that restarts loses the events that it has not sent. The first event of
// the new process must request a scan, which must find the changes.
func TestRestartAsksForScan(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Root: t.TempDir()})
	h.work()
	run := func() {
		t.Helper()
		eventually(t, "a scan is requested", func() bool { return len(h.column("SELECT reason FROM scan WHERE finished_at IS NULL")) == 1 })
		if ran, err := h.scanner.Run(t.Context()); err != nil || !ran {
			t.Fatalf("scan: ran %v, %v", ran, err)
		}
	}
	h.image("demo/app", "v1", "1")
	run()
	h.image("demo/app", "v2", "2")
	eventually(t, "the second push is in the book", func() bool { return len(h.column("SELECT name FROM tag")) == 2 })
	if got := h.column("SELECT reason FROM scan WHERE finished_at IS NULL"); len(got) > 0 {
		t.Errorf("an event of a known process requested a scan: %v", got)
	}
	h.receiver.Config.SetKeepAlivesEnabled(false)
	h.registry.Stop()
	h.registry.Restart()
	h.exec("DELETE FROM tag WHERE name = 'v1'") // as if its event had been lost
	h.image("demo/app", "v3", "3")
	run()
	eventually(t, "the scan has found the lost push", func() bool { return len(h.column("SELECT name FROM tag")) == 3 })
	if got := h.column("SELECT DISTINCT reason FROM scan"); !cmp.Equal(got, []string{"instance"}) {
		t.Errorf("got scans requested for %v", got)
	}
	h.equal()
}

// The progress of a scan must be visible while it runs and afterwards.
func TestScanStatus(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.image("demo/app", "v1", "x")
	running, look := make(chan bool), make(chan bool)
	h.through(func(w http.ResponseWriter, r *http.Request) bool {
		if listed(r) != "" {
			running <- true
			<-look
		}
		return false
	})
	status := func() (s indexer.Status) {
		h.view(func(v *postgres.View) (err error) {
			s, err = v.Status(t.Context())
			return err
		})
		return s
	}
	done := make(chan bool)
	go func() { defer close(done); h.scan() }()
	<-running
	if s := status(); s.Running == nil || s.LastScan != nil {
		t.Errorf("during the first scan: got running %v, last %v", s.Running, s.LastScan)
	}
	close(look)
	<-done
	if s := status(); s.Running != nil || s.LastScan == nil || s.LastScan.Tags != 1 || s.LastScan.Changed != 1 || s.LastScan.Repositories != 1 {
		t.Errorf("after the first scan: got running %v, last %+v", s.Running, s.LastScan)
	}
}

// A scan must end even if the book has exactly one or two pages of names, and the
// registry has none of them.
func TestScanOfWholePages(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.exec("INSERT INTO repository (name) SELECT 'fleet/ship' || n FROM generate_series(1, 2000) n")
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := h.store.RequestScan(ctx, "command"); err != nil {
		t.Fatal(err)
	}
	if ran, err := h.scanner.Run(ctx); err != nil || !ran {
		t.Fatalf("ran %v, %v", ran, err)
	}
	if got := h.column("SELECT repositories::text FROM scan"); !cmp.Equal(got, []string{"2000"}) {
		t.Errorf("got %v repositories compared, want 2000", got)
	}
}

package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// changes is the number of pushes, retags and deletions in each of these tests.
const changes = 500

// The indexer is killed at random moments while images are pushed, retagged and
// deleted. At the end the book must equal the registry.
func TestIndexerKilled(t *testing.T) {
	t.Parallel()
	f := launch(t)
	indexer := f.indexer(f.address)
	done := f.change(t.Context(), changes)
	kills := 0
	r := random(t)
	for !pause(done, time.Duration(100+r.IntN(900))*time.Millisecond) {
		indexer.process.Kill()
		kills++
		indexer = f.indexer(f.address)
	}
	t.Logf("killed %d times during %d changes", kills, changes)
	if kills == 0 {
		t.Error("the changes ended before the first kill: nothing was tested")
	}
	f.equal(patience)
	indexer.stop(t)
}

// TestPostgresRestarted is like TestIndexerKilled, but PostgreSQL is restarted,
// sometimes by a crash. The indexer must stay up and answer 503 meanwhile.
func TestPostgresRestarted(t *testing.T) {
	t.Parallel()
	f := launch(t)
	indexer := f.indexer(f.address)
	done := f.change(t.Context(), changes)
	restarts := 0
	for !pause(done, 700*time.Millisecond) {
		if restarts%2 == 0 {
			f.postgres.Kill()
		}
		if err := f.postgres.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		restarts++
	}
	t.Logf("restarted %d times during %d changes", restarts, changes)
	if restarts == 0 {
		t.Error("the changes ended before the first restart: nothing was tested")
	}
	f.equal(patience)
	select {
	case <-indexer.process.Done():
		t.Errorf("the indexer ended: %s\n%s", indexer.process.Outcome(), indexer.process.Tail())
	default:
	}
}

// TestRegistryRestarted is like TestIndexerKilled, but the registry is restarted, and
// loses the events that it has not sent. The next event names a new instance, which
// must cause a scan at once.
func TestRegistryRestarted(t *testing.T) {
	t.Parallel()
	f := launch(t)
	f.indexer(f.address)
	done := f.change(t.Context(), changes)
	restarts := 0
	for !pause(done, 900*time.Millisecond) {
		f.registry.Kill()
		f.registry.Start()
		restarts++
	}
	t.Logf("restarted %d times during %d changes", restarts, changes)
	if restarts == 0 {
		t.Error("the changes ended before the first restart: nothing was tested")
	}
	if _, err := f.registry.Push.Image(t.Context(), "last/word", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	f.equal(patience)
	if n := f.query(f.pool(), "SELECT count(*) FROM scan WHERE reason = 'instance'"); n == 0 {
		t.Error("no new instance of the registry caused a scan")
	}
}

// If the registry loses events, the changes must be found by the scan that the first
// event of the new instance causes, and not only by the next periodic scan.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	f := launch(t)
	indexer := f.indexer(f.address)
	ctx := t.Context()
	if _, err := f.registry.Push.Image(ctx, "kept/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	f.equal(30 * time.Second)
	indexer.process.Kill() // the registry queues the events, and loses them when it ends
	if _, err := f.registry.Push.Image(ctx, "lost/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	if err := f.registry.Push.Delete(ctx, "kept/app", "v1"); err != nil {
		t.Fatal(err)
	}
	f.registry.Kill()
	indexer = f.indexer(f.address) // its first scan gets no answer from the registry
	f.registry.Start()
	f.equal(patience)
	indexer.stop(t)
}

// takeover is the maximum time until another process leads after the leader was killed.
// They try each second; the rest is for a busy machine.
const takeover = 5 * time.Second

// three starts three indexers on one database and returns them, the leader first.
func (f *fleet) three(settings ...string) []*indexerProcess {
	f.t.Helper()
	all := []*indexerProcess{f.start(f.address, settings...)}
	for range 2 {
		all = append(all, f.start(registrytest.FreeAddr(f.t), settings...))
	}
	for _, i := range all {
		i.ready(f.t)
	}
	f.leaderFirst(all)
	return all
}

// leaderFirst waits until exactly one of them leads, and moves it to the front.
func (f *fleet) leaderFirst(all []*indexerProcess) {
	f.t.Helper()
	within(f.t, takeover, "exactly one indexer leads", func() bool {
		leaders := 0
		for n, i := range all {
			if i.leads() {
				all[0], all[n] = all[n], all[0]
				leaders++
			}
		}
		return leaders == 1
	})
}

// Of three indexers on one database, the leader is killed during a scan, and then the
// next leader during the same scan. The last one must take over the scan and finish it.
// No work may be done twice.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	f := launch(t)
	ctx := t.Context()
	const tags = 300
	for i := range tags {
		if _, err := f.registry.Push.Image(ctx, fmt.Sprintf("fleet/ship-%d", i), "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	pool := f.pool()
	all := f.three("PORTBOOK_SCAN_PARALLELISM=1")
	// All requested a scan when they started; another one begins soon.
	if _, err := pool.Exec(ctx, "INSERT INTO scan (reason) VALUES ('command') ON CONFLICT DO NOTHING"); err != nil {
		t.Fatal(err)
	}
	const running = "SELECT count(*) FROM scan WHERE started_at IS NOT NULL AND finished_at IS NULL"
	for len(all) > 1 {
		within(t, patience, "a scan is running", func() bool { return f.query(pool, running) > 0 })
		all[0].process.Kill()
		killed := time.Now()
		all = all[1:]
		f.leaderFirst(all)
		t.Logf("another led %v after the kill", time.Since(killed).Round(time.Millisecond))
		if n := f.query(pool, "SELECT count(*) FROM scan WHERE started_at IS NOT NULL AND finished_at IS NULL"); n > 1 {
			t.Errorf("%d scans are running at the same time", n)
		}
		if len(all) == 2 { // the first leader may have finished its scan
			if _, err := pool.Exec(ctx, "INSERT INTO scan (reason) VALUES ('command') ON CONFLICT DO NOTHING"); err != nil {
				t.Fatal(err)
			}
		}
	}
	within(t, patience, "all scans are finished", func() bool {
		return f.query(pool, "SELECT count(*) FROM scan WHERE finished_at IS NULL") == 0
	})
	f.equal(patience)
	if n := f.query(pool, "SELECT count(*) FROM tag_history"); n != tags {
		t.Errorf("got %d moves of %d tags that were pushed once: work was lost or done twice", n, tags)
	}
	// A request while a scan is waiting adds no other scan.
	if n := f.query(pool, "SELECT count(*) FROM scan"); n > 5 {
		t.Errorf("got %d scans, want at most the 5 that were requested", n)
	}
	const short = "SELECT COALESCE(string_agg(format('%s compared %s, error %s', reason, repositories, error), '; '), '') FROM scan WHERE error IS NOT NULL OR repositories <> $1"
	var which string
	if err := pool.QueryRow(ctx, short, tags).Scan(&which); err != nil || which != "" {
		t.Errorf("not every scan compared all %d repositories once: %s %v", tags, which, err)
	}
}

// The leader of three indexers is killed while it tidies. Another one must tidy, and
// delete only rows that nothing refers to.
func TestLeaderKilledTidying(t *testing.T) {
	t.Parallel()
	f := launch(t)
	ctx := t.Context()
	if _, err := f.registry.Push.Image(ctx, "fleet/kept", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.registry.Push.Image(ctx, "fleet/gone", "v1", push.ImageSpec{Labels: map[string]string{"other": "config"}}); err != nil {
		t.Fatal(err)
	}
	all := f.three("PORTBOOK_INTERVAL_GARBAGE_COLLECT=500ms")
	f.equal(30 * time.Second)
	pool := f.pool()
	// Transactions that add references to blobs hold this lock. Here it blocks the
	// leader in the middle of tidying.
	const tidyLock = 0x706f7274_74696479
	holder, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Release()
	if _, err := holder.Exec(ctx, "SELECT pg_advisory_lock_shared($1)", int64(tidyLock)); err != nil {
		t.Fatal(err)
	}
	const unused = "INSERT INTO blob (digest, size) SELECT sha256(g::text::bytea), 1 FROM generate_series(1, 50) g"
	if _, err := pool.Exec(ctx, unused); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "the leader tidies", func() bool {
		return f.query(pool, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'") > 0
	})
	killed := all[0]
	killed.process.Kill()
	f.leaderFirst(all[1:])
	if killed.address == f.address { // the registry sends its events there
		f.indexer(f.address)
	}
	if err := f.registry.Push.Delete(ctx, "fleet/gone", "v1"); err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(ctx, "SELECT pg_advisory_unlock_shared($1)", int64(tidyLock)); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "the unused blobs are gone", func() bool {
		return f.query(pool, "SELECT count(*) FROM blob WHERE size = 1 AND digest IN (SELECT sha256(g::text::bytea) FROM generate_series(1, 50) g)") == 0
	})
	if n := f.query(pool, "SELECT count(*) FROM manifest m WHERE NOT EXISTS (SELECT FROM blob b WHERE b.id = m.config_id)"); n > 0 {
		t.Errorf("%d manifests lost their config", n)
	}
	f.equal(patience)
}

// While the database is unavailable, no process may crash: the public address must
// answer 503, and the registry must keep its events. Afterwards all must work again
// without help.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	f := launch(t)
	ctx := t.Context()
	f.postgres.Stop()
	indexer := f.start(f.address)
	reader := f.start(registrytest.FreeAddr(t), "PORTBOOK_ROLE=reader", "PORTBOOK_EVENTS_TOKEN=")
	away := func(when string) {
		t.Helper()
		for _, i := range []*indexerProcess{indexer, reader} {
			within(t, patience, when+": not ready", func() bool {
				i.alive(t)
				return status("http://"+i.address+"/readiness") == http.StatusServiceUnavailable
			})
			for _, url := range []string{"http://" + i.address + "/readiness", "http://" + i.operations + "/readiness"} {
				if got := body(url); got != `{"error":"service not ready"}`+"\n" {
					t.Errorf("%s: %s: got %q", when, url, got)
				}
			}
			if got := status("http://" + i.address + "/health"); got != http.StatusOK {
				t.Errorf("%s: /health: got status %d", when, got)
			}
			unavailable(t, when, http.MethodGet, "http://"+i.address+"/v1/search?q=ship")
			unavailable(t, when, http.MethodGet, "http://"+i.address+"/")
		}
		unavailable(t, when, http.MethodPost, "http://"+indexer.address+"/events")
	}
	away("at the start")
	if err := f.postgres.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	indexer.ready(t)
	reader.ready(t)
	f.postgres.Stop()
	away("later")
	if _, err := f.registry.Push.Image(ctx, "ship/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	if err := f.postgres.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	// The registry sends again after a second (config/filesystem.yml); the next scan is
	// due in hours.
	within(t, 5*time.Second, "the book has the tag", func() bool {
		return strings.Contains(body("http://"+reader.address+"/v1/search?q=ship"), "ship/app")
	})
	t.Logf("the book had the tag %v after the database was available", time.Since(start).Round(time.Millisecond))
	f.equal(30 * time.Second)
	indexer.stop(t)
	reader.stop(t)
}

// unavailable fails the test unless a request is answered 503 with Retry-After.
func unavailable(t *testing.T, when, method, url string) {
	t.Helper()
	const event = `{"events":[{"id":"1","action":"push","target":{"repository":"ship/app","tag":"v1","mediaType":"application/vnd.oci.image.manifest.v1+json"}}]}`
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(r)
	if err != nil {
		t.Errorf("%s: %v", when, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s: %s %s: got status %d, Retry-After %q, want 503 and a time", when, method, url, resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

// A reader that starts before the schema exists must wait for it. A reader must refuse
// a schema that it does not know.
func TestReaderAwaitsSchema(t *testing.T) {
	t.Parallel()
	f := launch(t)
	settings := []string{"PORTBOOK_ROLE=reader", "PORTBOOK_EVENTS_TOKEN="}
	reader := f.start(registrytest.FreeAddr(t), settings...)
	within(t, patience, "the reader waits", func() bool {
		reader.alive(t)
		return strings.Contains(reader.process.Tail(), "waiting for the database")
	})
	unavailable(t, "without a schema", http.MethodGet, "http://"+reader.address+"/v1/search?q=ship")
	if out, err := f.run("migrate", "up", "--yes"); err != nil {
		t.Fatal(err, out)
	}
	reader.ready(t)
	if got := status("http://" + reader.address + "/v1/search?q=ship"); got != http.StatusOK {
		t.Errorf("search with a schema: got status %d", got)
	}
	if _, err := f.pool().Exec(t.Context(), "INSERT INTO schema_migrations (version_id, is_applied) VALUES (99999, true)"); err != nil {
		t.Fatal(err)
	}
	late := f.start(registrytest.FreeAddr(t), settings...)
	select {
	case <-late.process.Done():
	case <-time.After(patience):
		t.Fatal("a reader serves an unknown schema")
	}
	if tail := late.process.Tail(); late.process.Outcome() != "exit status 1" || !strings.Contains(tail, "99999") || !strings.Contains(tail, "knows versions up to") {
		t.Errorf("got %s and %s, want exit status 1 and both versions", late.process.Outcome(), tail)
	}
	reader.alive(t)
}

// change makes n pushes, retags and deletions in the background, fewer if the context
// ends before, and closes the channel when it is done. It does not retry changes that
// fail.
func (f *fleet) change(ctx context.Context, n int) <-chan struct{} {
	done := make(chan struct{})
	var work sync.WaitGroup
	const hands = 4
	for hand := range hands {
		r := random(f.t)
		work.Go(func() {
			var pushed []pushedImage
			for i := 0; i < n/hands && ctx.Err() == nil; i++ {
				pushed = f.changeOnce(f.t.Context(), r, hand, i, pushed)
			}
		})
	}
	go func() { work.Wait(); close(done) }()
	return done
}

type pushedImage struct {
	repository string
	spec       push.ImageSpec
	desc       ocispec.Descriptor
}

// changeOnce pushes a new image, or tags, deletes or untags an earlier one.
func (f *fleet) changeOnce(ctx context.Context, r *rand.Rand, hand, i int, pushed []pushedImage) []pushedImage {
	repository := fmt.Sprintf("fleet/ship-%d", r.IntN(8))
	tag := fmt.Sprintf("t%d", r.IntN(6))
	if len(pushed) == 0 || r.IntN(10) < 6 {
		spec := push.ImageSpec{Labels: map[string]string{"change": fmt.Sprintf("%d-%d", hand, i)}}
		desc, err := f.registry.Push.Image(ctx, repository, tag, spec)
		if err != nil {
			return pushed
		}
		return append(pushed, pushedImage{repository, spec, desc})
	}
	earlier := pushed[r.IntN(len(pushed))]
	switch r.IntN(5) {
	case 0: // deletes the manifest, with all its tags
		_ = f.registry.Push.Delete(ctx, earlier.repository, earlier.desc.Digest.String())
	case 1, 2: // deletes a tag, which may not exist
		_ = f.registry.Push.Delete(ctx, earlier.repository, tag)
	default: // pushes the same image with another tag
		_, _ = f.registry.Push.Image(ctx, earlier.repository, tag, earlier.spec)
	}
	return pushed
}

// random returns random numbers with a seed that is logged, to repeat a failure.
func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// pause waits for d. It returns true at once if done is closed.
func pause(done <-chan struct{}, d time.Duration) bool {
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

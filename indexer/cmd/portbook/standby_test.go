package main_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/schema/localpg"
)

// A serverLog keeps what a server logs. It is safe for concurrent use.
type serverLog struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *serverLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// answers requests a URL repeatedly until the context ends, and counts the answers by
// status. A 503 without Retry-After counts as 1, and no answer as 0.
func answers(ctx context.Context, url string) map[int]int {
	counts := map[int]int{}
	for ctx.Err() == nil {
		resp, err := client.Get(url)
		code := 0
		if err == nil {
			resp.Body.Close()
			code = resp.StatusCode
			if code == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
				code = 1
			}
		}
		counts[code]++
		time.Sleep(5 * time.Millisecond)
	}
	return counts
}

// The primary dies while images are pushed, retagged and deleted, and its standby is
// promoted. The writer must find the new primary without help, and get the events of that
// time. The reader must answer all the time, and no process may try to write to the
// standby.
func TestPromotion(t *testing.T) {
	t.Parallel()
	f := launch(t)
	log := &serverLog{}
	standby := f.standby(localpg.Config{Log: log})
	writer := f.indexer(f.address)
	reader := f.reader(standby)
	asking, stop := context.WithCancel(t.Context())
	defer stop()
	asked := make(chan map[int]int)
	go func() { asked <- answers(asking, "http://"+reader.address+"/v1/search?q=ship") }()
	changing, enough := context.WithCancel(t.Context())
	defer enough()
	done := f.change(changing, math.MaxInt)
	time.Sleep(time.Second)
	f.postgres.Kill()
	time.Sleep(500 * time.Millisecond) // without a database
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	within(t, patience, "the writer is ready", func() bool { return status("http://"+writer.operations+"/readyz") == http.StatusOK })
	t.Logf("the writer was ready %v after the promotion", time.Since(promoted).Round(time.Millisecond))
	enough()
	<-done
	if _, err := f.registry.Push.Image(t.Context(), "last/word", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	f.equal(patience)
	stop()
	counts := <-asked
	t.Logf("the reader answered %v", counts)
	for code := range counts {
		if code != http.StatusOK && code != http.StatusServiceUnavailable {
			t.Errorf("got status %d (0: no answer, 1: 503 without Retry-After) %d times", code, counts[code])
		}
	}
	if counts[http.StatusOK] == 0 {
		t.Error("the reader never answered")
	}
	text := log.String()
	for _, attempt := range []string{"cannot execute", "read-only transaction", "during recovery"} {
		if strings.Contains(text, attempt) {
			t.Errorf("got %q in the log of the standby: a process tried to write to it\n%s", attempt, text)
		}
	}
	if !strings.Contains(text, "promote") {
		t.Errorf("the log of the standby lacks its promotion: nothing was tested\n%s", text)
	}
	pool := f.poolOf(standby)
	within(t, patience, "the scan after the failover is finished", func() bool {
		return f.query(pool, "SELECT count(*) FROM scan WHERE reason = 'failover' AND finished_at IS NOT NULL") == 1
	})
	writer.alive(t)
	reader.alive(t)
}

// The promoted standby lacks transactions that the writer had committed and shown. A
// cache that revalidates such an answer must get a new one, and the lost changes must
// be found again, although no event is sent twice.
func TestFailoverLosesCommits(t *testing.T) {
	t.Parallel()
	f := launch(t)
	ctx := t.Context()
	standby := f.standby(localpg.Config{})
	writer := f.indexer(f.address)
	image := func(repository string) {
		t.Helper()
		if _, err := f.registry.Push.Image(ctx, repository, "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	search := "http://" + writer.address + "/v1/search?q=ship"
	image("ship/kept")
	f.equal(20 * time.Second)
	if err := f.postgres.WaitReplayed(ctx, standby); err != nil {
		t.Fatal(err)
	}
	if err := standby.Disconnect(ctx); err != nil {
		t.Fatal(err)
	}
	image("ship/lost")
	image("ship/gone")
	f.equal(20 * time.Second)
	_, first, _ := conditional(t, search, "")
	if code, _, _ := conditional(t, search, first); code != http.StatusNotModified {
		t.Fatalf("request with the current ETag: got status %d, want 304: nothing would be tested", code)
	}
	f.postgres.Kill()
	if err := f.registry.Push.Delete(ctx, "ship/gone", "v1"); err != nil {
		t.Fatal(err)
	}
	image("ship/other")
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	f.equal(patience)
	code, etag, answer := conditional(t, search, first)
	if code != http.StatusOK || strings.Contains(answer, "ship/gone") || !strings.Contains(answer, "ship/lost") {
		t.Errorf("request with the ETag of the lost state: got %d, %s, want 200 without ship/gone and with ship/lost", code, answer)
	}
	if epoch(first) == epoch(etag) {
		t.Errorf("got ETag %s after %s, want another epoch, since the numbers repeat", etag, first)
	}
}

func epoch(etag string) string {
	e, _, _ := strings.Cut(etag, ".")
	return e
}

// conditional sends a request for a URL with If-None-Match and a known ETag.
func conditional(t *testing.T, url, known string) (code int, etag, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("If-None-Match", known)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("ETag"), b.String()
}

// A reader on a standby must report its lag, and must not be ready if the lag is larger
// than the configured limit.
func TestStandbyLag(t *testing.T) {
	t.Parallel()
	f := launch(t)
	ctx := t.Context()
	standby := f.standby(localpg.Config{})
	writer := f.indexer(f.address)
	reader := f.reader(standby, "PORTBOOK_DATABASE_MAX_LAG=1s")
	unchecked := f.reader(standby)
	if got := writer.metric("portbook_database_standby"); got != "0" {
		t.Errorf("got portbook_database_standby of the writer: %q", got)
	}
	if standbys, lag := reader.metric("portbook_database_standby"), reader.lag(t); standbys != "1" || lag > 1 {
		t.Errorf("got portbook_database_standby %s, lag %v, want 1 and almost none", standbys, lag)
	}
	if err := standby.PauseReplay(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := f.registry.Push.Image(ctx, "ship/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "the reader is not ready", func() bool { return status("http://"+reader.address+"/readiness") == http.StatusServiceUnavailable })
	if text := body("http://" + reader.operations + "/readyz"); !strings.Contains(text, "database.max_lag is 1s") {
		t.Errorf("/readyz: got %q, want the reason", text)
	}
	if lag := reader.lag(t); lag < 1 {
		t.Errorf("got lag %v, but the reader is not ready", lag)
	}
	if got := status("http://" + reader.address + "/v1/search?q=ship"); got != http.StatusOK {
		t.Errorf("search on a lagging standby: got status %d, want 200", got)
	}
	if got := status("http://" + unchecked.operations + "/readyz"); got != http.StatusOK {
		t.Errorf("without database.max_lag: got status %d, want 200", got)
	}
	if err := standby.ResumeReplay(ctx); err != nil {
		t.Fatal(err)
	}
	reader.ready(t)
	within(t, patience, "the reader finds the image", func() bool { return strings.Contains(body("http://"+reader.address+"/v1/search?q=ship"), "ship/app") })
}

func (i *indexerProcess) lag(t *testing.T) float64 {
	t.Helper()
	seconds, err := strconv.ParseFloat(i.metric("portbook_database_lag_seconds"), 64)
	if err != nil {
		t.Errorf("portbook_database_lag_seconds: %v", err)
	}
	return seconds
}

// A standby cancels queries that conflict with replay. Clients of a reader must not
// notice it.
func TestReplayConflicts(t *testing.T) {
	t.Parallel()
	f := launch(t)
	ctx := t.Context()
	standby := f.standby(localpg.Config{Settings: map[string]string{"max_standby_streaming_delay": "0"}})
	f.indexer(f.address)
	reader := f.reader(standby)
	for i := range 40 {
		if _, err := f.registry.Push.Image(ctx, fmt.Sprintf("ship/app-%d", i), "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	f.equal(30 * time.Second)
	asking, stop := context.WithCancel(ctx)
	defer stop()
	const clients = 8
	asked := make(chan map[int]int)
	for i := range clients {
		path := []string{"/r/ship/app-1:v1", "/v1/search?q=ship", "/"}[i%3] // the first one reads manifests each time
		go func() { asked <- answers(asking, "http://"+reader.address+path) }()
	}
	primary, pool := f.pool(), f.poolOf(standby)
	const conflicts = "SELECT sum(confl_snapshot + confl_lock + confl_bufferpin + confl_deadlock) FROM pg_stat_database_conflicts"
	disturb := []string{
		"UPDATE repository_search SET title = title", "VACUUM repository_search",
		"ALTER TABLE manifest ADD COLUMN more int", "ALTER TABLE manifest DROP COLUMN more",
	}
	for i := 0; f.query(pool, conflicts) == 0; i++ {
		if i == 80 {
			t.Fatal("80 changes have cancelled no query")
		}
		if _, err := primary.Exec(ctx, disturb[i%len(disturb)]); err != nil {
			t.Fatal(err)
		}
		// Not all at once: a view is tried three times within about 60 ms.
		time.Sleep(250 * time.Millisecond)
	}
	stop()
	for range clients {
		counts := <-asked
		t.Logf("answers: %v", counts)
		if len(counts) != 1 || counts[http.StatusOK] == 0 {
			t.Errorf("got answers by status %v, want only 200", counts)
		}
	}
}

package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// A testReceiver is a receiver without a book. It keeps the events for the test.
type testReceiver struct {
	*ingest.Receiver
	url string
	log lineLog

	mu     sync.Mutex
	err    error // what Receive returns
	events []indexer.Event
	woken  int
}

func openReceiver(t *testing.T, change ...func(*ingest.ReceiverConfig)) *testReceiver {
	h := &testReceiver{}
	c := ingest.ReceiverConfig{
		Token: token, Receive: h.receive, Wake: func() { h.woken++ },
		Log: slog.New(slog.NewTextHandler(&h.log, nil)), Metrics: ingest.NewMetrics(prometheus.NewRegistry()),
	}
	for _, f := range change {
		f(&c)
	}
	h.Receiver = ingest.NewReceiver(c)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

func (h *testReceiver) receive(_ context.Context, events []indexer.Event) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return 0, h.err
	}
	h.events = append(h.events, events...)
	return len(events), nil
}

// A lineLog counts lines. It is safe for concurrent use.
type lineLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lineLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lineLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lineLog) lines() int { return strings.Count(l.String(), "\n") }

// post sends a body to a receiver and returns the answer. It has read the answer's
// body.
func post(t *testing.T, method, url, authorization string, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "none" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

// pushed returns the event of a push by tag.
func pushed(id, repository, tag string) string {
	return fmt.Sprintf(`{"id":%s,"timestamp":"2026-11-21T00:09:22.190409818Z","action":"push","target":{
		"mediaType":"application/vnd.oci.image.manifest.v1+json","repository":%s,"tag":%s,
		"digest":"sha256:1ab7e44a942419ee6186b26841b9167e51c6959b59aa58928a19fa7f525c5f4e"},"source":{"instanceID":"one"}}`,
		quoted(id), quoted(repository), quoted(tag))
}

// quoted returns a string as JSON.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

func enveloped(events ...string) string { return `{"events":[` + strings.Join(events, ",") + `]}` }

// Only senders with the token may send.
func TestToken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		authorization string
		status        int
	}{
		{"Bearer s3cret", 200},
		{"bearer s3cret", 200}, // RFC 9110, 11.1: the scheme is case-insensitive
		{"BEARER s3cret", 200},
		{"none", 401},
		{"", 401},
		{"Bearer", 401},
		{"Bearer ", 401},
		{"Bearer wrong", 401},
		{"Bearer s3cre", 401},
		{"Bearer s3cret2", 401},
		{"Bearer S3CRET", 401},
		{"s3cret", 401},
		{"Basic s3cret", 401},
		{"Basic Bearer s3cret", 401},
	} {
		h := openReceiver(t)
		resp := post(t, "POST", h.url, c.authorization, strings.NewReader(enveloped(pushed("a", "demo/app", "v1"))))
		if resp.StatusCode != c.status {
			t.Errorf("Authorization %q: status %d, want %d", c.authorization, resp.StatusCode, c.status)
		}
		if stored := len(h.events) == 1; stored != (c.status == 200) {
			t.Errorf("Authorization %q: stored %d events", c.authorization, len(h.events))
		}
		if c.status == 401 && (h.log.lines() != 1 || strings.Contains(h.log.String(), "s3cre")) {
			t.Errorf("Authorization %q: got log %q, want one line without the token", c.authorization, h.log.String())
		}
	}
}

// A body that is no envelope must be refused with one line in the log, and must store
// nothing.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method, body string
		status             int
	}{
		{"empty", "POST", "", 400},
		{"GET", "GET", "", 400},
		{"garbage", "POST", "\x00\xff\x1b[31m", 400},
		{"half", "POST", enveloped(pushed("a", "demo/app", "v1"))[:200], 400},
		{"two values", "POST", "{}{}", 400},
		{"list", "POST", "[]", 400},
		{"string", "POST", `"events"`, 400},
		{"events are not a list", "POST", `{"events":{"id":"a"}}`, 400},
		{"too many events", "POST", enveloped(strings.Repeat("{},", 10_000) + "{}"), 400},
		{"deep", "POST", `{"events":` + strings.Repeat("[", 100_000), 400},
		{"9 MiB", "POST", strings.Repeat(" ", 9<<20) + "{}", 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := openReceiver(t)
			resp := post(t, c.method, h.url, "Bearer "+token, strings.NewReader(c.body))
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			if len(h.events) > 0 || h.woken > 0 {
				t.Errorf("got %v stored, woken %d times", h.events, h.woken)
			}
			if h.log.lines() != 1 {
				t.Errorf("got log %q, want one line", h.log.String())
			}
		})
	}
}

// Events that we cannot use must be accepted, since the registry would repeat them for
// ever. Useful events of the same envelope must be stored.
func TestOddEvents(t *testing.T) {
	t.Parallel()
	good := pushed("good", "demo/app", "v1")
	for _, c := range []struct {
		name, body string
		want       []string // ids
		lines      int
	}{
		{"nothing", `{}`, nil, 0},
		{"null", `null`, nil, 0},
		{"null events", `{"events":null}`, nil, 0},
		{"no events", `{"events":[]}`, nil, 0},
		{"null event", enveloped("null", good, "null"), []string{"good"}, 0},
		{"unknown fields", `{"v":3,"events":[{"id":"x","action":"push","more":{"a":[1]},"target":{"repository":"a","tag":"t","size":1e9,"x":null}}]}`, []string{"x"}, 0},
		{"unknown action", enveloped(`{"id":"x","action":"sink"}`, good), []string{"good"}, 0},
		{"several", enveloped(pushed("a", "demo/app", "v1"), pushed("b", "other", "v2"), good), []string{"a", "b", "good"}, 0},
		{"bad repository", enveloped(pushed("x", "../etc", "v1"), good), []string{"good"}, 1},
		{"repository of a host", enveloped(pushed("x", "Evil.example:5000/app", "v1"), good), []string{"good"}, 1},
		{"bad tag", enveloped(pushed("x", "demo/app", "a b"), good), []string{"good"}, 1},
		{"terminal escape", enveloped(pushed("x", "demo/app", "\x1b[31m"), good), []string{"good"}, 1},
		{"no id", enveloped(pushed("", "demo/app", "v1"), good), []string{"good"}, 1},
		{"long id", enveloped(pushed(strings.Repeat("x", 1000), "demo/app", "v1"), good), []string{"good"}, 1},
		{"id is a number", enveloped(`{"id":7,"action":"push","target":{"repository":"demo/app","tag":"v1"}}`, good), []string{"good"}, 1},
		{"target is a string", enveloped(`{"id":"x","action":"push","target":"demo/app"}`, good), []string{"good"}, 1},
		{"event is a number", enveloped("7", good), []string{"good"}, 1},
		{"many invalid events", enveloped(strings.Repeat(pushed("x", "../etc", "v1")+",", 500) + good), []string{"good"}, 1},
		{"time and size out of bounds", enveloped(`{"id":"x","timestamp":"99999-01-01","action":"delete","target":{"repository":"a","tag":"t","size":-1}}`), []string{"x"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := openReceiver(t)
			if resp := post(t, "POST", h.url, "Bearer "+token, strings.NewReader(c.body)); resp.StatusCode != 200 {
				t.Errorf("status %d, want 200", resp.StatusCode)
			}
			var got []string
			for _, e := range h.events {
				got = append(got, e.ID)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if h.log.lines() != c.lines {
				t.Errorf("got log %q, want %d lines", h.log.String(), c.lines)
			}
		})
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A body of any size must not take more memory than the limit allows, nor work for each
// of millions of events. The test is not parallel, since it measures the heap of the
// process.
func TestBodyLimit(t *testing.T) {
	h := openReceiver(t)
	for _, c := range []struct {
		name   string
		body   io.Reader
		status int
	}{
		{"100 MB", io.LimitReader(zeros{}, 100<<20), 413},
		{"events without end", strings.NewReader(enveloped(strings.Repeat("{},", (8<<20-20)/3) + "{}")), 400},
		{"one event of 8 MiB", strings.NewReader(enveloped(`{"action":"` + strings.Repeat("x", 8<<20-100) + `"}`)), 200},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		req := httptest.NewRequest("POST", "/", c.body)
		req.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, req)
		runtime.ReadMemStats(&after)
		if answer.Code != c.status {
			t.Errorf("%s: status %d, want %d", c.name, answer.Code, c.status)
		}
		if grown := after.HeapSys - before.HeapSys; int64(grown) > 64<<20 {
			t.Errorf("%s: the heap grew by %d MB, want at most 64", c.name, grown>>20)
		}
		// At most 56 MB and 21,000 times, measured: far fewer than the events.
		if allocated, n := after.TotalAlloc-before.TotalAlloc, after.Mallocs-before.Mallocs; allocated > 128<<20 || n > 100_000 {
			t.Errorf("%s: %d MB were allocated, %d times, want at most 128 MB, 100,000 times", c.name, allocated>>20, n)
		}
	}
	if len(h.events) > 0 {
		t.Errorf("stored %d events", len(h.events))
	}
}

// A large body must be refused before all of it has been sent.
func TestLargeBodyCutOff(t *testing.T) {
	t.Parallel()
	h := openReceiver(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 1 << 30
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", token, size)
	if sent, err := io.Copy(conn, io.LimitReader(zeros{}, size)); err == nil {
		t.Errorf("all of %d bytes were accepted", sent)
	}
}

// A sender that sends a byte now and then must be disconnected after the timeout of a
// notification.
func TestSlowSender(t *testing.T) {
	t.Parallel()
	h := openReceiver(t, func(c *ingest.ReceiverConfig) { c.Timeout = 100 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n", token)
	start := time.Now()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, conn) // the answer, and then the end
	}()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-closed:
			if h.log.lines() != 1 {
				t.Errorf("got log %q, want one line", h.log.String())
			}
			return
		case <-ticker.C:
			if time.Since(start) > 10*time.Second {
				t.Fatal("a sender of one byte at a time is still connected after 10 s")
			}
			_, _ = conn.Write([]byte(" ")) // fails after the other side has closed
		}
	}
}

// While the database is unavailable, no event may be acknowledged, so that none is
// lost.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	h := openReceiver(t)
	h.err = fmt.Errorf("receive events: connection refused: %w", indexer.ErrUnavailable)
	body := enveloped(pushed("a", "demo/app", "v1"))
	resp := post(t, "POST", h.url, "Bearer "+token, strings.NewReader(body))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got status %d, Retry-After %q, want 503 and a time", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if len(h.events) > 0 || h.woken > 0 || h.log.lines() != 1 {
		t.Errorf("got %v stored, woken %d times, log %q, want one line in the log only", h.events, h.woken, h.log.String())
	}
	h.err = nil
	if resp := post(t, "POST", h.url, "Bearer "+token, strings.NewReader(body)); resp.StatusCode != 200 || len(h.events) != 1 || h.woken != 1 {
		t.Errorf("sent again: status %d, stored %v, woken %d times", resp.StatusCode, h.events, h.woken)
	}
}

// An event that is received several times must count once.
func TestRepeatedEvent(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	store, fresh := postgres.New(pool, postgres.Config{}), 0
	h := openReceiver(t, func(c *ingest.ReceiverConfig) {
		c.Receive = func(ctx context.Context, events []indexer.Event) (int, error) {
			n, err := store.Receive(ctx, events)
			fresh += n
			return n, err
		}
	})
	twice := enveloped(pushed("a", "demo/app", "v1"), pushed("a", "demo/app", "v1"))
	for range 2 {
		if resp := post(t, "POST", h.url, "Bearer "+token, strings.NewReader(twice)); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	var events, wanted int
	const q = "SELECT (SELECT count(*) FROM event), (SELECT sum(wanted) FROM task)"
	if err := pool.QueryRow(t.Context(), q).Scan(&events, &wanted); err != nil {
		t.Fatal(err)
	}
	if events != 1 || wanted != 1 || h.woken != 1 || fresh != 1 {
		t.Errorf("got %d events, %d requests, woken %d times, counted %d times, want 1 each", events, wanted, h.woken, fresh)
	}
}

// Each event of a hostile sender must be stored unchanged or ignored. The database must
// never refuse one, since the registry would repeat it for ever.
func TestHostileEventStored(t *testing.T) {
	t.Parallel()
	store := postgres.New(schematest.New(t), postgres.Config{})
	h := openReceiver(t, func(c *ingest.ReceiverConfig) { c.Receive = store.Receive })
	const odd = `\u0000\ud800\u001b[31m`
	body := enveloped(`{"id":"` + odd + `","timestamp":"9999-12-31T23:59:59.999999999-12:00","action":"push","target":{"mediaType":"` + odd +
		strings.Repeat("x", 5000) + `","repository":"demo/app","tag":"v1","digest":"sha256:zz"},"request":{"useragent":"` + odd +
		`"},"actor":{"name":"` + odd + "\xff\xfe" + `"},"source":{"instanceID":"` + odd + `"}}`)
	for range 2 {
		if resp := post(t, "POST", h.url, "Bearer "+token, strings.NewReader(body)); resp.StatusCode != 200 {
			t.Errorf("status %d, log %s", resp.StatusCode, h.log.String())
		}
	}
	if h.woken != 1 {
		t.Errorf("got the event %d times, want once", h.woken)
	}
}

// An event tells who sent the request, from where, and with which id; also that of a pull,
// which is not stored, tells who.
func TestWhoSent(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	h := openReceiver(t, func(c *ingest.ReceiverConfig) {
		c.Used = func(actor string, at time.Time) {
			used[actor] = true
			if time.Since(at) < 0 || time.Since(at) > 365*24*time.Hour && actor == "puller" {
				t.Errorf("%s at %v", actor, at)
			}
		}
	})
	var events []string
	addresses := map[string]string{
		"192.0.2.7:39956": "192.0.2.7", "192.0.2.8": "192.0.2.8", "[2001:db8::7%eth0]:80": "2001:db8::7", "2001:db8::8": "2001:db8::8",
		"[::ffff:192.0.2.9]:1": "192.0.2.9", "": "", "<b>:80": "", "host.example:80": "",
	}
	for addr := range addresses {
		e := strings.TrimSuffix(pushed("id "+addr, "demo/app", "v1"), "}")
		events = append(events, e+fmt.Sprintf(`,"request":{"id":"r1","addr":%q},"actor":{"name":"alice+7f3a12bc"}}`, addr))
	}
	pull := strings.Replace(strings.TrimSuffix(pushed("pull", "demo/app", "v1"), "}"), `"push"`, `"pull"`, 1)
	pull = strings.Replace(pull, "2026-11-21T", "9999-11-21T", 1)
	events = append(events, pull+`,"actor":{"name":"puller"}}`, pull+"}")
	post(t, "POST", h.url, "Bearer s3cret", strings.NewReader(enveloped(events...)))
	if len(h.events) != len(addresses) {
		t.Fatalf("%d events", len(h.events))
	}
	for _, e := range h.events {
		if want := addresses[strings.TrimPrefix(e.ID, "id ")]; e.Source != want || e.Request != "r1" || e.Actor != "alice+7f3a12bc" {
			t.Errorf("%+v, want the source %q", e, want)
		}
	}
	if want := map[string]bool{"alice+7f3a12bc": true, "puller": true}; !cmp.Equal(used, want) {
		t.Errorf("used by %v, want %v", used, want)
	}
}

package main_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/localpg/process"
)

// A redisServer is a Redis that a test may kill and start again, without what it had.
type redisServer struct {
	t       *testing.T
	address string
	process *process.Process
}

// startRedis starts a Redis. If redis-server is not installed, it skips the test, or fails it
// if CI is set.
func startRedis(t *testing.T) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("redis-server is not installed (Debian: apt-get install redis-server)")
	}
	r := &redisServer{t: t, address: registrytest.FreeAddr(t)}
	r.start()
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	host, port, err := net.SplitHostPort(r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("redis-server", "--bind", host, "--port", port, "--save", "", "--dir", r.t.TempDir(), "--requirepass", "marker-of-a-secret")
	if r.process, err = process.Start(cmd, nil, &text{}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.process.Kill)
	within(r.t, patience, "Redis listens", func() bool {
		conn, err := net.Dial("tcp", r.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// cli runs a command of Redis.
func (r *redisServer) cli(args ...string) string {
	r.t.Helper()
	host, port, err := net.SplitHostPort(r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := exec.Command("redis-cli", append([]string{"-h", host, "-p", port, "--no-auth-warning", "-a", "marker-of-a-secret"}, args...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("redis-cli %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// A session that was begun at one indexer is valid at another, and after a restart, and is
// ended at both by signing out, wherever sessions are. In memory it is valid in one process.
func TestSessionStores(t *testing.T) {
	t.Parallel()
	f, _ := guarded(t)
	r := startRedis(t)
	for _, store := range []string{"jwt", "postgres", "redis", "memory"} {
		address := registrytest.FreeAddr(t)
		settings := []string{"PORTBOOK_COMPONENTS_WEB_UI=true", "PORTBOOK_REGISTRY_PUBLIC_URL=/", "PORTBOOK_AUTH_SESSIONS_STORE=" + store}
		if store == "redis" {
			settings = append(settings, "PORTBOOK_AUTH_SESSIONS_REDIS=redis://:marker-of-a-secret@"+r.address+"/0")
		}
		writer := f.indexer(address, settings...)
		reader := writer
		if store != "memory" {
			reader = f.indexer(registrytest.FreeAddr(t), append(settings, "PORTBOOK_ROLE=reader")...)
		}
		b := newBrowser(t, "http://"+writer.address)
		form := url.Values{"name": {"alice"}, "password": {password}}
		resp, body := b.send("/account/sign-in", form)
		cookie := session(resp)
		if cookie == nil {
			t.Fatalf("%s: sign in: %s\n%s", store, resp.Status, body)
		}
		// A copy of the cookie, at the other one.
		stolen := newBrowser(t, "http://"+reader.address)
		u, err := url.Parse(stolen.base)
		if err != nil {
			t.Fatal(err)
		}
		stolen.client.Jar.SetCookies(u, []*http.Cookie{{Name: cookie.Name, Value: cookie.Value, Path: "/"}})
		for _, is := range []*browser{b, stolen} {
			if got := is.signedInAs(); got != "alice" {
				t.Errorf("%s: %s: signed in as %q", store, is.base, got)
			}
		}
		for _, value := range []string{"x", "pbs_" + strings.Repeat("A", 43), cookie.Value + "x", "pbs_"} {
			other := newBrowser(t, "http://"+reader.address)
			other.client.Jar.SetCookies(u, []*http.Cookie{{Name: cookie.Name, Value: value, Path: "/"}})
			if got := other.signedInAs(); got != "" {
				t.Errorf("%s: the cookie %.20s is of %q", store, value, got)
			}
		}
		checkKept(t, f, r, store, cookie.Value)

		writer.stop(t)
		writer = f.indexer(address, settings...)
		if got := b.signedInAs(); got != map[bool]string{true: "", false: "alice"}[store == "memory"] {
			t.Errorf("%s: after a restart signed in as %q", store, got)
		}
		if store == "memory" {
			resp, _ := b.send("/account/sign-in", form)
			stolen.client.Jar.SetCookies(u, []*http.Cookie{session(resp)})
		}
		// Whoever signs out does so everywhere, and the end is recorded.
		before := strings.Count(f.must("audit", "--event", "session.end", "--target", "alice", "--json"), `"event"`)
		if resp, _ := b.send("/account/sign-out", url.Values{}); resp.StatusCode != http.StatusSeeOther {
			t.Errorf("%s: sign out: %s", store, resp.Status)
		}
		within(t, patience, store+": the session has ended", func() bool { return stolen.signedInAs() == "" })
		if after := strings.Count(f.must("audit", "--event", "session.end", "--target", "alice", "--json"), `"event"`); after != before+1 {
			t.Errorf("%s: %d ends are recorded, and %d before", store, after, before)
		}

		// So does a new password.
		b.send("/account/sign-in", form)
		if got := b.signedInAs(); got != "alice" {
			t.Errorf("%s: signed in again as %q", store, got)
		}
		within(t, patience, "a second has passed, which is the unit of times in tokens", func() bool {
			f.must("user", "password", "alice") // the same one
			return b.signedInAs() == ""
		})
		if store == "redis" {
			checkRedisAway(t, f, r, writer, form)
		}
		if log := writer.log.String() + reader.log.String(); strings.Contains(log, "marker-of-a-secret") || strings.Contains(log, cookie.Value) {
			t.Errorf("%s: the log has a secret", store)
		}
		writer.process.Kill()
		if reader != writer {
			reader.process.Kill()
		}
	}
}

// checkKept checks that no store has the cookie itself, and that all keys in Redis expire.
func checkKept(t *testing.T, f *fleet, r *redisServer, store, cookie string) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(cookie, "pbs_"))
	if store != "jwt" && store != "memory" && (err != nil || len(raw) != 32) {
		t.Fatalf("cookie %.20s: %v", cookie, err)
	}
	leaks := func(text string) bool {
		return strings.Contains(text, cookie[10:]) || strings.Contains(text, hex.EncodeToString(raw))
	}
	switch store {
	case "postgres":
		conn, err := pgx.Connect(t.Context(), f.database)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		var rows string
		err = conn.QueryRow(t.Context(), "SELECT string_agg(s::text, ' ') FROM session s").Scan(&rows)
		if err != nil || len(rows) < 64 || leaks(rows) {
			t.Errorf("sessions %q, %v", rows, err)
		}
	case "redis":
		keys := strings.Fields(r.cli("--raw", "KEYS", "*"))
		if len(keys) != 2 {
			t.Errorf("Redis has %q", keys)
		}
		for _, k := range keys {
			var ttl int
			if _, err := fmt.Sscan(r.cli("--raw", "TTL", k), &ttl); err != nil || ttl < 43000 || ttl > 43200 {
				t.Errorf("%s expires in %d s, %v", k, ttl, err)
			}
			if !strings.HasPrefix(k, "portbook:") || leaks(k) {
				t.Errorf("key %q", k)
			}
		}
	}
}

// checkRedisAway checks that without Redis nobody with a session is signed in or out, and that
// others do not notice.
func checkRedisAway(t *testing.T, f *fleet, r *redisServer, writer *indexerProcess, form url.Values) {
	t.Helper()
	b := newBrowser(t, "http://"+writer.address)
	b.send("/account/sign-in", form)
	if got := b.signedInAs(); got != "alice" {
		t.Fatalf("signed in as %q", got)
	}
	for range 105 { // the last hundred stay
		newBrowser(t, b.base).send("/account/sign-in", form)
	}
	if got := r.cli("--raw", "ZCARD", "portbook:account:alice"); strings.TrimSpace(got) != "100" || b.signedInAs() != "" {
		t.Errorf("%s sessions; the first one is of %q", got, b.signedInAs())
	}
	if got := len(strings.Fields(r.cli("--raw", "KEYS", "portbook:session:*"))); got != 100 {
		t.Errorf("Redis has %d sessions", got)
	}
	b.send("/account/sign-in", form)
	r.process.Kill()
	<-r.process.Done()
	for _, path := range []string{"/account", "/", "/api/v1/search"} {
		resp, text := b.send(path, nil)
		if resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(text, r.address) || len(resp.Cookies()) > 0 {
			t.Errorf("%s with a session: %s, %v\n%s", path, resp.Status, resp.Cookies(), text)
		}
		if resp, _ := newBrowser(t, b.base).send(path, nil); resp.StatusCode != http.StatusOK {
			t.Errorf("%s without a session: %s", path, resp.Status)
		}
		if code, _, _ := writer.get(t, "/api/v1/search", "alice", password); code != http.StatusOK {
			t.Errorf("with a password: %d", code)
		}
	}
	if resp, _ := b.send("/account/sign-out", url.Values{}); resp.StatusCode != http.StatusServiceUnavailable || len(resp.Cookies()) > 0 {
		t.Errorf("sign out: %s, %v", resp.Status, resp.Cookies())
	}
	before := strings.Count(f.must("audit", "--event", "session.begin", "--json", "--limit", "1000"), `"event"`)
	if resp, _ := newBrowser(t, b.base).send("/account/sign-in", form); resp.StatusCode != http.StatusServiceUnavailable || session(resp) != nil {
		t.Errorf("sign in: %s, %v", resp.Status, resp.Cookies())
	}
	if after := strings.Count(f.must("audit", "--event", "session.begin", "--json", "--limit", "1000"), `"event"`); after != before {
		t.Errorf("%d sign-ins are recorded, and %d before", after, before)
	}
	r.start()
	within(t, patience, "Redis is there again, without the session", func() bool {
		resp, _ := b.send("/account", nil)
		return resp.StatusCode == http.StatusOK
	})
}

package web_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/access/accesstest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// delegating returns the configuration of a book that reads store, in which an API decides what
// may be seen.
func delegating(t *testing.T, store *postgres.Store, c access.DelegateConfig) web.Config {
	t.Helper()
	c.Namespaces = store.Namespaces
	return web.Config{
		Read: func(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			return store.View(ctx, asker, func(v *postgres.View) error { return f(v) })
		},
		Login: login.New(login.Config{Verifier: access.NewDelegate(c), Signer: testSigner(t), PublicURL: "/"}),
		Log:   slog.New(slog.DiscardHandler), PublicURL: "/", WebUI: true, AssertEndpoint: true, Version: "v1",
	}
}

// Whatever the API lets a client pull, no route tells of another project.
func TestNoRouteTellsOfOtherProjects(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	members := shelf.Crowd()
	random := rand.New(rand.NewPCG(7, 8))
	rights, seen := map[string]string{}, map[string]indexer.Visibility{}
	fields := []string{"Bearer one", "two", "Basic " + base64.StdEncoding.EncodeToString([]byte("bob:three")), ""}
	for _, field := range fields {
		var patterns []string
		for range 20 {
			project := fmt.Sprintf("space%02d", random.IntN(100))
			permission := []string{"pull", "push", "list"}[random.IntN(3)]
			rights[field] += project + ":" + permission + " "
			if permission != "list" {
				patterns = append(patterns, project+"/*")
			}
		}
		seen[field] = indexer.VisibleNames(patterns...)
	}
	server := accesstest.New(t, rights)
	c := delegating(t, postgres.New(shelf.Pool, postgres.Config{}), access.DelegateConfig{URL: server.URL, Anonymous: true})
	h := web.New(c)
	all := addressesWith(t, h, c)
	mentions := 0 // of what may be seen
	for _, field := range fields {
		hidden, open := members[0], members[0]
		for _, m := range members {
			if seen[field].Sees(m.Name) {
				open = m
			} else {
				hidden = m
			}
		}
		secret, shown := hiddenFrom(seen[field], members...), hiddenFrom(indexer.Visibility{}, open)
		for _, a := range all {
			some := targets(a, hidden, open)
			random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			for _, target := range some[:min(len(some), 5)] {
				got := heard(t, h, a.method, target, bodyOf(a.path), field)
				if found := secret.in(got, target); len(found) > 0 {
					t.Errorf("%s %s as %q: the answer mentions %q\n%.1500s", a.method, target, field, found, got)
				}
				mentions += len(shown.in(got, target))
			}
		}
	}
	if mentions < 50 {
		t.Errorf("the answers mention visible repositories only %d times", mentions)
	}
}

// What clients get for their logins, at the token endpoint and in the book.
func TestDelegatedLogins(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	shelf.Stock()
	shelf.Find("acme/app", "v1", postgrestest.Made("acme/app", "linux/amd64", 1, 1, "2026-01-01"))
	shelf.Find("other/app", "v1", postgrestest.Made("other/app", "linux/amd64", 2, 1, "2026-01-01"))
	basic := func(secret string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte("a:"+secret)) }
	server := accesstest.New(t, map[string]string{basic("all"): "acme:push", basic("ro"): "acme:pull", basic("none"): "", "Bearer b": "other:pull"})
	h := web.New(delegating(t, postgres.New(shelf.Pool, postgres.Config{}), access.DelegateConfig{URL: server.URL}))
	ask := func(method, target, field, form string) (int, http.Header, string) {
		r := httptest.NewRequest(method, target, strings.NewReader(form))
		if field != "" {
			r.Header.Set("Authorization", field)
		}
		if form != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Header(), w.Body.String()
	}
	const denied = `{"errors":[{"code":"UNAUTHORIZED",`
	for _, c := range []struct {
		field, query, form string
		code               int
		scope              string
	}{
		{basic("all"), "", "", 200, ""},
		{basic("none"), "", "", 200, ""},
		{basic("wrong"), "", "", 401, ""},
		{basic("all"), "scope=repository:acme/app:pull,push", "", 200, "repository:acme/app:pull,push"},
		{basic("ro"), "scope=repository:acme/app:pull,push", "", 200, "repository:acme/app:pull"},
		{basic("all"), "scope=repository:other/app:pull", "", 200, ""},
		{basic("wrong"), "scope=repository:acme/app:pull", "", 401, ""},
		{basic("all"), "scope=registry:catalog:*", "", 200, "repository:acme/*:pull"},
		{basic("none"), "scope=registry:catalog:*", "", 200, ""},
		{"", "scope=repository:acme/app:pull", "", 200, ""},
		{"", "", "grant_type=password&username=a&password=all&scope=repository:acme/app:push", 200, "repository:acme/app:push"},
		{"", "", "grant_type=password&username=a&password=wrong&scope=repository:acme/app:push", 401, ""},
		{"", "", "grant_type=refresh_token&refresh_token=x", 401, ""},
	} {
		method := map[bool]string{true: "GET", false: "POST"}[c.form == ""]
		code, _, body := ask(method, "/auth/token?"+c.query, c.field, c.form)
		var given struct{ Token, Scope string }
		if err := json.Unmarshal([]byte(body), &given); err != nil || code != c.code || given.Scope != c.scope || code == 401 && !strings.HasPrefix(body, denied) {
			t.Errorf("%q, %q, %q: %d %s, want %d with the scope %q", c.field, c.query, c.form, code, body, c.code, c.scope)
		}
		if code != 200 {
			continue
		}
		// With the token a client sees no more than it is for.
		_, _, found := ask("GET", "/api/v1/repositories", "Bearer "+given.Token, "")
		if strings.Contains(found, "other/app") || strings.Contains(found, "acme/app") != (c.scope != "") {
			t.Errorf("with a token for %q, the book shows %s", c.scope, found)
		}
	}
	for field, want := range map[string]string{basic("all"): "acme/app", basic("ro"): "acme/app", basic("none"): "", "Bearer b": "other/app"} {
		code, header, body := ask("GET", "/v1/search?q=app&n=100", field, "")
		var found struct{ Results []struct{ Name string } }
		if err := json.Unmarshal([]byte(body), &found); err != nil || code != 200 || len(found.Results) != min(len(want), 1) ||
			want != "" && found.Results[0].Name != want || !strings.Contains(header.Get("Cache-Control"), "private") {
			t.Errorf("%q finds %d %s with %v, want %q", field, code, body, header, want)
		}
	}
	for _, field := range []string{"", basic("wrong"), "Bearer wrong", "Digest b"} {
		if code, header, body := ask("GET", "/v1/search?q=app", field, ""); code != 401 || header.Get("WWW-Authenticate") == "" {
			t.Errorf("%q: %d %s", field, code, body)
		}
	}

	// Who sends what is wrong is stopped before it costs more calls.
	server.Forget()
	refused := 0
	for i := range 300 {
		if code, _, _ := ask("GET", "/auth/token", basic(fmt.Sprintf("guess %d", i)), ""); code == http.StatusTooManyRequests {
			refused++
		}
	}
	if calls := server.Forget(); refused < 50 || calls > 250 {
		t.Errorf("of 300 guesses %d were refused, with %d calls", refused, calls)
	}

	// While the API is away, nobody new is let in, and the answer does not blame the client.
	h = web.New(delegating(t, postgres.New(shelf.Pool, postgres.Config{}), access.DelegateConfig{URL: server.URL}))
	var asked atomic.Int64
	server.Answers(func(w http.ResponseWriter, _ string) {
		asked.Add(1)
		http.Error(w, "secret of the API", http.StatusBadGateway)
	})
	for _, target := range []string{"/auth/token?scope=" + url.QueryEscape("repository:acme/app:pull"), "/v1/search?q=app", "/"} {
		code, _, body := ask("GET", target, basic("all"), "")
		if code != 401 || !strings.Contains(body, "could not be found out") || strings.Contains(body, "wrong") || strings.Contains(body, "secret") {
			t.Errorf("%s while the API is away: %d %s", target, code, body)
		}
	}
	if asked.Load() < 3 {
		t.Errorf("%d calls: that there is no answer was remembered", asked.Load())
	}
}

// A client without credentials sees, with the token that it gets, what the API lets everybody
// pull.
func TestDelegatedAnonymous(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	for _, name := range []string{"public/app", "other/app"} {
		shelf.Find(name, "v1", postgrestest.Made(name, "linux/amd64", 1, 1, "2026-01-01"))
	}
	server := accesstest.New(t, map[string]string{"": "public:pull"})
	h := web.New(delegating(t, postgres.New(shelf.Pool, postgres.Config{}), access.DelegateConfig{URL: server.URL, Anonymous: true}))
	for target, scope := range map[string]string{
		"/v2/_catalog": "registry:catalog:*", "/v1/search?q=app": "registry:catalog:*", "/api/v1/repositories": "repository:public/app:pull",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/auth/token?scope="+url.QueryEscape(scope), nil))
		var given struct{ Token string }
		if err := json.Unmarshal(w.Body.Bytes(), &given); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
		got := heard(t, h, "GET", target, "", "Bearer "+given.Token)
		if !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "public/app") || strings.Contains(got, "other/app") {
			t.Errorf("%s: %.500s", target, got)
		}
	}
}

// A login that the API refuses is recorded, wherever it is used, with the name that was typed.
// A login is not recorded as refused if the API did not answer.
func TestDelegatedRefusals(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	store := postgres.New(shelf.Pool, postgres.Config{})
	shelf.Find("acme/app", "v1", postgrestest.Made("acme/app", "linux/amd64", 1, 1, "2026-01-01"))
	basic := func(name, secret string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
	}
	server := accesstest.New(t, map[string]string{basic("ann", "right"): "acme:pull"})
	c := delegating(t, store, access.DelegateConfig{URL: server.URL})
	c.Login.Refusals = login.NewRefusals(store.RecordAll, c.Log)
	begin := time.Now()
	c.Login.Refusals.Step(t.Context(), begin) // the minute after which repeated ones are counted
	h := web.New(c)
	send := func(method, target, field, form string) int {
		r := httptest.NewRequest(method, target, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if field != "" {
			r.Header.Set("Authorization", field)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	const token = "/auth/token?scope=repository:acme/app:pull"
	for _, c := range []struct {
		method, target, field, form string
		code                        int
	}{
		{"GET", token, basic("ann", "right"), "", 200},
		{"GET", token, basic("bob", "wrong"), "", 401},
		{"GET", token, basic("bob", "wrong"), "", 401},
		{"GET", "/api/v1/search?q=app", basic("carol", "wrong"), "", 401},
		{"POST", "/auth/token", "", "grant_type=password&username=dave&password=wrong", 401},
		{"GET", "/v1/search?q=app", "Bearer wrong", "", 401},
	} {
		if code := send(c.method, c.target, c.field, c.form); code != c.code {
			t.Errorf("%s %s as %q: %d, want %d", c.method, c.target, c.field, code, c.code)
		}
	}
	for i := 0; send("GET", token, basic("eve", "wrong"), "") != http.StatusTooManyRequests; i++ {
		if i == 300 {
			t.Fatal("300 wrong logins are not too many")
		}
	}
	server.Answers(func(w http.ResponseWriter, _ string) { http.Error(w, "away", http.StatusBadGateway) })
	other := delegating(t, store, access.DelegateConfig{URL: server.URL}) // with no wrong logins before
	other.Login.Refusals = c.Login.Refusals
	h = web.New(other)
	if code := send("GET", token, basic("frank", "right"), ""); code != 401 {
		t.Errorf("while the API is away: %d", code)
	}
	c.Login.Refusals.Step(t.Context(), begin)
	records, err := store.Audit(t.Context(), access.AuditQuery{Event: access.Login, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		got = append(got, r.Actor.Claimed+" "+r.Detail)
		if r.Actor.Name != "" || !r.Refused || r.Actor.Source == "" {
			t.Errorf("recorded as %+v", r)
		}
	}
	if want := []string{"eve too many wrong passwords before", "eve ", " ", "dave ", "carol ", "bob "}; !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

// A book with more namespaces than clients can be asked about is refused, not shown in part.
func TestDelegatedBookIsTooLarge(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	const q = "INSERT INTO repository (name) SELECT 'p' || i || '/app' FROM generate_series(1, $1) i"
	if _, err := shelf.Pool.Exec(t.Context(), q, access.MaxNamespaces+1); err != nil {
		t.Fatal(err)
	}
	server := accesstest.New(t, map[string]string{"Bearer x": "p1:pull"})
	h := web.New(delegating(t, postgres.New(shelf.Pool, postgres.Config{}), access.DelegateConfig{URL: server.URL}))
	for _, target := range []string{"/v1/search?q=app", "/api/v1/search?q=app", "/"} {
		got := heard(t, h, "GET", target, "", "Bearer x")
		if !strings.HasPrefix(got, "403 ") || !strings.Contains(got, "more than 200 namespaces") {
			t.Errorf("%s: %.500s", target, got)
		}
	}
}

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/portbook/portbook/registry/registrytest"
)

// password is the password of every person in these tests.
const password = "a long password"

// asksForLogin starts a fleet whose registry trusts the tokens that the indexer signs, and an
// indexer with more settings.
func asksForLogin(t *testing.T, settings ...string) (*fleet, *indexerProcess) {
	t.Helper()
	var keys string
	f := launchWith(t, func(f *fleet) registrytest.ProcessConfig {
		keys = filepath.Join(f.dir, "keys.json")
		f.settings = append([]string{"PORTBOOK_AUTH_KEYS=" + keys, "PORTBOOK_COMPONENTS_REGISTRY_PROXY=true",
			"PORTBOOK_REGISTRY_PUBLIC_URL=http://" + f.address}, settings...)
		f.must("keys", "rotate", keys)
		jwks := filepath.Join(f.dir, "jwks.json")
		if err := os.WriteFile(jwks, []byte(f.must("keys", "public", keys)), 0o644); err != nil {
			t.Fatal(err)
		}
		return registrytest.ProcessConfig{File: "token.yml", Env: []string{
			"REGISTRY_AUTH_TOKEN_REALM=http://" + f.address + "/auth/token", "REGISTRY_AUTH_TOKEN_JWKS=" + jwks,
		}}
	})
	return f, f.indexer(f.address)
}

// guarded starts a fleet whose registry and indexer ask for a login, with the accounts root
// (an administrator), alice (of the group dev) and ci (a robot).
func guarded(t *testing.T) (*fleet, *indexerProcess) {
	t.Helper()
	f, i := asksForLogin(t, "PORTBOOK_AUTH_METHOD=accounts")
	f.input = password + "\n"
	f.must("user", "add", "--admin", "root")
	f.must("user", "add", "--group", "dev", "alice")
	f.must("user", "add", "--robot", "ci")
	f.must("grant", "add", "everybody", "public/*:pull")
	f.must("grant", "add", "group:dev", "team/*:push,delete")
	f.must("grant", "add", "ci", "team/app:push")
	return f, i
}

// must runs a command of the indexer that has to succeed, and returns its output.
func (f *fleet) must(args ...string) string {
	f.t.Helper()
	out, err := f.run(args...)
	if err != nil {
		f.t.Fatalf("portbook %q: %v\n%s", args, err, out)
	}
	return out
}

// tokenOf makes a token and returns it.
func (f *fleet) tokenOf(args ...string) string {
	f.t.Helper()
	lines := strings.Fields(f.must(append([]string{"token", "create"}, args...)...))
	return lines[len(lines)-1]
}

// login is a client with a name and a password or token; none for an empty name.
func login(name, secret string) *auth.Client {
	c := &auth.Client{Client: client, Cache: auth.NewCache()}
	if secret != "" {
		c.Credential = func(context.Context, string) (auth.Credential, error) {
			return auth.Credential{Username: name, Password: secret}, nil
		}
	}
	return c
}

// oras returns a repository behind the indexer's proxy for a client.
func (i *indexerProcess) oras(t *testing.T, name string, c *auth.Client) *remote.Repository {
	t.Helper()
	r, err := remote.NewRepository(i.address + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	r.PlainHTTP, r.Client = true, c
	return r
}

// refused reports whether an error is that of missing rights.
func refused(err error) bool {
	var answer *errcode.ErrorResponse
	return errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden)
}

// get requests a path of the indexer with Basic credentials, none for an empty name.
func (i *indexerProcess) get(t *testing.T, path, name, secret string) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+i.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		req.SetBasicAuth(name, secret)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// errNotMounted is the error of a mount that becomes an upload.
var errNotMounted = errors.New("not mounted")

// With accounts, a client may do in the registry what its grants say, and sees in the book
// what it may pull; a robot's token is revoked within seconds.
func TestLogins(t *testing.T) {
	t.Parallel()
	f, i := guarded(t)
	robot := f.tokenOf("--expires", "1d", "--note", "CI", "ci")
	reader := f.tokenOf("--rule", "*:pull", "alice")

	ctx := t.Context()
	everyone := map[string]*auth.Client{
		"root": login("root", password), "alice": login("alice", password), "ci": login("ci", robot),
		"reader": login("alice", reader), "nobody": login("", ""), "wrong": login("alice", "not the password"),
	}
	manifest := func(text string) (d []byte) {
		return []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"n":"` + text + `"}}`)
	}
	const index = "application/vnd.oci.image.index.v1+json"
	for _, name := range []string{"public/a", "team/app", "team/other", "secret/x"} {
		repository := i.oras(t, name, everyone["root"])
		raw := manifest(name)
		if err := repository.Manifests().PushReference(ctx, content.NewDescriptorFromBytes(index, raw), bytes.NewReader(raw), "v1"); err != nil {
			t.Fatalf("push by an administrator: %v", err)
		}
	}
	for _, c := range []struct{ who, pulls, pushes, deletes string }{
		{"root", "public/a team/app team/other secret/x", "public/a team/app team/other secret/x", "public/a team/app team/other secret/x"},
		{"alice", "public/a team/app team/other", "team/app team/other", "team/app team/other"},
		{"ci", "public/a team/app", "team/app", ""},
		{"reader", "public/a team/app team/other", "", ""},
		{"nobody", "public/a", "", ""},
		{"wrong", "", "", ""},
	} {
		for _, name := range []string{"public/a", "team/app", "team/other", "secret/x"} {
			repository := i.oras(t, name, everyone[c.who])
			raw := manifest(c.who + name)
			d := content.NewDescriptorFromBytes(index, raw)
			_, err := repository.Resolve(ctx, "v1")
			allowed(t, c.who+" pulls "+name, err, strings.Contains(c.pulls, name))
			err = repository.Manifests().PushReference(ctx, d, bytes.NewReader(raw), "tmp-"+c.who)
			allowed(t, c.who+" pushes "+name, err, strings.Contains(c.pushes, name))
			if !strings.Contains(c.pushes, name) { // somebody else pushes what is to be deleted
				err := i.oras(t, name, everyone["root"]).Manifests().PushReference(ctx, d, bytes.NewReader(raw), "tmp-"+c.who)
				if err != nil {
					t.Fatal(err)
				}
			}
			allowed(t, c.who+" deletes in "+name, repository.Manifests().Delete(ctx, d), strings.Contains(c.deletes, name))
		}
	}
	f.equal(patience)

	// A layer can be mounted from where it can be pulled.
	for _, from := range []string{"public/a", "secret/x"} {
		layer := []byte("a layer of " + from)
		d := content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayer, layer)
		if err := i.oras(t, from, everyone["root"]).Blobs().Push(ctx, d, bytes.NewReader(layer)); err != nil {
			t.Fatal(err)
		}
		copied := func() (io.ReadCloser, error) { return nil, errNotMounted }
		err := i.oras(t, "team/app", everyone["alice"]).Blobs().(registry.Mounter).Mount(ctx, d, from, copied)
		if mounted := err == nil; mounted != (from == "public/a") || err != nil && !errors.Is(err, errNotMounted) && !refused(err) {
			t.Errorf("alice mounts a layer of %s: %v", from, err)
		}
		if there, err := i.oras(t, "team/app", everyone["alice"]).Blobs().Exists(ctx, d); err != nil || there != (from == "public/a") {
			t.Errorf("a layer of %s is in team/app: %v, %v", from, there, err)
		}
	}

	for who, want := range map[[2]string][]string{
		{"root", password}:  {"public/a", "secret/x", "team/app", "team/other"},
		{"alice", password}: {"public/a", "team/app", "team/other"},
		{"alice", reader}:   {"public/a", "team/app", "team/other"},
		{"ci", robot}:       {"public/a", "team/app"},
		{"", ""}:            {"public/a"},
	} {
		_, header, text := i.get(t, "/v1/search?q=&n=100", who[0], who[1])
		var found struct{ Results []struct{ Name string } }
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			t.Fatalf("%s: %v: %s", who, err, text)
		}
		var names []string
		for _, r := range found.Results {
			names = append(names, r.Name)
		}
		if slices.Sort(names); !slices.Equal(names, want) {
			t.Errorf("docker search as %q finds %q, want %q", who[0], names, want)
		}
		if private := strings.Contains(header.Get("Cache-Control"), "private"); private != (who[0] != "") || !strings.Contains(header.Get("Vary"), "Authorization") {
			t.Errorf("docker search as %q: Cache-Control %q, Vary %q", who[0], header.Get("Cache-Control"), header.Get("Vary"))
		}
		// The catalogue, by the way of a registry's client.
		all, err := remote.NewRegistry(i.address)
		if err != nil {
			t.Fatal(err)
		}
		all.PlainHTTP, all.Client, all.RepositoryListPageSize = true, login(who[0], who[1]), 2
		var listed []string
		err = all.Repositories(ctx, "", func(page []string) error { listed = append(listed, page...); return nil })
		if err != nil || !slices.Equal(listed, want) {
			t.Errorf("catalogue as %q: %q, %v, want %q", who[0], listed, err, want)
		}
	}
	if code, header, _ := i.get(t, "/v1/search?q=", "alice", "not the password"); code != http.StatusUnauthorized || header.Get("WWW-Authenticate") == "" {
		t.Errorf("docker search with a wrong password: status %d", code)
	}

	// Somebody who guesses is stopped, and nobody else.
	refusals, begin := map[int]int{}, time.Now()
	for range 40 {
		code, header, _ := i.get(t, "/auth/token", "bob", "a guess")
		if refusals[code]++; code == http.StatusTooManyRequests && header.Get("Retry-After") == "" {
			t.Errorf("429 without Retry-After: %v", header)
		}
	}
	if most := 21 + int(time.Since(begin)/(3*time.Second)); refusals[http.StatusUnauthorized] > most {
		t.Errorf("40 guesses in %v: %v, want at most %d tried", time.Since(begin), refusals, most)
	}
	if code, _, _ := i.get(t, "/auth/token", "alice", password); code != http.StatusOK {
		t.Errorf("alice cannot log in because somebody guesses the password of bob: %d", code)
	}

	listed := strings.Split(f.must("token", "list", "--account", "ci"), "\n")
	f.must("token", "revoke", strings.Fields(listed[1])[0])
	within(t, patience, "a revoked token is refused", func() bool {
		code, _, _ := i.get(t, "/auth/token?scope=repository:team/app:pull", "ci", robot)
		return code == http.StatusUnauthorized
	})
	var given struct{ Token string }
	_, _, text := i.get(t, "/auth/token?scope=repository:team/app:pull", "alice", password)
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	f.must("user", "set", "--no-groups", "alice")
	within(t, patience, "alice has left her group", func() bool {
		_, _, text := i.get(t, "/v1/search?q=", "alice", password)
		return !strings.Contains(text, "team/")
	})

	// Without the database, the registry serves who has a token, and nobody gets a new one.
	f.postgres.Stop()
	within(t, patience, "no token is given", func() bool {
		code, _, _ := i.get(t, "/auth/token?scope=repository:team/app:pull", "alice", password)
		return code == http.StatusServiceUnavailable
	})
	resp, _ := newBrowser(t, "http://"+i.address).send("/v2/team/app/manifests/v1", nil, "Authorization", "Bearer "+given.Token, "Accept", index)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("with a token of before: %s", resp.Status)
	}
}

// allowed fails the test if what was tried was refused and should not have been, or the
// other way round.
func allowed(t *testing.T, what string, err error, want bool) {
	t.Helper()
	if want && err != nil || !want && !refused(err) {
		t.Errorf("%s: got %v, want it to be allowed: %v", what, err, want)
	}
}

// Behind nginx and its cache everybody gets the answers of their own, whoever asked before;
// and what is not there for somebody looks like what does not exist.
func TestLoginsBehindCache(t *testing.T) {
	t.Parallel()
	f, _ := guarded(t)
	f.settings = append(f.settings, "PORTBOOK_CACHE_MAX_AGE_HTML=1m", "PORTBOOK_CACHE_MAX_AGE_INDEX=1m")
	one, two := f.reader(f.postgres), f.reader(f.postgres)
	front := f.front(one, two)
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	d := content.NewDescriptorFromBytes("application/vnd.oci.image.index.v1+json", raw)
	for _, name := range []string{"public/a", "team/app", "team/other", "secret/x"} {
		repository := (&indexerProcess{address: f.address}).oras(t, name, login("root", password))
		if err := repository.Manifests().PushReference(t.Context(), d, bytes.NewReader(raw), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	f.equal(patience)
	robot := f.tokenOf("ci")
	nginx := &indexerProcess{address: strings.TrimPrefix(front.url, "http://")}
	who := [][2]string{{"root", password}, {"", ""}, {"alice", password}, {"ci", robot}, {"", ""}, {"alice", "pbt_wrong"}}
	seen := map[string]bool{} // bodies of the first page
	for _, path := range []string{
		"/", "/api/v1/search", "/v1/search?q=", "/api/v1/facets", "/r/team/app", "/r/secret/x", "/r/none/x", "/activity",
		"/api/v1/repositories/secret/x", "/api/v1/digests/" + d.Digest.String(), "/activity.atom", "/v0/search?query=", "/index/static",
	} {
		for round := range 3 {
			for _, w := range who {
				want, _, direct := one.get(t, path, w[0], w[1])
				got, header, text := nginx.get(t, path, w[0], w[1])
				if got != want || withoutTimes(text) != withoutTimes(direct) {
					t.Errorf("%s as %q, round %d: through nginx %d, from the reader %d\n%.300s\n%.300s", path, w[0], round, got, want, text, direct)
				}
				if w[0] != "" && header.Get("X-Cache-Status") == "HIT" {
					t.Errorf("%s as %q came from the cache", path, w[0])
				}
				seen[path+w[0]+text] = true
			}
		}
		_, header, _ := nginx.get(t, path, "", "")
		if status := header.Get("X-Cache-Status"); status != "HIT" && status != "REVALIDATED" && strings.HasPrefix(header.Get("Cache-Control"), "max-age") {
			t.Errorf("%s without a login is not cached: %s, %s", path, status, header.Get("Cache-Control"))
		}
	}
	if len(seen) < 30 {
		t.Errorf("only %d different answers", len(seen))
	}
	hidden, _, absent := one.get(t, "/r/none/x", "alice", password)
	got, _, text := one.get(t, "/r/secret/x", "alice", password)
	if got != hidden || strings.ReplaceAll(withoutTimes(text), "secret", "none") != withoutTimes(absent) {
		t.Errorf("a hidden repository differs from an absent one: %d and %d\n%s\n%s", got, hidden, text, absent)
	}
}

// withoutTimes returns a page without what differs from one request to the next.
func withoutTimes(text string) string {
	return regexp.MustCompile(`[0-9]+ (s|seconds?) ago|"request_id":"[^"]*"|just now`).ReplaceAllString(text, "TIME")
}

// A browser is a client with cookies.
type browser struct {
	t      *testing.T
	base   string
	client *http.Client
	from   string // the address of its client, as a front says; "": that of the connection
}

func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, base: base, client: &http.Client{Jar: jar, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// send sends a request, with a form if it is not nil, and with fields for the header.
func (b *browser) send(path string, form url.Values, header ...string) (*http.Response, string) {
	b.t.Helper()
	method, body := http.MethodGet, ""
	if form != nil {
		method, body = http.MethodPost, form.Encode()
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.base)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if b.from != "" {
		r.Header.Set("X-Forwarded-For", b.from)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(text)
}

// A person signs in in the browser, sees what it may pull on every indexer, makes and revokes
// a token, and signs out everywhere; another site can do none of that.
func TestSignIn(t *testing.T) {
	t.Parallel()
	f, writer := guarded(t)
	front := f.front(f.reader(f.postgres), f.reader(f.postgres))
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	d := content.NewDescriptorFromBytes("application/vnd.oci.image.index.v1+json", raw)
	for _, name := range []string{"public/a", "team/app", "secret/x"} {
		if err := writer.oras(t, name, login("root", password)).Manifests().PushReference(t.Context(), d, bytes.NewReader(raw), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	f.equal(patience)
	b := newBrowser(t, front.url)
	sees := func(b *browser) (names []string) {
		t.Helper()
		_, text := b.send("/", nil)
		for _, name := range []string{"public/a", "team/app", "secret/x"} {
			if strings.Contains(text, "/r/"+name) {
				names = append(names, name)
			}
		}
		return names
	}
	wants := func(b *browser, want ...string) {
		t.Helper()
		for range 4 { // of both readers, and of the cache
			if got := sees(b); !slices.Equal(got, want) {
				t.Fatalf("sees %q, want %q", got, want)
			}
		}
	}
	wants(b, "public/a")
	signIn := func(b *browser, name, secret, next string) *http.Response {
		resp, _ := b.send("/account/sign-in", url.Values{"name": {name}, "password": {secret}, "next": {next}})
		return resp
	}
	for _, wrong := range [][2]string{{"alice", "wrong"}, {"bob", password}, {"ci", f.tokenOf("ci")}, {"", ""}} {
		if resp := signIn(b, wrong[0], wrong[1], "/"); resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) > 0 {
			t.Errorf("signed in as %q: %s, %v", wrong[0], resp.Status, resp.Cookies())
		}
	}
	for next, want := range map[string]string{"/r/team/app?x=1": "/r/team/app?x=1", "//evil.example": "/", "https://evil.example": "/", `/\evil.example`: "/", "": "/"} {
		if resp := signIn(newBrowser(t, front.url), "alice", password, next); resp.Header.Get("Location") != want {
			t.Errorf("next=%s leads to %s, want %s", next, resp.Header.Get("Location"), want)
		}
	}
	resp := signIn(b, "alice", password, "/")
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		t.Fatalf("sign in: %s, %v", resp.Status, resp.Cookies())
	}
	if c := resp.Cookies()[0]; !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure || c.Path != "/" {
		t.Errorf("cookie %v", c)
	}
	wants(b, "public/a", "team/app")
	wants(newBrowser(t, front.url), "public/a")

	// What was done and refused is recorded, for administrators.
	var page struct {
		Items []struct{ Event, Actor, Source, Target, Outcome string }
		Next  string
	}
	code, _, records := writer.get(t, "/api/v1/audit?event=session.begin&outcome=done&limit=3", "root", password)
	if err := json.Unmarshal([]byte(records), &page); err != nil || code != http.StatusOK || len(page.Items) != 3 || page.Next == "" {
		t.Fatalf("audit: %d, %v: %s", code, err, records)
	}
	if r := page.Items[0]; r.Actor != "alice" || r.Source != "127.0.0.1" || r.Outcome != "done" {
		t.Errorf("the sign-in of alice is recorded as %+v", r)
	}
	within(t, patience, "the refused sign-in of bob is recorded", func() bool {
		_, _, records = writer.get(t, "/api/v1/audit?target=bob", "root", password)
		return strings.Contains(records, `"outcome":"refused"`) && strings.Contains(records, `"claimed":"bob"`)
	})
	if strings.Contains(records, password) {
		t.Errorf("the refused sign-in of bob: %s", records)
	}
	if out := f.must("audit", "--event", "grant.add", "--target", "group:dev", "--json"); !strings.Contains(out, `"actor":"cli:`) || !strings.Contains(out, "team/*:pull,push,delete") {
		t.Errorf("the grant to dev: %s", out)
	}
	for who, want := range map[[2]string]int{{"alice", password}: 403, {"", ""}: 401, {"root", f.tokenOf("--rule", "*:admin", "root")}: 403, {"root", f.tokenOf("root")}: 200} {
		if code, _, text := writer.get(t, "/api/v1/audit", who[0], who[1]); code != want {
			t.Errorf("audit as %q: %d, want %d: %.200s", who[0], code, want, text)
		}
	}

	// What another site makes the browser send is refused.
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, {"Sec-Fetch-Site", "same-site"}} {
		for _, path := range []string{"/account/tokens", "/account/sign-out", "/account/sign-in", "/account/tokens/00000000/revoke"} {
			if resp, _ := b.send(path, url.Values{"days": {"7"}}, header...); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s from another site: %s", path, resp.Status)
			}
		}
	}
	_, text := b.send("/account/tokens", url.Values{"days": {"7"}, "note": {"<b>laptop"}, "rules": {"team/*:pull public/a:pull"}})
	made := regexp.MustCompile(`pbt_[a-z2-7]+`).FindString(text)
	if code, _, found := writer.get(t, "/api/v1/search", "alice", made); code != http.StatusOK || !strings.Contains(found, "team/app") || strings.Contains(text, "<b>") {
		t.Errorf("with the new token %q: status %d: %s", made, code, found)
	}
	if resp, text := b.send("/account", nil); strings.Contains(text, made) || resp.Header.Get("Cache-Control") != "no-store" || !strings.Contains(text, "team/*:pull") || !strings.Contains(text, "&lt;b&gt;laptop") {
		t.Errorf("the account's page: %v\n%s", resp.Header, text)
	}
	for _, form := range []url.Values{{}, {"days": {"0"}}, {"days": {"9999"}}, {"days": {"7"}, "rules": {"team"}}, {"note": {strings.Repeat("x", 20000)}}} {
		if resp, _ := b.send("/account/tokens", form); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("a token of %.60v: %s", form, resp.Status)
		}
	}
	other := f.tokenOf("ci")
	others := strings.Fields(strings.Split(f.must("token", "list", "--account", "ci"), "\n")[1])[0]
	b.send("/account/tokens/"+others+"/revoke", url.Values{"sure": {"yes"}})
	own := strings.Fields(strings.Split(f.must("token", "list", "--account", "alice"), "\n")[1])[0]
	if resp, text := b.send("/account/tokens/"+own+"/revoke", url.Values{}); resp.StatusCode != http.StatusOK || !strings.Contains(text, "Revoke the token "+own) {
		t.Errorf("revoking a token does not ask first: %s\n%s", resp.Status, text)
	}
	b.send("/account/tokens/"+own+"/revoke", url.Values{"sure": {"yes"}})
	within(t, patience, "the revoked token is void", func() bool {
		code, _, _ := writer.get(t, "/api/v1/search", "alice", made)
		return code == http.StatusUnauthorized
	})
	if code, _, _ := writer.get(t, "/api/v1/search", "ci", other); code != http.StatusOK {
		t.Errorf("alice has revoked a token of ci: %d", code)
	}

	// A session outlives a restart, and ends everywhere.
	u, err := url.Parse(front.url)
	if err != nil {
		t.Fatal(err)
	}
	stolen := newBrowser(t, front.url)
	stolen.client.Jar.SetCookies(u, b.client.Jar.Cookies(u))
	wants(stolen, "public/a", "team/app")
	writer.stop(t)
	f.indexer(f.address)
	wants(b, "public/a", "team/app")
	if resp, _ := b.send("/account/sign-out", url.Values{}); resp.StatusCode != http.StatusSeeOther || len(b.client.Jar.Cookies(u)) != 0 {
		t.Errorf("sign out: %s, %v", resp.Status, b.client.Jar.Cookies(u))
	}
	within(t, patience, "the session has ended", func() bool { return slices.Equal(sees(stolen), []string{"public/a"}) })
}

// fakeGitHub starts a server that knows the tokens of two users of one application, as GitHub does. It
// returns its address, and counts the requests.
func fakeGitHub(t *testing.T) (address string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		id, secret, _ := r.BasicAuth()
		var body struct {
			AccessToken string `json:"access_token"`
		}
		err := json.NewDecoder(r.Body).Decode(&body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/applications/app/token" || id != "app" || secret != "marker-of-a-secret" {
			http.Error(w, "bad", http.StatusUnauthorized)
			return
		}
		switch body.AccessToken {
		case "gho_right":
			_, _ = io.WriteString(w, `{"user": {"id": 1, "login": "octocat"}}`)
		case "gho_other":
			_, _ = io.WriteString(w, `{"user": {"id": 2, "login": "hubot"}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(github.Close)
	return github.URL, asked
}

func gitHubSettings(address string) []string {
	return []string{"GITHUB_CLIENT_ID=app", "GITHUB_CLIENT_SECRET=marker-of-a-secret", "PORTBOOK_AUTH_GITHUB_URL=" + address}
}

// The tokens of pesde's registry server work as there: who may read with which, in which
// order the methods win, and which settings are refused.
func TestSharedTokens(t *testing.T) {
	t.Parallel()
	f := launch(t)
	f.must("migrate", "up", "--yes")
	github, asked := fakeGitHub(t)
	hub := gitHubSettings(github)
	two := []string{"READ_ACCESS_TOKEN=r", "WRITE_ACCESS_TOKEN=w"}
	const none, ok, no = "", http.StatusOK, http.StatusUnauthorized
	for what, c := range map[string]struct {
		env  []string
		want map[string]int // status by Authorization
	}{
		"none":             {nil, map[string]int{none: ok, "Bearer x": ok}},
		"one":              {[]string{"ACCESS_TOKEN=t"}, map[string]int{none: ok, "Bearer t": ok, "bearer t": ok, "t": ok, "Bearer x": no, "x": no, "Digest t": no}},
		"one for reads":    {[]string{"ACCESS_TOKEN=t", "READ_NEEDS_AUTH="}, map[string]int{none: no, "Bearer t": ok, "t": ok, "Bearer x": no}},
		"two":              {two, map[string]int{none: no, "r": ok, "Bearer r": ok, "w": no, "Bearer w": no, "x": no}},
		"GitHub":           {hub, map[string]int{none: ok, "Bearer gho_right": ok, "gho_right": ok, "Bearer gho_wrong": no}},
		"GitHub for reads": {append(slices.Clone(hub), "READ_NEEDS_AUTH=x"), map[string]int{none: no, "Bearer gho_right": ok}},
		"the order":        {slices.Concat(hub, two, []string{"ACCESS_TOKEN=t"}), map[string]int{"t": ok, "r": no, "gho_right": no}},
	} {
		i := f.indexer(registrytest.FreeAddr(t), append([]string{"PORTBOOK_ROLE=reader", "PORTBOOK_EVENTS_TOKEN=", "PORTBOOK_LOG_ACCESS=false"}, c.env...)...)
		for field, want := range c.want {
			header := []string{}
			if field != "" {
				header = []string{"Authorization", field}
			}
			for _, path := range []string{"/v1/search?q=", "/api/v1/repositories", "/"} {
				resp, body := newBrowser(t, "http://"+i.address).send(path, nil, header...)
				if resp.StatusCode != want || want == no && resp.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s: %s with %q: %s, want %d\n%.200s", what, path, field, resp.Status, want, body)
				}
			}
		}
		log := i.log.String()
		if strings.Contains(log, "marker-of-a-secret") || !strings.Contains(log, map[bool]string{true: "auth.method is none", false: "clients log in"}[what == "none"]) {
			t.Errorf("%s: the log does not tell the method, or tells a secret:\n%s", what, log)
		}
		i.process.Kill()
	}
	i := f.indexer(registrytest.FreeAddr(t), append([]string{"PORTBOOK_ROLE=reader", "PORTBOOK_EVENTS_TOKEN="}, hub...)...)
	before, begin, statuses := asked.Load(), time.Now(), map[int]int{}
	for n := range 300 {
		resp, _ := newBrowser(t, "http://"+i.address).send("/api/v1/health", nil, "Authorization", fmt.Sprintf("Bearer gho_%d", n))
		statuses[resp.StatusCode]++
	}
	if n, most := asked.Load()-before, int64(201+time.Since(begin)/time.Second); n > most {
		t.Errorf("GitHub was asked about %d of 300 wrong tokens in %v, want at most %d; the answers are %v", n, time.Since(begin), most, statuses)
	}
	asked.Store(before)
	if n := asked.Load(); n < 3 || n > 8 { // of 30 s each, although each token was sent three times or six
		t.Errorf("GitHub was asked %d times", n)
	}
	for _, env := range [][]string{{"READ_NEEDS_AUTH="}, {"ACCESS_TOKEN="}, {"WRITE_ACCESS_TOKEN=w"}, {"GITHUB_CLIENT_SECRET=s"}} {
		f.settings = env
		if out, err := f.run("serve"); err == nil || !strings.Contains(out, env[0][:strings.Index(env[0], "=")]) {
			t.Errorf("%q: %v\n%s", env, err, out)
		}
	}
}

// With keys, the registry trusts who has a shared token or a token of GitHub, and asks for one
// otherwise.
func TestSharedTokensInRegistry(t *testing.T) {
	t.Parallel()
	github, _ := fakeGitHub(t)
	f, i := asksForLogin(t, "ACCESS_TOKEN=t")
	type may struct{ pulls, writes bool } // who writes pulls as far as that takes
	reads, all, none := may{pulls: true}, may{true, true}, may{}
	for _, c := range []struct {
		what     string
		settings []string
		writer   string         // the token that is allowed all
		want     map[string]may // by token; "": nobody logs in
	}{
		{"one", []string{"ACCESS_TOKEN=t"}, "t", map[string]may{"t": all, "": reads, "x": none}},
		{"one for reads", []string{"ACCESS_TOKEN=t", "READ_NEEDS_AUTH="}, "t", map[string]may{"t": all, "": none, "x": none}},
		{"two", []string{"READ_ACCESS_TOKEN=r", "WRITE_ACCESS_TOKEN=w"}, "w", map[string]may{"w": all, "r": reads, "": none, "x": none}},
		{"GitHub", gitHubSettings(github), "gho_right", map[string]may{"gho_right": all, "": reads, "gho_wrong": none}},
	} {
		i.stop(t)
		f.settings = f.settings[:3] // what asksForLogin has set itself
		i = f.indexer(f.address, c.settings...)
		repository := func(token string) *remote.Repository { return i.oras(t, "team/app", login("anybody", token)) }
		push := func(token, tag string) (ocispec.Descriptor, error) {
			raw := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[],"annotations":{"of":"` + tag + `"}}`)
			d := content.NewDescriptorFromBytes(ocispec.MediaTypeImageIndex, raw)
			return d, repository(token).Manifests().PushReference(t.Context(), d, bytes.NewReader(raw), tag)
		}
		d, err := push(c.writer, "v1")
		allowed(t, c.what+": push", err, true)
		for token, want := range c.want {
			_, err := push(token, "v2")
			allowed(t, c.what+": push with "+token, err, want.writes)
			_, err = repository(token).Resolve(t.Context(), "v1")
			allowed(t, c.what+": pull with "+token, err, want.pulls)
			if !want.writes {
				allowed(t, c.what+": delete with "+token, repository(token).Manifests().Delete(t.Context(), d), false)
			}
		}
		allowed(t, c.what+": delete", repository(c.writer).Manifests().Delete(t.Context(), d), true)
	}
}

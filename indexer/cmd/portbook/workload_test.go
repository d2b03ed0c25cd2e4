package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2/content"

	"github.com/portbook/portbook/indexer/access/issuertest"
)

// A job logs in as a robot with the token of its issuer, in all ways in which clients send a
// password, and may do what the robot may, until the workload is removed. Wrong tokens are no
// guesses of a password, and one address cannot send any number of them.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	f, i := guarded(t)
	issuer, key := issuertest.New(t), issuertest.NewRSA(t, "a", 2048)
	issuer.Publish(key)
	add := func(issuer string) string {
		return strings.TrimSpace(f.must("workload", "add", "ci", "--issuer", issuer, "--audience", "registry.example",
			"--claim", "repository=acme/app", "--claim", "ref=refs/heads/*"))
	}
	id := add(issuer.URL)
	token, wrong := key.Sign(issuer.Claims(nil)), key.Sign(issuer.Claims(map[string]any{"ref": "refs/pull/1/merge"}))
	within(t, patience, "the workload is known", func() bool {
		code, _, _ := i.get(t, "/auth/token", "ci", token)
		return code == http.StatusOK
	})

	const index = "application/vnd.oci.image.index.v1+json"
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + index + `","manifests":[]}`)
	for name, may := range map[string]bool{"team/app": true, "team/other": false, "public/a": false} {
		for secret, right := range map[string]bool{token: true, wrong: false} {
			repository := i.oras(t, name, login("ci", secret))
			err := repository.Manifests().PushReference(t.Context(), content.NewDescriptorFromBytes(index, raw), bytes.NewReader(raw), "v1")
			allowed(t, "the job pushes "+name, err, may && right)
		}
	}

	const scope = "repository:team/app:pull,push"
	b := newBrowser(t, "http://"+i.address)
	type answer struct {
		Token        string `json:"token"`
		RefreshToken string `json:"refresh_token"`
	}
	expect := func(what string, want int, path string, form url.Values, header ...string) (a answer) {
		t.Helper()
		resp, text := b.send(path, form, header...)
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d: %.200s", what, resp.Status, want, text)
		}
		if want == http.StatusOK {
			if err := json.Unmarshal([]byte(text), &a); err != nil {
				t.Errorf("%s: %v: %.200s", what, err, text)
			}
		}
		return a
	}
	password := url.Values{"grant_type": {"password"}, "username": {"ci"}, "password": {token}, "scope": {scope}, "access_type": {"offline"}}
	given := expect("POST", http.StatusOK, "/auth/token", password)
	if sub := subjectOf(t, given.Token); sub != "ci+"+id {
		t.Errorf("the registry knows the job as %q, want ci+%s", sub, id)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {given.RefreshToken}, "scope": {scope}}
	if sub := subjectOf(t, expect("the login that lasts", http.StatusOK, "/auth/token", refresh).Token); sub != "ci+"+id {
		t.Errorf("logged in, the registry knows the job as %q", sub)
	}
	expect("a token of the registry", http.StatusOK, "/api/v1/search", nil, "Authorization", "Bearer "+given.Token)
	refresh.Set("refresh_token", token)
	expect("its token as a login that lasts", http.StatusUnauthorized, "/auth/token", refresh)
	expect("its token without a name", http.StatusUnauthorized, "/v1/search?q=", nil, "Authorization", "Bearer "+token)
	expect("its token in the browser", http.StatusUnauthorized, "/account/sign-in", url.Values{"name": {"ci"}, "password": {token}})
	if code, _, text := i.get(t, "/v1/search?q=", "ci", token); code != http.StatusOK || strings.Contains(text, "team/other") {
		t.Errorf("the job searches: %d: %s", code, text)
	}

	list := strings.Split(f.must("workload", "list"), "\n")
	if got := strings.Fields(list[1]); got[0] != id || got[1] != "ci" || got[2] != issuer.URL || got[5] != "repository=acme/app" {
		t.Errorf("workload list: %q", list)
	}
	if out := f.must("workload", "list", "--json"); !strings.Contains(out, `"claims":["ref=refs/heads/*","repository=acme/app"]`) {
		t.Errorf("workload list --json: %s", out)
	}
	for secret, want := range map[string]string{
		token: id + "  it is let in", wrong: id + `  ref is "refs/pull/1/merge", not refs/heads/*`, "x": "not a JSON Web Token",
		key.Sign(issuer.Claims(map[string]any{"exp": 1})): id + "  it is not valid now: ", token[:len(token)-9] + "_________": id + "  the signature is wrong",
		key.Sign(issuer.Claims(map[string]any{"iss": "https://x.example"})): id + "  iss is https://x.example, not " + issuer.URL,
	} {
		f.input = secret + "\n"
		if out, err := f.run("workload", "check", "ci"); !strings.Contains(out, want) || (err == nil) != (secret == token) {
			t.Errorf("workload check: %v, want %q:\n%s", err, want, out)
		}
	}
	for _, bad := range [][]string{
		{"ci", "--issuer", issuer.URL, "--audience", "x", "--claim", "aud=x"}, {"alice", "--issuer", issuer.URL, "--audience", "x", "--claim", "a=b"},
		{"ci", "--issuer", issuer.URL, "--audience", "x"}, {"ci", "--issuer", "http://issuer.example", "--audience", "x", "--claim", "a=b"},
	} {
		if out, err := f.run(append([]string{"workload", "add"}, bad...)...); err == nil {
			t.Errorf("workload add %q: %s", bad, out)
		}
	}

	// An issuer that is not there makes nothing else fail, and the log says which it is.
	const gone = "http://127.0.0.1:1"
	away := add(gone)
	orphan := key.Sign(issuer.Claims(map[string]any{"iss": gone}))
	within(t, patience, "the issuer is missed", func() bool {
		code, _, _ := i.get(t, "/auth/token", "ci", orphan)
		return code == http.StatusServiceUnavailable
	})
	if code, _, _ := i.get(t, "/auth/token", "ci", token); code != http.StatusOK {
		t.Errorf("with one of two issuers away: %d", code)
	}
	if log := i.log.String(); !strings.Contains(log, gone) || strings.Contains(log, token[:60]) || strings.Contains(log, signatureOf(token)) {
		t.Error("the log does not name the issuer that is away, or it has a token")
	}
	f.must("workload", "remove", away)

	// Somebody who sends wrong tokens is stopped, and nobody else.
	refused, begin := 0, time.Now()
	within(t, 3*patience, "too many wrong tokens", func() bool {
		refused++
		resp, _ := b.send("/auth/token", nil, "Authorization", basic("ci", wrong), "X-Forwarded-For", "192.0.2.7")
		if code := resp.StatusCode; code != http.StatusUnauthorized && (code != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "") {
			t.Fatalf("a wrong token: %s, %v", resp.Status, resp.Header)
		}
		return resp.StatusCode == http.StatusTooManyRequests
	})
	if least, most := 1000, 1001+int(time.Since(begin)/(100*time.Millisecond)); refused <= least || refused > most {
		t.Errorf("%d wrong tokens were tried, want more than %d and at most %d", refused, least, most)
	}
	expect("a right one from there", http.StatusTooManyRequests, "/auth/token", nil, "Authorization", basic("ci", token), "X-Forwarded-For", "192.0.2.7")
	expect("a right one from elsewhere", http.StatusOK, "/auth/token", nil, "Authorization", basic("ci", token))
	expect("a password from there", http.StatusUnauthorized, "/auth/token", nil, "Authorization", basic("ci", "a guess"), "X-Forwarded-For", "192.0.2.7")

	f.must("workload", "remove", id)
	refresh.Set("refresh_token", given.RefreshToken)
	within(t, patience, "the removed workload is refused", func() bool {
		code, _, _ := i.get(t, "/auth/token", "ci", token)
		return code == http.StatusUnauthorized
	})
	expect("the login of a removed workload", http.StatusUnauthorized, "/auth/token", refresh)
	expect("the registry's token of a removed workload", http.StatusUnauthorized, "/api/v1/search", nil, "Authorization", "Bearer "+given.Token)
	if out := f.must("audit", "--event", "workload.add", "--target", "ci", "--json"); !strings.Contains(out, id) || !strings.Contains(out, `"actor":"cli:`) {
		t.Errorf("the audit: %s", out)
	}
}

func basic(name, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
}

// signatureOf returns the part of a token that must be nowhere else.
func signatureOf(token string) string { return token[strings.LastIndex(token, ".")+1:] }

// subjectOf returns whom a token is about.
func subjectOf(t *testing.T, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token+"..", ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ Sub string }
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return c.Sub
}

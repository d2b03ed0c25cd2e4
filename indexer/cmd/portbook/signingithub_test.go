package main_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/portbook/portbook/registry/registrytest"
)

// A hub is a server that speaks as GitHub does to an OAuth application: its page for people,
// which sends each one back at once, and the part of its API that a sign-in uses. Who is there
// is the next user.
type hub struct {
	*httptest.Server
	redirect string // the registered address

	mu     sync.Mutex
	user   hubUser
	codes  map[string]hubCode
	tokens map[string]hubUser
	pages  int  // that were asked for
	broken bool // whether the API answers 500
}

type hubUser struct {
	ID    int64
	Login string
	Orgs  []string
	Teams [][2]string // organization and slug
}

type hubCode struct {
	user      hubUser
	challenge string
	scope     string
}

func newHub(t *testing.T, redirect string) *hub {
	h := &hub{redirect: redirect, codes: map[string]hubCode{}, tokens: map[string]hubUser{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/oauth/authorize", h.authorize)
	mux.HandleFunc("POST /login/oauth/access_token", h.token)
	mux.HandleFunc("GET /api/v3/user", h.of(func(u hubUser) []any {
		return []any{map[string]any{"id": u.ID, "login": u.Login, "email": "alice@example.org", "type": "User"}}
	}))
	mux.HandleFunc("GET /api/v3/user/orgs", h.of(func(u hubUser) (all []any) {
		for i, o := range u.Orgs {
			all = append(all, map[string]any{"id": i + 1, "login": o})
		}
		return all
	}))
	mux.HandleFunc("GET /api/v3/user/teams", h.of(func(u hubUser) (all []any) {
		for _, x := range u.Teams {
			all = append(all, map[string]any{"slug": x[1], "name": "The " + x[1], "organization": map[string]any{"login": x[0]}})
		}
		return all
	}))
	h.Server = httptest.NewServer(mux)
	t.Cleanup(h.Close)
	return h
}

func (h *hub) authorize(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := r.URL.Query()
	if q.Get("client_id") != "app" || q.Get("redirect_uri") != h.redirect || q.Get("state") == "" || q.Get("code_challenge_method") != "S256" {
		http.Error(w, "the redirect_uri MUST match the registered callback URL for this application", http.StatusNotFound)
		return
	}
	code := fmt.Sprintf("code-%d", len(h.codes))
	h.codes[code] = hubCode{h.user, q.Get("code_challenge"), q.Get("scope")}
	http.Redirect(w, r, h.redirect+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
}

// token answers 200 also to a wrong request, as GitHub does.
func (h *hub) token(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	code, found := h.codes[r.FormValue("code")]
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	switch {
	case r.FormValue("client_id") != "app" || r.FormValue("client_secret") != "marker-of-a-secret":
		fmt.Fprint(w, `{"error":"incorrect_client_credentials","error_description":"The client_id and/or client_secret passed are incorrect."}`)
	case !found || base64.RawURLEncoding.EncodeToString(sum[:]) != code.challenge:
		fmt.Fprint(w, `{"error":"bad_verification_code","error_description":"The code passed is incorrect or expired."}`)
	default:
		delete(h.codes, r.FormValue("code"))
		token := "gho_" + strconv.Itoa(len(h.tokens))
		if code.scope != "read:org" {
			code.user.Orgs, code.user.Teams = nil, nil
		}
		h.tokens[token] = code.user
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"bearer","scope":%q}`, token, code.scope)
	}
}

// of answers with what a list says of the user of a token, a page at a time; a list of one
// user with the user.
func (h *hub) of(list func(hubUser) []any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		u, found := h.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		if h.broken || !found {
			http.Error(w, `{"message":"Bad credentials"}`, map[bool]int{true: 500, false: 401}[h.broken])
			return
		}
		all := list(u)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if strings.HasSuffix(r.URL.Path, "/user") {
			_ = json.NewEncoder(w).Encode(all[0])
			return
		}
		h.pages++
		page, _ := strconv.Atoi(r.FormValue("page"))
		size, _ := strconv.Atoi(r.FormValue("per_page"))
		if begin, end := (page-1)*size, page*size; end < len(all) {
			w.Header().Set("Link", fmt.Sprintf(`<%s%s?per_page=%d&page=%d>; rel="next", <x>; rel="last"`, h.URL, r.URL.Path, size, page+1))
			all = all[begin:end]
		} else {
			all = all[min(begin, len(all)):]
		}
		_ = json.NewEncoder(w).Encode(append([]any{}, all...))
	}
}

// is makes a user be there.
func (h *hub) is(u hubUser) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.user = u
}

// A member of an organization of GitHub signs in; its account is that of the number, whatever
// its login is, and its groups are the organizations and teams that may sign in.
func TestSignInByGitHub(t *testing.T) {
	t.Parallel()
	f, _ := guarded(t)
	address := registrytest.FreeAddr(t)
	h := newHub(t, "http://"+address+"/account/callback/github")
	settings := []string{
		"PORTBOOK_COMPONENTS_WEB_UI=true", "PORTBOOK_REGISTRY_PUBLIC_URL=http://" + address,
		"PORTBOOK_AUTH_GITHUB_LOGIN_CLIENT_ID=app", "PORTBOOK_AUTH_GITHUB_LOGIN_CLIENT_SECRET=marker-of-a-secret",
		"PORTBOOK_AUTH_GITHUB_LOGIN_URL=" + h.URL, "PORTBOOK_AUTH_GITHUB_LOGIN_API=" + h.URL + "/api/v3",
	}
	i := f.indexer(address, append(settings, "PORTBOOK_AUTH_GITHUB_LOGIN_ORGANIZATIONS=Acme")...)
	signIn := func(u hubUser) (*browser, *http.Response, string) {
		t.Helper()
		h.is(u)
		b := newBrowser(t, "http://"+i.address)
		resp, text := b.visit(b.toProvider("github", "/"))
		return b, resp, text
	}
	var many []string
	for n := range 150 {
		many = append(many, fmt.Sprintf("other-%d", n))
	}
	octocat := hubUser{583231, "Octo-Cat", append(many, "acme"), [][2]string{{"acme", "core"}, {"acme", "a--b"}, {"other-1", "dev"}}}
	for range 120 {
		octocat.Teams = append(octocat.Teams, [2]string{"other-2", "root"})
	}
	octocat.Teams = append(octocat.Teams, [2]string{"ACME", "Last_One"})
	b, resp, text := signIn(octocat)
	if resp.StatusCode != http.StatusSeeOther || b.signedInAs() != "octo-cat" {
		t.Fatalf("%s\n%s", resp.Status, text)
	}
	if out := f.must("user", "list"); !regexp.MustCompile(`octo-cat +person +acme,acme\.core,acme\.last_one `).MatchString(out) {
		t.Errorf("accounts:\n%s", out)
	}
	if h.pages != 4 {
		t.Errorf("%d pages were read, want 2 of organizations and 2 of teams", h.pages)
	}
	octocat.Login = "new-name"
	if b, _, _ := signIn(octocat); b.signedInAs() != "octo-cat" {
		t.Errorf("with another login: %q", b.signedInAs())
	}
	for what, c := range map[string]struct {
		user hubUser
		code int
		want string
	}{
		"a login that another had":   {hubUser{7, "Octo-Cat", []string{"acme"}, nil}, http.StatusForbidden, "there is an account"},
		"the login of an account":    {hubUser{8, "alice", []string{"acme"}, nil}, http.StatusForbidden, "--subject &#39;8&#39;"},
		"in no organization":         {hubUser{9, "eve", nil, nil}, http.StatusForbidden, "in none of the organizations"},
		"in another organization":    {hubUser{9, "eve", []string{"acme2", "xacme", "dev"}, [][2]string{{"dev", "acme"}}}, http.StatusForbidden, "in none of the organizations"},
		"who has left since":         {hubUser{583231, "octo-cat", nil, nil}, http.StatusForbidden, "in none of the organizations"},
		"an answer without a number": {hubUser{0, "zero", []string{"acme"}, nil}, http.StatusServiceUnavailable, "GitHub does not answer as it should"},
	} {
		b, resp, text := signIn(c.user)
		if resp.StatusCode != c.code || session(resp) != nil || !strings.Contains(text, c.want) || b.signedInAs() != "" {
			t.Errorf("%s: %s, want %d and %q\n%s", what, resp.Status, c.code, c.want, text)
		}
	}
	h.is(octocat)
	b = newBrowser(t, "http://"+i.address)
	b.refusedWith(b.toProvider("github", "/")+"x", http.StatusForbidden, "has not begun") // the state, as it is the last
	b = newBrowser(t, "http://"+i.address)
	b.refusedWith(strings.Replace(b.toProvider("github", "/"), "code=code", "code=x", 1), http.StatusForbidden, "was not accepted by GitHub")
	b = newBrowser(t, "http://"+i.address)
	h.mu.Lock()
	h.broken = true
	h.mu.Unlock()
	b.refusedWith(b.toProvider("github", "/"), http.StatusServiceUnavailable, "GitHub does not answer as it should")
	h.mu.Lock()
	h.broken = false
	h.mu.Unlock()

	// Without a list everybody at GitHub may sign in, and no organization counts: anybody can
	// make one that is called as a group here.
	i.stop(t)
	i = f.indexer(address, settings...)
	b, resp, text = signIn(hubUser{10, "frank", []string{"dev"}, [][2]string{{"dev", "dev"}}})
	if resp.StatusCode != http.StatusSeeOther || b.signedInAs() != "frank" {
		t.Fatalf("%s\n%s", resp.Status, text)
	}
	if out := f.must("user", "list"); !regexp.MustCompile(`frank +person +- `).MatchString(out) {
		t.Errorf("accounts:\n%s", out)
	}
}

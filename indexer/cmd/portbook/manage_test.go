package main_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2/content"
)

// push pushes an empty index as an administrator.
func (i *indexerProcess) push(t *testing.T, names ...string) {
	t.Helper()
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	d := content.NewDescriptorFromBytes("application/vnd.oci.image.index.v1+json", raw)
	for _, name := range names {
		err := i.oras(t, name, login("root", password)).Manifests().PushReference(t.Context(), d, bytes.NewReader(raw), "v1")
		if err != nil {
			t.Fatal(err)
		}
	}
}

// call sends a request with JSON and Basic credentials.
func (i *indexerProcess) call(t *testing.T, method, path, name, secret, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+i.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(name, secret)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// By API: an administrator makes a team lead, who grants; a developer then sees the
// repository, may push to it, and is found in the answer to why; when the lead takes it back,
// none of that is so.
func TestDelegationByAPI(t *testing.T) {
	t.Parallel()
	f, i := guarded(t)
	i.push(t, "lab/app", "secret/x")
	f.equal(patience)
	does := func(who, method, path, body string, want int) string {
		t.Helper()
		code, text := i.call(t, method, path, who, password, body)
		if code != want {
			t.Fatalf("%s %s as %s: %d, want %d: %s", method, path, who, code, want, text)
		}
		return text
	}
	sees := func(who string) []string {
		_, _, text := i.get(t, "/v1/search?q=", who, password)
		return regexp.MustCompile(`(lab/app|secret/x)`).FindAllString(text, -1)
	}
	for _, name := range []string{"lead", "dave"} {
		does("root", "POST", "/api/v1/users", `{"name":"`+name+`","password":"`+password+`"}`, 201)
	}
	const grant = `{"grantee":"dave","pattern":"lab/app","actions":["push"]}`
	does("lead", "PUT", "/api/v1/grants", grant, 403)
	does("root", "PUT", "/api/v1/grants", `{"grantee":"lead","pattern":"lab/*","actions":["admin"]}`, 201)
	within(t, patience, "lead administers", func() bool {
		_, text := i.call(t, "GET", "/api/v1/me", "lead", password, "")
		return strings.Contains(text, `"administers":["lab/*"]`)
	})
	does("lead", "PUT", "/api/v1/grants", grant, 201)
	does("lead", "PUT", "/api/v1/grants", `{"grantee":"dave","pattern":"secret/x","actions":["pull"]}`, 403)
	within(t, patience, "dave sees the repository", func() bool { return slices.Equal(sees("dave"), []string{"lab/app"}) })
	if _, _, text := i.get(t, "/auth/token?scope=repository:lab/app:push,pull", "dave", password); !strings.Contains(text, `"scope":"repository:lab/app:pull,push"`) {
		t.Errorf("dave's token for the registry: %s", text)
	}
	if why := does("lead", "GET", "/api/v1/grants?repository=lab/app&account=dave", "", 200); !strings.Contains(why, `"actions":["pull","push"]`) {
		t.Errorf("why dave may push: %s", why)
	}
	does("lead", "DELETE", "/api/v1/grants?grantee=dave&pattern=lab/app", "", 204)
	within(t, patience, "dave does not see the repository any more", func() bool { return len(sees("dave")) == 0 })
	if _, _, text := i.get(t, "/auth/token?scope=repository:lab/app:push,pull", "dave", password); strings.Contains(text, `"scope":"repository`) {
		t.Errorf("dave still gets a token for the registry: %s", text)
	}
	if records := f.must("audit", "--actor", "lead", "--json"); strings.Count(records, `"grant.`) != 2 {
		t.Errorf("what lead did: %s", records)
	}
	for _, args := range [][]string{{"user", "delete", "root"}, {"user", "set", "--disabled", "root"}, {"user", "set", "--admin=false", "root"}} {
		if out, err := f.run(args...); err == nil || !strings.Contains(out, "last administrator") {
			t.Errorf("portbook %q: %v\n%s", args, err, out)
		}
	}
}

// By pages: the same, behind the front, which sends all of it to the writer; nothing that is
// typed becomes markup, and what destroys something asks first.
func TestDelegationByPages(t *testing.T) {
	t.Parallel()
	f, writer := guarded(t)
	writer.push(t, "lab/app", "secret/x")
	f.equal(patience)
	front := f.front(f.reader(f.postgres), f.reader(f.postgres))
	signedIn := func(name, secret string) *browser {
		t.Helper()
		b := newBrowser(t, front.url)
		if resp, text := b.send("/account/sign-in", url.Values{"name": {name}, "password": {secret}}); resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("sign in as %s: %s\n%s", name, resp.Status, text)
		}
		return b
	}
	// shows sends a request and fails the test unless the answer has a status and all texts.
	shows := func(b *browser, path string, form url.Values, want int, texts ...string) string {
		t.Helper()
		resp, text := b.send(path, form)
		if resp.StatusCode != want {
			t.Errorf("%s %v: %s, want %d\n%s", path, form, resp.Status, want, text)
		}
		for _, wanted := range texts {
			if !strings.Contains(text, wanted) {
				t.Errorf("%s %v: %q is not in\n%s", path, form, wanted, text)
			}
		}
		if want == http.StatusOK && (resp.Header.Get("Cache-Control") != "no-store" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'")) {
			t.Errorf("%s: %v", path, resp.Header)
		}
		return text
	}
	root := signedIn("root", password)
	shows(newBrowser(t, front.url), "/account/users", nil, 303)
	shows(root, "/account/users", nil, 200, "alice", "administrator", "robot")
	shows(root, "/account/users?q=ali&group=dev", nil, 200, "alice")
	for _, path := range []string{"/api/v1/users", "/api/v1/users/alice", "/api/v1/groups", "/api/v1/tokens", "/api/v1/grants?grantee=group:dev", "/api/v1/me"} {
		shows(root, path, nil, 200) // a reader would refuse all but the last
	}
	for _, name := range []string{"lead", "dave"} {
		shows(root, "/account/users", url.Values{"name": {name}, "kind": {"person"}, "password": {password}}, 303)
	}
	const evil = `"><script>alert(1)</script>`
	for path, form := range map[string]url.Values{
		"/account/users":              {"name": {evil}, "kind": {"robot"}, "groups": {evil}},
		"/account/users/dave/change":  {"groups": {evil}},
		"/account/grants":             {"grantee": {evil}, "pattern": {evil}, "actions": {evil}},
		"/account/users/ci/tokens":    {"note": {evil}, "days": {"7"}},
		"/account/users/dave/delete":  {evil: {evil}}, // asks whether that is meant
		"/account/tokens/evil/revoke": {evil: {evil}},
	} {
		if _, text := root.send(path, form); strings.Contains(text, "<script>alert") {
			t.Errorf("%s does not escape:\n%s", path, text)
		}
	}
	for _, path := range []string{"/account/users?q=", "/account/users?group=", "/account/users/", "/account/grants?grantee=", "/account/grants?repository=", "/account/grants?repository=lab/app&who=", "/account/grants?after="} {
		if _, text := root.send(path+url.QueryEscape(evil), nil); strings.Contains(text, "<script>alert") {
			t.Errorf("%s does not escape:\n%s", path, text)
		}
	}
	shows(root, "/account/users/ci", nil, 200, "&lt;script&gt;alert(1)", "team/app", "a grant to itself", "group")
	shows(root, "/account/users/alice", nil, 200, "team/*", "<b>dev</b>", "People make their own tokens")
	shows(root, "/account/users/none", nil, 404, "there is no account")
	const grantsTab = `<a href="/account/grants" aria-current="page">Grants</a>`
	shows(root, "/account/grants?grantee=dave", nil, 200, grantsTab, "No grant is like that")
	if text := shows(root, "/account/grants?repository=UPPER", nil, 400, grantsTab, "not a repository name"); strings.Contains(text, "/r/UPPER") || strings.Contains(text, "No grant") {
		t.Errorf("the page of grants of what is no repository:\n%s", text)
	}
	shows(root, "/account/users/root/change", url.Values{"administrator": {"no"}}, 409, "last administrator")
	shows(root, "/account/grants", url.Values{"grantee": {"lead"}, "pattern": {"lab/*"}, "actions": {"admin"}}, 303)

	lead, dave := signedIn("lead", password), signedIn("dave", password)
	within(t, patience, "the page of the repository leads on", func() bool {
		_, text := lead.send("/r/lab/app", nil)
		return strings.Contains(text, "/account/grants?repository=lab%2fapp")
	})
	if text := shows(lead, "/account/grants", nil, 200, "lab/*"); strings.Contains(text, "<b>dev</b>") || strings.Contains(text, "public/") || strings.Contains(text, `"/account/users"`) {
		t.Errorf("lead sees\n%s", text)
	}
	shows(lead, "/account/users", nil, 403)
	shows(lead, "/account/users/dave", nil, 403)
	shows(lead, "/account/grants?repository=secret/x", nil, 403, "you do not administer")
	shows(lead, "/account/grants", url.Values{"grantee": {"dave"}, "pattern": {"secret/x"}, "actions": {"pull"}}, 403, "you do not administer")
	shows(lead, "/account/grants", url.Values{"grantee": {"dave"}, "pattern": {"lab/app"}}, 400, "choose at least one action")
	shows(lead, "/account/grants", url.Values{"grantee": {"dave"}, "pattern": {"lab/app"}, "actions": {"pull", "push"}}, 303)
	within(t, patience, "dave sees the repository", func() bool { resp, _ := dave.send("/r/lab/app", nil); return resp.StatusCode == 200 })
	if _, text := dave.send("/r/lab/app", nil); strings.Contains(text, "/account/grants") {
		t.Error("the page of the repository leads dave to its grants")
	}
	shows(dave, "/account/grants", nil, 403)
	shows(lead, "/account/grants?repository=lab/app&who=dave", nil, 200, "<dt>push</dt><dd><p>because <code>lab/app:pull,push</code> is granted to <b>dave</b></p>", `<dt>delete</dt><dd><p class="none">nothing allows it</p>`)
	shows(lead, "/account/grants?repository=lab/app&who=root", nil, 200, "is an administrator")
	shows(root, "/account/grants", url.Values{"grantee": {"dave"}, "pattern": {"*"}, "actions": {"delete"}}, 303)
	if text := shows(lead, "/account/grants?repository=lab/app&who=dave", nil, 200, "a grant on a wider pattern, which you do not administer", "Grants on wider patterns"); strings.Contains(text, "*:pull") {
		t.Errorf("lead sees the wider grant\n%s", text)
	}
	take := url.Values{"grantee": {"dave"}, "pattern": {"lab/app"}}
	shows(lead, "/account/grants/remove", take, 200, "Take back what dave may do with lab/app?", `name="sure" value="yes"`)
	shows(lead, "/account/grants?repository=lab/app", nil, 200, "<b>dave</b>")
	take.Set("sure", "yes")
	shows(lead, "/account/grants/remove", take, 303)
	shows(root, "/account/grants/remove", url.Values{"grantee": {"dave"}, "pattern": {"*"}, "sure": {"yes"}}, 303)
	within(t, patience, "dave does not see the repository any more", func() bool { resp, _ := dave.send("/r/lab/app", nil); return resp.StatusCode == 404 })

	// A new password ends other sessions, and not this one.
	other, second := signedIn("dave", password), time.Now().Unix()
	within(t, patience, "a second ends, since sessions count whole ones", func() bool { return time.Now().Unix() > second })
	shows(dave, "/account/password", url.Values{"current": {"wrong password"}, "password": {"another password"}}, 403, "the current password is wrong")
	shows(dave, "/account/password", url.Values{"current": {password}, "password": {"short"}}, 400, "10 to 256")
	shows(dave, "/account/password", url.Values{"current": {password}, "password": {"another password"}}, 303)
	shows(dave, "/account?done=password", nil, 200, "<h1>dave</h1>", "Your password is changed")
	within(t, patience, "the other session has ended", func() bool { _, text := other.send("/account", nil); return strings.Contains(text, "<h1>Sign in</h1>") })
	shows(root, "/account/users/dave/password", url.Values{"password": {"a third password"}}, 200, "The password is changed")
	within(t, patience, "dave signs in with it", func() bool {
		resp, _ := newBrowser(t, front.url).send("/account/sign-in", url.Values{"name": {"dave"}, "password": {"a third password"}})
		return resp.StatusCode == http.StatusSeeOther
	})
	shows(root, "/account/users/dave/delete", url.Values{}, 200, "Delete the account dave?")
	shows(root, "/account/users/dave", nil, 200)
	shows(root, "/account/users/dave/delete", url.Values{"sure": {"yes"}}, 303)
	shows(root, "/account/users/dave", nil, 404)
	_, text := root.send("/account/users/ci/tokens", url.Values{"days": {"7"}})
	made := regexp.MustCompile(`pbt_[a-z2-7]+`).FindString(text)
	if code, _, text := writer.get(t, "/api/v1/me", "ci", made); code != http.StatusOK || !strings.Contains(text, `"name":"ci"`) {
		t.Errorf("with the new token of the robot: %d %s", code, text)
	}
	id := regexp.MustCompile(`/account/users/ci/tokens/([0-9a-f]{8})/revoke`).FindStringSubmatch(text)
	if id == nil {
		t.Fatalf("no token to revoke:\n%s", text)
	}
	shows(root, id[0], url.Values{}, 200, "Revoke the token "+id[1])
	shows(root, id[0], url.Values{"sure": {"yes"}}, 303)
}

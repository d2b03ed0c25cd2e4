package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	managing "github.com/portbook/portbook/indexer/manage"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
	"github.com/portbook/portbook/schema/schematest"
)

// A managed is a server on a real database with the accounts root (an administrator), alice,
// bob, lead (who administers team/*), and ci (a robot).
type managed struct {
	*httptest.Server
	store  *postgres.Store
	pool   *pgxpool.Pool
	signer *access.Signer
	tokens map[string]string // by account; "limited" is one of root that is limited to *:admin
	ids    map[string]string // of the tokens
	hooks  *deliver.Webhooks
}

func manage(t *testing.T, change ...func(*web.Config)) *managed {
	t.Helper()
	pool := schematest.New(t)
	store, signer := postgres.New(pool, postgres.Config{}), testSigner(t)
	m := &managed{store: store, pool: pool, signer: signer, tokens: map[string]string{}, ids: map[string]string{}}
	for _, a := range []access.Account{{Name: "root", Admin: true}, {Name: "alice", Groups: []string{"dev"}}, {Name: "bob"}, {Name: "lead"}, {Name: "ci", Robot: true}} {
		m.must(t, store.AddAccount(t.Context(), a))
		m.token(t, a.Name, access.PersonalToken{Account: a.Name})
	}
	m.token(t, "limited", access.PersonalToken{Account: "root", Narrowed: true, Rules: access.Rules{ruleOf(t, "*:admin")}})
	for _, g := range [][2]string{{"lead", "team/*:admin"}, {"group:dev", "team/app:push"}, {"group:dev", "*:pull"}, {"everybody", "public/*:pull"}, {"bob", "secret/x:admin"}} {
		to, err := access.ParseGrantee(g[0])
		m.must(t, err)
		m.must(t, store.Grant(t.Context(), to, ruleOf(t, g[1])))
	}
	c := web.Config{
		Read: func(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			return store.View(ctx, asker, func(v *postgres.View) error { return f(v) })
		},
		Login: login.New(login.Config{Accounts: access.NewAccounts(store, signer), Signer: signer, PublicURL: "/", Changer: store, Audit: store, UseRate: store.UseRate, Operations: operations(t, store)}),
		Log:   slog.New(slog.DiscardHandler), PublicURL: "/", WebUI: true, Version: "v1",
	}
	box, err := deliver.NewBox(strings.Repeat("k", 32))
	m.must(t, err)
	m.hooks = deliver.NewWebhooks(store, box)
	c.Webhooks = m.hooks
	for _, f := range change {
		f(&c)
	}
	m.Server = httptest.NewServer(web.New(c))
	t.Cleanup(m.Close)
	return m
}

// operations returns a Manager of a registry that is away, with one operation.
func operations(t testing.TB, store *postgres.Store) *managing.Manager {
	t.Helper()
	client, err := remote.New(remote.Config{URL: "http://127.0.0.1:1"})
	if err == nil {
		_, err = store.AddOperation(t.Context(), indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return managing.New(managing.Config{Store: store, Remote: client})
}

func ruleOf(t testing.TB, text string) access.Rule {
	t.Helper()
	r, err := access.ParseRule(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (m *managed) must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// token makes a token, which m knows by a name.
func (m *managed) token(t testing.TB, name string, p access.PersonalToken) {
	t.Helper()
	token := access.NewToken()
	p.ID = token.ID()
	m.must(t, m.store.AddToken(t.Context(), p, token.Hash()))
	m.tokens[name], m.ids[name] = token.Text(), p.ID
}

// address returns an address for a documented path.
func (m *managed) address(path string) string {
	if strings.HasPrefix(path, "/api/v1/webhooks/") {
		return strings.NewReplacer("{id}", "1", "{delivery}", "1").Replace(path)
	}
	return strings.NewReplacer("{account}", "bob", "{id}", m.ids["ci"], "{name}", "team/app", "{namespace}", "team", "{tag}", "v1", "{reference}", "v1", "{digest}", dgst("a").String(), "{operation}", "1", "{trash}", "1", "{rule}", "1", "{plan}", "1").Replace(path)
}

// send sends a request with the token of somebody, and JSON if there is a body.
func (m *managed) send(t testing.TB, who, method, path, body string) (*http.Response, string) {
	t.Helper()
	var header []string
	if who != "" {
		header = append(header, "Authorization", "Bearer "+m.tokens[who])
	}
	if body != "" {
		header = append(header, "Content-Type", "application/json")
	}
	return do(t, method, m.URL+path, body, header...)
}

// wants sends a request and fails the test unless the answer has a status and all texts.
func (m *managed) wants(t testing.TB, who, method, path, body string, status int, texts ...string) string {
	t.Helper()
	resp, got := m.send(t, who, method, path, body)
	if resp.StatusCode != status {
		t.Errorf("%s %s as %q: %d, want %d: %s", method, path, who, resp.StatusCode, status, got)
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			t.Errorf("%s %s as %q: %q is not in %s", method, path, who, text, got)
		}
	}
	return got
}

// Of every operation on accounts, tokens and grants: who does not log in is refused, and so
// are a limited token, whatever its rules, and who may not; an administrator is not. All
// answers are as they are documented.
func TestManagement(t *testing.T) {
	t.Parallel()
	m := manage(t)
	d, schemas := openAPI(t, m.URL)
	// What to send for each operation, and what alice gets for it. {account} and {id} are of a
	// robot that she may not see.
	cases := map[string]struct {
		query, body string
		alice       int
	}{
		"me":          {alice: 200},
		"users":       {alice: 403},
		"addUser":     {body: `{"name":"new","password":"a long password","groups":["dev"]}`, alice: 403},
		"user":        {alice: 404},
		"changeUser":  {body: `{"disabled":true,"groups":["a","b"]}`, alice: 404},
		"deleteUser":  {alice: 404},
		"setPassword": {body: `{"password":"another password"}`, alice: 404},
		"groups":      {alice: 403},
		"tokens":      {query: "?account=ROBOT", alice: 403},
		"addToken":    {body: `{"account":"ROBOT","note":"n","rules":["team/*:pull"]}`, alice: 403},
		"token":       {alice: 404},
		"revokeToken": {alice: 404},
		"rotateToken": {body: `{"overlap_seconds":60}`, alice: 404},
		"grants":      {query: "?repository=team/app", alice: 403},
		"putGrant":    {body: `{"grantee":"group:dev","pattern":"team/new","actions":["push"]}`, alice: 403},
		"removeGrant": {query: "?grantee=group:dev&pattern=team/app", alice: 403},
		"audit":       {alice: 403},
		"exportAudit": {alice: 403},

		"collect":       {alice: 403},
		"collectBlobs":  {query: "?state=stuck", alice: 403},
		"pauseCollect":  {alice: 403},
		"resumeCollect": {alice: 403},
		"retryCollect":  {alice: 403},
	}
	checked := 0
	for path, item := range d.Paths {
		for method, o := range item {
			first, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/v1/"), "/")
			if !slices.Contains([]string{"me", "users", "groups", "tokens", "grants", "audit", "collect"}, first) {
				continue
			}
			c, known := cases[o.OperationID]
			if !known {
				t.Errorf("the operation %s is not tested", o.OperationID)
				continue
			}
			checked++
			robot := "x-" + strings.ToLower(o.OperationID)
			m.must(t, m.store.AddAccount(t.Context(), access.Account{Name: robot, Robot: o.OperationID != "setPassword"}))
			m.token(t, robot, access.PersonalToken{Account: robot})
			target := strings.NewReplacer("{account}", robot, "{id}", m.ids[robot]).Replace(path) + strings.ReplaceAll(c.query, "ROBOT", robot)
			body, method := strings.ReplaceAll(c.body, "ROBOT", robot), strings.ToUpper(method)
			check := func(who string, want int) {
				t.Helper()
				resp, got := m.send(t, who, method, target, body)
				success := resp.StatusCode < 300
				if resp.StatusCode != want && !(want == 200 && success) {
					t.Errorf("%s %s as %q: %d, want %d: %s", method, target, who, resp.StatusCode, want, got)
					return
				}
				if resp.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s %s as %q: Cache-Control %q", method, target, who, resp.Header.Get("Cache-Control"))
				}
				checkDocumented(t, schemas, o, strings.ToLower(method), path, resp, got)
			}
			check("", 401)
			check("alice", c.alice)
			check("limited", map[bool]int{true: 200, false: 403}[o.OperationID == "me"])
			check("root", 200)
		}
	}
	if checked != len(cases) {
		t.Errorf("%d operations are in the document, and %d are tested", checked, len(cases))
	}
}

// checkDocumented checks that an answer is as it is documented.
func checkDocumented(t *testing.T, c *jsonschema.Compiler, o operation, method, path string, resp *http.Response, body string) {
	t.Helper()
	code, media := fmt.Sprint(resp.StatusCode), "application/json"
	if resp.StatusCode >= 400 {
		code, media = "default", "application/problem+json"
	}
	documented, found := o.Responses[code]
	bodies := []string{body}
	if _, lines := documented.Content["application/x-ndjson"]; lines {
		media, bodies = "application/x-ndjson", slices.Collect(strings.Lines(body)) // none, if all are younger than 5 s
	}
	switch {
	case !found:
		t.Errorf("%s %s: %s is not documented", method, path, code)
	case len(documented.Content) == 0:
		if body != "" {
			t.Errorf("%s %s: %s has a body: %s", method, path, code, body)
		}
	case resp.Header.Get("Content-Type") != media:
		t.Errorf("%s %s: Content-Type %q", method, path, resp.Header.Get("Content-Type"))
	default:
		for _, body := range bodies {
			checkSchema(t, method+" "+path, schemaOf(t, c, method, path, code, media), body)
		}
	}
	if (code == "201") != (resp.Header.Get("Location") != "") {
		t.Errorf("%s %s: %s with Location %q", method, path, code, resp.Header.Get("Location"))
	}
}

// What is made is at the address that Location names, and changes as it is asked to.
func TestManagedAccount(t *testing.T) {
	t.Parallel()
	m := manage(t)
	resp, body := m.send(t, "root", "POST", "/api/v1/users", `{"name":"carol","password":"a long password"}`)
	if resp.StatusCode != 201 || strings.Contains(body, "assword") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	m.wants(t, "root", "GET", resp.Header.Get("Location"), "", 200, `"name":"carol"`, `"groups":[]`)
	m.wants(t, "root", "POST", "/api/v1/users", `{"name":"carol","password":"a long password"}`, 409, "it exists already")
	m.wants(t, "root", "POST", "/api/v1/users", `{"name":"Carol","password":"a long password"}`, 400, "not a name")
	m.wants(t, "root", "POST", "/api/v1/users", `{"name":"dave"}`, 400, "password")
	m.wants(t, "root", "POST", "/api/v1/users", `{"name":"everybody","robot":true}`, 400, "means something else")
	m.wants(t, "root", "POST", "/api/v1/users", `{"name":"r","robot":true,"administrator":true}`, 400, "only a person")
	m.wants(t, "root", "POST", "/api/v1/users", `{"name":"r","robot":true,"password":"a long password"}`, 400, "has no password")
	m.wants(t, "root", "PATCH", "/api/v1/users/ci", `{"administrator":true}`, 400, "only a person")
	m.wants(t, "root", "PATCH", "/api/v1/users/carol", `{"groups":["dev","ops"]}`, 200, `"groups":["dev","ops"]`, `"disabled":false`)
	m.wants(t, "root", "PATCH", "/api/v1/users/carol", `{"administrator":true}`, 200, `"groups":["dev","ops"]`, `"administrator":true`)
	m.wants(t, "root", "PATCH", "/api/v1/users/carol", `{"administrator":false,"groups":[]}`, 200, `"groups":[]`)
	m.wants(t, "root", "PATCH", "/api/v1/users/nobody", `{}`, 404, `there is no account \"nobody\"`)
	m.wants(t, "root", "PUT", "/api/v1/users/ci/password", `{"password":"a long password"}`, 409, "robot")
	for what, body := range map[string]string{"demote": `{"administrator":false}`, "disable": `{"disabled":true}`} {
		if got := m.wants(t, "root", "PATCH", "/api/v1/users/root", body, 409, "last administrator"); !strings.Contains(got, `"status":409`) {
			t.Errorf("%s: %s", what, got)
		}
	}
	m.wants(t, "root", "DELETE", "/api/v1/users/root", "", 409, "last administrator")
	m.wants(t, "root", "DELETE", "/api/v1/users/carol", "", 204)
	m.wants(t, "root", "GET", "/api/v1/users/carol", "", 404)

	// Of others, alice learns nothing, not even whether they exist.
	_, hidden := m.send(t, "alice", "GET", "/api/v1/users/bob", "")
	_, absent := m.send(t, "alice", "GET", "/api/v1/users/eve", "")
	var a, b answer.Problem
	for text, p := range map[string]*answer.Problem{hidden: &a, absent: &b} {
		m.must(t, json.Unmarshal([]byte(text), p))
	}
	if a.Request, b.Request = "", ""; a.Detail != strings.ReplaceAll(b.Detail, "eve", "bob") || a.Status != b.Status {
		t.Errorf("a hidden account differs from an absent one:\n%s\n%s", hidden, absent)
	}
	m.wants(t, "alice", "GET", "/api/v1/users/alice", "", 200, `"groups":["dev"]`)
	m.wants(t, "alice", "PATCH", "/api/v1/users/alice", `{"administrator":true}`, 403)
	m.wants(t, "alice", "DELETE", "/api/v1/users/alice", "", 403)

	// A password of one's own takes the current one, of administrators too.
	m.wants(t, "root", "PUT", "/api/v1/users/alice/password", `{"password":"the first password"}`, 204)
	m.wants(t, "alice", "PUT", "/api/v1/users/alice/password", `{"password":"the second password"}`, 403, "current")
	eventually(t, "the current password of alice is known", func() bool {
		resp, _ := m.send(t, "alice", "PUT", "/api/v1/users/alice/password", `{"password":"short","current_password":"the first password"}`)
		return resp.StatusCode == 400
	})
	m.wants(t, "alice", "PUT", "/api/v1/users/alice/password", `{"password":"the second password","current_password":"the first password"}`, 204)
	m.wants(t, "root", "PUT", "/api/v1/users/root/password", `{"password":"the second password"}`, 403, "current")
	records, err := m.store.Audit(t.Context(), access.AuditQuery{Event: access.AccountPassword, Target: "alice", Limit: 10})
	m.must(t, err)
	if len(records) != 2 || records[0].Actor.Name != "alice" || records[0].Actor.Token != m.ids["alice"] || records[1].Actor.Name != "root" || records[0].Request == "" {
		t.Errorf("records of the password: %+v", records)
	}
}

// Tokens are made and replaced by those they belong to, never for longer or for more.
func TestManagedTokens(t *testing.T) {
	t.Parallel()
	m := manage(t)
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	later := time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
	resp, body := m.send(t, "alice", "POST", "/api/v1/tokens", `{"note":"a\u001b[31m\nb","expires_at":"`+soon+`"}`)
	var made struct{ Token, ID string }
	m.must(t, json.Unmarshal([]byte(body), &made))
	if resp.StatusCode != 201 || !access.LooksLikeToken(made.Token) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	m.tokens["made"] = made.Token
	m.wants(t, "made", "GET", "/api/v1/me", "", 200, `"name":"alice"`, `"token":"`+made.ID, `"limited":false`, `"expires_at"`)
	m.wants(t, "alice", "GET", resp.Header.Get("Location"), "", 200, `"note":"a[31m b"`)
	m.wants(t, "made", "POST", "/api/v1/tokens", `{"expires_at":"`+later+`"}`, 403, "ends at")
	m.wants(t, "made", "POST", "/api/v1/tokens", `{}`, 403, "366 days")
	m.wants(t, "alice", "POST", "/api/v1/tokens", `{"expires_at":"2020-01-01T00:00:00Z"}`, 400, "future")
	m.wants(t, "alice", "POST", "/api/v1/tokens", `{"expires_at":"`+soon+`","rules":[]}`, 400, "empty")
	m.wants(t, "alice", "POST", "/api/v1/tokens", `{"expires_at":"`+soon+`","rules":["team"]}`, 400, "not a rule")
	m.wants(t, "alice", "POST", "/api/v1/tokens", `{"expires_at":"tomorrow"}`, 400, "a time such as")
	m.wants(t, "root", "POST", "/api/v1/tokens", `{"account":"bob","expires_at":"`+soon+`"}`, 403, "person")
	m.wants(t, "root", "POST", "/api/v1/tokens", `{"account":"nobody"}`, 404, `there is no account \"nobody\"`)
	m.wants(t, "root", "POST", "/api/v1/tokens", `{"account":"ci"}`, 201)
	m.wants(t, "alice", "DELETE", "/api/v1/tokens/"+m.ids["ci"], "", 404)
	m.wants(t, "ci", "GET", "/api/v1/me", "", 200)

	// The token that alice made is replaced with itself: the next one ends with it.
	resp, body = m.send(t, "made", "POST", "/api/v1/tokens/"+made.ID+"/rotate", `{"overlap_seconds":0}`)
	var next struct {
		Token, ID string
		Expires   string `json:"expires_at"`
	}
	m.must(t, json.Unmarshal([]byte(body), &next))
	if ends, err := time.Parse(time.RFC3339, next.Expires); resp.StatusCode != 201 || err != nil || ends.After(time.Now().Add(time.Hour)) {
		t.Fatalf("rotated: %d %s", resp.StatusCode, body)
	}
	m.tokens["next"] = next.Token
	m.wants(t, "next", "GET", "/api/v1/me", "", 200)
	eventually(t, "the old token is void", func() bool { resp, _ := m.send(t, "made", "GET", "/api/v1/me", ""); return resp.StatusCode == 401 })
	m.wants(t, "root", "POST", "/api/v1/tokens/"+m.ids["ci"]+"/rotate", `{"overlap_seconds":9999999}`, 400, "overlap_seconds")
	m.wants(t, "root", "POST", "/api/v1/tokens/"+m.ids["bob"]+"/rotate", `{}`, 403, "person")
	m.wants(t, "root", "POST", "/api/v1/tokens/"+m.ids["ci"]+"/rotate", `{}`, 201)
	m.wants(t, "ci", "GET", "/api/v1/me", "", 200) // for an hour
	m.wants(t, "root", "DELETE", "/api/v1/tokens/"+m.ids["bob"], "", 204)
	m.wants(t, "root", "DELETE", "/api/v1/tokens/"+m.ids["bob"], "", 404, "there is no token")
	m.wants(t, "root", "DELETE", "/api/v1/tokens/%00", "", 404)
}

// eventually fails the test unless a condition becomes true within 30 s.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if is() {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Errorf("after 30 s it is not true that %s", what)
}

// Whoever administers some repositories manages the grants for them, and neither sees nor
// changes any other.
func TestManagedGrants(t *testing.T) {
	t.Parallel()
	m := manage(t)
	const grants = "/api/v1/grants"
	if got := m.wants(t, "lead", "GET", grants, "", 200, `"team/app"`, `"team/*"`); strings.Contains(got, "secret") || strings.Contains(got, "public") || strings.Contains(got, `"*"`) {
		t.Errorf("lead sees %s", got)
	}
	m.wants(t, "root", "GET", grants, "", 200, `"team/app"`, `"secret/x"`, `"public/*"`, `"*"`)
	m.wants(t, "lead", "GET", grants+"?repository=team/app", "", 200, `"wider":true`, `"group:dev"`)
	m.wants(t, "lead", "GET", grants+"?repository=secret/x", "", 403, "you do not administer")
	m.wants(t, "lead", "GET", grants+"?repository=none/x", "", 403, "you do not administer")
	m.wants(t, "root", "GET", grants+"?repository=team/app&account=alice", "", 200, `"group:dev"`, `"pattern":"*"`)
	if got := m.wants(t, "root", "GET", grants+"?repository=team/app&account=bob", "", 200); strings.Contains(got, "dev") || strings.Contains(got, "wider") {
		t.Errorf("bob may do something in team/app: %s", got)
	}
	m.wants(t, "root", "GET", grants+"?account=nobody", "", 404)
	if got := m.wants(t, "lead", "GET", grants+"?grantee=bob", "", 200, `"items":[]`); strings.Contains(got, "secret") {
		t.Errorf("lead sees %s", got)
	}
	m.wants(t, "bob", "GET", grants, "", 200, `"secret/x"`)

	resp, _ := m.send(t, "lead", "PUT", grants, `{"grantee":"bob","pattern":"team/app","actions":["push","delete"]}`)
	if location := resp.Header.Get("Location"); resp.StatusCode != 201 {
		t.Errorf("lead grants: %d", resp.StatusCode)
	} else {
		m.wants(t, "lead", "GET", location, "", 200, `"actions":["pull","push","delete"]`)
	}
	m.wants(t, "lead", "PUT", grants, `{"grantee":"bob","pattern":"team/app","actions":["admin"]}`, 200, `"admin"`)
	for _, pattern := range []string{"*", "team", "teams/*", "secret/x", "public/*", "team2/app"} {
		m.wants(t, "lead", "PUT", grants, `{"grantee":"bob","pattern":"`+pattern+`","actions":["pull"]}`, 403, "you do not administer")
		m.wants(t, "lead", "DELETE", grants+"?grantee=bob&pattern="+url.QueryEscape(pattern), "", 403, "you do not administer")
	}
	m.wants(t, "lead", "PUT", grants, `{"grantee":"nobody","pattern":"team/app","actions":["pull"]}`, 404, `no account \"nobody\"`)
	m.wants(t, "lead", "PUT", grants, `{"grantee":"bob","pattern":"team/app","actions":[]}`, 400, "empty")
	m.wants(t, "lead", "PUT", grants, `{"grantee":"bob","pattern":"team/app","actions":["write"]}`, 400, "not an action")
	m.wants(t, "lead", "DELETE", grants+"?grantee=bob", "", 400, "pattern")
	m.wants(t, "lead", "DELETE", grants+"?grantee=bob&pattern=team/app", "", 204)
	m.wants(t, "lead", "DELETE", grants+"?grantee=bob&pattern=team/app", "", 404, "there is no grant")
	m.wants(t, "root", "GET", grants+"?after=bad", "", 400)

	// A page of one at a time shows all.
	var all []string
	for next := grants + "?limit=1"; next != ""; {
		var page struct {
			Items []struct{ Grantee, Pattern string }
			Next  string
		}
		m.must(t, json.Unmarshal([]byte(m.wants(t, "root", "GET", next, "", 200)), &page))
		for _, g := range page.Items {
			all = append(all, g.Grantee+" "+g.Pattern)
		}
		next = page.Next
	}
	if want := []string{"everybody public/*", "group:dev *", "group:dev team/app", "bob secret/x", "lead team/*"}; !slices.Equal(all, want) {
		t.Errorf("pages of one grant: %q, want %q", all, want)
	}
	var names []string
	for next := "/api/v1/users?limit=2"; next != ""; {
		var page struct {
			Items []struct{ Name string }
			Next  string
		}
		m.must(t, json.Unmarshal([]byte(m.wants(t, "root", "GET", next, "", 200)), &page))
		for _, u := range page.Items {
			names = append(names, u.Name)
		}
		next = page.Next
	}
	if want := []string{"alice", "bob", "ci", "lead", "root"}; !slices.Equal(names, want) {
		t.Errorf("pages of two users: %q, want %q", names, want)
	}
	m.wants(t, "root", "GET", "/api/v1/users?group=dev", "", 200, `"alice"`)
	m.wants(t, "root", "GET", "/api/v1/users?q=%25", "", 200, `"items":[]`)
	m.wants(t, "root", "GET", "/api/v1/groups?limit=1", "", 200, `{"name":"dev","members":1,"grants":2}`)
}

// A body is taken only if it is JSON with the documented fields, each once.
func TestBodies(t *testing.T) {
	t.Parallel()
	m := manage(t)
	for body, want := range map[string]struct {
		code int
		text string
	}{
		`{"name":"x","robot":true,"adminn":true}`:               {400, `the field \"adminn\", which is unknown: there are name, robot, administrator, groups, password`},
		`{"Name":"x","robot":true}`:                             {400, `\"Name\", which is unknown`},
		`{"name":"x","name":"y","robot":true}`:                  {400, `\"name\" twice`},
		`{"robot":true}`:                                        {400, `lacks the field \"name\"`},
		`{"name":null,"robot":true}`:                            {400, `\"name\" is null`},
		`{"name":"x","robot":"yes"}`:                            {400, `\"robot\" is not true or false`},
		`{"name":"x","robot":true,"groups":"dev"}`:              {400, `\"groups\" is not a list of strings`},
		`{"name":"x","robot":true} {}`:                          {400, "something after"},
		`{"name":"x","robot":true`:                              {400, "not valid JSON"},
		`{"name" "x"}`:                                          {400, "not valid JSON"},
		`{"name":"x","robot":tru}`:                              {400, "not valid JSON"},
		`["name"]`:                                              {400, "not a JSON object"},
		`null`:                                                  {400, "not a JSON object"},
		`{"name":"` + strings.Repeat("x", 192<<10) + `"}`:       {413, "196608 bytes"},
		`{"name":"\u0000","robot":true}`:                        {400, "not a name"},
		`{"name":"x","robot":true,"groups":["a","b\u0000"]}`:    {400, "not a name"},
		`{"name":"x","robot":true,"groups":["` + "\xff" + `"]}`: {400, "not a name"},
	} {
		m.wants(t, "root", "POST", "/api/v1/users", body, want.code, want.text)
	}
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "nonsense/"} {
		resp, body := do(t, "POST", m.URL+"/api/v1/users", `{"name":"x","robot":true}`, "Authorization", "Bearer "+m.tokens["root"], "Content-Type", media)
		if resp.StatusCode != 415 {
			t.Errorf("Content-Type %q: %d %s", media, resp.StatusCode, body)
		}
	}
	m.wants(t, "root", "GET", "/api/v1/users/x", "", 404)
	resp, body := do(t, "POST", m.URL+"/api/v1/users", `{"name":"x","robot":true}`, "Authorization", "Bearer "+m.tokens["root"], "Content-Type", "application/json; charset=utf-8")
	if resp.StatusCode != 201 {
		t.Errorf("with a charset: %d %s", resp.StatusCode, body)
	}
}

// A session in a browser is enough for the API, but not for a page of another site; a reader
// changes nothing, and says where to; who changes too much must wait.
func TestManagementIsGuarded(t *testing.T) {
	t.Parallel()
	m := manage(t)
	session, _, err := m.signer.ForSession("root", time.Now(), time.Now())
	m.must(t, err)
	const body = `{"name":"x","robot":true}`
	cookie := []string{"Cookie", answer.SessionCookie + "=" + session, "Content-Type", "application/json"}
	for _, site := range []string{"cross-site", "same-site"} {
		if resp, text := do(t, "POST", m.URL+"/api/v1/users", body, append(slices.Clone(cookie), "Sec-Fetch-Site", site)...); resp.StatusCode != 403 {
			t.Errorf("from another site: %d %s", resp.StatusCode, text)
		}
	}
	if resp, text := do(t, "POST", m.URL+"/api/v1/users", body, append(cookie, "Sec-Fetch-Site", "same-origin")...); resp.StatusCode != 201 {
		t.Errorf("with a session: %d %s", resp.StatusCode, text)
	}
	reader := manage(t, func(c *web.Config) {
		l := *c.Login
		l.Changer = nil
		c.Login = login.New(l.Config)
	})
	reader.wants(t, "root", "GET", "/api/v1/users", "", 503, "to the writer")
	reader.wants(t, "root", "POST", "/api/v1/users", body, 503, "to the writer")
	reader.wants(t, "root", "GET", "/api/v1/me", "", 200, `"administrator":true`)

	begin, changes := time.Now(), 0
	for ; changes < 40; changes++ {
		resp, _ := m.send(t, "lead", "PUT", "/api/v1/grants", `{"grantee":"bob","pattern":"team/x","actions":["pull"]}`)
		if resp.StatusCode == 429 && resp.Header.Get("Retry-After") != "" && resp.Header.Get("x-ratelimit-after") != "" {
			break
		}
	}
	if most := access.Writes.AtOnce + int(time.Since(begin)/access.Writes.Pause); changes < access.Writes.AtOnce || changes > most {
		t.Errorf("lead changed a grant %d times at once, want %d", changes, access.Writes.AtOnce)
	}
	m.wants(t, "lead", "DELETE", "/api/v1/grants?grantee=bob&pattern=team/x", "", 204)
	m.wants(t, "lead", "GET", "/api/v1/grants", "", 200)
	m.wants(t, "root", "PUT", "/api/v1/grants", `{"grantee":"bob","pattern":"team/x","actions":["push"]}`, 201)
}

// Who cleans up deletes more at once than one may change of accounts and grants.
func TestDeletionsAreNotLimitedAsChanges(t *testing.T) {
	t.Parallel()
	m := manage(t)
	for i := range 2 * access.Writes.AtOnce {
		resp, text := m.send(t, "lead", "DELETE", "/api/v1/repositories/team/app/-/tags/v1", "")
		if resp.StatusCode != http.StatusServiceUnavailable { // the registry is away
			t.Fatalf("deletion %d: %s %s", i+1, resp.Status, text)
		}
	}
}

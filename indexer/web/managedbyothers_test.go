package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web"
)

// ofOthers adds for the repositories team/app and secret/x an operation, a manifest in the trash, a
// rule, a plan, a report that it runs, a protection and a webhook, with the numbers 11 and 12. All
// texts of secret/x have the word hushhush.
func ofOthers(t *testing.T, m *managed) {
	t.Helper()
	for _, q := range []string{
		`INSERT INTO repository (id, name) SELECT 2000 + n, name `,
		`INSERT INTO operation (id, kind, repository, tag, digest, actor, state, error, ended_at)
			SELECT n, 'delete-manifest', name, word, sha256('x'), 'somebody', 'failed', word, now() `,
		`INSERT INTO trash (id, operation_id, repository, digest, media_type, body, tags, deleted_at)
			SELECT n, n, name, sha256('x'), '', '{}', ARRAY[word], now() `,
		`INSERT INTO retention_rule (id, pattern, action, conditions, note, created_by) SELECT n, name, 'keep', '{}', word, 'somebody' `,
		`INSERT INTO plan (id, scope, state, reason, created_by, made_at, percent_of, rules, notes)
			SELECT n, name, 'made', 'request', 'somebody', now(), name, jsonb_build_array(word), ARRAY[word] `,
		`INSERT INTO plan_repository (plan_id, repository, tags, tags_deleted, manifests, manifests_deleted, size) SELECT n, name, 1, 1, 1, 1, 1 `,
		`INSERT INTO plan_item (plan_id, repository, id, tag, digest, deleted, code, rule, reason, pulls)
			SELECT n, name, 1, word, sha256('x'), true, 'rule', n, word, 0 `,
		`INSERT INTO in_use (repository, digest, cluster, reporter, expires_at) SELECT name, sha256('x'), word, 'somebody', now() + interval '1 day' `,
		`INSERT INTO protection (kind, pattern, tags, reason, actor) SELECT 'protect', name, 'v*', word, 'somebody' `,
		`INSERT INTO webhook (id, name, url, pattern, events, secret, enabled, created_by) OVERRIDING SYSTEM VALUE
			SELECT n, word, 'https://' || word || '.example.org', name, ARRAY['pushed'], '', true, 'somebody' `,
		`INSERT INTO webhook_delivery (id, webhook_id, event, type, subject, data, happened_at) OVERRIDING SYSTEM VALUE
			SELECT n, n, word, 'pushed', name || ':' || word, '{}', now() `,
	} {
		q += "FROM (VALUES (11, 'team/app2', 'openly'), (12, 'secret/x', 'hushhush')) AS m (n, name, word)"
		if _, err := m.pool.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// numbered are the parameters of paths that are numbers.
var numbered = regexp.MustCompile(`\{(operation|trash|rule|plan|id|delivery)\}`)

// What is managed of a repository is told to nobody who may not manage it: no answer has a word of
// it, and about a number of it the answer is that about a number that does not exist.
func TestNobodyHearsWhatOthersManage(t *testing.T) {
	t.Parallel()
	var c web.Config
	m, _ := planned(t, unlimited, func(of *web.Config) { c = *of })
	ofOthers(t, m)
	m.must(t, m.store.AddAccount(t.Context(), access.Account{Name: "gone", Robot: true}))
	m.token(t, "gone", access.PersonalToken{Account: "gone"})
	grantee, err := access.ParseGrantee("gone")
	m.must(t, err)
	m.must(t, m.store.Grant(t.Context(), grantee, ruleOf(t, "secret/*:admin")))
	disabled := true
	m.must(t, m.store.ChangeAccount(t.Context(), "gone", access.AccountEdit{Disabled: &disabled}))
	d, _ := openAPI(t, m.URL)
	about := []string{"retention", "plans", "in-use", "operations", "trash", "protections", "webhooks"}
	var all []address
	for path, item := range d.Paths {
		first, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/v1/"), "/")
		for method := range item {
			if slices.Contains(about, first) || strings.HasPrefix(path, "/api/v1/repositories/{name}") && method != "get" {
				all = append(all, address{method: strings.ToUpper(method), path: path})
			}
		}
	}
	for _, pattern := range web.Routes(c) {
		if method, path, _ := strings.Cut(pattern, " "); strings.HasPrefix(path, "/manage/") {
			all = append(all, address{method: method, path: path})
		}
	}
	if len(all) < 55 {
		t.Fatalf("only %d addresses", len(all))
	}
	queries := []string{"", "?repository=secret/x", "?repository=secret/x&tag=v1", "?kind=delete-repository&repository=secret/x", "?kind=restore&undo=12", "?operation=12&repository=team/app2"}
	heard := 0
	for _, who := range []string{"", "lead", "ci", "gone"} {
		header := []string{"Sec-Fetch-Site", "same-origin", "Content-Type", "application/x-www-form-urlencoded"}
		if who == "lead" { // a person, for pages too
			header = append(header, m.signedIn(t, who).header...)
		} else if who != "" {
			header = append(header, "Authorization", "Bearer "+m.tokens[who])
		}
		ask := func(a address, number, query string) (int, string) {
			t.Helper()
			path := strings.NewReplacer("{name}", "secret%2Fx", "{tag}", "v1", "{reference}", "sha256:"+strings.Repeat("0", 64)).Replace(a.path)
			path = numbered.ReplaceAllString(path, number) + query
			form := url.Values{"rule": {number}, "trash": {number}, "undo": {number}, "kind": {"restore"}, "repository": {"secret/x"}, "count": {"1"}, "name": {"n"},
				"url": {"https://example.org"}, "pattern": {"secret/x"}, "events": {"pushed"}, "scope": {"secret/x"}, "action": {"keep"}, "enabled": {"yes"}, "hours": {"1"}, "sure": {"yes"}}
			body := ""
			if a.method == http.MethodPost && strings.HasPrefix(path, "/manage/") {
				body = form.Encode()
			}
			resp, got := do(t, a.method, m.URL+path, body, header...)
			return resp.StatusCode, strings.ReplaceAll(got, resp.Header.Get("X-Request-Id"), "ID")
		}
		for _, a := range all {
			for _, query := range queries {
				if query != "" && (a.method != http.MethodGet || strings.Contains(query, "kind") != strings.HasSuffix(a.path, "/change")) {
					continue
				}
				code, got := ask(a, "12", query)
				asked := strings.Contains(query, "secret/x") || a.method == http.MethodPost // a form is shown again
				if strings.Contains(got, "hushhush") || code < 300 && strings.Contains(got, "secret/x") && !asked {
					t.Errorf("%s %s%s as %q: %d %s", a.method, a.path, query, who, code, got)
				}
				if code == http.StatusOK && strings.Contains(got, "openly") {
					heard++
				}
				if query != "" || !numbered.MatchString(a.path) {
					continue
				}
				other, none := ask(a, "99", query)
				if strings.ReplaceAll(none, "99", "12") != got || other != code {
					t.Errorf("%s %s%s as %q tells that 12 exists: %d %s\nand not 99: %d %s", a.method, a.path, query, who, code, got, other, none)
				}
				if who == "lead" && a.method == http.MethodGet {
					if code, got := ask(a, "11", query); code == http.StatusOK && strings.Contains(got, "openly") {
						heard++
					}
				}
			}
		}
	}
	if heard < 15 {
		t.Errorf("lead hears of the own repository only %d times", heard)
	}
	for table, want := range map[string]int{"operation": 3, "trash": 2, "retention_rule": 2, "plan": 2, "webhook": 2, "webhook_delivery": 2, "protection": 2} {
		var n int
		if m.must(t, m.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n)); n != want {
			t.Errorf("%d rows of %s, want %d: somebody has changed it who may not", n, table, want)
		}
	}
}

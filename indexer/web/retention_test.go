package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/plan"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// planned is managed with plans, a repository team/app of two tags, and other/app of one. What it
// is asked to do is in did.
func planned(t *testing.T, change ...func(*web.Config)) (m *managed, did *[]indexer.Operation) {
	t.Helper()
	did = &[]indexer.Operation{}
	var l *login.Login
	m = manage(t, append(change, func(c *web.Config) { l = c.Login })...)
	service := &plan.Service{Store: m.store, Planner: plan.NewPlanner(m.store, nil), Cap: 20,
		Do: func(_ context.Context, o indexer.Operation) (indexer.Operation, error) {
			*did = append(*did, o)
			return indexer.Operation{ID: 1, Kind: o.Kind, State: indexer.OperationDone}, nil
		}}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = service.Planner.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	l.Plans = service
	const fill = `
		INSERT INTO media_type (id, name) VALUES (1000, 'application/vnd.oci.image.manifest.v1+json');
		INSERT INTO repository (id, name) VALUES (1000, 'team/app'), (1001, 'other/app');
		INSERT INTO manifest (id, repository_id, digest, media_type_id, kind, size, content_size)
			SELECT n, CASE WHEN n = 3 THEN 1001 ELSE 1000 END, sha256(n::text::bytea), 1000, 'image', 5, 7 FROM generate_series(1, 3) n;
		INSERT INTO tag (repository_id, name, manifest_id) VALUES (1000, 'v1', 1), (1000, 'pr-1', 2), (1001, 'pr-2', 3);
		INSERT INTO scan (reason, started_at, finished_at) VALUES ('start', now(), now())`
	_, err := m.pool.Exec(t.Context(), fill)
	m.must(t, err)
	return m, did
}

// A browsing is a browser in which somebody is signed in.
type browsing struct {
	t      *testing.T
	url    string
	header []string
}

// signedIn signs somebody in.
func (m *managed) signedIn(t *testing.T, who string) browsing {
	t.Helper()
	account, _, err := m.store.Account(t.Context(), who)
	m.must(t, err)
	session, _, err := access.NewAccounts(m.store, m.signer).SignedSessions(m.store).Begin(t.Context(), who, account.ValidFrom)
	m.must(t, err)
	return browsing{t, m.URL, []string{"Cookie", answer.SessionCookie + "=" + session}}
}

// get returns a page.
func (b browsing) get(path string) string {
	b.t.Helper()
	resp, page := do(b.t, "GET", b.url+path, "", b.header...)
	if resp.StatusCode != 200 {
		b.t.Errorf("%s: %d %s", path, resp.StatusCode, page)
	}
	return page
}

// post sends a form and returns the page, which must have a status.
func (b browsing) post(path string, form url.Values, status int) string {
	b.t.Helper()
	header := append([]string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}, b.header...)
	resp, page := do(b.t, "POST", b.url+path, form.Encode(), header...)
	if resp.StatusCode != status {
		b.t.Errorf("%s: %d, want %d: %s", path, resp.StatusCode, status, page)
	}
	return page
}

// Of every operation on rules and plans: who does not log in is refused, and so are a limited
// token and who oversees nothing; who oversees the pattern is not. All answers are as they are
// documented.
func TestRetentionAPI(t *testing.T) {
	t.Parallel()
	m, did := planned(t)
	d, schemas := openAPI(t, m.URL)
	m.wants(t, "lead", "POST", "/api/v1/retention", `{"pattern":"team/*","action":"delete","tag":"pr-*"}`, 201, `"sentence":"delete tags whose name matches pr-*"`)
	m.wants(t, "root", "POST", "/api/v1/retention", `{"pattern":"other/*","action":"delete","tag":"*"}`, 201)
	m.wants(t, "lead", "POST", "/api/v1/plans", `{"scope":"team/app"}`, 201, `"state":"made"`, `"tags_deleted":1`, `"percent":50`)
	// What it frees would tell lead what is in repositories that lead does not see.
	if got := m.wants(t, "lead", "GET", "/api/v1/plans/1", "", 200, "What it frees is told"); strings.Contains(got, `"frees"`) || strings.Contains(got, `"shared"`) {
		t.Errorf("lead is told what the plan frees: %s", got)
	}
	m.wants(t, "root", "GET", "/api/v1/plans/1", "", 200, `"frees":5`, `"shared":0`)
	m.wants(t, "root", "GET", "/api/v1/plans", "", 200, `"frees":5`)
	if got := m.wants(t, "lead", "GET", "/api/v1/plans", "", 200); strings.Contains(got, `"frees"`) {
		t.Errorf("lead is told what plans free: %s", got)
	}
	cases := map[string]struct {
		query, body string
		lead        int
	}{
		"retentionRules": {lead: 200}, "addRetentionRule": {body: `{"pattern":"team/app","action":"keep","newest":NUMBER}`, lead: 201},
		"retentionRule": {lead: 200}, "changeRetentionRule": {body: `{"pattern":"team/*","action":"delete","tag":"pr-*","older_than":"NUMBERd"}`, lead: 200},
		"removeRetentionRule": {lead: 204}, "plans": {lead: 200}, "makePlan": {body: `{"scope":"team/*"}`, lead: 201}, "plan": {lead: 200},
		"planRepositories": {lead: 200}, "planItems": {query: "?deleted=true&kind=tag", lead: 200},
		"applyPlan": {body: `{"accept_percent":50}`, lead: 200}, "undoPlan": {lead: 409}, "inUse": {lead: 200},
		"reportInUse": {body: `{"cluster":"prod","images":["team/app@` + dgst("a").String() + `"]}`, lead: 204},
	}
	var order []string
	paths := map[string][2]string{}
	for path, item := range d.Paths {
		for method, o := range item {
			first, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/v1/"), "/")
			if !slices.Contains([]string{"retention", "plans", "in-use"}, first) {
				continue
			}
			if _, known := cases[o.OperationID]; !known {
				t.Errorf("the operation %s is not tested", o.OperationID)
			}
			order = append(order, o.OperationID)
			paths[o.OperationID] = [2]string{method, path}
		}
	}
	if len(order) != len(cases) {
		t.Errorf("%d operations are in the document, and %d are tested", len(order), len(cases))
	}
	slices.Sort(order)
	last := slices.Index(order, "removeRetentionRule")
	order = append(slices.Delete(order, last, last+1), "removeRetentionRule")
	number := 1
	for _, id := range order {
		c, method, path := cases[id], paths[id][0], paths[id][1]
		target := strings.NewReplacer("{rule}", "1", "{plan}", "1").Replace(path) + c.query
		for _, who := range []string{"", "bob", "limited", "lead"} {
			want := map[string]int{"": 401, "bob": 403, "limited": 403, "lead": c.lead}[who]
			if id == "reportInUse" && who == "limited" {
				want = 204 // it may pull
			}
			if who == "bob" && id != "addRetentionRule" && id != "makePlan" && id != "reportInUse" && !strings.HasSuffix(path, "s") && !strings.HasSuffix(path, "in-use") && !strings.HasSuffix(path, "retention") {
				want = 404 // bob oversees something else, and does not hear of these
			} else if who == "bob" && id != "addRetentionRule" && id != "makePlan" && id != "reportInUse" {
				want = 200
			}
			if who == "bob" && (id == "planRepositories" || id == "planItems") {
				want = 404
			}
			number++
			resp, got := m.send(t, who, strings.ToUpper(method), target, strings.ReplaceAll(c.body, "NUMBER", fmt.Sprint(number)))
			if resp.StatusCode != want {
				t.Errorf("%s %s as %q: %d, want %d: %s", method, target, who, resp.StatusCode, want, got)
				continue
			}
			checkDocumented(t, schemas, d.Paths[path][method], method, path, resp, got)
		}
	}
	if len(*did) != 1 || (*did)[0].Kind != indexer.ApplyPlan || (*did)[0].Options.Plan != 1 || string((*did)[0].Options.More) != `{"accept_percent":50}` {
		t.Errorf("operations %+v", *did)
	}
	if got := m.wants(t, "bob", "GET", "/api/v1/plans", "", 200); strings.Contains(got, "team/app") {
		t.Errorf("bob sees plans of team/app: %s", got)
	}
	m.wants(t, "bob", "POST", "/api/v1/in-use", `{"cluster":"prod","images":["team/app@`+dgst("a").String()+`"]}`, 403, "may not pull")
	images := make([]string, 500) // with the longest names
	for i := range images {
		images[i] = fmt.Sprintf("team/%0250d@%s", i, dgst("a"))
	}
	m.wants(t, "lead", "POST", "/api/v1/in-use", `{"cluster":"prod","images":["`+strings.Join(images, `","`)+`"]}`, 204)
	m.wants(t, "lead", "POST", "/api/v1/in-use", `{"cluster":"prod","images":["team/app:v1"]}`, 400, "REPOSITORY@DIGEST")
	m.wants(t, "lead", "GET", "/api/v1/in-use", "", 200, `"cluster":"prod"`, `"reporter":"lead"`)
	m.wants(t, "lead", "GET", "/api/v1/plans/999", "", 404, "no plan 999")
	m.wants(t, "lead", "POST", "/api/v1/retention", `{"pattern":"team/app","action":"delete"}`, 400, "needs a condition")
	m.wants(t, "lead", "POST", "/api/v1/retention", `{"pattern":"*","action":"keep"}`, 403, "do not administer *")
}

// By the form of a page only what has a page is done: a protected tag is put back by nobody but the
// indexer, and a plan is applied on its own page.
func TestChangesOfPages(t *testing.T) {
	t.Parallel()
	m, _ := planned(t)
	b := m.signedIn(t, "lead")
	before, err := m.store.Operations(t.Context(), indexer.OperationQuery{Limit: 10})
	m.must(t, err)
	for _, kind := range []string{"put-back", "apply-plan", "", "nothing"} {
		form := url.Values{"kind": {kind}, "repository": {"team/app"}, "tag": {"v1"}, "digest": {dgst("a").String()}}
		b.post("/manage/change", form, http.StatusNotFound)
	}
	tags := strings.Repeat("build-of-every-commit-0123456789abcdef,", 10_000)
	form := url.Values{"kind": {"delete-manifest"}, "repository": {"team/app"}, "digest": {dgst("a").String()}, "tags": {tags + "v1"}}
	if got := b.post("/manage/change", form, http.StatusBadRequest); !strings.Contains(got, "at most 10000 tags") {
		t.Errorf("too many tags: %s", got)
	}
	form.Set("tags", "v1,\x00")
	if got := b.post("/manage/change", form, http.StatusBadRequest); !strings.Contains(got, "not a tag") {
		t.Errorf("what is no tag: %s", got)
	}
	m.wants(t, "lead", "DELETE", "/api/v1/repositories/team%2Fapp/-/manifests/"+dgst("a").String()+"?tags=v1,-x", "", 400, "not a tag")
	after, err := m.store.Operations(t.Context(), indexer.OperationQuery{Limit: 10})
	if m.must(t, err); len(after) != len(before) {
		t.Errorf("%+v", after[0])
	}
}

// The page of a plan says first what would happen, and applies it only to who has typed the
// number of tags, and the share if it is beyond the cap.
func TestPlanPage(t *testing.T) {
	t.Parallel()
	m, did := planned(t)
	b := m.signedIn(t, "lead")
	b.post("/manage/retention", url.Values{"pattern": {"team/*"}, "action": {"delete"}, "tag": {"pr-*"}, "by": {"push"}}, http.StatusSeeOther)
	if got := b.post("/manage/retention", url.Values{"pattern": {"*"}, "action": {"delete"}, "tag": {"<b>"}}, 400); !strings.Contains(got, "tag is &#34;&lt;b&gt;&#34;") {
		t.Errorf("a wrong rule: %s", got)
	}
	if got := b.get("/manage/retention"); !strings.Contains(got, "delete tags whose name matches pr-*") {
		t.Errorf("the rules: %s", got)
	}
	if got := b.get("/manage/retention?rule=1"); !strings.Contains(got, "Change rule 1") || !strings.Contains(got, `name="tag" value="pr-*"`) {
		t.Errorf("the form of a rule: %s", got)
	}
	changed := url.Values{"rule": {"1"}, "pattern": {"team/*"}, "action": {"delete"}, "tag": {"pr-*"}, "by": {"push"}, "note": {"builds"}}
	b.post("/manage/retention", changed, http.StatusSeeOther)
	if got := b.get("/manage/retention"); strings.Count(got, `data-label="Rule"`) != 1 || !strings.Contains(got, "builds") {
		t.Errorf("the changed rule: %s", got)
	}
	changed.Set("pattern", "team/app")
	if got := b.post("/manage/retention", changed, 404); !strings.Contains(got, "there is no rule 1 of team/app") {
		t.Errorf("a rule of another pattern: %s", got)
	}
	b.post("/manage/plans", url.Values{"scope": {"team/*"}}, http.StatusSeeOther)
	page := b.get("/manage/plans/1")
	for _, text := range []string{
		"<b>Nothing is deleted yet.</b> If you apply this plan, it deletes <b>1</b> of 2 tags and <b>1</b> of 2 manifests.", "Can it be undone?", "team/app:pr-1",
		"type how many tags it deletes", "more than 20 %", "1 tag or manifest: no rule selects them",
	} {
		if !strings.Contains(page, text) {
			t.Errorf("%q is not in %s", text, page)
		}
	}
	if got := b.get("/manage/plans/1?show=stays&repository=team/app&find=v1"); !strings.Contains(got, "team/app:v1") || strings.Contains(got, "team/app:pr-1") {
		t.Errorf("what stays: %s", got)
	}
	if got := b.post("/manage/plans/1/apply", url.Values{"count": {"2"}, "accept_percent": {"50"}}, 400); !strings.Contains(got, "you typed 2: nothing was deleted") || len(*did) > 0 {
		t.Errorf("a wrong number: %s", got)
	}
	b.post("/manage/plans/1/apply", url.Values{"count": {"1"}, "accept_percent": {"50 %"}}, http.StatusSeeOther)
	if len(*did) != 1 || (*did)[0].Options.Plan != 1 {
		t.Errorf("operations %+v", *did)
	}
	if got := b.post("/manage/plans/1/undo", nil, 409); !strings.Contains(got, "was not applied") {
		t.Errorf("undo: %s", got)
	}
}

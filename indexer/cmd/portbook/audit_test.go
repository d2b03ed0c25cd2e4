package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"oras.land/oras-go/v2/content"
)

// An audited is a record in the API, and in the lines of the command.
type audited struct {
	ID                                                    int64
	Event, Actor, Claimed, Token, Source, Target, Outcome string
	Detail                                                string
	ReportedAt                                            string `json:"reported_at"`
}

// audit returns the records that a query selects, for root.
func (i *indexerProcess) audit(t *testing.T, query string) (page struct {
	Items []audited
	Next  string
}) {
	t.Helper()
	code, _, body := i.get(t, "/api/v1/audit?"+query, "root", password)
	if err := json.Unmarshal([]byte(body), &page); err != nil || code != http.StatusOK {
		t.Fatalf("audit?%s: %d, %v: %s", query, code, err, body)
	}
	return page
}

// push pushes an empty index as a tag with credentials for HTTP Basic or Bearer.
func pushIndex(t *testing.T, address, repository, tag string, authorize func(*http.Request)) {
	t.Helper()
	raw := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address+"/v2/"+repository+"/manifests/"+tag, strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	authorize(r)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("push: %s", resp.Status)
	}
}

// Who pushes and deletes through the registry is recorded with the name and the token that it
// has proved, and so are refused logins and requests. Pulls are not, but say when a token was
// last used.
func TestAuditOfTheRegistry(t *testing.T) {
	t.Parallel()
	f, i := guarded(t)
	pusher, reader := f.tokenOf("alice"), f.tokenOf("--rule", "*:pull", "alice")
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	d := content.NewDescriptorFromBytes("application/vnd.oci.image.index.v1+json", raw)
	repository := i.oras(t, "team/app", login("alice", pusher))
	for _, tag := range []string{"v1", "v2"} {
		if err := repository.Manifests().PushReference(t.Context(), d, bytes.NewReader(raw), tag); err != nil {
			t.Fatal(err)
		}
	}
	var given struct{ Token string }
	_, _, body := i.get(t, "/auth/token?scope=repository:team/app:delete", "alice", password)
	if err := json.Unmarshal([]byte(body), &given); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+i.address+"/v2/team/app/manifests/v2", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+given.Token)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("untag: %s", resp.Status)
	}
	var items []audited
	within(t, patience, "the deletion is recorded", func() bool {
		items = i.audit(t, "repository=team/app").Items
		return len(items) == 3 && items[0].Event == "tag.delete" && items[0].Actor == "alice"
	})
	id := idOf(t, f, "no rule")
	if x := items[0]; x.Token != "" || x.Target != "team/app:v2" || x.Claimed != "" || x.Outcome != "done" || x.ReportedAt == "" {
		t.Errorf("the deletion is recorded as %+v", x)
	}
	if x := items[2]; x.Event != "image.push" || x.Actor != "alice" || x.Token != id || x.Target != "team/app:v1" || x.Source != "127.0.0.1" || x.Detail != d.Digest.String() {
		t.Errorf("the push with token %s is recorded as %+v", id, x)
	}

	// A pull is no record, but a use of its token.
	if used := lastUse(t, f, idOf(t, f, "*:pull")); used != "-" {
		t.Errorf("a token that was never used was used at %s", used)
	}
	if _, err := i.oras(t, "team/app", login("alice", reader)).Resolve(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	within(t, 2*patience, "the use of the token is shown", func() bool {
		return lastUse(t, f, idOf(t, f, "*:pull")) != "-"
	})
	if n := len(i.audit(t, "repository=team/app").Items); n != 3 {
		t.Errorf("%d records after a pull, want 3", n)
	}

	// Refused logins are claims; a flood of them is a few records.
	i.get(t, "/auth/token", "alice", "not the password")
	i.get(t, "/v1/search?q=", "alice", "pbt_wrong")
	if code, _, _ := i.get(t, "/api/v1/audit", "alice", password); code != http.StatusForbidden {
		t.Errorf("audit as alice: %d", code)
	}
	for n := range 60 {
		i.get(t, "/auth/token", fmt.Sprint("<b>", n), "a guess")
	}
	within(t, patience, "the refused login is recorded", func() bool {
		items = i.audit(t, "event=login&outcome=refused").Items
		return slices.ContainsFunc(items, func(x audited) bool { return x.Claimed == "alice" && x.Target == "alice" })
	})
	for _, x := range items {
		if x.Actor != "" || x.Outcome != "refused" {
			t.Errorf("a refused login is recorded as %+v", x)
		}
	}
	if len(items) > 22 { // two windows of 10 from one address and a count
		t.Errorf("%d records of refused logins", len(items))
	}
	within(t, patience, "the refused request is recorded", func() bool {
		items = i.audit(t, "event=administrator").Items
		return len(items) == 1 && items[0].Actor == "alice" && items[0].Target == "/api/v1/audit" && items[0].Outcome == "refused"
	})

	f.exports(i)
	f.auditPage(i)

	// The user of the indexer cannot change records.
	conn, err := pgx.Connect(t.Context(), f.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "DELETE FROM audit"); err == nil {
		t.Error("records were deleted")
	}
}

// idOf returns the id of the token of alice with a limit, or without rules.
func idOf(t *testing.T, f *fleet, limit string) string {
	t.Helper()
	for _, line := range strings.Split(f.must("token", "list", "--account", "alice"), "\n")[1:] {
		if strings.Contains(line, "*:pull") == (limit == "*:pull") {
			return strings.Fields(line)[0]
		}
	}
	t.Fatal("alice has no such token")
	return ""
}

// lastUse returns when a token was last used, as token list shows it.
func lastUse(t *testing.T, f *fleet, id string) string {
	t.Helper()
	columns := regexp.MustCompile(`  +`)
	lines := strings.Split(f.must("token", "list"), "\n")
	at := slices.Index(columns.Split(strings.TrimSpace(lines[0]), -1), "LAST USED")
	for _, line := range lines[1:] {
		if cells := columns.Split(strings.TrimSpace(line), -1); cells[0] == id {
			return cells[at]
		}
	}
	t.Fatalf("there is no token %s", id)
	return ""
}

// exports checks that the export has all records, as valid CloudEvents, and goes on where it
// ended; and that the command writes the same.
func (f *fleet) exports(i *indexerProcess) {
	t := f.t
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile("../../access/testdata/ocsf.json")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	within(t, patience, "the records are old enough to be exported", func() bool {
		code, header, body := i.get(t, "/api/v1/audit/export", "root", password)
		if code != http.StatusOK || header.Get("Content-Type") != "application/x-ndjson" || header.Get("Cache-Control") != "no-store" {
			t.Fatalf("export: %d, %v: %.300s", code, header, body)
		}
		lines = strings.Split(strings.TrimSpace(body), "\n")
		return strings.Contains(body, "portbook.audit.administrator") && strings.Contains(body, "portbook.audit.tag.delete")
	})
	var ids []string
	for _, line := range lines {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = schema.Validate(v)
		}
		var event struct{ ID, Source string }
		if jsonErr := json.Unmarshal([]byte(line), &event); err != nil || jsonErr != nil || !strings.HasSuffix(event.Source, "/api/v1/audit") {
			t.Errorf("%v, %v: %s", err, jsonErr, line)
		}
		ids = append(ids, event.ID)
	}
	_, _, rest := i.get(t, "/api/v1/audit/export?after="+ids[3], "root", password)
	if got := strings.Split(strings.TrimSpace(rest), "\n"); len(got) < len(lines)-4 || got[0] != lines[4] {
		t.Errorf("after %s: %d lines of %d, the first %s", ids[3], len(got), len(lines), got[0])
	}
	_, _, some := i.get(t, "/api/v1/audit/export?repository=team/app&event=image.push", "root", password)
	if n := strings.Count(some, "\n"); n != 2 {
		t.Errorf("%d pushes exported, want 2: %s", n, some)
	}
	for path, want := range map[string]int{"?after=x": 400, "?before=3": 400, "?event=push": 400, "?since=yesterday": 400, "?until=2026-11-30": 200} {
		if code, _, body := i.get(t, "/api/v1/audit/export"+path, "root", password); code != want {
			t.Errorf("export%s: %d, want %d: %s", path, code, want, body)
		}
	}
	if code, _, _ := i.get(t, "/api/v1/audit/export", "alice", password); code != http.StatusForbidden {
		t.Errorf("export as alice: %d", code)
	}
	head, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+i.address+"/api/v1/audit/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	head.SetBasicAuth("root", password)
	if resp, err := client.Do(head); err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("HEAD of the export: %v, %v", resp, err)
	}
	if out := f.must("audit", "--format", "ocsf"); !strings.HasPrefix(out, lines[0]+"\n"+lines[1]+"\n") {
		t.Errorf("the command exports\n%.1000s\nwant\n%s", out, lines[0])
	}
}

// auditPage checks the page of records: who may see it, that it can be filtered and paged, and
// that the names that clients made up are no markup.
func (f *fleet) auditPage(i *indexerProcess) {
	t := f.t
	t.Helper()
	b := newBrowser(t, "http://"+i.address)
	if resp, _ := b.send("/account/audit?event=login", nil); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/account?next=%2Faccount%2Faudit%3Fevent%3Dlogin" {
		t.Errorf("nobody signed in: %s to %s", resp.Status, resp.Header.Get("Location"))
	}
	b.send("/account/sign-in", url.Values{"name": {"alice"}, "password": {password}})
	if resp, _ := b.send("/account/audit", nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("the page as alice: %s", resp.Status)
	}
	if _, body := b.send("/account", nil); strings.Contains(body, "/account/audit") || !strings.Contains(body, "Last used") {
		t.Errorf("the account of alice: %s", body)
	}
	b = newBrowser(t, "http://"+i.address)
	b.send("/account/sign-in", url.Values{"name": {"root"}, "password": {password}})
	resp, body := b.send("/account/audit", nil)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" || strings.Contains(body, "<b>0") || !strings.Contains(body, "claimed") {
		t.Errorf("the page: %s\n%s", resp.Status, body)
	}
	_, body = b.send("/account/audit?event=tag.delete&repository=team%2Fapp&outcome=done", nil)
	if n := strings.Count(body, "<tr>"); n != 2 || !strings.Contains(body, "team/app:v2") || !strings.Contains(body, "reported") {
		t.Errorf("%d rows, want 2 with the head:\n%s", n, body)
	}
	for n := range 60 {
		f.must("grant", "add", "everybody", fmt.Sprintf("p%d:pull", n))
	}
	_, body = b.send("/account/audit?event=grant.add&target=everybody", nil)
	more := regexp.MustCompile(`/account/audit\?before=[0-9]+[^"]*`).FindString(body)
	_, next := b.send(strings.ReplaceAll(more, "&amp;", "&"), nil)
	if n, rest := strings.Count(body, "<tr>"), strings.Count(next, "<tr>"); n != 51 || rest != 12 || !strings.Contains(next, "rel=\"prev\"") {
		t.Errorf("%d rows and %d after them, want 51 and 12 with the heads; more is %s", n, rest, more)
	}
}

// Without our tokens a name in an event is what the client claims, and is never shown as that
// of the actor; and by default such pushes are not recorded.
func TestAuditOfClaims(t *testing.T) {
	t.Parallel()
	f := launch(t)
	i := f.indexer(f.address, "PORTBOOK_AUDIT_PUSHES=true")
	pushIndex(t, strings.TrimPrefix(f.registry.URL, "http://"), "acme/img", "v1", func(r *http.Request) { r.SetBasicAuth("alice+7f3a12bc", "anything") })
	var out string
	within(t, patience, "the push is recorded", func() bool {
		out = f.must("audit", "--repository", "acme/img", "--format", "json")
		return out != ""
	})
	var x audited
	if err := json.Unmarshal([]byte(out), &x); err != nil || x.Actor != "" || x.Claimed != "alice+7f3a12bc" || x.Token != "" || x.Event != "image.push" {
		t.Errorf("%v: recorded as %s", err, out)
	}
	if out := f.must("audit", "--actor", "alice"); strings.Contains(out, "acme/img") {
		t.Errorf("alice did %s", out)
	}
	if out := f.must("audit", "--format", "ocsf", "--repository", "acme/img"); strings.Contains(out, `"user"`) {
		t.Errorf("exported with a user: %s", out)
	}
	i.stop(t)
	f.indexer(f.address)
	pushIndex(t, strings.TrimPrefix(f.registry.URL, "http://"), "acme/img", "v2", func(*http.Request) {})
	f.equal(patience)
	if out := f.must("audit", "--repository", "acme/img"); strings.Contains(out, ":v2") {
		t.Errorf("recorded by default: %s", out)
	}
}

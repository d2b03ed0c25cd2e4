package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// With a registry that checks our tokens: by API and by command line tags, manifests and
// repositories are deleted and put back, by those who may, and the audit log names them.
func TestOperations(t *testing.T) {
	t.Parallel()
	f, i := guarded(t)
	i.push(t, "team/app", "team/app/deep", "secret/x")
	f.equal(patience)
	does := func(who, method, path, body string, want int, texts ...string) string {
		t.Helper()
		code, text := i.call(t, method, path, who, password, body)
		for _, part := range texts {
			if code != want || !strings.Contains(text, part) {
				t.Fatalf("%s %s as %s: %d, want %d with %q: %s", method, path, who, code, want, part, text)
			}
		}
		return text
	}
	const app, tag = "/api/v1/repositories/team/app", "/api/v1/repositories/team/app/-/tags/v1"
	does("alice", "DELETE", "/api/v1/repositories/secret/x", "", 404, "no repository")
	does("alice", "DELETE", tag+"?dry_run=true", "", 200, `"untags":["v1"]`, `"refused":[]`)
	does("alice", "DELETE", tag, "", 200, `"state":"done"`, `"untagged":1`, `"actor":"alice"`)
	does("alice", "GET", app+"/-/manifests/v1", "", 404, "")
	does("alice", "DELETE", tag, "", 404, "no team/app:v1")
	does("alice", "PUT", tag, `{"move":1}`, 200, `"state":"done"`)
	manifest := does("alice", "GET", app+"/-/manifests/v1", "", 200, "")
	var shown struct{ Digest string }
	if err := json.Unmarshal([]byte(manifest), &shown); err != nil {
		t.Fatal(err)
	}
	does("alice", "DELETE", app, "", 200, `"kind":"delete-repository"`, `"state":"done"`, `"deleted":1`)
	does("alice", "GET", app, "", 404, "")
	does("alice", "GET", "/api/v1/repositories/team/app/deep/-/manifests/v1", "", 200, "")
	does("alice", "GET", "/api/v1/trash", "", 400, "repository")
	does("alice", "GET", "/api/v1/trash?repository=team/app", "", 200, `"tags":["v1"]`, shown.Digest)
	does("alice", "GET", "/api/v1/operations", "", 200, `"kind":"rollback"`)
	does("root", "GET", "/api/v1/operations/3", "", 200, `"actor":"alice"`)
	if code, text := i.call(t, "GET", "/api/v1/operations/3", "alice", "wrong", ""); code != 401 {
		t.Errorf("with a wrong password: %d %s", code, text)
	}
	if out := f.must("trash", "list", "--repository", "team/app"); !strings.Contains(out, shown.Digest) {
		t.Errorf("%s", out)
	}
	if out := f.must("restore", "--operation", "3", "--dry-run"); !strings.Contains(out, "tag v1 shows "+shown.Digest) {
		t.Errorf("%s", out)
	}
	if out := f.must("restore", "--operation", "3"); !strings.Contains(out, "operation 4 done") {
		t.Errorf("%s", out)
	}
	does("alice", "GET", app+"/-/manifests/v1", "", 200, shown.Digest)
	if out := f.must("operation", "list", "--repository", "team/app"); strings.Count(out, "team/app") != 3 {
		t.Errorf("%s", out)
	}
	if out, err := f.run("delete", "manifest", "--dry-run", "team/app@sha256:"+strings.Repeat("0", 64)); err == nil {
		t.Errorf("a manifest that is not there: %s", out)
	}
	if out := f.must("delete", "manifest", "team/app@"+shown.Digest); !strings.Contains(out, "1 tags deleted, 1 manifests deleted") {
		t.Errorf("%s", out)
	}
	// Each change is recorded once, with who asked, and not as a deletion of the indexer.
	audit := f.must("audit", "--repository", "team/app", "--json")
	for _, want := range []string{`"event":"repository.delete"`, `"event":"tag.rollback"`, `"event":"image.delete"`, `"actor":"alice"`} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit log lacks %s: %s", want, audit)
		}
	}
	if strings.Contains(audit, "portbook-indexer") {
		t.Errorf("our own deletions are recorded: %s", audit)
	}
	f.equal(patience)
}

// By pages: who may is shown what would go, deletes, and puts back; who may not is refused, and a
// page of another site changes nothing.
func TestOperationsByPages(t *testing.T) {
	t.Parallel()
	f, i := guarded(t)
	i.push(t, "team/app", "secret/x")
	f.equal(patience)
	front := f.front(f.reader(f.postgres), f.reader(f.postgres))
	b := newBrowser(t, front.url)
	if resp, text := b.send("/account/sign-in", url.Values{"name": {"alice"}, "password": {password}}); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign in: %s\n%s", resp.Status, text)
	}
	shows := func(path string, form url.Values, want int, texts ...string) (http.Header, string) {
		t.Helper()
		resp, text := b.send(path, form)
		for _, part := range append(texts, "") {
			if resp.StatusCode != want || !strings.Contains(text, part) {
				t.Fatalf("%s %v: %s, want %d with %q\n%s", path, form, resp.Status, want, part, text)
			}
		}
		return resp.Header, text
	}
	shows("/r/team/app:v1", nil, 200, "/manage/history?repository=team%2fapp&amp;tag=v1", "/manage/change?kind=delete-manifest")
	change := url.Values{"kind": {"untag"}, "repository": {"team/app"}, "tag": {"v1"}}
	shows("/manage/change?"+change.Encode(), nil, 200, "1 tag goes", "What stays", "Delete the tag")
	if resp, _ := b.send("/manage/change", change, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("from another site: %s", resp.Status)
	}
	shows("/manage/change?kind=delete-repository&repository=secret/x", nil, 404)
	header, _ := shows("/manage/change", change, 303)
	shows(header.Get("Location"), nil, 200, "Operation 1", "done", "Tags deleted")
	shows("/manage/history?repository=team/app&tag=v1", nil, 200, "There is no such tag now", "Put back")
	back := url.Values{"kind": {"rollback"}, "repository": {"team/app"}, "tag": {"v1"}, "move": {"1"}}
	shows("/manage/change?"+back.Encode(), nil, 200, "1 tag changes", "does not exist now")
	header, _ = shows("/manage/change", back, 303)
	shows(header.Get("Location"), nil, 200, "done", "Tags set")
	shows("/r/team/app:v1", nil, 200)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, front.url+"/api/v1/repositories/team/app?dry_run=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("alice", password)
	if resp, err := client.Do(req); err != nil || resp.StatusCode != http.StatusOK { // the front sends it to the writer
		t.Errorf("%v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	all := url.Values{"kind": {"delete-repository"}, "repository": {"team/app"}}
	shows("/manage/change?"+all.Encode(), nil, 200, "1 manifest goes", "Delete the repository")
	header, _ = shows("/manage/change", all, 303)
	shows(header.Get("Location"), nil, 200, "Restore all of it")
	shows("/r/team/app", nil, 404)
	shows("/manage/trash?repository=team/app", nil, 200, "team/app@", "Restore")
	shows("/manage/operations", nil, 200, "delete-repository</td>", "alice")
}

// A repository is deleted though the client leaves and the indexer is killed in the middle; what
// is pushed in between stays.
func TestDeletionSurvivesKill(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool // whether deletions wait
	var waiting atomic.Int64
	release := make(chan struct{})
	f := launch(t)
	target, err := url.Parse(f.registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	var deleted atomic.Int64
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete && stuck.Load() && deleted.Add(1) > 25 {
			waiting.Add(1)
			<-release
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(slow.Close)
	f.settings = append(f.settings, "PORTBOOK_REGISTRY_URL="+slow.URL)
	i := f.indexer(f.address)
	client := push.New(f.registry.URL)
	for n := range 20 {
		spec := push.ImageSpec{Labels: map[string]string{"n": fmt.Sprint(n)}}
		if _, err := client.Image(t.Context(), "team/app", fmt.Sprintf("v%d", n), spec); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Image(t.Context(), "team/app/deep", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	f.equal(patience)
	stuck.Store(true)
	pool := f.pool()
	f.query(pool, "WITH added AS (INSERT INTO operation (kind, repository, actor) VALUES ('delete-repository', 'team/app', 'alice') RETURNING 1) SELECT count(*) FROM added")
	within(t, patience, "a deletion waits", func() bool { return waiting.Load() > 0 })
	i.process.Kill()
	fresh, err := client.Image(t.Context(), "team/app", "fresh", push.ImageSpec{Labels: map[string]string{"n": "fresh"}})
	if err != nil {
		t.Fatal(err)
	}
	stuck.Store(false)
	close(release)
	f.indexer(registrytest.FreeAddr(t), "PORTBOOK_HTTP_ADDRESS="+f.address)
	within(t, time.Minute, "the operation is done", func() bool {
		return f.query(pool, "SELECT count(*) FROM operation WHERE state = 'done' AND claims > 1") == 1
	})
	f.equal(patience)
	if n := f.query(pool, "SELECT count(*) FROM tag t JOIN repository r ON r.id = t.repository_id WHERE r.name = 'team/app' AND t.name <> 'fresh'"); n != 0 {
		t.Errorf("%d tags are left", n)
	}
	if desc, _, err := client.Fetch(t.Context(), "team/app", "fresh"); err != nil || desc.Digest != fresh.Digest {
		t.Errorf("what was pushed meanwhile: %v", err)
	}
	if _, _, err := client.Fetch(t.Context(), "team/app/deep", "v1"); err != nil {
		t.Error(err)
	}
}

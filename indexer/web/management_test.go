package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/access/accesstest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/web"
)

// A changer records the operations that it is asked for, and fails with an error.
type changer struct {
	mu    sync.Mutex
	asked []string
	err   error
}

func (c *changer) Do(ctx context.Context, o indexer.Operation) (indexer.Operation, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, fmt.Sprintf("%s %s as %s", o.Kind, o.Target(), access.ActorOf(ctx).Name))
	o.State = indexer.OperationRunning
	return o, errors.Join(c.err, ctx.Err())
}

func (c *changer) Await(_ context.Context, o indexer.Operation) (indexer.Operation, error) {
	o.State = indexer.OperationDone
	return o, nil
}

func (c *changer) Unlist(context.Context, string) error { return nil }

// call sends a call of the API of Deploys.app.
func callAPI(t *testing.T, h http.Handler, method, path, field, body string, contentType ...string) (int, http.Header, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if contentType != nil {
		r.Header.Set("Content-Type", contentType[0])
	}
	if field != "" {
		r.Header.Set("Authorization", field)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Header(), w.Body.String()
}

// In which order a call is checked, and what it answers: the method, the content type, the JSON,
// missing fields, the permission, and then what it is about.
func TestProjects(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	shelf.Stock()
	shelf.Find("acme/app", "v1", postgrestest.Made("acme/app", "linux/amd64", 1, 1, "2026-01-01"))
	shelf.Find("acme/team/deep", "v1", postgrestest.Made("acme/team/deep", "linux/amd64", 2, 1, "2026-01-01"))
	shelf.Find("other/app", "v1", postgrestest.Made("other/app", "linux/amd64", 3, 1, "2026-01-01"))
	shelf.Find("acme", "v1", postgrestest.Made("acme", "linux/amd64", 4, 1, "2026-01-01"))
	server := accesstest.New(t, map[string]string{"Bearer all": "acme:list acme:get acme:push", "Bearer ro": "acme:list acme:get", "Bearer none": ""})
	changes := &changer{}
	c := delegating(t, postgres.New(shelf.Pool, postgres.Config{}), access.DelegateConfig{URL: server.URL})
	c.Changes = changes
	h := web.New(c)
	said := func(text string) string {
		return `{"ok":false,"error":{"message":` + fmt.Sprintf("%q", text) + `}}` + "\n"
	}
	const done, forbidden = `{"ok":true,"result":{}}` + "\n", `{"ok":false,"error":{"message":"iam: forbidden"}}` + "\n"
	d := digest.FromString("a manifest").String()
	all, ro := "Bearer all", "Bearer ro"
	methods := []string{"list", "get", "getTags", "getManifests", "getProjectStorage", "delete", "deleteManifest", "untag"}
	for _, c := range []struct {
		method, field, body, want string
	}{
		{"list", "", `{}`, said("project required")}, // before the permission
		{"get", "Bearer wrong", `{"project":"acme"}`, said("repository required")},
		{"getTags", all, `{"project":"","repository":""}`, said("project required")},
		{"getManifests", all, `{"repository":"app"}`, said("project required")},
		{"getProjectStorage", all, `{}`, said("project required")},
		{"delete", ro, `{"project":"acme"}`, said("repository required")},
		{"deleteManifest", ro, `{"project":"acme"}`, said("repository required")},
		{"deleteManifest", ro, `{"project":"acme","repository":"app"}`, said("digest required")},
		{"untag", ro, `{"project":"acme","repository":"app"}`, said("tag required")},
		{"untag", ro, `null`, said("project required")},
		{"list", "", `{"project":"acme"}`, forbidden},
		{"list", "Bearer wrong", `{"project":"acme"}`, forbidden},
		{"list", "Bearer none", `{"project":"acme"}`, forbidden},
		{"list", all, `{"project":"other"}`, forbidden},
		{"get", all, `{"project":"other","repository":"nah"}`, forbidden},
		{"get", all, `{"project":"acme/team","repository":"deep"}`, forbidden}, // a project has no slash
		{"delete", ro, `{"project":"acme","repository":"app"}`, forbidden},
		{"deleteManifest", ro, `{"project":"acme","repository":"app","digest":"` + d + `"}`, forbidden},
		{"untag", ro, `{"project":"acme","repository":"nah","tag":"zzz"}`, forbidden},
		{"get", all, `{"project":"acme","repository":"nah"}`, said("repository not found")},
		{"get", all, `{"project":"acme","repository":"App"}`, said("repository not found")},
		{"get", all, `{"project":"acme","repository":"../other/app"}`, said("repository not found")},
		{"getTags", all, `{"project":"acme","repository":"app/"}`, said("repository not found")},
		{"getManifests", all, `{"project":"acme","repository":"/app"}`, said("repository not found")},
		{"delete", all, `{"project":"acme","repository":"nah"}`, said("repository not found")},
		{"deleteManifest", all, `{"project":"acme","repository":"app","digest":"sha256:00"}`, said("manifest not found")},
		{"deleteManifest", all, `{"project":"acme","repository":"A","digest":"` + d + `"}`, said("manifest not found")},
		{"untag", all, `{"project":"acme","repository":"app","tag":"a/b"}`, said("tag not found")},
		{"getProjectStorage", ro, `{"project":"acme"}`, `{"ok":true,"result":{"size":0}}` + "\n"},
		{"list", all, `{"project":1}`, said("json: cannot unmarshal number into Go struct field apiListRequest.project of type string")},
		{"get", all, `{"project":"acme","repository":true}`, said("json: cannot unmarshal bool into Go struct field apiGetRequest.repository of type string")},
		{"untag", all, `{"project":"acme","repository":"app","tag":[]}`, said("json: cannot unmarshal array into Go struct field apiUntagRequest.tag of type string")},
		{"list", all, `[]`, said("json: cannot unmarshal array into Go value of type main.apiListRequest")},
		{"getProjectStorage", all, `"acme"`, said("json: cannot unmarshal string into Go value of type main.apiGetProjectStorageRequest")},
		{"list", all, `{"project":"acme"`, said("unexpected EOF")},
		{"list", all, ``, said("EOF")},
		{"list", all, `x`, said("invalid character 'x' looking for beginning of value")},
		{"list", all, strings.Repeat(" ", 1<<20) + `{}`, said("http: request body too large")},
		{"untag", all, `{"PROJECT":"acme","Repository":"app","tag":"v1","zzz":{}}more`, done},
		{"deleteManifest", all, `{"project":"acme","repository":"app","digest":"` + d + `"}`, done},
		{"delete", all, `{"project":"acme","repository":"team/deep"}`, done},
	} {
		if code, header, got := callAPI(t, h, "POST", "/api/"+c.method, c.field, c.body); code != 200 || got != c.want || header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s %.200s as %q: %d %s, want %s", c.method, c.body, c.field, code, got, c.want)
		}
	}
	if got := strings.Join(changes.asked, "\n"); strings.Count(got, "\n") != 2 || !strings.Contains(got, "untag acme/app:v1 as delegated/") ||
		!strings.Contains(got, "delete-repository acme/team/deep as") {
		t.Errorf("asked for %s", got)
	}
	for err, want := range map[error]string{
		indexer.ErrNotFound: "tag not found", indexer.Conflict("it is protected"): "it is protected", indexer.Forbidden("no"): "iam: forbidden",
	} {
		changes.err = err
		if _, _, got := callAPI(t, h, "POST", "/api/untag", all, `{"project":"acme","repository":"app","tag":"v1"}`); got != said(want) {
			t.Errorf("%v answers %s", err, got)
		}
	}
	changes.err = fmt.Errorf("away: %w", indexer.ErrUnavailable)
	if code, _, got := callAPI(t, h, "POST", "/api/untag", all, `{"project":"acme","repository":"app","tag":"v1"}`); code != 500 || got != `{"ok":false,"error":{}}`+"\n" {
		t.Errorf("an error of ours answers %d %s", code, got)
	}
	_, _, got := callAPI(t, h, "POST", "/api/list", ro, `{"project":"acme"}`)
	var list struct {
		OK     bool
		Result struct {
			Items []struct {
				Name      string
				CreatedAt time.Time
			}
		}
	}
	if err := json.Unmarshal([]byte(got), &list); err != nil || !list.OK || len(list.Result.Items) != 2 || list.Result.Items[1].Name != "team/deep" {
		t.Errorf("list: %s, %v", got, err)
	}
	for _, method := range methods {
		for _, verb := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			code, header, got := callAPI(t, h, verb, "/api/"+method, all, "")
			if code != 405 || header.Get("Allow") != "POST" || header.Get("Content-Type") != "text/plain; charset=utf-8" || got != "Method Not Allowed\n" {
				t.Errorf("%s %s: %d %v %q", verb, method, code, header, got)
			}
		}
		for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"} {
			code, _, got := callAPI(t, h, "POST", "/api/"+method, all, `{`, media)
			if code != 400 || got != said("unsupported content type") {
				t.Errorf("%s of %q: %d %s", method, media, code, got)
			}
		}
		if code, _, _ := callAPI(t, h, "POST", "/api/"+method, all, `{}`, "application/json; charset=utf-8"); code != 200 {
			t.Errorf("%s with a charset: %d", method, code)
		}
	}
	for _, path := range []string{"/api/none", "/api/list/", "/api/", "/internal/none", "/api/List"} {
		code, header, got := callAPI(t, h, "POST", path, all, "{}")
		if code != 404 || got != "404 page not found\n" || header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %q", path, code, got)
		}
	}
	// On a reader, and where nobody logs in, nothing changes.
	c.Changes = nil
	if code, _, got := callAPI(t, web.New(c), "POST", "/api/untag", all, `{"project":"acme","repository":"app","tag":"v1"}`); code != 503 || !strings.Contains(got, "only reads") {
		t.Errorf("a reader: %d %s", code, got)
	}
	c.Login, c.Changes = nil, changes
	h = web.New(c)
	if _, _, got := callAPI(t, h, "POST", "/api/untag", "", `{"project":"acme","repository":"app","tag":"v1"}`); got != forbidden {
		t.Errorf("without logins, untag answers %s", got)
	}
	if _, _, got := callAPI(t, h, "POST", "/api/getTags", "", `{"project":"acme","repository":"app"}`); !strings.Contains(got, `{"ok":true,"result":{"name":"app","items":[{"tag":"v1"`) {
		t.Errorf("without logins, getTags answers %s", got)
	}
}

// A fakeJob ends each run with an error.
type fakeJob struct{ err string }

func (j fakeJob) RequestJob(_ context.Context, name string) (indexer.JobRun, error) {
	return indexer.JobRun{ID: 1, Name: name}, nil
}

func (j fakeJob) JobRun(context.Context, int64) (indexer.JobRun, error) {
	return indexer.JobRun{ID: 1, EndedAt: time.Now(), Error: j.err}, nil
}

// Requests for jobs need the secret; without one, they are refused unless only this machine can
// send them.
func TestInternal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secret, field, method, err string
		open                       bool
		code                       int
		want                       string
	}{
		{"s3", "Bearer s3", "POST", "", false, 204, ""},
		{"s3", "Bearer s3", "POST", "runBlobGC: the registry is away", false, 500, "runBlobGC: the registry is away\n"},
		{"s3", "Bearer s4", "POST", "", true, 401, "unauthorized\n"},
		{"s3", "s3", "POST", "", true, 401, "unauthorized\n"},
		{"s3", "", "POST", "", true, 401, "unauthorized\n"},
		{"s3", "Bearer s3", "GET", "", false, 405, "Method Not Allowed\n"},
		{"s3", "", "HEAD", "", false, 405, "Method Not Allowed\n"},
		{"", "", "POST", "", true, 204, ""},
		{"", "Bearer ", "POST", "", false, 401, "unauthorized\n"},
	} {
		h := web.New(web.Config{Read: (&book{}).read, InternalSecret: c.secret, InternalOpen: c.open, Jobs: fakeJob{c.err}})
		for _, job := range indexer.InternalJobs {
			code, header, got := callAPI(t, h, c.method, "http://localhost:8080/internal/"+job, c.field, "")
			if code != c.code || got != c.want || code != 204 && header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%+v: %s answers %d %q", c, job, code, got)
			}
		}
	}
}

// Without a secret, only this machine may request jobs: a proxy on it, or a page in its browser
// that gives its address another name, must not open them to others.
func TestInternalIsNotForwarded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, field string
		proto       string
		secret      string
		code        int
	}{
		{"127.0.0.1:8080", "", "", "", 204},
		{"localhost", "", "", "", 204},
		{"[::1]:8080", "", "", "", 204},
		{"127.0.0.1:8080", "X-Forwarded-For", "", "", 401},
		{"127.0.0.1:8080", "x-forwarded-host", "", "", 401},
		{"127.0.0.1:8080", "X-Real-IP", "", "", 401},
		{"127.0.0.1:8080", "Forwarded", "", "", 401},
		{"127.0.0.1:8080", "Via", "", "", 401},
		{"127.0.0.1:8080", "", "HTTP/1.0", "", 401},
		{"rebound.example.com:8080", "", "", "", 401},
		{"10.1.2.3:8080", "", "", "", 401},
		{"", "", "", "", 401},
		{"registry.example.com", "X-Forwarded-For", "HTTP/1.0", "s3", 204},
	} {
		h := web.New(web.Config{Read: (&book{}).read, InternalSecret: c.secret, InternalOpen: true, Jobs: fakeJob{}})
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/internal/runAll", nil)
		r.Host = c.host
		r.Header.Set("Authorization", "Bearer "+c.secret)
		if c.field != "" {
			r.Header.Set(c.field, "192.0.2.1")
		}
		if c.proto != "" {
			r.Proto, r.ProtoMajor, r.ProtoMinor = c.proto, 1, 0
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != c.code {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
}

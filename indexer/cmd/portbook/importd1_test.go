package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/registry/push"
)

// A fakeD1 answers queries as Cloudflare does, from tables, and fails at times.
type fakeD1 struct {
	url      string
	tables   map[string][]map[string]any
	requests atomic.Int64
	failing  bool
}

var d1Query = regexp.MustCompile(`^SELECT \* FROM (\w+) ORDER BY [\w, ]+ LIMIT \? OFFSET \?$`)

func startD1(t *testing.T, tables map[string][]map[string]any) *fakeD1 {
	t.Helper()
	d := &fakeD1{tables: tables}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := d.requests.Add(1)
		var q struct {
			SQL    string
			Params []int
		}
		err := json.NewDecoder(r.Body).Decode(&q)
		match := d1Query.FindStringSubmatch(q.SQL)
		switch {
		case r.Header.Get("Authorization") != "Bearer marker-of-a-secret":
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"success": false, "errors": [{"code": 10000, "message": "Authentication error"}], "result": null}`)
		case r.URL.Path != "/client/v4/accounts/acc/d1/database/db/query", err != nil, match == nil, len(q.Params) != 2:
			t.Errorf("%s %q %v", r.URL.Path, q.SQL, err)
			w.WriteHeader(http.StatusBadRequest)
		case d.failing && n%4 == 1:
			panic(http.ErrAbortHandler)
		case d.failing && n%4 == 2:
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			rows := d.tables[match[1]]
			rows = rows[min(q.Params[1], len(rows)):]
			rows = rows[:min(q.Params[0], len(rows))]
			_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "errors": []any{}, "messages": []any{},
				"result": []any{map[string]any{"success": true, "results": append([]map[string]any{}, rows...), "meta": map[string]any{}}}})
		}
	}))
	t.Cleanup(server.Close)
	d.url = server.URL + "/client/v4"
	return d
}

// The times of a database in D1 are taken over, although requests fail and the program is killed;
// what is in the registry has them, also what is scanned later, until it is pushed again.
func TestImportD1(t *testing.T) {
	t.Parallel()
	f := launch(t)
	var images []digest.Digest
	for _, tag := range []string{"v1", "v2"} {
		desc, err := f.registry.Push.Image(t.Context(), "team/app", tag, push.ImageSpec{Labels: map[string]string{"tag": tag}})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, desc.Digest)
	}
	tables := map[string][]map[string]any{
		"repositories": {{"name": "team/app", "created_at": "2020-01-01 00:00:00"}},
		"manifests": {
			{"repository": "team/app", "digest": images[0], "created_at": "2020-01-02T00:00:00Z"},
			{"repository": "team/app", "digest": images[1], "created_at": 1578009600},
		},
		"tags": {
			{"repository": "team/app", "tag": "v1", "digest": images[0], "created_at": "2020-01-04T00:00:00.25Z"},
			{"repository": "team/app", "tag": "v2", "digest": images[0], "created_at": "2020-01-05T00:00:00Z"}, // it shows another now
		},
		"blobs": {{"repository": "team/app", "digest": images[0], "size": 1, "created_at": "2020-01-01 00:00:00"}},
	}
	for i := range 2500 {
		name := fmt.Sprintf("gone/r%04d", i)
		tables["repositories"] = append(tables["repositories"], map[string]any{"name": name, "created_at": "2021-01-01 00:00:00"})
		tables["tags"] = append(tables["tags"], map[string]any{"repository": name, "tag": "v1", "digest": images[0],
			"created_at": 1600000000000})
	}
	d := startD1(t, tables)
	d.failing = true
	f.settings = append(f.settings, "CLOUDFLARE_API_URL="+d.url, "CLOUDFLARE_ACCOUNT_ID=acc", "D1_DATABASE_ID=db")
	f.must("migrate", "up", "--yes")
	if out, err := f.run("import", "d1"); err == nil || !strings.Contains(out, "CLOUDFLARE_API_TOKEN") {
		t.Errorf("without a token: %v %s", err, out)
	}
	f.settings = append(f.settings, "CLOUDFLARE_API_TOKEN=marker-of-a-secret")
	killed := exec.Command(f.binary, "import", "d1")
	killed.Env = f.environment()
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "a part is read", func() bool { return d.requests.Load() >= 8 })
	_ = killed.Process.Kill()
	_ = killed.Wait()
	d.failing = false
	out := f.must("import", "d1")
	if want := "repositories: 2501 rows"; !strings.Contains(out, want) || !strings.Contains(out, "tags: 2502 rows") {
		t.Errorf("%s, want %s", out, want)
	}
	if out := f.must("import", "d1"); strings.Count(out, " 0 new times") != 4 {
		t.Errorf("the second run: %s", out)
	}
	pool := f.pool()
	if n := f.query(pool, "SELECT count(*) FROM imported_time"); n != 2501+2+2502 {
		t.Errorf("%d times are kept", n)
	}
	i := f.indexer(f.address)
	f.equal(patience)
	within(t, patience, "the events of the pushes have arrived", func() bool {
		return f.query(pool, "SELECT count(*) FROM tag WHERE pushed_at IS NOT NULL") == 2
	})
	f.must("import", "d1") // once more, since they came after the first import
	within(t, patience, "the book has the times", func() bool {
		return f.query(pool, "SELECT count(*) FROM repository WHERE created_at = '2020-01-01Z'") == 1
	})
	const tagTime = "SELECT extract(epoch FROM GREATEST(moved_at, pushed_at))::int FROM tag WHERE name = $1"
	if got := f.query(pool, tagTime, "v1"); got != 1578096000 {
		t.Errorf("v1 was created at %d", got)
	}
	if got := f.query(pool, tagTime, "v2"); got < 1700000000 {
		t.Errorf("v2 shows another image, and has the time %d", got)
	}
	if n := f.query(pool, "SELECT count(*) FROM manifest WHERE seen_at IN ('2020-01-02Z', '2020-01-03Z')"); n != 2 {
		t.Errorf("%d manifests have their times", n)
	}
	i.alive(t)
	f.equal(patience)
}

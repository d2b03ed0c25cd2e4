package web_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web/answer"
)

// The garbage collection says the same by API and on its page, which has the kill switch; the
// comparison of the book with the storage is on the page of storage, for who sees everything.
func TestCollect(t *testing.T) {
	t.Parallel()
	m := manage(t)
	page := func(who, method, path string, status int, texts ...string) {
		t.Helper()
		session, _, err := m.signer.ForSession(who, time.Now(), time.Now())
		m.must(t, err)
		resp, body := do(t, method, m.URL+path, "", "Cookie", answer.SessionCookie+"="+session, "Sec-Fetch-Site", "same-origin")
		if resp.StatusCode != status {
			t.Errorf("%s %s as %s: %d, want %d", method, path, who, resp.StatusCode, status)
		}
		for _, text := range texts {
			if !strings.Contains(body, text) {
				t.Errorf("%s as %s: %q is not in %s", path, who, text, body)
			}
		}
	}
	page("root", "GET", "/manage/collect", 200, "has not begun")
	stuck := digest.FromString("stuck")
	m.must(t, m.store.BeginLook(t.Context()))
	m.must(t, m.store.AddLooked(t.Context(), []postgres.LookedBlob{{Digest: stuck, Size: 7, Stored: true}}, nil))
	look := indexer.StorageLook{Begin: time.Now(), Blobs: 9, Bytes: 4096, Unreadable: 2, Problems: []string{"/a <b>"}}
	m.must(t, m.store.EndLook(t.Context(), look, time.Hour))
	if state, err := m.store.Collection(t.Context()); err != nil || state.Observed != 0 {
		t.Errorf("after the first look the storage has been observed for %v, %v: want 0", state.Observed, err)
	}
	for range indexer.MaxCollectFailures {
		failed := map[digest.Digest]string{stuck: "permission <denied>"}
		m.must(t, m.store.Settle(t.Context(), postgres.Settlement{Failed: failed, First: time.Hour, Most: time.Hour}))
	}
	m.must(t, m.store.SetCollectionDoes(t.Context(), "the collection only looks"))
	page("root", "GET", "/manage/collect", 200, "the collection only looks", stuck.String(), "permission &lt;denied&gt;",
		"Pause: delete nothing any more", "could not be read", "/a &lt;b&gt;")
	page("alice", "GET", "/manage/collect", 403)
	page("alice", "POST", "/manage/collect/pause", 403)
	page("root", "POST", "/manage/collect/pause", 303)
	m.wants(t, "root", "GET", "/api/v1/collect", "", 200, `"paused":true`, `"paused_by":"root"`, `"state":"stuck"`,
		`"exact":false`, `"unused":1`)
	m.wants(t, "root", "GET", "/api/v1/collect/blobs?state=stuck", "", 200, stuck.String(), `"failures":10`)
	m.wants(t, "root", "GET", "/api/v1/collect/blobs?after=x", "", 400, "write sha256:")
	page("root", "GET", "/manage/collect", 200, "Paused by root", "let it delete again")
	m.wants(t, "root", "POST", "/api/v1/collect/resume", "", 200, `"paused":false`)
	m.wants(t, "root", "POST", "/api/v1/collect/retry", "", 200, `"state":"waiting"`)
	page("root", "GET", "/storage", 200, "The book against the storage")
	m.wants(t, "root", "GET", "/api/v1/storage", "", 200, `"look":{`)
	if got := m.wants(t, "bob", "GET", "/api/v1/storage", "", 200); strings.Contains(got, `"look"`) {
		t.Errorf("bob, who sees a part, is told of the whole storage: %s", got)
	}
	for _, event := range []string{"collect.pause", "collect.resume", "collect.retry"} {
		m.wants(t, "root", "GET", "/api/v1/audit?event="+url.QueryEscape(event), "", 200, `"actor":"root"`)
	}
}

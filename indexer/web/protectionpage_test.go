package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/web"
)

// In the browser, tags are protected, repositories frozen and quotas set as by the API, by the
// same people, and only for what they administer.
func TestProtectionByPage(t *testing.T) {
	t.Parallel()
	m := manage(t, unlimited, func(c *web.Config) {
		c.Protection.Keeper = &access.Keeper{}
	})
	shelf := postgrestest.On(t, m.pool)
	shelf.Find("team/app", "v1", postgrestest.Made("team/app", "linux/amd64", 1, 3, "2026-01-01"))
	shelf.Lead()
	lead, root, bob, alice := m.browser(t, "lead"), m.browser(t, "root"), m.browser(t, "bob"), m.browser(t, "alice")
	const page = "/manage/protection"
	lead.wants(t, "GET", page, nil, 200, "No tag is protected", "Nothing is frozen", "There is no quota", "which you administer",
		"not active", "put back")
	alice.wants(t, "GET", page, nil, 403)
	alice.wants(t, "POST", page, url.Values{"kind": {"freeze"}, "pattern": {"team/app"}, "sure": {"yes"}}, 403)

	protect := url.Values{"kind": {"protect"}, "pattern": {"team/*"}, "tags": {"v 1"}, "reason": {"stay <b>"}}
	lead.wants(t, "POST", page, protect, 400, "is not a pattern of tags", `value="stay &lt;b&gt;"`)
	protect.Set("tags", "v*")
	lead.wants(t, "POST", page, protect, 200, "The tags are protected", "stay &lt;b&gt;", "by lead")
	lead.wants(t, "POST", page, url.Values{"kind": {"protect"}, "pattern": {"*"}, "tags": {"v*"}}, 403, "you do not administer *")
	m.wants(t, "lead", "GET", "/api/v1/protections", "", 200, `"kind":"protect","pattern":"team/*","tags":"v*"`)

	quota := url.Values{"kind": {"quota"}, "pattern": {"team/*"}, "bytes": {"many"}}
	lead.wants(t, "POST", page, quota, 400, "is not a number of bytes")
	quota.Set("bytes", "2kB")
	lead.wants(t, "POST", page, quota, 200, "The quota is set", "2.00 kB", "3 B", "under 1 %")
	quota.Set("bytes", "2")
	lead.wants(t, "POST", page, quota, 200, "used up", "150 %")

	freeze := url.Values{"kind": {"freeze"}, "pattern": {"team/app"}, "reason": {"release week"}}
	bob.wants(t, "POST", page, freeze, 403)
	lead.wants(t, "POST", page, freeze, 200, "Freeze team/app?", "by nobody", "release week")
	if got := m.wants(t, "root", "GET", "/api/v1/protections?kind=freeze", "", 200); strings.Contains(got, "team/app") {
		t.Errorf("it is frozen without having been asked: %s", got)
	}
	freeze.Set("sure", "yes")
	lead.wants(t, "POST", page, freeze, 200, "It is frozen")
	root.wants(t, "GET", page+"?repository=team/app", nil, 200, "release week", "stay &lt;b&gt;", "used up")
	bob.wants(t, "GET", page+"?repository=secret/x", nil, 200, "secret/x is not frozen by what you administer", "wider patterns")
	root.wants(t, "GET", page+"?repository=other/app", nil, 200, "No tag of other/app is protected", "other/app is not frozen")
	root.wants(t, "GET", page+"?repository=UPPER", nil, 400)
	if got := bob.wants(t, "GET", page, nil, 200); strings.Contains(got, "release week") {
		t.Error("who administers another repository sees the protections of team/app")
	}

	remove := url.Values{"kind": {"freeze"}, "pattern": {"team/app"}}
	bob.wants(t, "POST", page+"/remove", remove, 403)
	lead.wants(t, "POST", page+"/remove", remove, 200, "Let repositories change again: team/app?")
	remove.Set("sure", "yes")
	lead.wants(t, "POST", page+"/remove", remove, http.StatusSeeOther)
	lead.wants(t, "POST", page+"/remove", remove, http.StatusSeeOther) // it is gone already
	lead.wants(t, "GET", page, nil, 200, "Nothing is frozen")
}

// A page of protections has at most 50 of a kind; the next page goes on where it ends.
func TestProtectionPages(t *testing.T) {
	t.Parallel()
	m := manage(t)
	for i := range 51 {
		p := access.Protection{Kind: access.Protect, Pattern: pattern(t, "team/*"), Tags: "v" + strings.Repeat("0", i) + "*"}
		m.must(t, m.store.AddProtection(t.Context(), p))
	}
	lead := m.browser(t, "lead")
	got := lead.wants(t, "GET", "/manage/protection", nil, 200, "rel=\"next\"")
	if n := strings.Count(got, "/manage/protection/remove"); n != 50 {
		t.Errorf("the first page has %d protections, want 50", n)
	}
	got = lead.wants(t, "GET", "/manage/protection?kind=protect&after=team%2F*+v"+strings.Repeat("0", 49)+"*", nil, 200, "rel=\"prev\"")
	if n := strings.Count(got, "/manage/protection/remove"); n != 1 || strings.Contains(got, "Frozen") {
		t.Errorf("the second page has %d protections, want 1, and nothing else:\n%s", n, got)
	}
}

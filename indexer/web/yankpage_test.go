package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/postgres/postgrestest"
)

// In the browser, who may push yanks and deprecates, after a page that says what changes.
func TestYankByPage(t *testing.T) {
	t.Parallel()
	m := manage(t, unlimited)
	shelf := postgrestest.On(t, m.pool)
	image := postgrestest.Made("team/app", "linux/amd64", 1, 1, "2026-01-01")
	shelf.Find("team/app", "v1", image)
	shelf.Find("team/app", "stable", image)
	shelf.Lead()
	alice, bob := m.browser(t, "alice"), m.browser(t, "bob")
	tag := "/manage/yank?repository=team%2Fapp&tag=v1"
	alice.wants(t, "GET", "/r/team/app:v1", nil, 200, "Yank the tag", "Yank the image", strings.ReplaceAll(tag, "&", "&amp;"))
	alice.wants(t, "GET", tag, nil, 200, "Yank the tag team/app:v1", "It represents the repository now", "are not yanked", "stable", "No, go back")
	bob.wants(t, "GET", tag, nil, 404)
	bob.wants(t, "POST", "/manage/yank", url.Values{"repository": {"team/app"}, "tag": {"v1"}}, 404)
	alice.wants(t, "GET", "/manage/yank?repository=public/x", nil, 403)
	alice.wants(t, "GET", "/manage/yank?repository=team/app&tag=none", nil, 404, "there is no tag team/app:none")
	alice.wants(t, "GET", "/manage/deprecate?repository=team/app&tag=v1", nil, 400, "only a whole repository")

	form := url.Values{"repository": {"team/app"}, "tag": {"v1"}, "reason": {"loses <b>"}}
	alice.wants(t, "POST", "/manage/yank", form, http.StatusSeeOther)
	alice.wants(t, "GET", "/r/team/app:v1", nil, 200, "This tag is yanked: loses &lt;b&gt;", "Unyank the tag")
	alice.wants(t, "POST", "/manage/yank", form, http.StatusConflict, "is already yanked")
	alice.wants(t, "GET", tag, nil, 200, "Unyank the tag", "It is yanked by alice", "Change the reason")
	alice.wants(t, "GET", "/manage/yank?repository=team/app&tag=stable", nil, 200, "No tag of team/app is left")
	alice.wants(t, "GET", "/manage/yank?repository=team/app&digest="+image.Digest.String(), nil, 200, "All tags that show it are yanked with it")

	alice.wants(t, "GET", "/manage/deprecate?repository=team/app", nil, 200, "Deprecate the repository team/app", "2 tags", "flatpak")
	alice.wants(t, "POST", "/manage/deprecate", url.Values{"repository": {"team/app"}}, 400, "needs a reason")
	alice.wants(t, "POST", "/manage/deprecate", url.Values{"repository": {"team/app"}, "reason": {"use team/app2"}}, http.StatusSeeOther)
	alice.wants(t, "GET", "/r/team/app", nil, 200, "This repository is deprecated: use team/app2", "Undeprecate")
	alice.wants(t, "GET", tag, nil, 200, "not as long as the repository is deprecated")
	alice.wants(t, "POST", "/manage/deprecate", url.Values{"repository": {"team/app"}, "undo": {"yes"}}, http.StatusSeeOther)

	shelf.Find("team/app", "v1") // the tag is gone, and its yank stays
	alice.wants(t, "GET", tag, nil, 200, "Unyank the tag")
	alice.wants(t, "POST", "/manage/yank", url.Values{"repository": {"team/app"}, "tag": {"v1"}, "undo": {"yes"}}, http.StatusSeeOther)
	alice.wants(t, "GET", tag, nil, 404)
}

package web_test

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
)

func TestStoragePage(t *testing.T) {
	t.Parallel()
	b := stocked("team")
	s := serve(t, b)
	_, body := get(t, s.URL+"/storage")
	for _, want := range []string{
		"1.95 KiB used by only one repository, in untagged manifests", "<b>8.79 KiB</b> in 1 repository and 3 manifests",
		// Of 9,000 bytes: 6,000 own, 2,000 own and untagged, 1,000 shared.
		`<rect class="ledger-own" x="0.00" y="0" width="66.67" height="10"></rect><rect class="ledger-untagged" x="66.67" y="0" width="22.22" height="10"></rect><rect class="ledger-shared" x="88.89" y="0" width="11.11" height="10"></rect>`,
		`<a href="/storage?namespace=team">team</a>`, `<a href="/storage?namespace=%2F">(none)</a>`,
		// The second namespace, in proportion to the first, which has 6,000.
		`<rect class="ledger-own" x="0.00" y="0" width="50.00" height="10"></rect><rect class="ledger-shared" x="50.00" y="0" width="0.00" height="10"></rect>`,
		`<h2>Untagged</h2>`, `<h2>Least recently pushed</h2>`, "1.95 KiB", `<time datetime="2026-03-04T05:06:07Z"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
	if strings.Contains(body, "style=") {
		t.Error("an element has a style attribute, which our Content-Security-Policy forbids")
	}
	if note := "You see a part"; strings.Contains(body, note) {
		t.Errorf("%q is in %s", note, body)
	}
	b.storage.Part = true
	if _, part := get(t, s.URL+"/storage"); !strings.Contains(part, "You see a part") || strings.Contains(part, "used by only one repository<") {
		t.Errorf("who sees a part gets %s", part)
	}
	ask := func(path string) []indexer.StorageQuery {
		t.Helper()
		b.stores = nil
		if resp, body := get(t, s.URL+path); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
		return b.stores
	}
	team, none := "team", ""
	for path, want := range map[string][]indexer.StorageQuery{
		"/storage":                {{Order: indexer.ByStorage, Limit: 20}, {Order: indexer.ByPush, Limit: 20}, {Order: indexer.ByUntagged, Limit: 20}},
		"/storage?namespace=team": {{Order: indexer.ByStorage, Namespace: &team, Limit: 50}},
		"/storage?namespace=%2F":  {{Order: indexer.ByStorage, Namespace: &none, Limit: 50}},
	} {
		if diff := cmp.Diff(want, ask(path)); diff != "" {
			t.Errorf("%s asks (-want +got)\n%s", path, diff)
		}
	}
	for _, path := range []string{"/storage?namespace=UPPER", "/storage?namespace=a/b", "/storage?namespace=%00"} {
		if resp, _ := get(t, s.URL+path); resp.StatusCode != 400 {
			t.Errorf("%s: %d, want 400", path, resp.StatusCode)
		}
	}
}

// All repositories of a namespace can be reached, and the page shows their number.
func TestStorageOfNamespacePages(t *testing.T) {
	t.Parallel()
	b := stocked("team")
	b.namespaces = []indexer.NamespaceStorage{{Namespace: "team", Repositories: 102, Own: 5 << 20, Shared: 1 << 20}}
	b.stored = nil
	for i := range 102 {
		b.stored = append(b.stored, indexer.RepositoryStorage{Name: fmt.Sprintf("team/r%03d", i), Own: int64(2000 - i)})
	}
	s := serve(t, b)
	seen := 0
	path := "/storage?namespace=team"
	for _, want := range []string{"1 to 50 of 102", "51 to 100 of 102", "101 to 102 of 102"} {
		_, body := get(t, s.URL+path)
		checkPage(t, path, body)
		for _, text := range []string{want, "<b>5.00 MiB</b> that no other namespace uses, and 1.00 MiB that others use too, in 102 repositories"} {
			if !strings.Contains(body, text) {
				t.Errorf("%s: no %q in %s", path, text, body)
			}
		}
		seen += strings.Count(body, `<a href="/r/team/r`)
		next := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(body)
		if (next == nil) != (want == "101 to 102 of 102") {
			t.Errorf("%s: the next page is %q", path, next)
		}
		if next != nil {
			path = html.UnescapeString(next[1])
		}
	}
	if seen != 102 {
		t.Errorf("%d repositories can be reached, want 102", seen)
	}
	if _, body := get(t, s.URL+"/storage?namespace=team&page=9"); !strings.Contains(body, `There are no more repositories. <a href="/storage?namespace=team&amp;page=3">`) {
		t.Errorf("after the last page: %s", body)
	}
}

// Before the first count, unknown values must not be shown as zero.
func TestStorageNotCounted(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	if _, body := get(t, s.URL+"/storage"); !strings.Contains(body, "Nothing has been counted yet") || strings.Contains(body, "0 B") {
		t.Errorf("%s", body)
	}
	if _, body := get(t, s.URL+"/api/v1/storage"); strings.Contains(body, "counted_at") || !strings.Contains(body, `"items":[]`) {
		t.Errorf("%s", body)
	}
	counted := serve(t, &book{storage: indexer.Storage{CountedAt: day}})
	if _, body := get(t, counted.URL+"/storage"); !strings.Contains(body, "<b>0 B</b> in 0 repositories") || strings.Contains(body, "NaN") {
		t.Errorf("the page of an empty registry: %s", body)
	}
}

func TestAPIStorage(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.stored = []indexer.RepositoryStorage{{Name: "a"}, {Name: "b/c", Own: 5}, {Name: "d"}}
	s := serve(t, b)
	type answer struct {
		Size      int64
		CountedAt string `json:"counted_at"`
		Items     []struct {
			Repository string
			Own        int64
		}
		Next string
	}
	_, first := getJSON[answer](t, s.URL+"/api/v1/storage?limit=2")
	if first.Size != 9000 || first.CountedAt != "2026-03-04T05:06:07Z" || len(first.Items) != 2 || first.Items[1].Own != 5 {
		t.Errorf("%+v", first)
	}
	_, second := getJSON[answer](t, s.URL+first.Next)
	if len(second.Items) != 1 || second.Items[0].Repository != "d" || second.Next != "" {
		t.Errorf("after %s: %+v", first.Next, second)
	}
}

package main_test

import (
	"encoding/xml"
	"net/http"
	"strings"
	"testing"

	"github.com/portbook/portbook/registry/push"
)

// With the real programs, pushes, moves and deletions must be on the pages and in the
// feed, and must change the catalogue version for caches.
func TestLedger(t *testing.T) {
	t.Parallel()
	f := launch(t)
	writer := f.indexer(f.address)
	url := "http://" + writer.address
	ctx := t.Context()
	for _, content := range []string{"one", "two"} {
		if _, err := f.registry.Push.Image(ctx, "team/app", "v1", push.ImageSpec{Labels: map[string]string{"content": content}}); err != nil {
			t.Fatal(err)
		}
		f.equal(patience)
	}
	if err := f.registry.Push.Delete(ctx, "team/app", "v1"); err != nil {
		t.Fatal(err)
	}
	const deleted = `<span class="ledger-what">deleted</span>`
	within(t, patience, "the page shows the deletion", func() bool {
		return strings.Contains(body(url+"/activity?repository=team/app"), deleted)
	})
	page := body(url + "/activity")
	for _, what := range []string{"deleted", "moved", "pushed"} { // newest first
		_, rest, found := strings.Cut(page, `<span class="ledger-what">`+what+`</span>`)
		if !found {
			t.Fatalf("the page lacks a tag that was %s, or has another order: %s", what, page)
		}
		page = rest
	}
	var feed struct {
		Titles []string `xml:"entry>title"`
	}
	if err := xml.Unmarshal([]byte(body(url+"/activity.atom")), &feed); err != nil || strings.Join(feed.Titles, ", ") != "team/app:v1 deleted, team/app:v1 moved, team/app:v1 pushed" {
		t.Errorf("got feed %q, %v", feed.Titles, err)
	}
	if status(url+"/storage") != http.StatusOK || !strings.Contains(body(url+"/status"), "sent its first event") {
		t.Error("the storage is missing, or the status shows no registry")
	}
}

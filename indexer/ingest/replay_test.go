package ingest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/registry/registrytest"
)

// A recording is a notification that a stock registry sent.
type recording struct {
	Headers        http.Header     `json:"headers"`
	RequestHeaders http.Header     `json:"request_headers"`
	Body           json.RawMessage `json:"body"`
}

// recordings reads the notifications of a file: a list, or one on each line.
func recordings(t *testing.T, name string) (all []recording) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "events", name))
	if err != nil {
		t.Fatal(err)
	}
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	for line := range strings.Lines(string(raw)) {
		var r recording
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// replay sends the notifications of a file as the registry sent them.
func (h *harness) replay(name string) {
	h.t.Helper()
	for i, r := range recordings(h.t, name) {
		req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.receiver.URL, bytes.NewReader(r.Body))
		if err != nil {
			h.t.Fatal(err)
		}
		for _, headers := range []http.Header{r.Headers, r.RequestHeaders} {
			for k, v := range headers {
				req.Header[k] = v
			}
		}
		req.Header.Del("Content-Length") // the recorded one is of the body before it was indented
		req.Header.Del("Accept-Encoding")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			h.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			h.t.Errorf("%s, notification %d: status %d, want 200", name, i+1, resp.StatusCode)
		}
	}
}

// column returns the column of text that a statement selects.
func (h *harness) column(query string, args ...any) []string {
	h.t.Helper()
	rows, err := h.pool.Query(h.t.Context(), query, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	return append([]string(nil), texts...) // nil if there is none
}

func (h *harness) exec(statement string, args ...any) {
	h.t.Helper()
	if _, err := h.pool.Exec(h.t.Context(), statement, args...); err != nil {
		h.t.Fatal(err)
	}
}

// tasks returns the references of all tasks, sorted, with shortened digests.
func (h *harness) tasks() []string {
	h.t.Helper()
	return h.column("SELECT repository || ' ' || left(reference, 15) FROM task ORDER BY repository, reference")
}

// Events of pushes and deletions of manifests and tags must add a task for each
// reference that they name. All other events of the stock registry must add none.
func TestReplay(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"delete-blob.json":                                      {"demo/app sha256:891b8207"}, // the event is the same for a blob and a manifest
		"delete-manifest-by-digest-tagged.json":                 {"demo/app docker", "demo/app sha256:717329b1"},
		"delete-manifest-by-digest-untagged.json":               {"demo/app sha256:9036857e"},
		"delete-tag.json":                                       {"demo/app v1-alias"},
		"mount-blob.json":                                       nil,
		"pull-blob-GET.json":                                    nil,
		"pull-blob-HEAD.json":                                   nil,
		"pull-blob-conditional-304.json":                        nil,
		"pull-blob-range.json":                                  nil,
		"pull-manifest-by-digest-GET.json":                      nil,
		"pull-manifest-by-tag-GET.json":                         nil,
		"pull-manifest-by-tag-HEAD.json":                        nil,
		"pull-manifest-no-accept-404-but-event.json":            nil,
		"pull-manifestlist-rewritten-two-events.json":           nil,
		"push-artifact-with-subject-by-digest.json":             {"demo/app sha256:9036857e"},
		"push-blob-again-existing.json":                         nil,
		"push-blob-config.json":                                 nil,
		"push-blob-layer.json":                                  nil,
		"push-blob-token-auth-actor-and-forwarded-headers.json": nil,
		"push-docker-manifest-list.json":                        {"demo/app dlist"},
		"push-manifest-by-digest.json":                          {"demo/app sha256:7f27672a"},
		"push-manifest-by-tag-again-unchanged.json":             {"demo/app v1"},
		"push-manifest-by-tag.json":                             {"demo/app v1"},
		"push-manifest-docker-schema2.json":                     {"demo/app docker"},
		"push-manifest-second-tag-same-digest.json":             {"demo/app v1-alias"},
		"push-oci-index-by-tag.json":                            {"demo/app multi"},
		"push-referrers-fallback-tag-index.json":                {"demo/app sha256-1ab7e44a"},
		"real-clients-crane-skopeo-htpasswd.jsonl": {
			"other/app 1.0",
			"sk/app multi", "sk/app sha256:20c0ea2d", "sk/app sha256:c2c87f25",
			"team/app 1.0", "team/app arm", "team/app latest", "team/app multi", "team/app sha256:c2c87f25",
		},
	}
	h := open(t, registrytest.Config{})
	files, err := os.ReadDir(filepath.Join("testdata", "events"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		expected, listed := want[f.Name()]
		if !listed {
			t.Errorf("%s is not in the table", f.Name())
		}
		h.exec("TRUNCATE task")
		h.replay(f.Name())
		if diff := cmp.Diff(expected, h.tasks()); diff != "" {
			t.Errorf("tasks of %s (-want +got):\n%s", f.Name(), diff)
		}
	}
	if len(files) != len(want) {
		t.Errorf("got %d files, want %d as in the table", len(files), len(want))
	}
}

// All notifications are sent twice, with an empty registry. The second time must change
// nothing, and at the end the book must be empty and without tasks.
func TestReplayOnEmptyRegistry(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{})
	h.configure(func(c *ingest.WorkersConfig) { c.TagPatience = 10 * time.Millisecond }) // no tag will ever show the announced digest
	files, err := filepath.Glob("testdata/events/*")
	if err != nil {
		t.Fatal(err)
	}
	all := func() {
		for _, f := range files {
			h.replay(filepath.Base(f))
		}
	}
	const state = "SELECT repository || reference || wanted FROM task UNION ALL SELECT id FROM event UNION ALL SELECT reason || id FROM scan ORDER BY 1"
	all()
	first := h.column(state)
	all()
	if diff := cmp.Diff(first, h.column(state)); diff != "" {
		t.Errorf("changed by the second time (-first +second):\n%s", diff)
	}
	if got := h.column("SELECT reason FROM scan"); !cmp.Equal(got, []string{"instance"}) {
		t.Errorf("got scans requested for %v, want one for a new instance", got)
	}
	h.work()
	eventually(t, "no task is left", func() bool { return len(h.tasks()) == 0 })
	h.empty()
	h.equal()
	if got := h.column("SELECT tag FROM tag_history"); len(got) > 0 {
		t.Errorf("got a tag history of %v, want none", got)
	}
}

// empty fails the test unless the catalogue is empty.
func (h *harness) empty() {
	h.t.Helper()
	for _, table := range []string{"repository", "manifest", "tag", "blob", "referrer", "repository_search"} {
		if n := h.column(fmt.Sprintf("SELECT count(*)::text FROM %s", table)); n[0] != "0" {
			h.t.Errorf("%s rows in %s, want none", n[0], table)
		}
	}
}

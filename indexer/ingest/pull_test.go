package ingest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// request sends a request for a manifest to the registry, as a client named agent.
func (h *harness) request(method, repository, reference, agent string, header ...string) int {
	h.t.Helper()
	url := h.registry.URL + "/v2/" + repository + "/manifests/" + reference
	req, err := http.NewRequestWithContext(h.t.Context(), method, url, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("User-Agent", agent)
	req.Header["Accept"] = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// usage returns the usage of a repository, or of a tag or manifest of it, after a roll-up.
func (h *harness) usage(repository string, of ...indexer.UsageQuery) (u indexer.Usage) {
	h.t.Helper()
	q := indexer.UsageQuery{Days: 30}
	if len(of) > 0 {
		q = of[0]
	}
	q.Repository = repository
	if _, err := h.store.RollUpUsage(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	err := h.store.View(h.t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
		u, err = v.Usage(h.t.Context(), q)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return u
}

// arrived waits until the receiver has stored the event of a last pull, and so those of all
// before it: a registry sends its events in order.
func (h *harness) arrived(repository string, pulls int64) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); h.usage(repository).Pulls < pulls; {
		if time.Now().After(end) {
			h.t.Fatalf("%s: %d pulls were counted, want %d", repository, h.usage(repository).Pulls, pulls)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Of all that a registry reports as pulls, only a GET of a manifest by a client counts: no
// HEAD, no 304, no blob, nothing that the indexer itself reads. A scanner counts apart.
func TestOnlyPullsCount(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Pulls: true})
	image, end := h.image("team/app", "v1", "one"), h.image("team/end", "v1", "one")
	h.scan()
	for range 5 {
		h.request(http.MethodHead, "team/app", "v1", "docker/29")
	}
	for range 3 {
		h.request(http.MethodGet, "team/app", "v1", "docker/29")
	}
	quoted := `"` + image.Digest.String() + `"`
	if code := h.request(http.MethodGet, "team/app", "v1", "docker/29", "If-None-Match", quoted); code != http.StatusNotModified {
		t.Errorf("a conditional GET: %d, want 304", code)
	}
	h.request(http.MethodGet, "team/app", "v1", "Trivy/0.70")
	h.request(http.MethodGet, "team/app", image.Digest.String(), "Trivy/0.70")
	h.scan()
	h.equal() // reads all manifests
	h.request(http.MethodGet, "team/end", end.Digest.String(), "docker/29")
	h.arrived("team/end", 1)
	u := h.usage("team/app")
	if u.Pulls != 3 || u.ScannerPulls != 2 || u.Pushes != 1 || u.Since.IsZero() || u.PulledAt.IsZero() {
		t.Errorf("got %+v, want 3 pulls, 2 of scanners and 1 push", u)
	}
	if len(u.Days) != 1 || u.Days[0].By[indexer.ByAnonymous] != 3 {
		t.Errorf("days %+v, want 3 anonymous pulls on one day", u.Days)
	}
	if u := h.usage("team/app", indexer.UsageQuery{Digest: image.Digest}); u.Pulls != 3 || u.ScannerPulls != 2 {
		t.Errorf("the manifest: %+v, want 3 pulls and 2 of scanners", u.Counts)
	}
}

// Who pulls an image of several platforms pulls the index and then a child: one pull of the
// repository, and one of each manifest. A child by its own digest is used too.
func TestPullOfAnIndex(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Pulls: true})
	ctx := t.Context()
	child, err := h.push.Image(ctx, "team/app", "", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	index, err := h.push.Index(ctx, "team/app", "multi", []ocispec.Descriptor{child}, nil)
	if err != nil {
		t.Fatal(err)
	}
	end := h.image("team/end", "v1", "one")
	h.scan()
	h.request(http.MethodGet, "team/app", "multi", "crane")
	h.request(http.MethodGet, "team/app", child.Digest.String(), "crane")
	h.request(http.MethodGet, "team/end", end.Digest.String(), "crane")
	h.arrived("team/end", 1)
	for what, c := range map[string]struct {
		q     indexer.UsageQuery
		pulls int64
	}{
		"repository": {indexer.UsageQuery{}, 1}, "tag": {indexer.UsageQuery{Tag: "multi"}, 1},
		"index": {indexer.UsageQuery{Digest: index.Digest}, 1}, "child": {indexer.UsageQuery{Digest: child.Digest, Days: 9}, 1},
	} {
		u := h.usage("team/app", c.q)
		if u.Pulls != c.pulls || c.q.Days > 0 && (len(u.Days) != 1 || u.Days[0].Pulls != c.pulls) {
			t.Errorf("%s: %+v, want %d pulls", what, u, c.pulls)
		}
	}
}

// The recorded events of the stock registry are counted by their method and media type.
func TestReplayedPulls(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.exec("INSERT INTO repository (name) VALUES ('demo/app')")
	for file, want := range map[string]int64{
		"pull-blob-GET.json":                          0,
		"pull-blob-HEAD.json":                         0,
		"pull-blob-conditional-304.json":              0,
		"pull-blob-range.json":                        0,
		"pull-manifest-by-digest-GET.json":            1,
		"pull-manifest-by-tag-GET.json":               1,
		"pull-manifest-by-tag-HEAD.json":              0,
		"pull-manifest-no-accept-404-but-event.json":  1, // the event does not tell
		"pull-manifestlist-rewritten-two-events.json": 2, // the book does not know that one is an entry of the other
	} {
		h.exec("TRUNCATE usage_pending, usage_seen")
		h.replay(file)
		h.replay(file) // the same events again
		if got := h.column("SELECT COALESCE(sum(pulls), 0)::text FROM usage_pending"); got[0] != fmt.Sprint(want) {
			t.Errorf("%s: %s pulls, want %d", file, got[0], want)
		}
	}
}

// pulled returns the event of a pull.
func pulled(id, repository, tag string) string {
	e := strings.Replace(pushed(id, repository, tag), `"action":"push"`, `"action":"pull","request":{"method":"GET"}`, 1)
	return strings.Replace(e, "2026-11-21T00:09:22.190409818Z", time.Now().UTC().Format(time.RFC3339Nano), 1)
}

// send posts events in one envelope.
func (h *harness) send(events ...string) int {
	h.t.Helper()
	body := `{"events":[` + strings.Join(events, ",") + `]}`
	return post(h.t, http.MethodPost, h.receiver.URL, "Bearer "+token, strings.NewReader(body)).StatusCode
}

// Two writers that are sent the same events at the same time count each once.
func TestPullsAtTwoWriters(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.exec("INSERT INTO repository (name) VALUES ('demo/app')")
	other := postgres.New(h.pool, postgres.Config{})
	var pulls []indexer.Pull
	for i := range 500 {
		pulls = append(pulls, indexer.Pull{ID: fmt.Sprint(i), At: time.Now().Add(time.Duration(-i) * time.Second), Repository: "demo/app"})
	}
	var all sync.WaitGroup
	for _, s := range []*postgres.Store{h.store, other} {
		for n := range 8 {
			all.Go(func() {
				for i := range pulls { // in different orders
					one := pulls[(i*7+n*61)%len(pulls)]
					if _, err := s.CountPulls(t.Context(), []indexer.Pull{one}); err != nil {
						t.Error(err)
						return
					}
					if i%100 == 0 {
						if _, err := s.RollUpUsage(t.Context()); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	all.Wait()
	if _, err := h.store.RollUpUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.column("SELECT pulls::text FROM usage_repository"); len(got) != 1 || got[0] != "500" {
		t.Errorf("counted %v, want 500", got)
	}
}

// Who forges events fills no table: made-up repositories are not counted, and made-up tags and
// digests have no rows of their own. A day of one repository has a limit.
func TestForgedPulls(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.exec("INSERT INTO repository (name) VALUES ('demo/app'), ('demo/many')")
	h.exec("INSERT INTO tag (repository_id, name, problem) SELECT id, 'v' || g, 'made up' FROM repository, generate_series(1, 1500) AS g WHERE name = 'demo/many'")
	var events []string
	for i := range 1500 {
		events = append(events, pulled(fmt.Sprint("a", i), "demo/app", fmt.Sprint("made-up", i)),
			pulled(fmt.Sprint("b", i), fmt.Sprint("made-up", i), "v1"), pulled(fmt.Sprint("c", i), "demo/many", fmt.Sprint("v", i+1)))
	}
	events = append(events, pulled("odd", "demo/app", "not a tag"), pulled("", "demo/app", "v1"), pulled(strings.Repeat("x", 200), "demo/app", "v1"))
	if code := h.send(events...); code != http.StatusOK {
		t.Fatal(code)
	}
	if u := h.usage("demo/many", indexer.UsageQuery{Tag: "v1500"}); u.Pulls != 1 {
		t.Errorf("a tag beyond the limit of a day: %+v, want 1 pull", u.Counts)
	}
	for what, c := range map[string]struct{ q, want string }{
		"events":       {"SELECT count(*)::text FROM usage_seen", "3000"},
		"pending":      {"SELECT count(*)::text FROM usage_pending", "0"},
		"repositories": {"SELECT string_agg(name || ' ' || pulls, ', ' ORDER BY name) FROM usage_repository", "demo/app 1500, demo/many 1500"},
		"tags":         {"SELECT count(*)::text FROM usage_tag", "1500"},
		"manifests":    {"SELECT count(*)::text FROM usage_manifest", "0"},
		"days": {"SELECT string_agg(rows || ' ' || pulls, ', ' ORDER BY rows) FROM (SELECT count(*) AS rows, sum(pulls) AS pulls FROM usage_day GROUP BY repository) x",
			"1 1500, 1001 1500"},
	} {
		if got := h.column(c.q); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: %v, want %s", what, got, c.want)
		}
	}
}

// If the answer is lost after the commit, as when the indexer is killed in between, the
// registry sends the event again. The pull counts once.
func TestAnswerOfPullLost(t *testing.T) {
	t.Parallel()
	var lost atomic.Int64
	var receiver atomic.Pointer[httptest.Server]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		again := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		again.Header.Set("Authorization", r.Header.Get("Authorization"))
		receiver.Load().Config.Handler.ServeHTTP(w, again)
		if lost.Add(1)%3 > 0 {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(front.Close)
	h := open(t, registrytest.Config{Pulls: true, Notify: front.URL, Token: token})
	receiver.Store(h.receiver)
	h.image("team/app", "v1", "one")
	end := h.image("team/end", "v1", "one")
	h.scan()
	for range 4 {
		h.request(http.MethodGet, "team/app", "v1", "docker/29")
	}
	h.request(http.MethodGet, "team/end", end.Digest.String(), "docker/29")
	h.arrived("team/end", 1)
	if u := h.usage("team/app"); u.Pulls != 4 || lost.Load() < 9 {
		t.Errorf("%d pulls, after %d deliveries, want 4", u.Pulls, lost.Load())
	}
}

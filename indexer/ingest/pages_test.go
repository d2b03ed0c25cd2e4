package ingest_test

import (
	"context"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// catalogue serves the pages of the book.
func (h *harness) catalogue() *httptest.Server {
	read := func(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
		return h.store.View(ctx, asker, func(v *postgres.View) error { return f(v) })
	}
	s := httptest.NewServer(web.New(web.Config{Read: read, PublicURL: "https://r.example", WebUI: true, Version: "v1"}))
	h.t.Cleanup(s.Close)
	return s
}

func (h *harness) page(url, etag string) (code int, body, newETag string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("If-None-Match", etag)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header.Get("ETag")
}

var ownLink = regexp.MustCompile(`href="(/[^"#]*)"`)

// Every link of a page of the catalogue must lead to a page, and each page must be
// revalidated by its ETag. Their content was pushed to a real registry.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{})
	h.pushAll()
	h.scan()
	s := h.catalogue()
	const most = 600 // pages; the samples have about 300
	seen, queue := map[string]bool{"/": true}, []string{"/", "/?sort=name", "/compare"}
	for len(queue) > 0 && len(seen) < most {
		path := queue[0]
		queue = queue[1:]
		code, body, etag := h.page(s.URL+path, "")
		if code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
			continue
		}
		if code, _, _ := h.page(s.URL+path, etag); etag != "" && code != http.StatusNotModified {
			t.Errorf("%s again: %d", path, code)
		}
		_, body, _ = strings.Cut(body, "<main")
		for _, m := range ownLink.FindAllStringSubmatch(body, -1) {
			link := html.UnescapeString(m[1])
			if !seen[link] && !strings.HasPrefix(link, "/v2/") { // served by the registry
				seen[link] = true
				queue = append(queue, link)
			}
		}
	}
	for _, path := range []string{"/n/samples", "/r/samples/harbour", "/r/samples/harbour:latest", "/r/wasm/filter:1", "/?q=os%3Alinux"} {
		if !seen[path] {
			t.Errorf("no link leads to %s", path)
		}
	}
}

func (h *harness) pushAll() {
	h.t.Helper()
	ctx := h.t.Context()
	if err := push.Samples(ctx, h.push); err != nil {
		h.t.Fatal(err)
	}
	_, err := h.push.Artifact(ctx, "wasm/filter", "1", push.ArtifactSpec{
		ArtifactType: "application/vnd.wasm.config.v0+json",
		Layers:       []push.Blob{{MediaType: "application/wasm", Data: []byte("\x00asm"), Annotations: map[string]string{"org.opencontainers.image.title": "filter.wasm"}}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	_, err = h.push.Image(ctx, "hostile/app", "1", push.ImageSpec{Labels: map[string]string{
		`"><script>alert(1)</script>`:          `"><img src=x onerror=alert(1)>`,
		"org.opencontainers.image.title":       `</title><script>alert(2)</script>`,
		"org.opencontainers.image.description": "<b>bold</b> [x](javascript:alert(3)) **strong**",
		"org.opencontainers.image.source":      "javascript:alert(4)",
		"org.opencontainers.image.licenses":    `MIT" OR x`,
	}})
	if err != nil {
		h.t.Fatal(err)
	}
}

// The pages must show what was pushed, as text.
func TestPagesOfRealImages(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{})
	h.pushAll()
	h.scan()
	s := h.catalogue()
	for path, want := range map[string][]string{
		"/":                         {`href="/r/samples/harbour"`, "2 of 3 tags have a signature</span>", "2 of 3 tags have an SBOM</span>", "WebAssembly</span>", "Helm chart</span>", `<span class="platform">linux/arm64</span>`},
		"/?q=os:linux":              {`aria-current="true">linux</a>`},
		"/?q=lighthose":             {`Did you mean <a href="/?q=lighthouse">lighthouse</a>`},
		"/n/samples":                {`href="/r/samples/cargo"`},
		"/r/samples/harbour":        {"docker pull r.example/samples/harbour:latest", `href="https://github.com/portbook/portbook"`, "= 1.1", "2 of 3 tags have a signature</span>", "has signature</span>", "has SBOM</span>"},
		"/r/samples/harbour:latest": {"linux/amd64</a>", "/usr/local/bin/harbour", "SPDX SBOM", "has signature</span>", `<a class="download" href="/v2/samples/harbour/blobs/sha256:`, "History of this tag"},
		"/r/samples/charts/quay":    {"helm pull oci://r.example/samples/charts/quay --version 0.1.0"},
		"/r/wasm/filter:1":          {"WebAssembly", "filter.wasm", "oras pull r.example/wasm/filter:1"},
		"/r/hostile/app":            {"<strong>strong</strong>", "javascript:alert(4)"},
		"/r/hostile/app:1":          {"&lt;img src=x onerror=alert(1)&gt;"},
		"/compare?a=samples/harbour:1.0&b=samples/harbour:1.1": {"both have", "org.opencontainers.image.version"},
		"/r/samples/harbor":             {"Did you mean", `href="/r/samples/harbour"`},
		"/r/samples/harbour:9":          {`href="/r/samples/harbour"`},
		"/n/sample":                     {`href="/n/samples"`},
		"/compare?a=samples/harbor&b=x": {`href="/r/samples/harbour"`},
	} {
		_, body, _ := h.page(s.URL+path, "")
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: got a page without %q: %s", path, w, body)
			}
		}
		for _, hostile := range []string{"<script>", "<img", "<b>", `href="javascript`} {
			if strings.Contains(body, hostile) {
				t.Errorf("%s: the page contains %q", path, hostile)
			}
		}
	}
}

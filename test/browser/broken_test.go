package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// brokenPage has one fault of each kind. FAR is the address of another server.
const brokenPage = `<!doctype html>
<html lang="en"><head><meta name="viewport" content="width=device-width"><title>Broken</title></head>
<body><main><h1>Broken</h1>
<ul><p>not in a list</p></ul>
<img src="FAR/elsewhere.png">
<p style="color: red">blocked by the policy</p>
<p><a href="/missing">missing</a> <a href="#missing">missing</a> <a href="javascript:hostile=1">hostile</a></p>
<div><pre>WIDE</pre></div>
<script src="/broken.js"></script>
<!-- HEAVY -->
</main></body></html>`

// Each check must find its fault on a page that has it. Otherwise a check that does not
// work would look like a page without faults.
func TestBrokenPage(t *testing.T) {
	needPrograms(t)
	needPackages(t)
	far := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(far.Close)
	heavy := make([]byte, maxWeight)
	for i := range heavy {
		heavy[i] = 'a' + byte(rand.IntN(26))
	}
	body := strings.NewReplacer("FAR", far.URL, "WIDE", strings.Repeat("wide ", 300), "HEAVY", string(heavy)).Replace(brokenPage)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src *")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", `"never revalidated"`)
		fmt.Fprint(w, body)
	})
	mux.HandleFunc("GET /broken.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, `console.error("says so"); throw new Error("thrown");`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	browser, closeBrowser, err := startBrowser(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeBrowser)
	c := newChecker(t, &site{url: server.URL}, browser)
	found := c.everything(t, page{name: "broken", path: "/", shows: []string{"a missing text"}})

	for _, want := range []fault{
		{"broken", checkShows, "a missing text"},
		{"broken", checkConsole, "says so"},
		{"broken", checkConsole, "thrown"},
		{"broken", checkConsole, "Content Security Policy"},
		{"broken", checkOrigin, far.URL},
		{"broken", checkWeight, "bytes, want fewer"},
		{"broken", checkAgain, "with status 200"},
		{"broken", checkHostile, "attribute style"},
		{"broken", checkHostile, "href with javascript:"},
		{"broken", checkAxe, "320 px, dark: image-alt"},
		{"broken", checkOverflow, "px wide in a window of 320 px: <pre>"},
		{"broken", checkLinks, "no element #missing"},
		{"broken", checkLinks, "/missing leads to status 404"},
		{"broken", checkHTML, "not allowed as child of"},
	} {
		if !want.in(found) {
			t.Errorf("got no fault %q", want)
		}
	}
	if t.Failed() {
		t.Logf("found: %q", found)
	}
}

// everything runs all checks on one page.
func (c *checker) everything(t *testing.T, p page) []fault {
	t.Helper()
	found, err := c.page(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []func(context.Context) ([]fault, error){c.deadLinks, c.invalid} {
		list, err := more(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, list...)
	}
	return found
}

// in reports whether found has f.
func (f fault) in(found []fault) bool {
	for _, one := range found {
		if one.page == f.page && one.check == f.check && strings.Contains(one.says, f.says) {
			return true
		}
	}
	return false
}

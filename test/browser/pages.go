package main

import "net/http"

// A page is a page to check and to take screenshots of. A new page needs only a line in
// a table below.
type page struct {
	name string // of its tests and screenshots
	// path may have {words}, whose values are known when the site is filled: see
	// site.known.
	path   string
	shows  []string // what must be visible, in any letter case
	status int      // 0 means 200
	// live is the reason why the page has no ETag of a catalogue version and is sent
	// each time. If it is "", a second view must not load the page again.
	live string
}

// emptyPages are the pages that are opened before anything is pushed.
var emptyPages = []page{
	{name: "empty-catalogue", path: "/", shows: []string{"docker push", "skopeo copy"}},
	{name: "empty-search", path: "/?q=harbour", shows: []string{"harbour"}},
	{name: "empty-status", path: "/status", shows: []string{"Status"}, live: now},
}

const (
	now = "the page shows the current state"
	bad = "errors are not cached"
)

var pages = []page{
	{name: "catalogue", path: "/", shows: []string{"archive/nightly", "Nightly builds"}},
	{name: "catalogue-by-name", path: "/?after=samples/harbour&sort=name", shows: []string{"samples/lighthouse"}},
	{name: "search", path: "/?q=harbour", shows: []string{"samples/harbour", "two piers"}},
	{name: "search-many", path: "/?q=api", shows: []string{"payments/", "api"}},
	{name: "search-nothing", path: "/?q=qqqq", shows: []string{"qqqq"}},
	{name: "search-hostile", path: "/?q=hostile", shows: []string{"hostile/"}},
	{name: "search-wrong", path: "/?q=size:%3Ebig", status: http.StatusBadRequest, shows: []string{"size"}, live: bad},

	{name: "repository", path: "/r/samples/harbour", shows: []string{"samples/harbour", "two piers", "1.0", "1.1", "latest", "docker pull"}},
	{name: "repository-many-tags", path: "/r/archive/nightly", shows: []string{"archive/nightly", "130"}},
	{name: "repository-multi-arch", path: "/r/platform/gateway", shows: []string{"platform/gateway", "linux/arm64"}},
	{name: "repository-chart", path: "/r/samples/charts/quay", shows: []string{"0.1.0"}},
	{name: "repository-broken", path: "/r/broken/config", shows: []string{"broken/config"}},
	{name: "repository-hostile", path: "/r/{hostile}", shows: []string{"hostile/"}},

	{name: "index", path: "/r/platform/gateway:2.4.1", shows: []string{"platform/gateway", "linux/arm64", "linux/amd64", "spdx"}},
	{name: "index-by-digest", path: "/r/platform/gateway@{index}", shows: []string{"{index}"}},
	{name: "image", path: "/r/platform/gateway@{image}", shows: []string{"{image}", "/usr/bin/gateway", "8443/tcp", "COPY gateway"}},
	{name: "image-built", path: "/r/debian/tools:1.0", shows: []string{"debian/tools", "/usr/local/bin/report", "MAINTAINER_TEAM"}},
	{name: "image-docker", path: "/r/samples/cargo:2.4", shows: []string{"samples/cargo", "9001/udp"}},
	{name: "image-broken", path: "/r/broken/config:1", shows: []string{"broken/config"}},
	{name: "image-hostile", path: "/r/{hostile}:{hostile-tag}", shows: []string{"hostile/"}},
	{name: "chart", path: "/r/samples/charts/quay:0.1.0", shows: []string{"samples/charts/quay", "helm"}},
	{name: "sbom", path: "/r/platform/gateway@{sbom}", shows: []string{"{sbom}", "spdx"}},
	{name: "signature", path: "/r/platform/gateway:{signature}", shows: []string{"{signature}", "cosign"}},

	{name: "namespace", path: "/n/platform", shows: []string{"platform/gateway"}},
	{name: "compare", path: "/compare?a=samples/harbour:1.0&b=samples/harbour:1.1", shows: []string{"1.0", "1.1"}},
	{name: "compare-nothing", path: "/compare"},
	{name: "activity", path: "/activity", shows: []string{"mirror/lighthouse", "gone"}},
	{name: "activity-repository", path: "/activity?repository=archive/nightly", shows: []string{"archive/nightly"}},
	{name: "storage", path: "/storage", shows: []string{"platform"}},
	{name: "storage-namespace", path: "/storage?namespace=payments", shows: []string{"Storage of payments"}},
	{name: "status", path: "/status", shows: []string{"Status", "scan", "in the book"}, live: now},
	{name: "settings", path: "/settings", shows: []string{"registry.public_url", "writer"}},
	{name: "api", path: "/api/v1/", shows: []string{"OpenAPI", "/api/v1/search"}},

	{name: "no-repository", path: "/r/samples/harbor", status: http.StatusNotFound, shows: []string{"samples/harbor"}, live: bad},
	{name: "no-tag", path: "/r/samples/harbour:9.9", status: http.StatusNotFound, shows: []string{"9.9"}, live: bad},
	{name: "no-page", path: "/nowhere", status: http.StatusNotFound, live: bad},
	{name: "no-reference", path: "/r/UPPER", status: http.StatusBadRequest, live: bad},
}

func (p page) wantStatus() int {
	if p.status == 0 {
		return http.StatusOK
	}
	return p.status
}

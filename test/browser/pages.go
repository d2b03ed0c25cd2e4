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
	as     string   // who opens it
	press  string   // the button that leads from path to the page; "": path is its own
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
	now     = "the page shows the current state"
	bad     = "errors are not cached"
	private = "what only some may see is not stored"
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
	{name: "past", path: "/?at={then}", shows: []string{"this is the past", "archive/nightly"}},
	{name: "past-repository", path: "/r/samples/harbour?at={then}", shows: []string{"this is the past", "latest"}},
	{name: "past-tag", path: "/r/samples/harbour:latest?at={then}", shows: []string{"this is the past", "sha256:"}},
	{name: "past-unknown", path: "/?at=2000-01-01", status: http.StatusNotFound, shows: []string{"begins at"}, live: bad},
	{name: "status", path: "/status", shows: []string{"Status", "scan", "in the book"}, live: now},
	{name: "settings", path: "/settings", shows: []string{"registry.public_url", "writer"}},
	{name: "api", path: "/api/v1/", shows: []string{"OpenAPI", "/api/v1/search"}},

	{name: "no-repository", path: "/r/samples/harbor",
		status: http.StatusNotFound, shows: []string{"samples/harbor"}, live: bad},
	{name: "no-tag", path: "/r/samples/harbour:9.9", status: http.StatusNotFound, shows: []string{"9.9"}, live: bad},
	{name: "no-page", path: "/nowhere", status: http.StatusNotFound, live: bad},
	{name: "no-reference", path: "/r/UPPER", status: http.StatusBadRequest, live: bad},
}

// accountPages are the pages for which people sign in, and what others see instead.
var accountPages = []page{
	{name: "sign-in", as: stranger, path: "/account?next=/r/samples/harbour", live: private,
		shows: []string{"Sign in with Harbour Office", "Sign in with GitHub", "Password"}},
	{name: "sign-in-provider-away", as: stranger, path: "/account/sign-in/oidc?next=/",
		status: http.StatusServiceUnavailable,
		live:   bad, shows: []string{"Sign in", "Harbour Office"}},

	{name: "account", as: administrator, path: "/account", live: private,
		shows: []string{"{administrator}", "You are an administrator", "laptop", "{note}", "it has expired", "Sign out"}},
	{name: "account-new-token", as: newcomer, path: "/account", press: "Make a token", live: private,
		shows: []string{"The new token", "pbt_"}},
	{name: "repository-administrator", as: administrator, path: "/r/samples/harbour", live: private,
		shows: []string{"Who may do what here"}},

	{name: "users", as: administrator, path: "/account/users", live: private,
		shows: []string{"former", "disabled", "robot", "release-managers", "More"}},
	{name: "users-nothing", as: administrator, path: "/account/users?q=qqqq", live: private,
		shows: []string{"All users"}},
	{name: "users-forbidden", as: lead, path: "/account/users", status: http.StatusForbidden, live: bad},
	{name: "user", as: administrator, path: "/account/users/{long}", live: private,
		shows: []string{"{long}", "group dev", "Delete the account"}},
	{name: "user-robot", as: administrator, path: "/account/users/ci", live: private,
		shows: []string{"build server", "{note}", "Make a token"}},
	{name: "user-disabled", as: administrator, path: "/account/users/former", live: private,
		shows: []string{"it is disabled", "archive/*"}},

	{name: "grants", as: administrator, path: "/account/grants", live: private,
		shows: []string{"everybody", "group dev", "samples/*", "{hostile}"}},
	{name: "grants-repository", as: administrator, path: "/account/grants?repository=samples/harbour&who={lead}",
		live:  private,
		shows: []string{"Who may do what in samples/harbour", "because", "group dev", "Explain"}},
	{name: "grants-lead", as: lead, path: "/account/grants?repository=samples/harbour&who=newcomer", live: private,
		shows: []string{"wider patterns", "nothing allows it"}},
	{name: "grants-wrong", as: administrator, path: "/account/grants?repository=UPPER",
		status: http.StatusBadRequest, live: bad},

	{name: "webhooks", as: administrator, path: "/manage/webhooks", live: private,
		shows: []string{"{note}", "127.0.0.1:8443", "deploys", "Add a webhook"}},
	{name: "webhooks-lead", as: lead, path: "/manage/webhooks", live: private,
		shows: []string{"which you administer", "deploys"}},
	{name: "webhook", as: administrator, path: "/manage/webhooks/{webhook}", live: private,
		shows: []string{"{note}", "ping", "failed", "private", "Send again", "Make a new secret"}},
	{name: "webhook-none", as: lead, path: "/manage/webhooks/{webhook}", status: http.StatusNotFound, live: bad},
	{name: "confirm-remove", as: administrator, path: "/manage/webhooks/{webhook}", press: "Remove the webhook",
		live:  private,
		shows: []string{"No, go back"}},

	{name: "operations", as: administrator, path: "/manage/operations", live: private,
		shows: []string{"delete-manifest", managed, "apply-plan", administrator}},
	{name: "operation", as: administrator, path: "/manage/operations/{delete-manifest}", live: private,
		shows: []string{"done", "Manifests deleted", "Restore all of it"}},
	{name: "trash", as: administrator, path: "/manage/trash", live: private,
		shows: []string{managed, "pr-113", "Restore"}},
	{name: "trash-lead", as: lead, path: "/manage/trash", live: private,
		shows: []string{"Write the name of a repository"}},
	{name: "change-delete", as: lead, path: "/manage/change?kind=delete-manifest&repository=" + managed + "&digest={v1.2}",
		live: private, shows: []string{"cannot be done", "protected"}},
	{name: "change-put-back", as: lead,
		path: "/manage/change?kind=rollback&repository=" + managed + "&tag=stable&digest={v1.0}",
		live: private, shows: []string{"1 tag changes", "instead of", "Put back"}},
	{name: "history", as: lead, path: "/manage/history?repository=" + managed + "&tag=stable",
		shows: []string{"Put back", "as now"}},
	{name: "retention", as: lead, path: "/manage/retention", live: private,
		shows: []string{"{note}", "pr-*", "applied", "made", "Add the rule"}},
	{name: "plan", as: lead, path: "/manage/plans/{plan}", live: private,
		shows: []string{"Nothing is deleted yet", "can it be undone", "run in a cluster", "To confirm"}},
	{name: "plan-stays", as: lead, path: "/manage/plans/{plan}?show=stays", live: private,
		shows: []string{"pr-114", "What stays, one by one"}},
	{name: "plan-applied", as: administrator, path: "/manage/plans/{applied}", live: private,
		shows: []string{"is applied", "Put everything back"}},
	{name: "collect", as: administrator, path: "/manage/collect", live: private,
		shows: []string{"the collection only looks", "Pause", "The book against the storage"}},
	{name: "protection", as: administrator, path: "/manage/protection", live: private,
		shows: []string{"releases stay", "archive/*", "used up", "500 GB", "{note}", "put back"}},
	{name: "confirm-unfreeze", as: administrator, path: "/manage/protection", press: "Remove: freeze archive/*",
		live:  private,
		shows: []string{"Let repositories change again: archive/*?", "No, go back"}},
	{name: "jobs", as: administrator, path: "/manage/jobs?run={run}", live: private,
		shows: []string{"Run {run} of collect", "it has ended", "partitions", "Run now"}},
	{name: "yank", as: lead, path: "/manage/yank?repository=" + managed + "&tag=v1.1", live: private,
		shows: []string{"What changes", "What stays", "stable", "No, go back"}},
	{name: "unyank", as: lead, path: "/manage/yank?repository=" + managed + "&tag=v1.0", live: private,
		shows: []string{"Unyank the tag", "loses data", "Change the reason"}},
	{name: "deprecate", as: administrator, path: "/manage/deprecate?repository=payments/order-api", live: private,
		shows: []string{"Deprecate the repository", "What people should use instead"}},
	{name: "tag-yanked", as: lead, path: "/r/" + managed + ":v1.0", live: private,
		shows: []string{"This tag is yanked: loses data", "Unyank the tag", "are protected"}},

	{name: "confirm-delete", as: administrator, path: "/account/users/{long}", press: "Delete the account", live: private,
		shows: []string{"Delete the account {long}?", "No, go back"}},
	{name: "confirm-take-back", as: administrator, path: "/account/grants",
		press: "Take back samples/* from everybody", live: private,
		shows: []string{"everybody", "No, go back"}},

	{name: "audit", as: administrator, path: "/account/audit", live: private,
		shows: []string{"session.begin", "{administrator}", "account.add", "More"}},
	{name: "audit-pushes", as: administrator, path: "/account/audit?event=image.push&repository=mirror/harbour",
		live:  private,
		shows: []string{"reported", "mirror/harbour"}},
	{name: "audit-refused", as: administrator, path: "/account/audit?outcome=refused", live: private,
		shows: []string{"refused", "claimed", "<script>"}},
	{name: "audit-nothing", as: administrator, path: "/account/audit?actor=nemo", live: private,
		shows: []string{"Everything"}},
}

func (p page) wantStatus() int {
	if p.status == 0 {
		return http.StatusOK
	}
	return p.status
}

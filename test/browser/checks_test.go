package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
)

// The checks of one page. Each gives what is wrong, in words for who has to mend
// it; an error is that it could not be done.

const (
	checkShows    = "shows"    // the answer, and what people see of it
	checkConsole  = "console"  // what the browser has against it, its policy among that
	checkOrigin   = "origin"   // where it asks
	checkWeight   = "weight"   // of the first view
	checkAgain    = "again"    // what a second view costs
	checkHostile  = "hostile"  // whether text of images became more than text
	checkAxe      = "axe"      // whether everybody can use it
	checkOverflow = "overflow" // whether it is wider than a phone
	checkLinks    = "links"    // whether they lead somewhere
	checkHTML     = "html"     // whether it is valid
)

// looks are those in which every page must be right. Nobody should have to scroll
// sideways at 320 px (WCAG 2.2, 1.4.10), which is a desk's 1280 px enlarged four
// times as well.
var looks = []look{{width: 1280}, {width: 1280, dark: true}, {width: 320}, {width: 320, dark: true}}

// shows looks for what a page must show. Text that is folded away does not count.
func (t *tab) shows(p page, v *view, s *site) (faults []string, err error) {
	if v.status != p.wantStatus() {
		faults = append(faults, fmt.Sprintf("status %d, want %d", v.status, p.wantStatus()))
	}
	visible, err := evaluate[string](t, `document.body.innerText + "\n" + document.title`)
	if err != nil {
		return nil, err
	}
	for _, want := range p.shows {
		want = s.fill(want)
		if !strings.Contains(strings.ToLower(visible), strings.ToLower(want)) {
			faults = append(faults, fmt.Sprintf("%q cannot be seen", want))
		}
	}
	return faults, nil
}

// console gives what the browser said. That the page itself is an error is no
// complaint of ours.
func (v *view) console(p page, address string) (faults []string) {
	for _, c := range v.complaints {
		if p.status != 0 && c.url == address && strings.Contains(c.text, fmt.Sprintf("status of %d", p.status)) {
			continue
		}
		faults = append(faults, c.text)
	}
	return faults
}

// origin gives the requests that went elsewhere.
func (v *view) origin(s *site) (faults []string) {
	for _, id := range v.order {
		address := v.requests[id].url
		if !strings.HasPrefix(address, s.url+"/") && !strings.HasPrefix(address, "data:") {
			faults = append(faults, "it asks "+address)
		}
	}
	return faults
}

// maxWeight is the most bytes over the wire that the first view of a page may
// take, with its style, script and headers: 60 kB, which a slow phone network
// of 400 kbit/s brings in 1.2 s.
const maxWeight = 60_000

func (v *view) weight() (faults []string) {
	sum, parts := 0.0, []string{}
	for _, id := range v.order {
		r := v.requests[id]
		sum += r.bytes
		parts = append(parts, fmt.Sprintf("%.0f of %s", r.bytes, r.url))
	}
	if len(v.order) == 0 || sum == 0 {
		return []string{"no byte came over the wire: this measures nothing"}
	}
	if sum >= maxWeight {
		faults = append(faults, fmt.Sprintf("%.0f bytes, want fewer than %d: %s", sum, maxWeight, strings.Join(parts, ", ")))
	}
	return faults
}

// again gives what a second view gets once more.
func (v *view) again(p page, address string) (faults []string) {
	for _, id := range v.order {
		r := v.requests[id]
		if r.url == "" { // asked for by the view before, and answered late on a busy machine
			continue
		}
		if r.url == address && p.live != "" || strings.HasSuffix(r.url, "/live") { // news, which nobody can have yet
			continue
		}
		if r.status != 0 && r.status != http.StatusNotModified {
			faults = append(faults, fmt.Sprintf("a second view gets %s with status %d, %.0f bytes, ETag %s", r.url, r.status, r.bytes, r.etag))
		}
	}
	return faults
}

// etag gives the one that an address came with.
func (v *view) etag(address string) string {
	for _, r := range v.requests {
		if r.url == address {
			return r.etag
		}
	}
	return ""
}

// maxViews is how often a page is looked at until two views are of one version
// of the catalogue: the indexer may tidy up once in between.
const maxViews = 4

// viewAgain looks at a page that was looked at before, and gives what the second
// of two views of the same version got.
func (t *tab) viewAgain(p page, address string, first *view) ([]string, error) {
	var faults []string
	for range maxViews - 1 {
		second, err := t.open(address)
		if err != nil {
			return nil, err
		}
		faults = second.again(p, address)
		if p.live != "" || len(faults) == 0 || second.etag(address) == first.etag(address) {
			return faults, nil
		}
		first = second
	}
	return faults, nil
}

// noMarkup looks for what can only have come of text of an image. The policy
// keeps it from running; it must not even be there.
const noMarkup = `(() => {
	const found = [];
	if (window.hostile !== undefined) found.push("script of an image ran");
	for (const e of document.querySelectorAll("*")) {
		const told = e.outerHTML.slice(0, 120);
		for (const a of e.attributes) {
			if (/^on/i.test(a.name) || a.name === "style") found.push("attribute " + a.name + ": " + told);
		}
		if (e.localName === "script" && new URL(e.src || "about:blank", location).origin !== location.origin) found.push("script that is not a file of ours: " + told);
		for (const name of ["href", "src", "action", "formaction", "xlink:href"]) {
			const value = e.getAttribute(name);
			if (value === null || value.startsWith("#")) continue;
			const scheme = new URL(value, location).protocol;
			const data = e.localName === "img" && scheme === "data:";
			if (!/^https?:$/.test(scheme) && !data) found.push(name + " with " + scheme + " " + told);
		}
	}
	return found;
})()`

func (t *tab) hostile() ([]string, error) { return evaluate[[]string](t, noMarkup) }

// axe is the program that looks whether people can use a page who see, hear or
// move otherwise: https://github.com/dequelabs/axe-core.
var axe = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	return string(b), err
})

// runAxe has it fetch nothing: what it would (preload) is for sheets of other
// hosts, and against the policy.
const runAxe = `axe.run(document, {preload: false, resultTypes: ["violations"]}).then(result => JSON.stringify({
	passes: result.passes.length,
	violations: result.violations.map(v => v.id + ": " + v.nodes[0].failureSummary.replace(/\s+/g, " ") + ": " +
		v.nodes.slice(0, 5).map(n => n.target.join(" ")).join(" | ") + (v.nodes.length > 5 ? " and " + (v.nodes.length - 5) + " more" : "")),
}))`

// axe gives each rule that is broken, and the first elements that break it. It
// asks for all rules, the advice
// that stands in no norm too.
func (t *tab) axe() ([]string, error) {
	source, err := axe()
	if err != nil {
		return nil, err
	}
	if _, err := evaluate[bool](t, source+"\n;true"); err != nil {
		return nil, err
	}
	text, err := evaluate[string](t, runAxe)
	if err != nil {
		return nil, err
	}
	var result struct {
		Passes     int
		Violations []string
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return nil, err
	}
	if result.Passes == 0 {
		return nil, fmt.Errorf("axe found nothing to check in %s", t.where())
	}
	return result.Violations, nil
}

// axeInAllLooks gives what axe finds, with the looks in which it does. It ends in
// the last of them.
func (t *tab) axeInAllLooks() (found []string, err error) {
	in := map[string][]string{}
	for _, l := range looks {
		if err := t.as(l); err != nil {
			return nil, err
		}
		says, err := t.axe()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l, err)
		}
		for _, s := range says {
			in[s] = append(in[s], l.String())
		}
	}
	for _, s := range slices.Sorted(maps.Keys(in)) {
		found = append(found, strings.Join(in[s], " and ")+": "+s)
	}
	return found, nil
}

// tooWide tells whether the page scrolls sideways, and the innermost elements
// that stick out and are in nothing that scrolls by itself.
const tooWide = `(() => {
	const root = document.scrollingElement, width = root.clientWidth;
	if (root.scrollWidth <= width) return [];
	const scrolls = a => a && a !== document.body && (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(a).overflowX) || scrolls(a.parentElement));
	const out = [...document.body.querySelectorAll("*")].filter(e => {
		const box = e.getBoundingClientRect();
		return Math.max(box.right, box.left + e.scrollWidth) > width + 1 && !scrolls(e);
	});
	const inner = out.filter(e => !out.some(other => other !== e && e.contains(other)));
	return ["it is " + root.scrollWidth + " px wide in a window of " + width + " px: " + inner.slice(0, 3).map(e => e.outerHTML.slice(0, 100)).join(" | ")];
})()`

func (t *tab) overflow() ([]string, error) { return evaluate[[]string](t, tooWide) }

// deadAnchors gives links into the page itself that lead nowhere.
const deadAnchors = `[...document.querySelectorAll("a[href*='#']")].filter(a =>
	a.href.split("#")[0] === location.href.split("#")[0] && a.hash.length > 1 && !document.getElementById(decodeURIComponent(a.hash.slice(1)))
).map(a => "no element " + a.hash + " on this page")`

func (t *tab) deadAnchors() ([]string, error) { return evaluate[[]string](t, deadAnchors) }

// links gives the paths of this site that a page leads to, but for itself, without
// what is after #.
func (t *tab) links(s *site) (paths []string, err error) {
	all, err := evaluate[[]string](t, `[...document.querySelectorAll("a[href], link[href]")].map(a => a.href.split("#")[0]).filter(a => a !== location.href.split("#")[0])`)
	for _, address := range all {
		if path, ours := strings.CutPrefix(address, s.url); ours {
			paths = append(paths, path)
		}
	}
	return paths, err
}

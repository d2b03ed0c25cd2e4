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

// The checks of one page. Each returns descriptions of faults, or an error if it could
// not run.

const (
	checkShows    = "shows"    // the status and the visible text
	checkConsole  = "console"  // complaints of the browser, including those about the policy
	checkOrigin   = "origin"   // requests to other servers
	checkWeight   = "weight"   // the bytes of the first view
	checkAgain    = "again"    // what a second view loads again
	checkHostile  = "hostile"  // text of images that became markup
	checkAxe      = "axe"      // accessibility
	checkOverflow = "overflow" // a page that is wider than a phone
	checkLinks    = "links"    // dead links
	checkHTML     = "html"     // invalid HTML
)

// looks are the looks in which every page is checked. At 320 px a page must not scroll
// sideways (WCAG 2.2, 1.4.10); that is also a window of 1280 px at 400% zoom. In the first and in
// the last one all rules of axe are checked; in the others those about colours, because the rest
// depends on the width alone.
var looks = []look{{width: 1280}, {width: 1280, dark: true}, {width: 320}, {width: 320, dark: true}}

// shows checks the status and the visible text of a page.
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
			faults = append(faults, fmt.Sprintf("%q is not visible", want))
		}
	}
	return faults, nil
}

// console returns the complaints, except that about the status of an error page.
func (v *view) console(p page, address string) (faults []string) {
	for _, c := range v.complaints {
		if p.status != 0 && c.url == address && strings.Contains(c.text, fmt.Sprintf("status of %d", p.status)) {
			continue
		}
		faults = append(faults, c.text)
	}
	return faults
}

// origin returns the requests to other servers.
func (v *view) origin(base string) (faults []string) {
	for _, id := range v.order {
		address := v.requests[id].url
		if address == "" { // a late answer to a request of the previous view
			continue
		}
		if !strings.HasPrefix(address, base+"/") && !strings.HasPrefix(address, "data:") {
			faults = append(faults, "request to "+address)
		}
	}
	return faults
}

// maxWeight is the maximum number of bytes of a first view on the wire, with style,
// script and headers: 60 kB, which takes 1.2 s on a slow phone network of 400 kbit/s.
const maxWeight = 60_000

func (v *view) weight() (faults []string) {
	sum, parts := 0.0, []string{}
	for _, id := range v.order {
		r := v.requests[id]
		sum += r.bytes
		parts = append(parts, fmt.Sprintf("%.0f of %s", r.bytes, r.url))
	}
	if len(v.order) == 0 || sum == 0 {
		return []string{"no bytes were transferred: nothing was measured"}
	}
	if sum >= maxWeight {
		faults = append(faults, fmt.Sprintf("%.0f bytes, want fewer than %d: %s", sum, maxWeight, strings.Join(parts, ", ")))
	}
	return faults
}

// again returns what a second view loads again.
func (v *view) again(p page, address string) (faults []string) {
	for _, id := range v.order {
		r := v.requests[id]
		if r.url == "" { // a late answer to a request of the previous view
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

// etag returns the ETag of an address.
func (v *view) etag(address string) string {
	for _, r := range v.requests {
		if r.url == address {
			return r.etag
		}
	}
	return ""
}

// maxViews is the maximum number of views until two have the same version of the
// catalogue, because upkeep of the indexer may change it once.
const maxViews = 4

// viewAgain opens a page twice at the same version of the catalogue, and returns what
// the second view loads again.
func (t *tab) viewAgain(p page, address string, first *view) ([]string, error) {
	// If a button was pressed, address is another page. Of what is not stored only the style and the
	// script could be loaded again, and those of other pages are looked at.
	if p.press != "" || p.live == private {
		return nil, nil
	}
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

// noMarkup looks for markup that can only come from text of an image. The policy would
// keep it from running, but it must not be in the page.
const noMarkup = `(() => {
	const found = [];
	if (window.hostile !== undefined) found.push("script of an image ran");
	for (const e of document.querySelectorAll("*")) {
		const html = e.outerHTML.slice(0, 120);
		for (const a of e.attributes) {
			if (/^on/i.test(a.name) || a.name === "style") found.push("attribute " + a.name + ": " + html);
		}
		if (e.localName === "script" && new URL(e.src || "about:blank", location).origin !== location.origin) found.push("foreign script: " + html);
		for (const name of ["href", "src", "action", "formaction", "xlink:href"]) {
			const value = e.getAttribute(name);
			if (value === null || value.startsWith("#")) continue;
			const scheme = new URL(value, location).protocol;
			const data = e.localName === "img" && scheme === "data:";
			if (!/^https?:$/.test(scheme) && !data) found.push(name + " with " + scheme + " " + html);
		}
	}
	return found;
})()`

func (t *tab) hostile() ([]string, error) { return evaluate[[]string](t, noMarkup) }

// axe returns the source of axe-core, which checks accessibility:
// https://github.com/dequelabs/axe-core.
var axe = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	return string(b), err
})

// runAxe runs axe with the rules that %s selects, and without preload, which would fetch style
// sheets of other hosts and which the policy forbids.
const runAxe = `axe.run(document, {preload: false, resultTypes: ["violations"]%s}).then(result => JSON.stringify({
	passes: result.passes.length,
	violations: result.violations.map(v => v.id + ": " + v.nodes[0].failureSummary.replace(/\s+/g, " ") + ": " +
		v.nodes.slice(0, 5).map(n => n.target.join(" ")).join(" | ") + (v.nodes.length > 5 ? " and " + (v.nodes.length - 5) + " more" : "")),
}))`

// onlyColours are the rules that depend on the theme.
const onlyColours = `, runOnly: ["color-contrast", "link-in-text-block"]`

// axe returns the violated rules with the first elements that violate them. It checks the rules
// that rules selects; "" are all of them, including best practices that are in no standard.
func (t *tab) axe(rules string) ([]string, error) {
	text, err := evaluate[string](t, fmt.Sprintf(runAxe, rules))
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

// axeInAllLooks returns the violations with their looks. The tab keeps the last look.
func (t *tab) axeInAllLooks() (found []string, err error) {
	source, err := axe()
	if err != nil {
		return nil, err
	}
	if _, err := evaluate[bool](t, source+"\n;true"); err != nil {
		return nil, err
	}
	in := map[string][]string{}
	for i, l := range looks {
		if err := t.as(l); err != nil {
			return nil, err
		}
		rules := onlyColours
		if i == 0 || i == len(looks)-1 {
			rules = ""
		}
		says, err := t.axe(rules)
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

// tooWide is an expression that is true if the page scrolls sideways, with the innermost
// elements that overflow and are not in an element that scrolls.
const tooWide = `(() => {
	const root = document.scrollingElement, width = root.clientWidth;
	if (root.scrollWidth <= width) return [];
	const scrolls = a => a && a !== document.body && (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(a).overflowX) || scrolls(a.parentElement));
	const out = [...document.body.querySelectorAll("*")].filter(e => {
		const box = e.getBoundingClientRect();
		return Math.max(box.right, box.left + e.scrollWidth) > width + 1 && !scrolls(e);
	});
	const inner = out.filter(e => !out.some(other => other !== e && e.contains(other)));
	return ["the page is " + root.scrollWidth + " px wide in a window of " + width + " px: " + inner.slice(0, 3).map(e => e.outerHTML.slice(0, 100)).join(" | ")];
})()`

func (t *tab) overflow() ([]string, error) { return evaluate[[]string](t, tooWide) }

// deadAnchors finds links to anchors that the page does not have.
const deadAnchors = `[...document.querySelectorAll("a[href*='#']")].filter(a =>
	a.href.split("#")[0] === location.href.split("#")[0] && a.hash.length > 1 && !document.getElementById(decodeURIComponent(a.hash.slice(1)))
).map(a => "no element " + a.hash + " on this page")`

func (t *tab) deadAnchors() ([]string, error) { return evaluate[[]string](t, deadAnchors) }

// links finds the paths of this site to which a page links, except its own, without
// fragments.
func (t *tab) links(base string) (paths []string, err error) {
	all, err := evaluate[[]string](t, `[...document.querySelectorAll("a[href], link[href]")].map(a => a.href.split("#")[0]).filter(a => a !== location.href.split("#")[0])`)
	for _, address := range all {
		if path, ours := strings.CutPrefix(address, base); ours {
			paths = append(paths, path)
		}
	}
	return paths, err
}

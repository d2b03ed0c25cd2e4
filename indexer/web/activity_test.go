package web_test

import (
	"encoding/xml"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

// moved returns n moves of the tag v1, latest first, one hour apart: pushed, moved
// and deleted in turn.
func moved(repository string, n int) []indexer.Move {
	var moves []indexer.Move
	for i := n; i > 0; i-- {
		m := indexer.Move{ID: int64(i), Repository: repository, Tag: "v1", SeenAt: day.Add(time.Duration(i) * time.Hour), SeenBy: "event"}
		if i%3 != 1 {
			m.From = dgst("a")
		}
		if i%3 != 0 {
			m.To = dgst("b")
		}
		moves = append(moves, m)
	}
	return moves
}

func TestActivity(t *testing.T) {
	t.Parallel()
	b := &book{moves: append(moved("team/app", 3), indexer.Move{ID: 0, Repository: "other", Tag: "x", To: dgst("c"), SeenAt: day.Add(-24 * time.Hour), SeenBy: "scan"})}
	s := serve(t, b)
	_, body := get(t, s.URL+"/activity")
	for _, want := range []string{
		"<h2>4 March 2026</h2>", "<h2>3 March 2026</h2>", // 05:06 to 08:06, and the day before
		`<span class="ledger-what">pushed</span>`, `<span class="ledger-what">moved</span>`, `<span class="ledger-what">deleted</span>`,
		`<a href="/r/other:x">other<b>:x</b></a>`,
		`<a href="/r/team/app@` + dgst("a").String() + `" title="` + dgst("a").String() + `"><code>aaaaaaaaaaaa</code></a> → <a href="/r/team/app@` + dgst("b").String(),
		`<a href="/activity?repository=team%2fapp">team/app</a><b>:v1</b>`, // a deleted tag has no page, and its repository may have none
		`<time datetime="2026-03-04T08:06:07Z" title="2026-03-04 08:06 UTC">08:06</time> (event)`, "</time> (scan)",
		`href="/activity.atom" rel="alternate" type="application/atom+xml"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
	if strings.Contains(body, `rel="next"`) {
		t.Error("the page links to a next page, but there is none")
	}
	if strings.Contains(body, `href="/r/team/app:v1"`) {
		t.Error("the page links to a deleted tag")
	}
	checkPage(t, "activity", body)

	_, body = get(t, s.URL+"/activity?repository=other")
	if strings.Contains(body, "team/app") || !strings.Contains(body, `href="/r/other:x"`) || !strings.Contains(body, `value="other"`) ||
		!strings.Contains(body, `href="/activity.atom?repository=other"`) {
		t.Errorf("the activity of other: %s", body)
	}
	for path, want := range map[string]string{"/activity?repository=none": "No tag of none has moved", "/activity?before=1&repository=team/app": "no older moves"} {
		if resp, body := get(t, s.URL+path); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, %q is not in %s", path, resp.StatusCode, want, body)
		}
	}
	if _, body := get(t, serve(t, &book{}).URL+"/activity"); !strings.Contains(body, "No tag has moved yet") {
		t.Errorf("the page of an empty book: %s", body)
	}
	for _, path := range []string{"/activity?repository=UPPER", "/activity?before=x", "/activity?before=-1", "/activity?repository=%00", "/activity.atom?repository=../x"} {
		if resp, _ := get(t, s.URL+path); resp.StatusCode != 400 {
			t.Errorf("%s: %d, want 400", path, resp.StatusCode)
		}
	}
}

// A client that follows the More links sees each move once, and the filter is kept.
func TestActivityPages(t *testing.T) {
	t.Parallel()
	b := &book{moves: append(moved("team/app", 120), moved("other", 1)...)}
	s := serve(t, b)
	next := regexp.MustCompile(`<a href="([^"]+)" rel="next"`)
	var seen []string
	path := "/activity?repository=team/app"
	for pages := 1; path != ""; pages++ {
		_, body := get(t, s.URL+path)
		for _, m := range regexp.MustCompile(`<time datetime="([^"]+)"`).FindAllStringSubmatch(body, -1) {
			seen = append(seen, m[1])
		}
		path = ""
		if m := next.FindStringSubmatch(body); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
		if pages > 3 || strings.Contains(body, "other") {
			t.Fatalf("page %d has a next page, %q", pages, path)
		}
	}
	if len(seen) != 120 || seen[0] != "2026-03-09T05:06:07Z" || seen[119] != "2026-03-04T06:06:07Z" {
		t.Errorf("%d moves, from %v", len(seen), seen)
	}
}

// A page of the book must not be served after the book has changed, and must not be
// sent again before.
func TestLedgerIsOfAVersion(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	s := serve(t, b, func(c *web.Config) { c.MaxAgeHTML = time.Minute })
	for _, path := range []string{"/activity", "/activity?repository=app", "/activity.atom", "/storage", "/storage?namespace=app", "/api/v1/storage"} {
		b.version = indexer.Version{}
		resp, _ := get(t, s.URL+path)
		etag := resp.Header.Get("ETag")
		if resp.StatusCode != 200 || etag == "" || !strings.HasPrefix(path, "/api") && resp.Header.Get("Cache-Control") != "max-age=60" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
		questions := b.questions
		if resp, body := get(t, s.URL+path, "If-None-Match", etag); resp.StatusCode != 304 || body != "" || b.questions != questions {
			t.Errorf("%s with If-None-Match: %d, and %d questions to the book", path, resp.StatusCode, b.questions-questions)
		}
		b.version = indexer.Version{Epoch: "e1", Number: 8}
		if resp, _ := get(t, s.URL+path, "If-None-Match", etag); resp.StatusCode != 200 || resp.Header.Get("ETag") == etag {
			t.Errorf("%s after a change: %d", path, resp.StatusCode)
		}
	}
}

// An atom is a feed of RFC 4287: every required element occurs once, and there is
// nothing that we did not intend to write.
type atom struct {
	XMLName xml.Name
	ID      []string `xml:"http://www.w3.org/2005/Atom id"`
	Title   []string `xml:"http://www.w3.org/2005/Atom title"`
	Updated []string `xml:"http://www.w3.org/2005/Atom updated"`
	Author  []string `xml:"http://www.w3.org/2005/Atom author>name"`
	Links   []link   `xml:"http://www.w3.org/2005/Atom link"`
	Summary []string `xml:"http://www.w3.org/2005/Atom summary"`
	Entries []atom   `xml:"http://www.w3.org/2005/Atom entry"`
	Others  []other  `xml:",any"`
}

type other struct{ XMLName xml.Name }

type link struct {
	Rel  string `xml:"rel,attr"`
	Type string `xml:"type,attr"`
	Href string `xml:"href,attr"`
}

func readAtom(t *testing.T, body string) (feed atom) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&feed); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if feed.XMLName != (xml.Name{Space: "http://www.w3.org/2005/Atom", Local: "feed"}) || len(feed.Author) != 1 {
		t.Errorf("got the element %v by %v, want a feed by one author", feed.XMLName, feed.Author)
	}
	rels := map[string]int{}
	ids := map[string]bool{}
	for _, x := range append([]atom{feed}, feed.Entries...) {
		if len(x.ID) != 1 || len(x.Title) != 1 || len(x.Updated) != 1 || len(x.Others) > 0 {
			t.Fatalf("ids %v, titles %v, updated %v, and %v", x.ID, x.Title, x.Updated, x.Others)
		}
		if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(x.ID[0]) || ids[x.ID[0]] {
			t.Errorf("the id %q is malformed or appears twice", x.ID[0])
		}
		ids[x.ID[0]] = true
		if at, err := time.Parse(time.RFC3339, x.Updated[0]); err != nil || !strings.HasSuffix(x.Updated[0], "Z") {
			t.Errorf("updated %q: %v, %v", x.Updated[0], at, err)
		}
		for _, l := range x.Links {
			rels[l.Rel]++
			if u, err := url.Parse(l.Href); err != nil || u.Path == "" || u.Path[0] != '/' || u.Scheme != "" && u.Scheme != "https" {
				t.Errorf("link to %q", l.Href)
			}
		}
	}
	if rels["self"] != 1 || rels["alternate"] != 1+len(feed.Entries) || len(feed.Links) != 2 {
		t.Errorf("links: %v", rels)
	}
	return feed
}

func TestActivityFeed(t *testing.T) {
	t.Parallel()
	b := &book{moves: moved("team/app", 3)}
	s := serve(t, b, func(c *web.Config) { c.PublicURL = "https://r.example:5000/" })
	resp, body := get(t, s.URL+"/activity.atom")
	if resp.Header.Get("Content-Type") != "application/atom+xml; charset=utf-8" || resp.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("%v", resp.Header)
	}
	feed := readAtom(t, body)
	if len(feed.Entries) != 3 || feed.Updated[0] != "2026-03-04T08:06:07.000000Z" || feed.Links[0].Href != "https://r.example:5000/activity.atom" {
		t.Errorf("%+v", feed)
	}
	for i, want := range []struct{ title, summary, href string }{
		{"team/app:v1 deleted", "The tag pointed to " + dgst("a").String() + ", seen by an event.", "https://r.example:5000/activity?repository=team%2Fapp"},
		{"team/app:v1 moved", "The tag moved from " + dgst("a").String() + " to " + dgst("b").String() + ", seen by an event.", "https://r.example:5000/r/team/app:v1"},
		{"team/app:v1 pushed", "The tag points to " + dgst("b").String() + ", seen by an event.", "https://r.example:5000/r/team/app:v1"},
	} {
		if e := feed.Entries[i]; e.Title[0] != want.title || e.Summary[0] != want.summary || e.Links[0].Href != want.href {
			t.Errorf("entry %d: %+v, want %+v", i, e, want)
		}
	}
	// A move is the same entry in every feed that contains it, whatever was added
	// later.
	first := feed.Entries[0].ID[0]
	b.moves = append(moved("team/app", 4)[:1], b.moves...)
	_, body = get(t, serve(t, b).URL+"/activity.atom?repository=team/app")
	mine := readAtom(t, body)
	if mine.Entries[1].ID[0] != first || mine.ID[0] == feed.ID[0] || mine.Title[0] != "Activity of team/app" || mine.Links[0].Href != "/activity.atom?repository=team%2Fapp" {
		t.Errorf("%+v, want the entry %s second", mine, first)
	}
	b.moves = moved("team/app", 1000)
	if _, body = get(t, s.URL+"/activity.atom"); len(readAtom(t, body).Entries) != 100 || len(body) > 100_000 {
		t.Errorf("a feed of a thousand moves has %d bytes", len(body))
	}
	_, body = get(t, serve(t, &book{}).URL+"/activity.atom")
	if empty := readAtom(t, body); len(empty.Entries) != 0 || strings.Contains(body, "127.0.0.1") {
		t.Errorf("the feed of an empty book: %+v", empty)
	}
}

// Whatever the tags of a stranger are called, a feed reader can parse the feed and
// shows them as text.
func TestActivityFeedEscapes(t *testing.T) {
	t.Parallel()
	for _, hostile := range []string{"<script>alert(1)</script>", `"><x y='`, "]]>&amp;&#0;", "a\x1b[31m\x00\u202Ec\xff\uFFFE", "&unknown;", strings.Repeat("long ", 5000)} {
		_, body := get(t, serve(t, stocked(hostile)).URL+"/activity.atom")
		feed := readAtom(t, body)
		if len(feed.Entries) != 5 || strings.Contains(body, "<script") || strings.ContainsAny(body, "\x00\x1b\u202E\uFFFE") {
			t.Errorf("%.40q: %s", hostile, fmt.Sprintf("%.2000s", body))
		}
	}
}

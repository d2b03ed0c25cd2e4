package web_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

// values are different valid values of parameters and path variables. A parameter of
// another name has words.
var values = map[string][]string{
	"q": {"app", "team", "size:>x", "size:>y"}, "sort": {"name", "updated", "size"}, "limit": {"1", "2"}, "n": {"1", "2"},
	"page": {"1", "2"}, "offset": {"0", "10"}, "before": {"1", "2"}, "cursor": {cursor("o10"), cursor("o20")},
	"platform": {"linux/amd64", "linux/arm64"},
	"digest":   {dgst("a").String(), dgst("b").String()}, "days": {"1", "2"},
	"at":    {"2026-01-02T03:04:05Z", "2026-05-06T07:08:09Z"},
	"after": {"x", "y", "team/app@" + dgst("a").String(), "team/app@" + dgst("b").String(), dgst("a").String(), dgst("b").String(), "repository:x", "repository:y"},
	"a":     {"team/app:v1", "team/app:v2"}, "b": {"team/app:v1", "team/app:v2"},
	"label:a:exists": {"1"}, "annotation:a:exists": {"1"},
	"{name}": {"team/app", "team/web"}, "{digest}": {dgst("a").String(), dgst("b").String()},
	"{reference...}": {"team/app", "team/web"},
}

var words = []string{"x", "y"}

// notAsked are the parameters that are not for the book, of any path or of one.
var notAsked = []string{
	"unknown",
	"min_version",             // waits for a version
	"/r/{reference...} tag",   // of a repository, whose tags are all read and then filtered: TestPages
	"/r/{reference...} after", // the same
}

// usual are the other parameters of a path that needs some.
var usual = map[string]string{
	"/compare": "a=team/app:v1&b=team/app:v1", "/storage": "namespace=team",
}

// A reply is the status of an answer, and the different calls of the book for it.
type reply struct {
	status int
	calls  string
}

// An inquirer sends requests to one server, each in another epoch of the book, so that
// no answer comes from a cache.
type inquirer struct {
	book    *book
	handler http.Handler
	epoch   int
}

// newInquirer returns an inquirer of stockedBook, in which the tag v1 shows an index.
func newInquirer() *inquirer {
	b := stockedBook()
	index := indexer.Manifest{Repository: "team/app", Digest: dgst("9"), Kind: indexer.KindIndex}
	for i, architecture := range []string{"amd64", "arm64"} {
		platform := indexer.Platform{OS: "linux", Architecture: architecture}
		image := indexer.Manifest{Repository: "team/app", Digest: dgst(fmt.Sprint(7 + i)), Kind: indexer.KindImage, Platform: platform}
		index.Entries = append(index.Entries, indexer.Entry{Digest: image.Digest, Platform: platform, Present: true})
		b.manifests = append(b.manifests, image)
	}
	b.manifests = append(b.manifests, index)
	b.allTags[0].Digest = index.Digest
	c := web.Config{Read: b.read, PublicURL: "/", WebUI: true, AssertEndpoint: true, Version: "v1"}
	return &inquirer{book: b, handler: web.New(c)}
}

// ask sends a request whose query, or form, has values beside the usual ones.
func (i *inquirer) ask(t *testing.T, a address, path string, values url.Values) reply {
	t.Helper()
	query, err := url.ParseQuery(usual[a.path])
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(query, values)
	target, body := path+"?"+query.Encode(), ""
	if a.method == "POST" {
		target, body = path, query.Encode()
	}
	r := httptest.NewRequestWithContext(t.Context(), a.method, target, strings.NewReader(body))
	if a.method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	i.epoch++
	i.book.version, i.book.calls = indexer.Version{Epoch: fmt.Sprint("e", i.epoch), Number: 7}, nil
	w := httptest.NewRecorder()
	i.handler.ServeHTTP(w, r)
	slices.Sort(i.book.calls)
	return reply{w.Code, strings.Join(slices.Compact(i.book.calls), "\n")}
}

// each returns the replies to requests with each value of one parameter or variable that
// the route accepts.
func (i *inquirer) each(t *testing.T, a address, name string) (replies []reply) {
	t.Helper()
	of := words
	if values[name] != nil {
		of = values[name]
	}
	for _, value := range of {
		path, query := fill(a.path, "", ""), url.Values{name: {value}}
		if strings.HasPrefix(name, "{") {
			path, query = fill(a.path, name, value), nil
		}
		if r := i.ask(t, a, path, query); r.status != http.StatusBadRequest {
			replies = append(replies, r)
		}
	}
	return replies
}

// Each parameter and each variable of a path must reach the book: the calls of the book
// differ for different values. A new route or parameter is included.
func TestParametersReachTheBook(t *testing.T) {
	t.Parallel()
	i, tried := newInquirer(), 0
	for _, a := range addresses(t, i.handler) {
		if slices.Contains(readNothing, a.path) || a.path == "/live" {
			continue
		}
		bare := i.ask(t, a, fill(a.path, "", ""), nil)
		if again := i.ask(t, a, fill(a.path, "", ""), nil); bare != again || bare.calls == "" {
			t.Errorf("%s %s: the book is asked %v, and then %v", a.method, a.path, bare, again)
		}
		for _, name := range append(slices.Clone(a.parameters), variables.FindAllString(a.path, -1)...) {
			if slices.Contains(notAsked, name) || slices.Contains(notAsked, a.path+" "+name) {
				continue
			}
			replies := i.each(t, a, name)
			if len(replies) == 0 && name == "at" { // refused
				continue
			}
			tried++
			if len(values[name]) == 1 { // on or off
				replies = append(replies, bare)
			}
			checkDifferent(t, a, name, replies)
		}
	}
	if tried < 60 {
		t.Errorf("only %d parameters were tried", tried)
	}
}

func checkDifferent(t *testing.T, a address, name string, replies []reply) {
	t.Helper()
	if len(replies) < 2 {
		t.Errorf("%s %s accepts no two values of %s: add some to values", a.method, a.path, name)
	}
	for n, r := range replies {
		if n > 0 && r.calls == replies[n-1].calls {
			t.Errorf("%s %s: the book is asked the same for two values of %s:\n%s", a.method, a.path, name, r.calls)
			return
		}
	}
}

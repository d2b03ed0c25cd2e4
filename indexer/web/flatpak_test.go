package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

func TestIndexParameters(t *testing.T) {
	t.Parallel()
	equals := func(f query.Field, name string, values ...string) query.Condition {
		return query.Condition{Field: f, Name: name, Op: query.OpEquals, Values: values}
	}
	exists := func(f query.Field, name string) query.Condition {
		return query.Condition{Field: f, Name: name, Op: query.OpExists}
	}
	matches := func(f query.Field, name string, values ...string) query.Condition {
		return query.Condition{Field: f, Name: name, Op: query.OpMatches, Values: values}
	}
	for _, test := range []struct {
		query string
		want  query.Images
	}{
		{"", nil},
		// The query of flatpak, byte for byte.
		{"label%3Aorg.flatpak.ref%3Aexists=1&architecture=amd64&os=linux&tag=latest", query.Images{
			equals("architecture", "", "amd64"),
			exists("label", "org.flatpak.ref"),
			equals("os", "", "linux"),
			equals("tag", "", "latest"),
		}},
		{"repository=a&repository=b", query.Images{equals("repository", "", "a", "b")}},
		{"tag:matches=v1.*&tag=x", query.Images{equals("tag", "", "x"), matches("tag", "", "v1.*")}},
		{"tag=", query.Images{equals("tag", "", "")}},
		{"annotation:a.b=x&annotation:a.b=y", query.Images{equals("annotation", "a.b", "x", "y")}},
		{"annotation:a:exists=1", query.Images{exists("annotation", "a")}},
		{"annotation:a:exists=1&annotation:a:exists=1", query.Images{exists("annotation", "a")}},
		{"annotation:a:matches=1*&annotation:a:matches=2*", query.Images{matches("annotation", "a", "1*", "2*")}},
		{"label:team=payments", query.Images{equals("label", "team", "payments")}},
		{"label:a:b:c=x", query.Images{equals("label", "a:b:c", "x")}},
		{"label:a:exists:b=x", query.Images{equals("label", "a:exists:b", "x")}},
		{"label:a:b:exists=1", query.Images{exists("label", "a:b")}},
		{"label:a:exists:matches=x", query.Images{matches("label", "a:exists", "x")}},
		{"label:exists=1", query.Images{equals("label", "exists", "1")}},
		{"label:<script>=x", query.Images{equals("label", "<script>", "x")}},
		// Perhaps of a newer flatpak; flatpak itself filters the results.
		{"bogus=1&limit=1&os=linux&labels:a=1", query.Images{equals("os", "", "linux")}},
	} {
		for _, path := range []string{"/index/static", "/index/dynamic"} {
			b := &book{}
			resp, body := get(t, serve(t, b).URL+path+"?"+test.query)
			if resp.StatusCode != 200 {
				t.Errorf("GET %s?%s: %d %s", path, test.query, resp.StatusCode, body)
			}
			if diff := cmp.Diff(test.want, b.imageQuery); diff != "" {
				t.Errorf("GET %s?%s (-want +got):\n%s", path, test.query, diff)
			}
			b = &book{}
			resp, body = do(t, http.MethodPost, serve(t, b).URL+path, test.query, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
			if resp.StatusCode != 200 {
				t.Errorf("POST %s %s: %d %s", path, test.query, resp.StatusCode, body)
			}
			if diff := cmp.Diff(test.want, b.imageQuery); diff != "" {
				t.Errorf("POST %s %s (-want +got):\n%s", path, test.query, diff)
			}
		}
	}
}

// A condition that we cannot apply must be refused. If it were ignored, the answer
// would have everything; the predecessor passed a NUL on and lost a connection each
// time.
func TestIndexRefuses(t *testing.T) {
	t.Parallel()
	b := &book{}
	s := serve(t, b)
	long := strings.Repeat("x", 1025)
	for query, named := range map[string]string{
		"label:a:exists=0":                     "label:a:exists",
		"label:a:exists=":                      "label:a:exists",
		"label:a:exists=1&label:a:exists=true": "label:a:exists",
		"label:=x":                             "label:",
		"label=x":                              "label",
		"label::exists=1":                      "label::exists",
		"annotation::matches=1":                "annotation::matches",
		"repository:matches=a*":                "repository:matches",
		"os:exists=1":                          "os:exists",
		"tag:exists=1":                         "tag:exists",
		"tag:=1":                               "tag:",
		"repository=%00":                       "repository",
		"bogus=%00":                            "bogus",
		"tag=%ff":                              "tag",
		"label:%00=x":                          "label:",
		"tag=" + long:                          "tag",
		"label:" + long + "=1":                 "label:x",
		strings.Repeat("tag=x&", 101):          "parameters",
		strings.Repeat("bogus=x&", 101):        "parameters",
		"tag=%zz":                              "parameters",
		"os=linux;tag=x":                       "parameters",
		"annotation:a:matches=" + long + "&os=windows": "annotation:a:matches",
	} {
		resp, body := get(t, s.URL+"/index/static?"+query)
		if resp.StatusCode != 400 || !strings.Contains(body, named) || len(body) > 300 {
			t.Errorf("%.60s: %d %.300q, want 400 that names %s", query, resp.StatusCode, body, named)
		}
	}
	for contentType, body := range map[string]string{
		"":                                  "tag=x",
		"text/plain":                        "tag=x",
		"application/json":                  "{}",
		"application/x-www-form-urlencoded": "tag=" + strings.Repeat("x", 1<<20),
	} {
		resp, _ := do(t, http.MethodPost, s.URL+"/index/static", body, "Content-Type", contentType)
		if resp.StatusCode != 400 {
			t.Errorf("POST of %q: %d, want 400", contentType, resp.StatusCode)
		}
	}
	if b.questions > 0 {
		t.Errorf("%d questions reached the book", b.questions)
	}
}

func TestIndexAnswer(t *testing.T) {
	t.Parallel()
	b := &book{images: []indexer.RepositoryImages{
		{Name: "b", Lists: []indexer.ImageList{{
			Digest: dgst("1"), MediaType: "list", Tags: []string{"latest"},
			Annotations: map[string]string{"on": "list"},
			Images:      []indexer.Image{{Digest: dgst("2"), MediaType: "image", OS: "linux", Architecture: "arm64"}},
		}}},
		{Name: "a", Images: []indexer.Image{{
			Digest: dgst("3"), MediaType: "image", OS: "linux", Architecture: "amd64",
			Annotations: map[string]string{"k": "<v>"},
			Labels:      map[string]string{"l": "bad \xff byte, \x00"},
			Tags:        []string{"1", "latest"},
		}, {Digest: dgst("4")}}},
	}}
	resp, body := get(t, serve(t, b, func(c *web.Config) { c.PublicURL = "https://r.example" }).URL+"/index/static")
	want := fmt.Sprintf(`{"Registry":"https://r.example","Results":[`+
		`{"Name":"a","Images":[`+
		`{"Digest":"%s","MediaType":"image","OS":"linux","Architecture":"amd64","Annotations":{"k":"<v>"},"Labels":{"l":"bad \ufffd byte, �"},"Tags":["1","latest"]},`+
		`{"Digest":"%s","MediaType":"","OS":"","Architecture":"","Tags":[]}],"Lists":[]},`+
		`{"Name":"b","Images":[],"Lists":[`+
		`{"Digest":"%s","MediaType":"list","Images":[`+
		`{"Digest":"%s","MediaType":"image","OS":"linux","Architecture":"arm64"}],"Annotations":{"on":"list"},"Tags":["latest"]}]}]}`+"\n",
		dgst("3"), dgst("4"), dgst("1"), dgst("2"))
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if !utf8.ValidString(body) {
		t.Error("the answer is not UTF-8")
	}
}

// flatpak resolves Registry against the address of the index, and crashes if
// Registry is missing.
func TestIndexRegistry(t *testing.T) {
	t.Parallel()
	for public, want := range map[string]string{
		"":                      "/",
		".":                     "/",
		"/":                     "/",
		"r.example":             "/",
		"r.example:5000":        "/",
		"javascript:x":          "/",
		"https://":              "/",
		"https://r.example":     "https://r.example",
		"http://127.0.0.1:5000": "http://127.0.0.1:5000",
	} {
		_, body := get(t, serve(t, &book{}, func(c *web.Config) { c.PublicURL = public }).URL+"/index/static")
		if got := fmt.Sprintf(`{"Registry":%q,"Results":[]}`+"\n", want); body != got {
			t.Errorf("PublicURL %q: %s, want %s", public, body, got)
		}
	}
}

const ref = "app/org.example.App/x86_64/stable"

// image returns an image for linux with a digest of one repeated digit. It is a
// flatpak unless ref is "-".
func image(digit, ref, arch string, tags ...string) indexer.Image {
	i := indexer.Image{Digest: dgst(digit), OS: "linux", Architecture: arch, Tags: tags}
	if ref != "-" {
		i.Labels = map[string]string{"org.flatpak.ref": ref}
	}
	return i
}

func broken(d string) indexer.Image {
	return indexer.Image{Digest: digest.Digest(d), OS: "linux", Architecture: "amd64", Tags: []string{"latest"}}
}

func repo(name string, images ...indexer.Image) indexer.RepositoryImages {
	return indexer.RepositoryImages{Name: name, Images: images}
}

func list(name, digit, tag string, images ...indexer.Image) indexer.RepositoryImages {
	return indexer.RepositoryImages{Name: name, Lists: []indexer.ImageList{
		{Digest: dgst(digit), Tags: []string{tag}, Images: images},
	}}
}

// An entry that flatpak cannot read must not hide the others. No flatpak may be
// served twice, because flatpak could use either.
func TestIndexPoison(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		in   []indexer.RepositoryImages
		want string // repository, then the first digit of each image's digest; those of a list in brackets
	}{
		{"plain image", []indexer.RepositoryImages{repo("a", image("9", "-", "amd64", "latest"))}, "a 9"},
		{"no digest", []indexer.RepositoryImages{repo("a", broken(""), image("9", "-", "amd64"))}, "a 9"},
		{"short digest", []indexer.RepositoryImages{repo("a", broken("sha256:abc")), repo("b", image("9", ref, "amd64"))}, "b 9"},
		{"long digest", []indexer.RepositoryImages{repo("a", broken(dgst("a").String()+"a"))}, ""},
		{"no hex", []indexer.RepositoryImages{repo("a", broken("sha256:"+strings.Repeat("g", 64)))}, ""},
		{"upper case", []indexer.RepositoryImages{repo("a", broken("sha256:"+strings.Repeat("A", 64)))}, ""},
		{"line end", []indexer.RepositoryImages{repo("a", broken(dgst("a").String()+"\n"))}, ""},
		{"sha512", []indexer.RepositoryImages{repo("a", broken("sha512:"+strings.Repeat("a", 128)))}, ""},
		{"list of bad digest", []indexer.RepositoryImages{list("a", "xy", "latest", image("9", ref, "amd64")), repo("b", image("8", "-", "amd64"))}, "b 8"},
		{"bad list takes nothing", []indexer.RepositoryImages{list("a", "xy", "latest", image("9", ref, "amd64")), repo("b", image("8", ref, "amd64", "latest"))}, "b 8"},
		{"list with bad child", []indexer.RepositoryImages{list("a", "1", "latest", broken("x"), image("9", ref, "amd64"))}, "a [9]"},
		{"list of bad children", []indexer.RepositoryImages{list("a", "1", "latest", broken("x"))}, ""},
		{"list without images", []indexer.RepositoryImages{list("a", "1", "latest")}, "a []"},

		{"empty ref", []indexer.RepositoryImages{repo("a", image("1", "", "amd64", "latest"), image("9", ref, "amd64", "latest"))}, "a 9"},
		{"ref of three parts", []indexer.RepositoryImages{repo("a", image("1", "app/org.x.Y/x86_64", "amd64", "latest"))}, ""},
		{"ref of five parts", []indexer.RepositoryImages{repo("a", image("1", ref+"/more", "amd64", "latest"))}, ""},
		{"ref of another kind", []indexer.RepositoryImages{repo("a", image("1", "extension/org.x.Y/x86_64/stable", "amd64", "latest"))}, ""},
		{"ref with line end", []indexer.RepositoryImages{repo("a", image("1", ref+"\n", "amd64", "latest"))}, ""},
		{"runtime", []indexer.RepositoryImages{repo("a", image("1", "runtime/org.example.Platform/x86_64/23.08", "amd64", "latest"))}, "a 1"},

		{"same ref in two", []indexer.RepositoryImages{repo("b", image("2", ref, "amd64", "latest")), repo("a", image("1", ref, "amd64", "latest"))}, "a 1"},
		{"order is of bytes", []indexer.RepositoryImages{repo("a/b", image("1", ref, "amd64", "latest")), repo("a-b", image("2", ref, "amd64", "latest"))}, "a-b 2"},
		{"a tag in common", []indexer.RepositoryImages{repo("a", image("1", ref, "amd64", "1", "latest")), repo("b", image("2", ref, "amd64", "latest", "x"))}, "a 1"},
		{"no tag in common", []indexer.RepositoryImages{repo("a", image("1", ref, "amd64", "latest")), repo("b", image("2", ref, "amd64", "stable"))}, "a 1, b 2"},
		{"another architecture", []indexer.RepositoryImages{repo("a", image("1", ref, "arm64", "latest")), repo("b", image("2", ref, "amd64", "latest"))}, "a 1, b 2"},
		{"another branch", []indexer.RepositoryImages{repo("a", image("1", ref, "amd64", "latest")), repo("b", image("2", ref+".1", "amd64", "latest"))}, "a 1, b 2"},
		{"a refused entry takes nothing", []indexer.RepositoryImages{
			repo("a", image("1", ref, "amd64", "one")),
			repo("b", image("2", ref, "amd64", "free", "one")),
			repo("c", image("3", ref, "amd64", "free")),
		}, "a 1, c 3"},
		{"in a list and plain", []indexer.RepositoryImages{list("b", "7", "latest", image("2", ref, "amd64")), repo("a", image("1", ref, "amd64", "latest"))}, "a 1"},
		{"in two lists", []indexer.RepositoryImages{list("a", "7", "latest", image("2", ref, "amd64")), list("b", "8", "latest", image("3", ref, "amd64"), image("4", "-", "amd64"))}, "a [2], b [4]"},
		{"one repository", []indexer.RepositoryImages{repo("a", image("1", ref, "amd64", "latest"), image("2", ref, "amd64", "old"))}, "a 1 2"},
		{"others are left alone", []indexer.RepositoryImages{repo("a", image("1", "-", "amd64", "latest")), repo("b", image("2", "-", "amd64", "latest"))}, "a 1, b 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, body := get(t, serve(t, &book{images: test.in}).URL+"/index/static")
			if got := shape(t, body); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// shape returns a short form of an index; see TestIndexPoison.
func shape(t *testing.T, body string) string {
	t.Helper()
	type image struct{ Digest string }
	var index struct {
		Results []struct {
			Name   string
			Images []image
			Lists  []struct{ Images []image }
		}
	}
	if err := json.Unmarshal([]byte(body), &index); err != nil {
		t.Fatal(err)
	}
	digits := func(images []image) string {
		var d []string
		for _, i := range images {
			d = append(d, i.Digest[7:8])
		}
		return strings.Join(d, " ")
	}
	var names []string
	for _, r := range index.Results {
		s := r.Name
		if len(r.Images) > 0 {
			s += " " + digits(r.Images)
		}
		for _, l := range r.Lists {
			s += " [" + digits(l.Images) + "]"
		}
		names = append(names, s)
	}
	return strings.Join(names, ", ")
}

func FuzzIndexParameters(f *testing.F) {
	b := &book{}
	h := web.New(web.Config{Read: b.read})
	f.Add("label:org.flatpak.ref:exists", "1")
	f.Add("tag:matches", "v*")
	f.Add("label::exists", "1")
	f.Add("annotation:\x00", "\xff")
	f.Fuzz(func(t *testing.T, key, value string) {
		b.imageQuery = nil
		r := httptest.NewRequest(http.MethodGet, "/index/static?"+url.Values{key: {value}}.Encode(), nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 {
			t.Errorf("%q=%q: %d", key, value, w.Code)
		}
		field, _, _ := strings.Cut(key, ":")
		switch query.Field(field) {
		case query.FieldRepository, query.FieldTag, query.FieldOS, query.FieldArchitecture, query.FieldLabel, query.FieldAnnotation:
			if w.Code == 200 && len(b.imageQuery) != 1 {
				t.Errorf("%q=%q: a condition is lost", key, value)
			}
		}
		for _, c := range b.imageQuery {
			named := c.Field == query.FieldLabel || c.Field == query.FieldAnnotation
			if named != (c.Name != "") || (c.Op == query.OpExists) != (c.Values == nil) {
				t.Errorf("%q=%q: %+v", key, value, c)
			}
			if !utf8.ValidString(c.Name+value) || strings.ContainsRune(c.Name+value, 0) {
				t.Errorf("%q=%q: %+v", key, value, c)
			}
		}
	})
}

// seen returns i with a ref that was first seen that many days ago.
func seen(i indexer.Image, days int) indexer.Image {
	i.RefSince = day.AddDate(0, 0, -days)
	return i
}

func out(i indexer.Image) indexer.Image {
	i.LeftOut = true
	return i
}

// Somebody who pushes the ref of another's flatpak must not serve it: the repository
// where it was first seen does, or the one that is configured, even while its image
// is left out.
func TestIndexOwners(t *testing.T) {
	t.Parallel()
	mozilla := indexer.FlatpakOwner{Ref: "app/org.example.*", Repository: "flathub/*"}
	in := func(first, second int) []indexer.RepositoryImages {
		return []indexer.RepositoryImages{repo("aaa/x", seen(image("1", ref, "amd64", "latest"), first)), repo("flathub/app", seen(image("2", ref, "amd64", "latest"), second))}
	}
	for _, test := range []struct {
		name   string
		owners []indexer.FlatpakOwner
		in     []indexer.RepositoryImages
		want   string
		out    string
	}{
		{"the first seen", nil, in(1, 9), "flathub/app 2", ""},
		{"the first seen comes first by name too", nil, in(9, 1), "aaa/x 1", ""},
		{"seen together", nil, in(1, 1), "aaa/x 1", ""},
		{"not known since when", nil, []indexer.RepositoryImages{repo("aaa/x", image("1", ref, "amd64", "latest")), repo("b", seen(image("2", ref, "amd64", "latest"), 1))}, "b 2", ""},
		{"another tag", nil, []indexer.RepositoryImages{repo("aaa/x", seen(image("1", ref, "amd64", "beta"), 1)), repo("b", seen(image("2", ref, "amd64", "latest"), 9))}, "aaa/x 1, b 2", ""},
		{"the owner", []indexer.FlatpakOwner{mozilla}, in(9, 1), "flathub/app 2", ""},
		{"the first that matches counts", []indexer.FlatpakOwner{{Ref: ref, Repository: "aaa/?"}, mozilla}, in(1, 9), "aaa/x 1", ""},
		{"no other than the owner", []indexer.FlatpakOwner{mozilla}, in(9, 1)[:1], "", ""},
		{"an owner of something else", []indexer.FlatpakOwner{{Ref: "app/org.other.*", Repository: "flathub/*"}}, in(9, 1), "aaa/x 1", ""},
		{"the first seen is too large", nil, []indexer.RepositoryImages{in(1, 9)[0], repo("flathub/app", out(in(1, 9)[1].Images[0]))}, "", "1"},
		{"in a list", nil, []indexer.RepositoryImages{
			list("aaa/x", "7", "latest", seen(image("1", ref, "amd64"), 1), image("3", "-", "amd64")),
			list("b", "8", "latest", seen(image("2", ref, "amd64"), 9), out(image("4", "-", "amd64"))),
		}, "aaa/x [3], b [2]", "1"},
		{"a list of nothing with room", nil, []indexer.RepositoryImages{list("b", "8", "latest", out(image("2", "-", "amd64")), out(image("4", "-", "amd64")))}, "", "2"},
		{"what is not served is not left out", nil, []indexer.RepositoryImages{in(1, 9)[1], repo("x", out(seen(image("3", ref, "amd64", "latest"), 2)))}, "flathub/app 2", ""},
	} {
		s := serve(t, &book{images: test.in}, func(c *web.Config) { c.FlatpakOwners = test.owners })
		for _, path := range []string{"/index/static", "/index/dynamic", "/index/static"} {
			resp, body := get(t, s.URL+path)
			if got := shape(t, body); got != test.want || resp.Header.Get("Portbook-Left-Out") != test.out {
				t.Errorf("%s: %s: got %q, left out %q; want %q, %q", test.name, path, got, resp.Header.Get("Portbook-Left-Out"), test.want, test.out)
			}
		}
	}
}

// A heldBook returns images only when the test allows it.
type heldBook struct {
	*book
	asked, may chan struct{}
}

func (b heldBook) Images(ctx context.Context, q query.Images) ([]indexer.RepositoryImages, error) {
	b.asked <- struct{}{}
	select {
	case <-b.may:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return b.book.Images(ctx, q)
}

// Only a few indexes are made at once, because each takes much memory, and only one
// for a client, so that it cannot block another. A waiting request holds no database
// connection, and is answered in the end.
func TestIndexesAreMadeFew(t *testing.T) {
	t.Parallel()
	b := heldBook{&book{}, make(chan struct{}), make(chan struct{})}
	reads := make(chan int, 100)
	s := serve(t, b.book, func(c *web.Config) {
		c.Read = func(_ context.Context, _ indexer.Asker, f func(answer.Book) error) error {
			reads <- 1
			defer func() { reads <- -1 }()
			return f(b)
		}
	})
	codes := make(chan int)
	ask := func(tag, client string) {
		go func() {
			resp, _ := get(t, s.URL+"/index/static?tag="+tag, "X-Forwarded-For", client)
			codes <- resp.StatusCode
		}()
	}
	running := 0
	seen := func(n int) { // waits until n reads have begun or ended
		for range n {
			running += <-reads
		}
	}
	ask("a", "198.51.100.7")
	<-b.asked
	ask("b", "198.51.100.7")
	seen(3)
	if running != 1 {
		t.Errorf("%d reads of one client while an index is made and one waits", running)
	}
	ask("c", "198.51.100.8")
	<-b.asked
	ask("d", "198.51.100.9")
	seen(3)
	if running != 2 {
		t.Errorf("%d reads while two indexes are made and two wait", running)
	}
	close(b.may)
	<-b.asked // the waiting requests
	<-b.asked
	for range 4 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("status %d", code)
		}
	}
}

// A statedBook counts how often the images of an index are read.
type statedBook struct {
	*book
	state string
	made  int
}

func (b *statedBook) ImagesState(context.Context, query.Images) (string, error) { return b.state, nil }

func (b *statedBook) Images(ctx context.Context, q query.Images) ([]indexer.RepositoryImages, error) {
	b.made++
	return b.book.Images(ctx, q)
}

// An index is made again if its images or the epoch have changed, and not for every
// version of the catalogue.
func TestIndexIsMadeForEachState(t *testing.T) {
	t.Parallel()
	b := &statedBook{book: &book{}}
	s := serve(t, b.book, func(c *web.Config) {
		c.Read = func(_ context.Context, _ indexer.Asker, f func(answer.Book) error) error { return f(b) }
	})
	version := func(epoch string, n int64) indexer.Version { return indexer.Version{Epoch: epoch, Number: n} }
	for _, step := range []struct {
		version indexer.Version
		state   string
		made    int
	}{
		{version("e1", 1), "a", 1},
		{version("e1", 1), "a", 1},
		{version("e1", 2), "a", 1},
		{version("e1", 3), "b", 2},
		{version("e1", 4), "b", 2},
		{version("e2", 4), "b", 3},
		{version("e2", 5), "a", 4},
	} {
		b.version, b.state = step.version, step.state
		for range 2 {
			resp, body := get(t, s.URL+"/index/static?tag=a")
			if resp.StatusCode != http.StatusOK || b.made != step.made {
				t.Errorf("%+v: %d %s, made %d times", step, resp.StatusCode, body, b.made)
			}
		}
	}
}

// An index that several clients request at the same time is made once, and is made again
// if the client that it was made for goes away.
func TestIndexIsMadeOnce(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		b := heldBook{&book{}, make(chan struct{}), make(chan struct{})}
		s := serve(t, b.book, func(c *web.Config) {
			c.Read = func(_ context.Context, _ indexer.Asker, f func(answer.Book) error) error { return f(b) }
		})
		ask := func(ctx context.Context, client string) int {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/index/static?tag=a", nil)
			if err != nil {
				t.Error(err)
				return 0
			}
			r.Header.Set("X-Forwarded-For", client)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				return 0
			}
			defer resp.Body.Close()
			return resp.StatusCode
		}
		ctx, leave := context.WithCancel(t.Context())
		first := make(chan int)
		go func() { first <- ask(ctx, "198.51.100.1") }()
		<-b.asked
		codes := make(chan int)
		for i := range 9 {
			go func() { codes <- ask(t.Context(), fmt.Sprint("198.51.100.", 2+i)) }()
		}
		if leaves {
			leave()
			<-b.asked
		}
		close(b.may)
		if code := <-first; leaves != (code == 0) {
			t.Errorf("the client that leaves (%v) got %d", leaves, code)
		}
		for range 9 {
			select {
			case code := <-codes:
				if code != http.StatusOK {
					t.Errorf("status %d; the first client leaves: %v", code, leaves)
				}
			case <-b.asked:
				t.Fatal("the index was made twice")
			}
		}
		leave()
	}
}

func (b heldBook) ImagesState(context.Context, query.Images) (string, error) { return "", nil }

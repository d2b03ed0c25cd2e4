package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

func connect(t *testing.T, url string) *remote.Client {
	t.Helper()
	c, err := remote.New(remote.Config{URL: url, UserAgent: "portbook-test", Connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve returns a client of a registry that answers with f, for answers that the stock
// registry cannot be made to send.
func serve(t *testing.T, f http.HandlerFunc) *remote.Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return connect(t, server.URL)
}

// repositories returns all names of a catalogue, but at most limit.
func repositories(t *testing.T, c *remote.Client, limit int) (names []string, err error) {
	t.Helper()
	for name, err := range c.Repositories(t.Context(), "") {
		if err != nil {
			return names, err
		}
		if names = append(names, name); len(names) > limit {
			t.Fatalf("more than %d names", limit)
		}
	}
	return names, nil
}

func pushAll(t *testing.T, c *push.Client, repositories ...string) {
	t.Helper()
	for _, r := range repositories {
		if _, err := c.Image(t.Context(), r, "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
}

// All repositories must be listed with every page size that the registry allows, even
// if it panics instead of answering: for a page that ends at b/0, just before b.
func TestRepositories(t *testing.T) {
	t.Parallel()
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprintf("a%02d", i))
	}
	want = append(want, "b/0", "b", "c/0", "c", "d")
	for _, most := range []int{1000, 999, 100, 17, 13, 7, 5} {
		t.Run(fmt.Sprintf("at most %d", most), func(t *testing.T) {
			t.Parallel()
			r := registrytest.Start(t, registrytest.Config{Configure: func(c *configuration.Configuration) { c.Catalog.MaxEntries = most }})
			pushAll(t, r.Push, want...)
			got, err := repositories(t, connect(t, r.URL), 1000)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			if diff := cmp.Diff(slices.Sorted(slices.Values(want)), got); diff != "" {
				t.Errorf("repositories (-want +got):\n%s", diff)
			}
		})
	}
}

// The registry must panic: otherwise TestRepositories would prove nothing.
func TestCatalogPanics(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	pushAll(t, r.Push, "a/0", "a")
	resp, err := http.Get(r.URL + "/v2/_catalog?n=1")
	if err == nil {
		resp.Body.Close()
		t.Errorf("status %d: the registry no longer panics, so the page sizes are no longer needed", resp.StatusCode)
	}
}

// A listing must continue at the link to the next page, whatever else the header
// contains, and must send requests only to the registry.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, link := range []string{
		`</v2/_catalog?last=a&n=1>; rel="next"`,
		`<https://evil.example/v2/_catalog?n=1&last=a>; rel="next"`,
		`</v2/_catalog?last=a>; rel=next`,
		`</v2/_catalog?last=a>; title="x"; rel="next"`,
		`</v2/_catalog?last=z>; rel="prev", </v2/_catalog?last=a>; rel="next"`,
		`</v2/_catalog?last=a>; rel="next", </v2/_catalog?last=z>; rel="last"`,
	} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Query().Get("last") {
			case "":
				w.Header().Set("Link", link)
				fmt.Fprint(w, `{"repositories":["a"]}`)
			case "a":
				w.Header().Set("Link", `</v2/_catalog?last=a>; rel="prev"`)
				fmt.Fprint(w, `{"repositories":["b"]}`)
			default:
				http.Error(w, "not the next page", http.StatusTeapot)
			}
		})
		got, err := repositories(t, c, 10)
		if err != nil || !cmp.Equal(got, []string{"a", "b"}) {
			t.Errorf("Link %s: got repositories %v, %v, want a and b", link, got, err)
		}
	}
}

// Links that lead in a circle must end with an error at once.
func TestLinksInACircle(t *testing.T) {
	t.Parallel()
	next := map[string]string{"": "a", "a": "b", "b": "a"}
	var asked atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		last := r.URL.Query().Get("last")
		w.Header().Set("Link", fmt.Sprintf(`<%s?last=%s>; rel="next"`, r.URL.Path, next[last]))
		fmt.Fprintf(w, `{"repositories":["x%s"],"tags":["x%s"]}`, last, last)
	})
	if _, err := repositories(t, c, 10); !errors.Is(err, indexer.ErrInvalid) {
		t.Errorf("repositories: %v, want ErrInvalid", err)
	}
	if _, err := c.Tags(t.Context(), "app"); !errors.Is(err, indexer.ErrInvalid) {
		t.Errorf("tags: %v, want ErrInvalid", err)
	}
	if n := asked.Load(); n != 6 {
		t.Errorf("%d requests, want 6", n)
	}
}

// All tags must be listed with any page size of the registry.
func TestTags(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	var want []string
	for i := range 25 {
		tag := fmt.Sprintf("v%02d", i)
		want = append(want, tag)
		if _, err := r.Push.Image(t.Context(), "app", tag, push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := connect(t, r.URL).Tags(t.Context(), "app")
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("tags %v, %v", got, err)
	}
	paged := serve(t, func(w http.ResponseWriter, q *http.Request) { // a registry that sends pages without being asked to
		url := r.URL + q.URL.Path + "?n=4&last=" + q.URL.Query().Get("last")
		resp, err := http.Get(url)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.Header()["Link"] = resp.Header["Link"]
		_, _ = io.Copy(w, resp.Body) // the reader reports an incomplete page
	})
	if got, err = paged.Tags(t.Context(), "app"); err != nil || !cmp.Equal(got, want) {
		t.Errorf("tags by pages %v, %v", got, err)
	}
	if _, err := connect(t, r.URL).Tags(t.Context(), "nobody"); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("tags of an unknown repository: %v, want ErrNotFound", err)
	}
}

// The kind of an error must say whether a retry may help.
func TestErrorKinds(t *testing.T) {
	t.Parallel()
	d := digest.FromString("x")
	kinds := []error{indexer.ErrNotFound, indexer.ErrInvalid, indexer.ErrUnavailable}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   error // nil: of no kind
	}{
		{"404", status(404), indexer.ErrNotFound},
		{"400", status(400), nil},
		{"401", status(401), nil},
		{"403", status(403), nil},
		{"429", status(429), indexer.ErrUnavailable},
		{"500", status(500), nil},
		{"502", status(502), indexer.ErrUnavailable},
		{"503", status(503), indexer.ErrUnavailable},
		{"504", status(504), indexer.ErrUnavailable},
		{"dropped", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, indexer.ErrUnavailable},
		{"cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			fmt.Fprint(w, "x")
		}, indexer.ErrUnavailable},
		{"other bytes", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "y") }, indexer.ErrInvalid},
		{"too large by its header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "4194305") }, indexer.ErrInvalid},
		{"too large", func(w http.ResponseWriter, _ *http.Request) {
			for range 5 {
				fmt.Fprint(w, strings.Repeat("x", 1<<20))
			}
		}, indexer.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, c.answer)
			_, blob := client.Blob(t.Context(), "app", d, 4<<20)
			_, _, manifest := client.Manifest(t.Context(), "app", d.String())
			for what, err := range map[string]error{"blob": blob, "manifest": manifest} {
				if err == nil {
					t.Errorf("%s: no error", what)
				}
				for _, kind := range kinds {
					if errors.Is(err, kind) != (kind == c.want) {
						t.Errorf("%s: got %v, want kind %v", what, err, c.want)
					}
				}
			}
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[31m no \xff", code) }
}

// The text of an error must be safe for a log and a page.
func TestErrorText(t *testing.T) {
	t.Parallel()
	_, _, err := serve(t, status(500)).Manifest(t.Context(), "app", "v1")
	if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") || !utf8.ValidString(err.Error()) || !strings.Contains(err.Error(), "500") {
		t.Errorf("error %q", err)
	}
}

// Without a server, the error must be ErrUnavailable. If the caller stops, the error
// must be that of its context.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	c := connect(t, "http://"+listener.Addr().String())
	if err := c.Exists(t.Context(), "app", digest.FromString("x")); !errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	if _, err := repositories(t, c, 0); !errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("repositories: %v, want ErrUnavailable", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	err = c.Exists(ctx, "app", digest.FromString("x"))
	if !errors.Is(err, context.Canceled) || errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("%v, want context.Canceled alone", err)
	}
}

// Our password must not be sent to the target of a redirect, such as a presigned URL of
// S3, even if that is another port of the same host.
func TestRedirect(t *testing.T) {
	t.Parallel()
	content := []byte("blob")
	d := digest.FromBytes(content)
	var mu sync.Mutex
	var leaked []string
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		leaked = append(leaked, r.Header.Values("Authorization")...)
		if r.URL.Query().Get("signature") != "ok" {
			http.Error(w, "not signed", http.StatusForbidden)
			return
		}
		w.Write(content)
	}))
	defer store.Close()
	var asked atomic.Int32
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "reader" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		asked.Add(1)
		http.Redirect(w, r, store.URL+"/bucket/key?signature=ok", http.StatusTemporaryRedirect)
	}))
	defer registry.Close()
	c, err := remote.New(remote.Config{URL: registry.URL, Username: "reader", Password: "secret", UserAgent: "test", Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time with a cached authentication scheme
		if got, err := c.Blob(t.Context(), "app", d, 100); err != nil || string(got) != "blob" {
			t.Errorf("blob %q, %v", got, err)
		}
	}
	if len(leaked) > 0 || asked.Load() != 2 {
		t.Errorf("the storage received %q; the registry received %d requests, want 2", leaked, asked.Load())
	}
}

// A read must end after a few redirects.
func TestRedirectsWithoutEnd(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	})
	if _, err := c.Blob(t.Context(), "app", digest.FromString("x"), 100); err == nil {
		t.Error("no error")
	}
}

// A registry that requires a password must be readable with it, and not without.
func TestPassword(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{User: "reader", Password: "geheim:ü"})
	want, err := r.Push.Image(t.Context(), "app", "v1", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	for password, ok := range map[string]bool{"geheim:ü": true, "wrong": false, "": false} {
		config := remote.Config{URL: r.URL, Username: "reader", Password: password, UserAgent: "test", Connections: 1}
		if password == "" {
			config.Username = ""
		}
		c, err := remote.New(config)
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Manifest(t.Context(), "app", "v1")
		if ok && (err != nil || got.Digest != want.Digest) || !ok && err == nil {
			t.Errorf("with password %q: %s, %v", password, got.Digest, err)
		}
		names, err := repositories(t, c, 10)
		if (err == nil) != ok || ok && !cmp.Equal(names, []string{"app"}) {
			t.Errorf("with password %q: repositories %v, %v", password, names, err)
		}
		if err != nil && password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("the error contains the password: %v", err)
		}
	}
}

// The user agent must distinguish our reads from pulls.
func TestUserAgent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	agents := map[string]int{}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		agents[r.UserAgent()]++
		http.NotFound(w, r)
	})
	_, _ = c.Tags(t.Context(), "app")
	_ = c.Exists(t.Context(), "app", digest.FromString("x"))
	_, _ = c.Blob(t.Context(), "app", digest.FromString("x"), 100)
	if diff := cmp.Diff(map[string]int{"portbook-test": 3}, agents); diff != "" {
		t.Errorf("user agents (-want +got):\n%s", diff)
	}
}

// Shows must return the digest of a tag without reading the manifest.
func TestShows(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	want, err := r.Push.Image(t.Context(), "app", "v1", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, r.URL)
	for _, known := range []digest.Digest{"", want.Digest, digest.FromString("another")} {
		if got, err := c.Shows(t.Context(), "app", "v1", known); err != nil || got != want.Digest {
			t.Errorf("known %q: got %s, %v, want %s", known, got, err, want.Digest)
		}
		_, desc, same, err := c.ManifestUnless(t.Context(), "app", "v1", known)
		if err != nil || same != (known == want.Digest) || !same && desc.Digest != want.Digest {
			t.Errorf("known %q: same %v, %s, %v", known, same, desc.Digest, err)
		}
	}
	if _, err := c.Shows(t.Context(), "app", "v2", ""); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("unknown tag: %v, want ErrNotFound", err)
	}
	if err := c.Exists(t.Context(), "app", digest.FromString("x")); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("unknown manifest: %v, want ErrNotFound", err)
	}
}

// If the registry sends its answer a byte at a time, a read must still end with the
// context of the caller.
func TestSlowRegistry(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "x")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := c.Blob(ctx, "app", digest.FromString("x"), 100); !errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
}

func TestNewInvalid(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "registry:5000", "ftp://x", "http://", "://"} {
		if _, err := remote.New(remote.Config{URL: url}); !errors.Is(err, indexer.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", url, err)
		}
	}
}

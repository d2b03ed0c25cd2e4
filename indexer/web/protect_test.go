package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/registry/registrytest"
)

// keeping returns a front of a registry that keeps what list protects. Nothing needs a digest.
func keeping(t *testing.T, r *registrytest.Registry, list ...access.Protection) *httptest.Server {
	t.Helper()
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := remote.New(remote.Config{URL: r.URL, UserAgent: "portbook-indexer"})
	if err != nil {
		t.Fatal(err)
	}
	all := access.NewProtections(list)
	load := func(context.Context) (access.Protections, error) { return all, nil }
	return serve(t, &book{}, func(c *web.Config) {
		c.RegistryProxy = u
		c.Protection = web.Protection{
			Keeper: access.NewKeeper(load, slog.New(slog.DiscardHandler)), Registry: u,
			Shows: func(ctx context.Context, repository, tag string) (digest.Digest, error) {
				return client.Shows(ctx, repository, tag, "")
			},
			Needs: func(context.Context, string, digest.Digest) (string, error) { return "", nil },
		}
	})
}

func pattern(t *testing.T, text string) access.Pattern {
	t.Helper()
	p, err := access.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// manifests pushes the blobs of n images to a repository, and returns their manifests.
func manifests(t *testing.T, r *registrytest.Registry, repository string, n int) (all [][]byte) {
	t.Helper()
	for i := range n {
		config, err := r.Push.Blob(t.Context(), repository, fmt.Appendf(nil, `{"n":%d}`, i))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[]}`,
			ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, config.Digest, config.Size))
	}
	return all
}

// send sends a request to the registry's API and returns the status and the body.
func send(t *testing.T, method, address string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.Header.Set("Content-Type", ocispec.MediaTypeImageManifest)
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	answered, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answered)
}

// Whatever is pushed and deleted through the front, and however protections overlap: what they
// say holds, all else is done, and the registry stores exactly that.
func TestProxyKeepsWhatIsProtected(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	random := rand.New(rand.NewPCG(3, 4))
	repositories, tags := []string{"team/app", "team/deep/app", "other"}, []string{"v1", "v2", "latest"}
	pushed := map[string][][]byte{}
	for _, name := range repositories {
		pushed[name] = manifests(t, r, name, 3)
	}
	shows := map[string]int{} // the image that each repository:tag shows, by its number
	for round := range 12 {
		var list []access.Protection
		for range random.IntN(4) {
			p := access.Protection{
				Kind:    access.ProtectionKinds[random.IntN(3)],
				Pattern: pattern(t, []string{"*", "team/*", "team/app", "other", "team/deep/*"}[random.IntN(5)]),
				Used:    5, Bytes: int64(random.IntN(10)), CountedAt: time.Unix(1, 0),
			}
			if p.Kind == access.Protect {
				p.Tags = []string{"v*", "latest", "v1", "?1"}[random.IntN(4)]
			}
			list = append(list, p)
		}
		s := keeping(t, r, list...)
		for range 25 {
			name, tag, image := repositories[random.IntN(3)], tags[random.IntN(3)], random.IntN(3)
			was, exists := shows[name+":"+tag]
			address := s.URL + "/v2/" + name + "/manifests/" + tag
			method, allowed, code := http.MethodPut, true, http.StatusCreated
			if random.IntN(3) == 0 {
				method, code = http.MethodDelete, http.StatusAccepted
			}
			for _, p := range list { // the plain reading
				if !p.Pattern.Selects(name) {
					continue
				}
				switch {
				case p.Kind == access.Freeze, p.Kind == access.Quota && p.Used >= p.Bytes && method == http.MethodPut:
					allowed = false
				case p.Kind == access.Protect && p.Protects(name, tag) && exists && (method == http.MethodDelete || was != image):
					allowed = false
				}
			}
			got, body := send(t, method, address, pushed[name][image])
			switch {
			case !allowed:
				code = http.StatusForbidden
			case method == http.MethodDelete && !exists:
				code = http.StatusNotFound
			case method == http.MethodDelete:
				delete(shows, name+":"+tag)
			default:
				shows[name+":"+tag] = image
			}
			if got != code {
				t.Fatalf("round %d, %v: %s %s with image %d (shows %d, %v): %d %s, want %d",
					round, list, method, address, image, was, exists, got, body, code)
			}
			if code == http.StatusForbidden && !strings.Contains(body, `{"errors":[{"code":"DENIED","message":"`) {
				t.Errorf("the refusal is %s", body)
			}
		}
	}
	for _, name := range repositories {
		for _, tag := range tags {
			code, body := send(t, http.MethodGet, r.URL+"/v2/"+name+"/manifests/"+tag, nil)
			image, exists := shows[name+":"+tag]
			if exists != (code == http.StatusOK) || exists && body != string(pushed[name][image]) {
				t.Errorf("%s:%s is %d %s, want image %d, %v", name, tag, code, body, image, exists)
			}
		}
	}
}

// Of many that push a new protected tag at once, one is first, and the others do not move it.
func TestProxyKeepsTheFirst(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	all := manifests(t, r, "team/app", 8)
	s := keeping(t, r, access.Protection{Kind: access.Protect, Pattern: access.Every, Tags: "*"})
	var group sync.WaitGroup
	codes := make([]int, len(all))
	for i, m := range all {
		group.Go(func() { codes[i], _ = send(t, http.MethodPut, s.URL+"/v2/team/app/manifests/v1", m) })
	}
	group.Wait()
	first := -1
	for i, code := range codes {
		switch {
		case code == http.StatusCreated && first < 0:
			first = i
		case code != http.StatusForbidden:
			t.Errorf("push %d: %d", i, code)
		}
	}
	if first < 0 {
		t.Fatal("none was pushed")
	}
	if _, body := send(t, http.MethodGet, r.URL+"/v2/team/app/manifests/v1", nil); body != string(all[first]) {
		t.Errorf("the tag shows %s, want %s", body, all[first])
	}
	if code, body := send(t, http.MethodPut, s.URL+"/v2/team/app/manifests/v1", all[first]); code != http.StatusCreated {
		t.Errorf("the same image once more: %d %s", code, body)
	}
	large := bytes.Repeat([]byte(" "), 4<<20+1)
	if code, body := send(t, http.MethodPut, s.URL+"/v2/team/app/manifests/v1", large); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a manifest that is too large: %d %s", code, body)
	}
}

// The status of a process says at which levels it keeps what is protected. That somebody asks
// like a front makes no level active.
func TestProtectionLevels(t *testing.T) {
	t.Parallel()
	level := func(url, name string) (active bool, text string) {
		t.Helper()
		_, body := get(t, url+"/api/v1/status")
		var status struct {
			Protection []struct {
				Level, Text string
				Active      bool
			}
		}
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatal(err)
		}
		for _, l := range status.Protection {
			if l.Level == name {
				return l.Active, l.Text
			}
		}
		t.Fatalf("no level %q in %s", name, body)
		return false, ""
	}
	keeper := access.NewKeeper(func(context.Context) (access.Protections, error) { return access.Protections{}, nil }, nil)
	without := serve(t, &book{}, func(c *web.Config) { c.Protection.Keeper = keeper })
	do(t, "GET", without.URL+"/v2-allowed", "", "X-Original-Method", "GET", "X-Original-URI", "/v2/team/app/tags/list")
	for name, says := range map[string]string{"token": "auth.keys", "front": "components.registry_proxy is false"} {
		if active, text := level(without.URL, name); active || !strings.Contains(text, says) {
			t.Errorf("%s without keys and proxy: %v, %s", name, active, text)
		}
	}
	if active, _ := level(without.URL, "put back"); !active {
		t.Error("put back is not active")
	}
	registry := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(registry.Close)
	u, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	with := serve(t, &book{}, func(c *web.Config) { c.Protection.Keeper, c.RegistryProxy = keeper, u })
	if active, text := level(with.URL, "front"); !active {
		t.Errorf("front with the proxy: %s", text)
	}
}

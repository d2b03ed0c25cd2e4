package web_test

import (
	"bytes"
	"context"
	"encoding/base64"
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
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/login"
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

// What is protected stays while the registry does not say whether the client may know of it, and
// who may not holds no place in memory.
func TestProxyKeepsWhileUnsure(t *testing.T) {
	t.Parallel()
	var answers atomic.Int64 // the status of /v2/
	var passed atomic.Int64
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			w.WriteHeader(int(answers.Load()))
			return
		}
		passed.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(registry.Close)
	u, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	all := access.NewProtections([]access.Protection{{Kind: access.Protect, Pattern: access.Every, Tags: "*"}})
	keeper := access.NewKeeper(func(context.Context) (access.Protections, error) { return all, nil }, slog.New(slog.DiscardHandler))
	s := serve(t, &book{}, func(c *web.Config) {
		c.RegistryProxy = u
		c.Protection = web.Protection{Keeper: keeper, Registry: u,
			Shows: func(context.Context, string, string) (digest.Digest, error) { return dgst("a"), nil }}
	})
	const address = "/v2/team/app/manifests/v1"
	for _, status := range []int{429, 500, 502, 503} {
		answers.Store(int64(status))
		for _, method := range []string{"PUT", "DELETE"} {
			if code, body := send(t, method, s.URL+address, []byte("{}")); code != http.StatusServiceUnavailable || passed.Load() != 0 {
				t.Errorf("%s while /v2/ is %d: %d %s, %d passed on", method, status, code, body, passed.Load())
			}
		}
	}
	answers.Store(http.StatusUnauthorized)
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	const each = 8 // places of one client
	for range each {
		body, never := io.Pipe()
		defer never.Close()
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.URL+address, body)
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	eventually(t, "the registry refuses who is not let in", func() bool { return passed.Load() == each })
	answers.Store(http.StatusOK)
	if code, body := send(t, "PUT", s.URL+address, []byte("{}")); code != http.StatusForbidden {
		t.Errorf("another push: %d %s", code, body)
	}
}

// levels returns the levels of /api/v1/status, by name.
func levels(t *testing.T, url string) map[string]level {
	t.Helper()
	_, body := get(t, url+"/api/v1/status")
	var status struct{ Protection []level }
	if err := json.Unmarshal([]byte(body), &status); err != nil || len(status.Protection) != 3 {
		t.Fatalf("%v: %s", err, body)
	}
	by := map[string]level{}
	for _, l := range status.Protection {
		by[l.Level] = l
	}
	return by
}

// A level is one by which protections hold, as /api/v1/status shows it.
type level struct {
	Level, Text string
	Active      bool
}

// nothing is a Keeper without protections.
func nothing() *access.Keeper {
	return access.NewKeeper(func(context.Context) (access.Protections, error) { return access.Protections{}, nil }, nil)
}

// The status of a process says at which levels it keeps what is protected, also on the page.
func TestProtectionLevels(t *testing.T) {
	t.Parallel()
	without := serve(t, &book{}, func(c *web.Config) { c.Protection.Keeper, c.WebUI = nothing(), true })
	for name, says := range map[string]string{"token": "auth.keys", "front": "front.token is not set"} {
		if l := levels(t, without.URL)[name]; l.Active || !strings.Contains(l.Text, says) {
			t.Errorf("without keys, proxy and front: %v", l)
		}
	}
	if l := levels(t, without.URL)["put back"]; !l.Active {
		t.Errorf("%v", l)
	}
	if _, page := get(t, without.URL+"/status"); !strings.Contains(page, "front.token is not set") {
		t.Error("the page does not tell about the front")
	}
	registry := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(registry.Close)
	u, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	with := serve(t, &book{}, func(c *web.Config) { c.Protection.Keeper, c.RegistryProxy = nothing(), u })
	if l := levels(t, with.URL)["front"]; !l.Active {
		t.Errorf("with the proxy: %v", l)
	}
}

// Only a front that knows front.token is answered, and makes the status say that a front asks.
func TestFrontIsKnownByItsToken(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, &book{}, func(c *web.Config) {
		c.Protection = web.Protection{Keeper: nothing(), Registry: u, FrontToken: "the token"}
	})
	asks := func(header ...string) int {
		t.Helper()
		resp, _ := do(t, "GET", s.URL+"/v2-allowed", "", append(header, "X-Original-Method", "GET", "X-Original-URI", "/v2/")...)
		return resp.StatusCode
	}
	for _, header := range [][]string{nil, {"X-Front-Token", ""}, {"X-Front-Token", "another"}, {"Authorization", "Bearer the token"}} {
		if code := asks(header...); code != http.StatusNotFound {
			t.Errorf("a stranger with %q: %d", header, code)
		}
	}
	if resp, _ := do(t, "GET", s.URL+"/v2/", "", "X-Front-Token", "another"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a request to the registry of a stranger: %s", resp.Status)
	}
	if l := levels(t, s.URL)["front"]; l.Active || !strings.Contains(l.Text, "no front with it has asked this process") {
		t.Errorf("before the front has asked: %v", l)
	}
	if code := asks("X-Front-Token", "the token"); code != http.StatusNoContent {
		t.Errorf("the front: %d", code)
	}
	if l := levels(t, s.URL)["front"]; !l.Active || !strings.Contains(l.Text, "last at ") {
		t.Errorf("after the front has asked: %v", l)
	}
	if resp, _ := do(t, "GET", s.URL+"/v2/", "", "X-Front-Token", "the token"); resp.StatusCode != http.StatusOK {
		t.Errorf("a request that the front hands over: %s", resp.Status)
	}
}

// While the registry cannot say whether it lets a client in, nothing that is protected is passed
// on: it may let it in at the next request.
func TestNothingPassesWhileTheRegistryFails(t *testing.T) {
	t.Parallel()
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(registry.Close)
	u, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	frozen := access.NewProtections([]access.Protection{{Kind: access.Freeze, Pattern: access.Every}})
	s := serve(t, &book{}, func(c *web.Config) {
		c.RegistryProxy = u
		c.Protection = web.Protection{Registry: u, FrontToken: "the token",
			Keeper: access.NewKeeper(func(context.Context) (access.Protections, error) { return frozen, nil }, nil)}
	})
	if code, body := send(t, http.MethodPut, s.URL+"/v2/team/app/manifests/v1", []byte("{}")); code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", code, body)
	}
	resp, _ := do(t, "GET", s.URL+"/v2-allowed", "", "X-Front-Token", "the token", "X-Original-Method", "PUT",
		"X-Original-URI", "/v2/team/app/manifests/v1")
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a front is told %s", resp.Status)
	}
}

// A token for the registry never allows what nobody may do now, and its answer says what it lacks
// and why. Tags it does not know.
func TestTokensLackWhatIsFrozenOrFull(t *testing.T) {
	t.Parallel()
	all := access.NewProtections([]access.Protection{
		{Kind: access.Freeze, Pattern: pattern(t, "team/frozen"), Reason: "release week"},
		{Kind: access.Quota, Pattern: pattern(t, "full/*"), Bytes: 10, Used: 10, CountedAt: time.Unix(1, 0)},
		{Kind: access.Quota, Pattern: pattern(t, "team/*"), Bytes: 10, Used: 9, CountedAt: time.Unix(1, 0)},
		{Kind: access.Protect, Pattern: access.Every, Tags: "*"},
	})
	keeper := access.NewKeeper(func(context.Context) (access.Protections, error) { return all, nil }, nil)
	s := serve(t, &book{}, func(c *web.Config) {
		c.Login = login.New(login.Config{Verifier: access.Tokens{Both: "x"}, Signer: testSigner(t), PublicURL: "/", Keeper: keeper})
	})
	const frozen = "team/frozen is frozen: nothing is pushed to it or deleted from it: release week"
	const full = "full/* has used up its quota of 10 bytes, as counted at 1970-01-01T00:00:01Z: nothing is pushed to it until" +
		" something is deleted and counted"
	for _, c := range []struct{ wants, gets, lacks, why string }{
		{"repository:team/app:pull,push,delete", "repository:team/app:pull,push,delete", "", ""},
		{"repository:team/frozen:pull,push", "repository:team/frozen:pull", "repository:team/frozen:push", frozen},
		{"repository:team/frozen:delete", "", "repository:team/frozen:delete", frozen},
		{"repository:full/app:push,pull,delete", "repository:full/app:pull,delete", "repository:full/app:push", full},
		{"repository:full/app:pull", "repository:full/app:pull", "", ""},
		{"repository:team/frozen:*", "repository:team/frozen:pull", "repository:team/frozen:push,delete", frozen},
	} {
		resp, body := do(t, "GET", s.URL+"/auth/token?scope="+url.QueryEscape(c.wants), "", "Authorization", "Basic "+
			base64.StdEncoding.EncodeToString([]byte("ci:x")))
		var given struct {
			Token, Scope string
			Withheld     []struct{ Scope, Reason string }
		}
		if err := json.Unmarshal([]byte(body), &given); err != nil || resp.StatusCode != http.StatusOK || given.Token == "" {
			t.Fatalf("%s: %s %s %v", c.wants, resp.Status, body, err)
		}
		var lacks, why string
		for _, w := range given.Withheld {
			lacks, why = lacks+w.Scope, why+w.Reason
		}
		if given.Scope != c.gets || lacks != c.lacks || why != c.why {
			t.Errorf("%s: got %q without %q because %q", c.wants, given.Scope, lacks, why)
		}
	}
}

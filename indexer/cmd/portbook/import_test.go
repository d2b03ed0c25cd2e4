package main_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// otherRegistry is a registry to import from, with a login. Requests to it fail as often as failing
// says, in a thousand.
type otherRegistry struct {
	registry *registrytest.Registry
	url      string
	failing  atomic.Int64
	requests atomic.Int64
}

func startOther(t *testing.T) *otherRegistry {
	t.Helper()
	o := &otherRegistry{registry: registrytest.Start(t, registrytest.Config{User: "reader", Password: "marker-of-a-secret"})}
	target, err := url.Parse(o.registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.requests.Add(1)
		if rand.Int64N(1000) < o.failing.Load() {
			if rand.IntN(2) == 0 {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, "broken", http.StatusForbidden) // nothing that is tried again at once
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	o.url = front.URL
	return o
}

// repository returns a repository of a registry.
func repositoryAt(t *testing.T, address, name, user, password string) *remote.Repository {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	r, err := remote.NewRepository(u.Host + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	r.PlainHTTP = true
	if user != "" {
		r.Client = &auth.Client{Credential: auth.StaticCredential(u.Host, auth.Credential{Username: user, Password: password})}
	}
	return r
}

// fill pushes images, image indexes and referrers, and returns the digests of the tags by name.
func (o *otherRegistry) fill(t *testing.T, names []string, tags int) map[string]digest.Digest {
	t.Helper()
	var mu sync.Mutex
	var work sync.WaitGroup
	all := map[string]digest.Digest{}
	for _, name := range names {
		work.Go(func() {
			for i := range tags {
				tag := fmt.Sprintf("v%d", i)
				desc, err := o.push(t.Context(), name, tag, i)
				if err == nil && i%5 == 0 {
					err = o.attach(t, name, desc)
				}
				if err != nil {
					t.Errorf("%s:%s: %v", name, tag, err)
				}
				mu.Lock()
				all[name+":"+tag] = desc.Digest
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return all
}

// push pushes an image, or an image index of two.
func (o *otherRegistry) push(ctx context.Context, name, tag string, i int) (ocispec.Descriptor, error) {
	spec := push.ImageSpec{Labels: map[string]string{"i": fmt.Sprint(i)}}
	if i%4 != 0 {
		return o.registry.Push.Image(ctx, name, tag, spec)
	}
	one, err := o.registry.Push.Image(ctx, name, "", spec)
	spec.Architecture = "arm64"
	two, errTwo := o.registry.Push.Image(ctx, name, "", spec)
	if err := errors.Join(err, errTwo); err != nil {
		return one, err
	}
	return o.registry.Push.Index(ctx, name, tag, []ocispec.Descriptor{one, two}, nil)
}

// attach attaches something to a manifest, as oras and cosign do.
func (o *otherRegistry) attach(t *testing.T, name string, to ocispec.Descriptor) error {
	t.Helper()
	_, err := oras.PackManifest(t.Context(), repositoryAt(t, o.registry.URL, name, "reader", "marker-of-a-secret"),
		oras.PackManifestVersion1_1, "application/x.test", oras.PackManifestOptions{Subject: &to})
	return err
}

// Repositories of another registry are copied wholly, although requests fail and the program is
// killed; and a second run finds all of it there.
func TestImportRegistry(t *testing.T) {
	t.Parallel()
	f := launch(t)
	o := startOther(t)
	want := o.fill(t, []string{"team/app", "team/deep/er", "other/app"}, 40)
	f.settings = append(f.settings, "IMPORT_USERNAME=reader", "IMPORT_PASSWORD=marker-of-a-secret")
	args := []string{"import", "registry", o.url, "--include", "team/*", "--exclude", "*/none", "--to", "mirror/"}
	if out, err := f.run(append(args, "--dry-run")...); err != nil || !strings.Contains(out, "2 repositories") {
		t.Errorf("dry run: %v\n%s", err, out)
	}
	// It is killed twice, after a part of the requests; what it had copied stays.
	for range 2 {
		before := o.requests.Load()
		command := exec.Command(f.binary, args...)
		command.Env = f.environment()
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		within(t, patience, "a part was copied", func() bool { return o.requests.Load() > before+150 })
		_ = command.Process.Kill()
		_ = command.Wait()
	}
	o.failing.Store(30)
	out, err := f.run(args...)
	if err == nil || !strings.Contains(out, "not copied: team/") {
		t.Errorf("three in a hundred requests failed: %v\n%s", err, out)
	}
	o.failing.Store(0)
	if out, err = f.run(args...); err != nil || strings.Contains(out, "marker-of-a-secret") {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, d := range want {
		repository, tag, _ := strings.Cut(name, ":")
		if repository == "other/app" {
			continue
		}
		if err := same(t, repositoryAt(t, f.registry.URL, "mirror/"+repository, "", ""), tag, d); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out, err = f.run(args...); err != nil || !strings.Contains(out, " 0 copied") || !strings.Contains(out, "; 0 referrers") {
		t.Errorf("the second run: %v\n%s", err, out)
	}
	if _, err := repositoryAt(t, f.registry.URL, "mirror/other/app", "", "").Resolve(t.Context(), "v0"); err == nil {
		t.Error("a repository was copied that is not included")
	}
}

// same returns an error unless a repository has a tag with a digest, all that it names, and what is
// attached to it.
func same(t *testing.T, r *remote.Repository, tag string, want digest.Digest) error {
	t.Helper()
	desc, err := r.Resolve(t.Context(), tag)
	if err != nil {
		return err
	}
	if desc.Digest != want {
		return fmt.Errorf("it shows %s, want %s", desc.Digest, want)
	}
	var n int
	if _, err := fmt.Sscanf(tag, "v%d", &n); err == nil && n%5 == 0 {
		found := 0
		err := r.Referrers(t.Context(), desc, "", func(all []ocispec.Descriptor) error {
			found += len(all)
			return nil
		})
		if err != nil || found != 1 {
			return fmt.Errorf("%d referrers, %w", found, err)
		}
	}
	return whole(t, r, desc)
}

// whole reads all that a descriptor needs.
func whole(t *testing.T, r *remote.Repository, desc ocispec.Descriptor) error {
	t.Helper()
	if _, err := content.FetchAll(t.Context(), r, desc); err != nil {
		return err
	}
	below, err := content.Successors(t.Context(), r, desc)
	if err != nil {
		return err
	}
	for _, d := range below {
		if err := whole(t, r, d); err != nil {
			return err
		}
	}
	return nil
}

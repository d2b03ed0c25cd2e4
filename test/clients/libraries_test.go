package clients

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An account is a name with a password or a token; the zero account does not log in.
type account struct{ name, secret string }

// craneLogsIn pulls, pushes, mounts, lists and deletes with the library of crane, as alice,
// who may do all of that below team.
func craneLogsIn(t *testing.T, addr string, alice account) {
	t.Helper()
	as := func(a account) []crane.Option {
		options := []crane.Option{crane.Insecure, crane.WithContext(t.Context())}
		if a.name != "" {
			options = append(options, crane.WithAuth(&authn.Basic{Username: a.name, Password: a.secret}))
		}
		return options
	}
	image, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	works := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("crane: %s: %v", what, err)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "401") && !strings.Contains(strings.ToLower(err.Error()), "unauthorized") {
			t.Errorf("crane: %s: got %v, want it to be refused", what, err)
		}
	}
	works("push", crane.Push(image, addr+"/team/crane:1", as(alice)...))
	works("copy with mounts", crane.Copy(addr+"/team/crane:1", addr+"/team/mounted:2", as(alice)...))
	refused("push elsewhere", crane.Push(image, addr+"/other/crane:1", as(alice)...))
	refused("push with a wrong password", crane.Push(image, addr+"/team/crane:2", as(account{alice.name, "wrong"})...))
	_, err = crane.Digest(addr+"/team/crane:1", as(account{})...)
	refused("pull without a login", err)
	_, err = crane.Digest(addr+"/samples/lighthouse:0.3.0", as(account{})...)
	works("pull of what is public", err)
	digest, err := crane.Digest(addr+"/team/crane:1", as(alice)...)
	works("pull", err)
	eventually(t, func() error {
		names, err := crane.Catalog(addr, as(alice)...)
		if err == nil && !slices.Contains(names, "team/mounted") {
			err = io.EOF
		}
		return err
	})
	names, err := crane.Catalog(addr, as(account{})...)
	works("catalogue", err)
	if slices.ContainsFunc(names, func(n string) bool { return !strings.HasPrefix(n, "samples/") }) {
		t.Errorf("crane: without a login the catalogue has %q", names)
	}
	works("delete", crane.Delete(addr+"/team/crane@"+digest, as(alice)...))
}

// containerdLogsIn pulls and pushes with the resolver of containerd, which kubelet uses too.
// It asks for tokens by POST.
func containerdLogsIn(t *testing.T, addr string, alice account) {
	t.Helper()
	as := func(a account) remotes.Resolver {
		authorizer := docker.NewDockerAuthorizer(docker.WithAuthCreds(func(string) (string, string, error) { return a.name, a.secret, nil }))
		hosts := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts), docker.WithAuthorizer(authorizer))
		return docker.NewResolver(docker.ResolverOptions{Hosts: hosts, Headers: http.Header{}})
	}
	push := func(a account, reference, text string) error { return pushIndex(t, as(a), reference, text) }
	pull := func(a account, reference string) error { return pullIndex(t, as(a), reference) }
	for _, c := range []struct {
		what  string
		err   error
		works bool
	}{
		{"push", push(alice, addr+"/team/containerd:1", "1"), true},
		{"pull", pull(alice, addr+"/team/containerd:1"), true},
		{"pull without a login", pull(account{}, addr+"/team/containerd:1"), false},
		{"pull with a wrong password", pull(account{alice.name, "wrong"}, addr+"/team/containerd:1"), false},
		{"pull of what is public", pull(account{}, addr+"/samples/harbour:1.1"), true},
		{"push elsewhere", push(alice, addr+"/other/containerd:1", "2"), false},
	} {
		if (c.err == nil) != c.works {
			t.Errorf("containerd: %s: got %v, want it to work: %v", c.what, c.err, c.works)
		}
	}
}

// pushIndex pushes an index without manifests, which is made from a text.
func pushIndex(t *testing.T, r remotes.Resolver, reference, text string) error {
	t.Helper()
	pusher, err := r.Pusher(t.Context(), reference)
	if err != nil {
		return err
	}
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[],"annotations":{"n":"` + text + `"}}`)
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: godigest.FromBytes(raw), Size: int64(len(raw))}
	w, err := pusher.Push(t.Context(), d)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(raw); err != nil {
		return err
	}
	return w.Commit(t.Context(), d.Size, d.Digest)
}

// pullIndex pulls a manifest or an index.
func pullIndex(t *testing.T, r remotes.Resolver, reference string) error {
	t.Helper()
	_, d, err := r.Resolve(t.Context(), reference)
	if err != nil {
		return err
	}
	fetcher, err := r.Fetcher(t.Context(), reference)
	if err != nil {
		return err
	}
	f, err := fetcher.Fetch(t.Context(), d)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

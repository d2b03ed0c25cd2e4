package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/portbook/portbook/indexer/access/accesstest"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// delegating starts a fleet in which an API decides, by rights, who may use the registry and
// the book.
func delegating(t *testing.T, rights map[string]string, settings ...string) (*fleet, *indexerProcess, *accesstest.API) {
	t.Helper()
	server := accesstest.New(t, rights)
	f := launchWith(t, func(f *fleet) registrytest.ProcessConfig {
		keys := filepath.Join(f.dir, "keys.json")
		f.settings = []string{"PORTBOOK_AUTH_DELEGATE_URL=" + server.URL, "PORTBOOK_AUTH_KEYS=" + keys,
			"PORTBOOK_COMPONENTS_REGISTRY_PROXY=true", "PORTBOOK_REGISTRY_PUBLIC_URL=http://" + f.address}
		f.settings = append(f.settings, settings...)
		f.must("keys", "rotate", keys)
		jwks := filepath.Join(f.dir, "jwks.json")
		if err := os.WriteFile(jwks, []byte(f.must("keys", "public", keys)), 0o644); err != nil {
			t.Fatal(err)
		}
		return registrytest.ProcessConfig{File: "token.yml", Env: []string{
			"REGISTRY_AUTH_TOKEN_REALM=http://" + f.address + "/auth/token", "REGISTRY_AUTH_TOKEN_JWKS=" + jwks,
		}}
	})
	return f, f.indexer(f.address), server
}

// With an API that decides, clients may do in the registry what it says of their projects, and
// see these in the book.
func TestDelegatedRegistry(t *testing.T) {
	t.Parallel()
	field := func(secret string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte("a:"+secret)) }
	f, i, server := delegating(t, map[string]string{
		field("all"): "acme:push acme:pull other:push", field("ro"): "acme:pull", field("none"): "",
	})
	ctx := t.Context()
	everyone := map[string]*auth.Client{
		"all": login("a", "all"), "ro": login("a", "ro"), "none": login("a", "none"), "wrong": login("a", "wrong"), "nobody": login("", ""),
	}
	const index = "application/vnd.oci.image.index.v1+json"
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	d := content.NewDescriptorFromBytes(index, raw)
	for _, name := range []string{"acme/app", "other/team/app"} {
		if err := i.oras(t, name, everyone["all"]).Manifests().PushReference(ctx, d, bytes.NewReader(raw), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ who, pulls, pushes string }{
		{"all", "acme/app other/team/app", "acme/app other/team/app"}, {"ro", "acme/app", ""}, {"none", "", ""}, {"wrong", "", ""}, {"nobody", "", ""},
	} {
		for _, name := range []string{"acme/app", "other/team/app", "acme"} {
			repository := i.oras(t, name, everyone[c.who])
			_, err := repository.Resolve(ctx, "v1")
			allowed(t, c.who+" pulls "+name, err, slices.Contains(strings.Fields(c.pulls), name))
			err = repository.Manifests().PushReference(ctx, d, bytes.NewReader(raw), "tmp")
			allowed(t, c.who+" pushes "+name, err, slices.Contains(strings.Fields(c.pushes), name))
		}
		if c.who != "all" {
			allowed(t, c.who+" deletes", i.oras(t, "acme/app", everyone[c.who]).Manifests().Delete(ctx, d), false)
		}
	}
	f.equal(patience)
	for secret, want := range map[string]string{"all": "acme/app other/team/app", "ro": "acme/app", "none": ""} {
		code, _, text := i.get(t, "/v1/search?q=app&n=100", "a", secret)
		var found struct{ Results []struct{ Name string } }
		if err := json.Unmarshal([]byte(text), &found); err != nil || code != http.StatusOK {
			t.Fatalf("search as %q: %d %s", secret, code, text)
		}
		var names []string
		for _, r := range found.Results {
			names = append(names, r.Name)
		}
		if slices.Sort(names); strings.Join(names, " ") != want {
			t.Errorf("search as %q finds %q, want %q", secret, names, want)
		}
		// The catalogue, by the way of a registry's client.
		registry, err := remote.NewRegistry(i.address)
		if err != nil {
			t.Fatal(err)
		}
		registry.PlainHTTP, registry.Client, registry.RepositoryListPageSize = true, login("a", secret), 1
		var listed []string
		err = registry.Repositories(ctx, "", func(page []string) error { listed = append(listed, page...); return nil })
		if err != nil || strings.Join(listed, " ") != want {
			t.Errorf("catalogue as %q: %q, %v, want %q", secret, listed, err, want)
		}
	}
	if code, _, _ := i.get(t, "/v1/search?q=app", "", ""); code != http.StatusUnauthorized {
		t.Errorf("search without a login: %d", code)
	}
	if log := i.log.String(); !strings.Contains(log, "method=delegated") || strings.Contains(log, field("all")) {
		t.Errorf("the log does not tell the method, or tells a login:\n%s", log)
	}

	// A hundred at once are one question to the API each: who it is, and what it may do.
	server.Forget()
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			if code, _, text := i.get(t, "/auth/token?scope=repository:new/app:pull", "a", "ro"); code != http.StatusOK {
				t.Errorf("a token: %d %s", code, text)
			}
		})
	}
	group.Wait()
	for question, n := range server.Called() {
		if n != 1 {
			t.Errorf("100 at once have asked %q %d times", question, n)
		}
	}

	// A right that has not been taken away, and the API is away: what is known is used.
	server.Answers(func(w http.ResponseWriter, _ string) { http.Error(w, "away", http.StatusBadGateway) })
	if code, _, text := i.get(t, "/auth/token?scope=repository:new/app:pull", "a", "ro"); code != http.StatusOK {
		t.Errorf("a known client while the API is away: %d %s", code, text)
	}
	if code, _, text := i.get(t, "/auth/token?scope=repository:acme/app:pull", "a", "new"); code != http.StatusUnauthorized {
		t.Errorf("an unknown client while the API is away: %d %s", code, text)
	}
}

// skopeo logs in with what it has for the API.
func TestDelegatedSkopeo(t *testing.T) {
	t.Parallel()
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("skopeo is not installed: apt-get install skopeo")
		}
		t.Skip("skopeo is not installed")
	}
	field := func(secret string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte("a:"+secret)) }
	_, i, _ := delegating(t, map[string]string{field("all"): "acme:push", field("ro"): "acme:pull"})
	source := registrytest.StartProcess(t, registrytest.ProcessConfig{})
	if _, err := source.Push.Image(t.Context(), "src/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	from, to := "docker://"+strings.TrimPrefix(source.URL, "http://")+"/src/app:v1", "docker://"+i.address+"/acme/app:v1"
	dir := filepath.Join(t.TempDir(), "oci")
	auths := filepath.Join(t.TempDir(), "auth.json") // of this test, not of whoever runs it
	for _, c := range []struct {
		args string
		want bool
	}{
		{"copy --dest-creds a:ro " + from + " " + to, false},
		{"copy --dest-creds a:wrong " + from + " " + to, false},
		{"copy " + from + " " + to, false},
		{"copy --dest-creds a:all " + from + " " + to, true},
		{"copy --src-creds a:ro " + to + " oci:" + dir, true},
		{"copy " + to + " oci:" + dir, false},
		{"list-tags --creds a:ro " + strings.TrimSuffix(to, ":v1"), true},
		{"delete --creds a:ro " + to, false},
		{"login -u a -p ro " + i.address, true},
		{"login -u a -p wrong " + i.address, false},
		{"inspect --creds a:all " + to, true},
		{"delete --creds a:all " + to, true},
	} {
		args := strings.Fields(strings.NewReplacer("copy ", "copy --src-tls-verify=false --dest-tls-verify=false ", "login ", "login --tls-verify=false ",
			"list-tags ", "list-tags --tls-verify=false ", "delete ", "delete --tls-verify=false ", "inspect ", "inspect --tls-verify=false ").Replace(c.args))
		cmd := exec.CommandContext(t.Context(), skopeo, args...)
		cmd.Env = append(os.Environ(), "REGISTRY_AUTH_FILE="+auths)
		out, err := cmd.CombinedOutput()
		if refused := strings.Contains(string(out), "unauthorized") || strings.Contains(string(out), "denied") ||
			strings.Contains(string(out), "authentication required") || strings.Contains(string(out), "invalid username/password"); (err == nil) != c.want || refused == c.want {
			t.Errorf("skopeo %s: %v, want it to be allowed: %v\n%s", c.args, err, c.want, out)
		}
	}
}

//go:build unix

// Package config_test starts the real registry with each configuration, pushes an
// image, reads it back, and checks the events that the indexer receives.
package config_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

const (
	repository = "demo/app"
	token      = "for the indexer"
)

func TestFilesystem(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	p := start(t, receiver, "filesystem.yml")
	checkPush(t, p.Push, receiver)
	checkDelete(t, p.Push, receiver)
	if blobs, err := os.ReadDir(filepath.Join(p.Root, "docker/registry/v2/blobs/sha256")); err != nil || len(blobs) == 0 {
		t.Errorf("got %d blobs in the root directory, %v", len(blobs), err)
	}
	if strings.Contains(p.Log(), token) {
		t.Errorf("the log contains the indexer's token:\n%s", p.Log())
	}
	if !strings.Contains(p.Log(), "PUT /v2/"+repository+"/manifests/v1") {
		t.Errorf("the log has no line for the push:\n%s", p.Log())
	}
}

func TestHtpasswd(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	write(t, path, append([]byte("indexer:"), hash...))
	receiver := registrytest.NewReceiver(t)
	p := start(t, receiver, "htpasswd.yml", "REGISTRY_AUTH_HTPASSWD_PATH="+path)

	wantStatus(t, http.StatusUnauthorized, pushErr(t, p.Push))
	p.Push.User, p.Push.Password = "indexer", "correct horse"
	if e := checkPush(t, p.Push, receiver); e.Actor.Name != "indexer" {
		t.Errorf("got actor %q, want indexer", e.Actor.Name)
	}
}

// A second registry on the same directory, read-only, without notifications or
// cache, shows the content of the first, notices its deletions, and refuses writes.
func TestReadonly(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	p := start(t, receiver, "filesystem.yml")
	second := registrytest.StartProcess(t, registrytest.ProcessConfig{
		Root: p.Root, Env: []string{
			"REGISTRY_STORAGE_MAINTENANCE_READONLY={enabled: true}",
			`REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR=""`,
		},
	})
	checkPush(t, p.Push, receiver)
	checkSeesDelete(t, p.Push, second.Push)
	wantStatus(t, http.StatusMethodNotAllowed, pushErr(t, second.Push))
}

// checkSeesDelete reads a manifest by digest from one registry, deletes it from
// another on the same storage, and reads again.
func checkSeesDelete(t *testing.T, writer, reader *push.Client) {
	t.Helper()
	desc, _, err := reader.Fetch(t.Context(), repository, "v1")
	if err != nil {
		t.Fatal(err)
	}
	reference := desc.Digest.String()
	if _, _, err := reader.Fetch(t.Context(), repository, reference); err != nil {
		t.Fatal(err)
	}
	if err := writer.Delete(t.Context(), repository, reference); err != nil {
		t.Fatal(err)
	}
	_, _, err = reader.Fetch(t.Context(), repository, reference)
	wantStatus(t, http.StatusNotFound, err)
}

// Variables set the endpoint in each way that filesystem.yml describes.
func TestEndpointByEnvironment(t *testing.T) {
	t.Parallel()
	tests := map[string]func(url string) []string{
		"field and header map": func(url string) []string {
			return []string{
				"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=" + url,
				`REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={Authorization: ["Bearer ` + token + `"]}`,
			}
		},
		"single header": func(url string) []string {
			return []string{
				"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=" + url,
				`REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS_AUTHORIZATION=["Bearer ` + token + `"]`,
			}
		},
		"whole list": func(url string) []string {
			return []string{`REGISTRY_NOTIFICATIONS_ENDPOINTS=[{name: indexer, url: "` + url +
				`", timeout: 5s, headers: {Authorization: ["Bearer ` + token + `"]}, ignore: {mediatypes: [application/octet-stream]}}]`}
		},
	}
	for name, env := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := registrytest.NewReceiver(t)
			p := registrytest.StartProcess(t, registrytest.ProcessConfig{
				Env: append(env(receiver.URL), "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_DISABLED=false"),
			})
			checkPush(t, p.Push, receiver)
		})
	}
}

// Variables add an endpoint and turn on that of pulls, which gets nothing else.
func TestMoreEndpointsAndPulls(t *testing.T) {
	t.Parallel()
	first, pulls, third := registrytest.NewReceiver(t), registrytest.NewReceiver(t), registrytest.NewReceiver(t)
	p := start(t, first, "filesystem.yml",
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_1_DISABLED=false",
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_1_URL="+pulls.URL,
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_2_NAME=third",
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_2_URL="+third.URL)
	if err := pushErr(t, p.Push); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Push.Fetch(t.Context(), repository, "v1"); err != nil {
		t.Fatal(err)
	}
	e := pulls.Wait(t, "any", func(registrytest.Event) bool { return true })
	if e.Action != "pull" {
		t.Errorf("the endpoint of pulls got a %s", e.Action)
	}
	e = first.Wait(t, "any", func(registrytest.Event) bool { return true })
	if e.Action != "push" {
		t.Errorf("the first endpoint got a %s", e.Action)
	}
	third.Wait(t, "push", tagged("v1"))
}

// REGISTRY_HTTP_DEBUG_ADDR alone starts the debug listener, which has the metric that
// doc/registry.md says to watch.
func TestMetrics(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	debug := registrytest.FreeAddr(t)
	p := start(t, receiver, "filesystem.yml", "REGISTRY_HTTP_DEBUG_ADDR="+debug)
	checkPush(t, p.Push, receiver)
	metrics := get(t, "http://"+debug+"/metrics")
	if want := `registry_notifications_pending_total{endpoint="indexer"} `; !strings.Contains(metrics, want) {
		t.Errorf("got no metric %s in\n%s", want, metrics)
	}
}

// All repositories fit on one page of the catalog. Distribution v3.1.2 breaks the
// connection if a page ends between a/0 and its parent a.
func TestCatalog(t *testing.T) {
	t.Parallel()
	p := registrytest.StartProcess(t, registrytest.ProcessConfig{})
	for _, name := range []string{"a", "a/0"} {
		if _, err := p.Push.Image(t.Context(), name, "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"repositories":["a/0","a"]}` // in the order of a directory walk
	if got := get(t, p.URL+"/v2/_catalog?n=100000"); strings.TrimSpace(got) != want {
		t.Errorf("got catalog %s, want %s", got, want)
	}
}

// All files agree in the settings that they share, because only filesystem.yml
// explains them. No key is misspelt, because the registry ignores unknown keys.
func TestFilesAgree(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.yml")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"filesystem.yml", "htpasswd.yml", "redis.yml", "s3.yml", "token.yml"}; !slices.Equal(files, want) {
		t.Fatalf("got files %q, want %q: add a test for a new file", files, want)
	}
	want := shared(t, "filesystem.yml")
	for _, file := range files {
		if diff := cmp.Diff(want, shared(t, file)); diff != "" {
			t.Errorf("%s differs from filesystem.yml (-want +got):\n%s", file, diff)
		}
	}
}

// shared returns the settings of a file that all files share.
func shared(t *testing.T, file string) configuration.Configuration {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c configuration.Configuration
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	c.Auth, c.Redis = nil, configuration.Redis{}
	for _, own := range []string{c.Storage.Type(), "cache", "redirect"} {
		delete(c.Storage, own)
	}
	return c
}

// start starts the real registry with a file of this directory and receiver as its
// endpoint.
func start(t *testing.T, receiver *registrytest.Receiver, file string, env ...string) *registrytest.Process {
	t.Helper()
	return registrytest.StartProcess(t, registrytest.ProcessConfig{
		File: file, Notify: receiver.URL, Token: token, Env: env,
	})
}

// checkPush pushes an image, reads it and its layer back, and returns the event of
// the push. The event has the token, and no blob has an event.
func checkPush(t *testing.T, c *push.Client, receiver *registrytest.Receiver) registrytest.Event {
	t.Helper()
	content := []byte("a layer")
	desc, err := c.Image(t.Context(), repository, "v1", push.ImageSpec{Layers: [][]byte{content}})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := c.Fetch(t.Context(), repository, "v1")
	if err != nil || got.Digest != desc.Digest {
		t.Fatalf("fetched %v, %v, want %v", got, err, desc)
	}
	blob, err := c.Blob(t.Context(), repository, content) // pushed already; returns the digest
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.FetchBlob(t.Context(), repository, blob.Digest); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("fetched layer %q, %v", got, err)
	}
	e := receiver.Wait(t, "push", tagged("v1"))
	if want := []string{"Bearer " + token}; !slices.Equal(e.Authorization, want) {
		t.Errorf("got Authorization %q, want %q", e.Authorization, want)
	}
	checkNoBlobs(t, receiver)
	return e
}

// checkNoBlobs checks that no event so far is about a blob. Events are sent in order,
// so those of blobs would have come before that of their manifest.
func checkNoBlobs(t *testing.T, receiver *registrytest.Receiver) {
	t.Helper()
	for _, e := range receiver.Events() {
		if e.Target.MediaType == "application/octet-stream" {
			t.Errorf("unexpected event for a blob: %+v", e)
		}
	}
}

// checkDelete deletes the image that checkPush pushed and waits for the event. It has
// no media type, so the ignored media types do not stop it.
func checkDelete(t *testing.T, c *push.Client, receiver *registrytest.Receiver) {
	t.Helper()
	desc, _, err := c.Fetch(t.Context(), repository, "v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), repository, desc.Digest.String()); err != nil {
		t.Fatal(err)
	}
	receiver.Wait(t, "delete", func(e registrytest.Event) bool {
		return e.Action == "delete" && e.Target.Digest == desc.Digest.String()
	})
}

func tagged(tag string) func(registrytest.Event) bool {
	return func(e registrytest.Event) bool { return e.Action == "push" && e.Target.Tag == tag }
}

func pushErr(t *testing.T, c *push.Client) error {
	_, err := c.Image(t.Context(), repository, "v1", push.ImageSpec{})
	return err
}

func wantStatus(t *testing.T, want int, err error) {
	t.Helper()
	var refused *push.Error
	if !errors.As(err, &refused) || refused.Status != want {
		t.Errorf("got %v, want status %d", err, want)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

package push_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

const repository = "demo/app"

// FetchBlob returns what Blob pushed, and a second Blob sends nothing.
func TestBlob(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	data := []byte("cargo")
	desc, err := r.Push.Blob(t.Context(), repository, data)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Push.FetchBlob(t.Context(), repository, desc.Digest); err != nil || !bytes.Equal(got, data) {
		t.Errorf("fetched %q, %v", got, err)
	}
	c := *r.Push
	c.HTTP = &http.Client{Transport: refuse("POST")}
	again, err := c.Blob(t.Context(), repository, data)
	if err != nil || again.Digest != desc.Digest {
		t.Errorf("second push: got %v, %v, want %v without an upload", again, err, desc)
	}
}

// refuse is a transport that fails all requests with one method.
type refuse string

func (method refuse) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == string(method) {
		return nil, errors.New("unexpected " + r.Method)
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestImage(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	spec := push.ImageSpec{
		OS: "linux", Architecture: "arm", Variant: "v7", Created: created,
		Labels:      map[string]string{"org.opencontainers.image.title": "App"},
		Annotations: map[string]string{"org.opencontainers.image.version": "1"},
		Env:         []string{"A=b"}, Entrypoint: []string{"/app"}, Cmd: []string{"-v"},
		ExposedPorts: []string{"80/tcp"},
		History:      []ocispec.History{{CreatedBy: "COPY app /"}},
		Files:        map[string]string{"app": "#!/bin/sh\n", "etc/app": "x"},
		Layers:       [][]byte{[]byte("a layer as it is")},
	}
	r := registrytest.Start(t, registrytest.Config{})
	desc, manifest, image := pushAndFetch(t, r.Push, spec)

	if desc.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("media type %q", desc.MediaType)
	}
	if p := desc.Platform; p == nil || p.Architecture != "arm" || p.Variant != "v7" {
		t.Errorf("descriptor's platform %+v", p)
	}
	if image.Platform.Variant != "v7" || !image.Created.Equal(created) || image.Config.Labels["org.opencontainers.image.title"] != "App" {
		t.Errorf("config %+v", image)
	}
	if manifest.Annotations["org.opencontainers.image.version"] != "1" {
		t.Errorf("annotations %v", manifest.Annotations)
	}
	types := []string{manifest.Layers[0].MediaType, manifest.Layers[1].MediaType}
	if want := []string{ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayer}; !slices.Equal(types, want) {
		t.Errorf("got layers %q, want %q", types, want)
	}
	if got, want := image.RootFS.DiffIDs[1], digest.FromString("a layer as it is"); got != want {
		t.Errorf("layer without gzip: got diff ID %s, want its digest %s", got, want)
	}
}

// The layer holds the files, including one that needs several stored blocks, and the
// diff ID is the digest of the uncompressed layer.
func TestImageFiles(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	files := map[string]string{"small": "a", "large": strings.Repeat("0123456789", 20_000), "empty": ""}
	_, manifest, image := pushAndFetch(t, r.Push, push.ImageSpec{Files: files})
	layer, err := r.Push.FetchBlob(t.Context(), repository, manifest.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	unzipped := unzip(t, layer)
	if got, want := image.RootFS.DiffIDs[0], digest.FromBytes(unzipped); got != want {
		t.Errorf("got diff ID %s, want %s", got, want)
	}
	if got := untar(t, unzipped); !maps.Equal(got, files) {
		t.Errorf("got %d files in the layer, which differ from the %d of the spec", len(got), len(files))
	}
}

// The zero ImageSpec is a valid image.
func TestImageZero(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	_, manifest, image := pushAndFetch(t, r.Push, push.ImageSpec{})
	if image.OS != "linux" || image.Architecture != "amd64" || !image.Created.Equal(time.Unix(0, 0)) {
		t.Errorf("config %+v", image)
	}
	if manifest.Layers == nil {
		t.Error("got null for layers, want an empty list")
	}
}

func TestImageDocker(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	desc, manifest, _ := pushAndFetch(t, r.Push, push.ImageSpec{Docker: true, Files: map[string]string{"a": "b"}})
	got := []string{desc.MediaType, manifest.MediaType, manifest.Config.MediaType, manifest.Layers[0].MediaType}
	want := []string{push.DockerManifest, push.DockerManifest, push.DockerConfig, push.DockerLayerGzip}
	if !slices.Equal(got, want) {
		t.Errorf("got media types %q, want %q", got, want)
	}
}

// RawConfig is pushed unchanged, even if it is not valid JSON.
func TestImageRawConfig(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	raw := []byte(`{"created": "yesterday", "config": []`)
	desc, err := r.Push.Image(t.Context(), repository, "v1", push.ImageSpec{RawConfig: raw, Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	var manifest ocispec.Manifest
	fetch(t, r.Push, desc.Digest.String(), &manifest)
	if got, err := r.Push.FetchBlob(t.Context(), repository, manifest.Config.Digest); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("got config %q, %v, want %q", got, err, raw)
	}
}

// The same input gives the same digest.
func TestImageDigest(t *testing.T) {
	t.Parallel()
	spec := push.ImageSpec{
		Labels: map[string]string{"c": "d", "a": "b"},
		Files:  map[string]string{"z": "1", "y": "2", "x": "3"},
	}
	var digests []digest.Digest
	for range 2 {
		desc, err := registrytest.Start(t, registrytest.Config{}).Push.Image(t.Context(), repository, "v1", spec)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, desc.Digest)
	}
	// If this digest changes, the digests of all samples change.
	const want = digest.Digest("sha256:5b0b039e86ed9f1ad5e38a11db2b7830e9ba244b39befb03384b255e6b63149f")
	if digests[0] != digests[1] || digests[0] != want {
		t.Errorf("got digests %q, want %q twice", digests, want)
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	children := platforms(t, r.Push, push.ImageSpec{})
	desc, err := r.Push.Index(t.Context(), repository, "v1", children, map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	fetch(t, r.Push, desc.Digest.String(), &index)
	if index.MediaType != ocispec.MediaTypeImageIndex || index.Annotations["a"] != "b" {
		t.Errorf("index %+v", index)
	}
	if len(index.Manifests) != 2 || index.Manifests[1].Platform.Architecture != "arm64" {
		t.Errorf("manifests %+v", index.Manifests)
	}
}

func TestDockerList(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	children := platforms(t, r.Push, push.ImageSpec{Docker: true})
	if _, err := r.Push.DockerList(t.Context(), repository, "v1", children); err != nil {
		t.Fatal(err)
	}
	if desc := fetch(t, r.Push, "v1", new(ocispec.Index)); desc.MediaType != push.DockerManifestList {
		t.Errorf("media type %q", desc.MediaType)
	}
}

// An artifact has its type and its subject; the subject has no platform.
func TestArtifact(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	image, err := r.Push.Image(t.Context(), repository, "v1", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	desc, err := r.Push.Artifact(t.Context(), repository, "", push.ArtifactSpec{
		ArtifactType: "application/spdx+json",
		Subject:      &image,
		Layers:       []push.Blob{{MediaType: "application/spdx+json", Data: []byte("{}"), Annotations: map[string]string{"a": "b"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var manifest ocispec.Manifest
	fetch(t, r.Push, desc.Digest.String(), &manifest)
	if manifest.ArtifactType != "application/spdx+json" || manifest.Config.MediaType != ocispec.MediaTypeEmptyJSON {
		t.Errorf("manifest %+v", manifest)
	}
	if s := manifest.Subject; s == nil || s.Digest != image.Digest || s.Platform != nil {
		t.Errorf("got subject %+v, want %s without platform", s, image.Digest)
	}
	if manifest.Layers[0].Annotations["a"] != "b" {
		t.Errorf("layers %+v", manifest.Layers)
	}
}

// An artifact may be pushed before its subject, and without layers.
func TestArtifactEmpty(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 6}
	desc, err := r.Push.Artifact(t.Context(), repository, "", push.ArtifactSpec{ArtifactType: "a/b", Subject: &subject})
	if err != nil {
		t.Fatal(err)
	}
	var manifest ocispec.Manifest
	fetch(t, r.Push, desc.Digest.String(), &manifest)
	if len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != ocispec.MediaTypeEmptyJSON {
		t.Errorf("got layers %+v, want one empty layer", manifest.Layers)
	}
}

// Deleting a tag keeps the manifest; deleting the manifest removes it.
func TestDelete(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	desc, err := r.Push.Image(t.Context(), repository, "v1", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Push.Delete(t.Context(), repository, "v1"); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, http.StatusNotFound, fetchErr(t, r.Push, "v1"))
	if err := fetchErr(t, r.Push, desc.Digest.String()); err != nil {
		t.Errorf("manifest after its tag is deleted: %v", err)
	}
	if err := r.Push.Delete(t.Context(), repository, desc.Digest.String()); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, http.StatusNotFound, fetchErr(t, r.Push, desc.Digest.String()))
}

// The text of an Error has the operation, the status and the first 300 bytes of the
// answer.
func TestError(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, strings.Repeat("x", 1000), http.StatusTeapot)
	}))
	t.Cleanup(server.Close)
	_, err := push.New(server.URL).Manifest(t.Context(), repository, "v1", ocispec.MediaTypeImageManifest, []byte("{}"))
	wantStatus(t, http.StatusTeapot, err)
	want := `put manifest "demo/app" "v1": status 418: ` + strings.Repeat("x", 300)
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// An endless answer is an error.
func TestAnswerLimit(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	_, _, err := push.New(server.URL).Fetch(t.Context(), repository, "v1")
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v, want an error about the size", err)
	}
}

// The client sends no password after a redirect to another host or port.
func TestRedirect(t *testing.T) {
	t.Parallel()
	data := []byte("cargo")
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			http.Error(w, "the redirected request has an Authorization header", http.StatusBadRequest)
			return
		}
		w.Write(data)
	}))
	t.Cleanup(storage.Close)
	front := httptest.NewServer(http.RedirectHandler(storage.URL, http.StatusTemporaryRedirect))
	t.Cleanup(front.Close)
	c := push.New(front.URL)
	c.User, c.Password = "u", "p"
	if got, err := c.FetchBlob(t.Context(), repository, digest.FromBytes(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Push.Blob(ctx, repository, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// platforms pushes an image for each of two architectures.
func platforms(t *testing.T, c *push.Client, spec push.ImageSpec) []ocispec.Descriptor {
	t.Helper()
	var descs []ocispec.Descriptor
	for _, spec.Architecture = range []string{"amd64", "arm64"} {
		desc, err := c.Image(t.Context(), repository, "", spec)
		if err != nil {
			t.Fatal(err)
		}
		descs = append(descs, desc)
	}
	return descs
}

// pushAndFetch pushes an image by tag and returns its descriptor, and its manifest
// and config as the registry has them.
func pushAndFetch(t *testing.T, c *push.Client, spec push.ImageSpec) (ocispec.Descriptor, ocispec.Manifest, ocispec.Image) {
	t.Helper()
	desc, err := c.Image(t.Context(), repository, "v1", spec)
	if err != nil {
		t.Fatal(err)
	}
	var manifest ocispec.Manifest
	if got := fetch(t, c, "v1", &manifest); got.Digest != desc.Digest || got.Size != desc.Size {
		t.Errorf("fetched %+v, want %+v", got, desc)
	}
	raw, err := c.FetchBlob(t.Context(), repository, manifest.Config.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var image ocispec.Image
	if err := json.Unmarshal(raw, &image); err != nil {
		t.Fatal(err)
	}
	return desc, manifest, image
}

// fetch decodes a manifest or index into v and returns its descriptor.
func fetch(t *testing.T, c *push.Client, reference string, v any) ocispec.Descriptor {
	t.Helper()
	desc, body, err := c.Fetch(t.Context(), repository, reference)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatal(err)
	}
	return desc
}

func fetchErr(t *testing.T, c *push.Client, reference string) error {
	_, _, err := c.Fetch(t.Context(), repository, reference)
	return err
}

func wantStatus(t *testing.T, want int, err error) {
	t.Helper()
	var refused *push.Error
	if !errors.As(err, &refused) || refused.Status != want {
		t.Errorf("got %v, want status %d", err, want)
	}
}

func unzip(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return unzipped
}

func untar(t *testing.T, b []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		header, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content)
	}
}

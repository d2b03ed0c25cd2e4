package ingest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// A hostileCase is hostile content. It is pushed as the tag "bad" of a repository of its
// own, which also has a good image.
type hostileCase struct {
	name    string
	push    func(ctx context.Context, c *push.Client, repository string) error
	check   func(t *testing.T, h *harness, repository string, m indexer.Manifest)
	problem string // expected problem of the tag; "" for none
}

// config returns a function that pushes an image with a config, unchanged.
func config(body string) func(context.Context, *push.Client, string) error {
	return func(ctx context.Context, c *push.Client, repository string) error {
		_, err := c.Image(ctx, repository, "bad", push.ImageSpec{RawConfig: []byte(body)})
		return err
	}
}

// manifest returns a function that pushes an image manifest. The descriptors of an
// existing config and layer replace CONFIG and LAYER in the text.
func manifest(text string) func(context.Context, *push.Client, string) error {
	return func(ctx context.Context, c *push.Client, repository string) error {
		_, err := put(ctx, c, repository, "bad", text)
		return err
	}
}

func put(ctx context.Context, c *push.Client, repository, reference, text string) (ocispec.Descriptor, error) {
	config, err := c.Blob(ctx, repository, []byte(`{"os":"linux","architecture":"amd64","config":{"Labels":{"kept":"yes"}}}`))
	if err != nil {
		return config, err
	}
	layer, err := c.Blob(ctx, repository, []byte("layer"))
	if err != nil {
		return layer, err
	}
	text = strings.NewReplacer(
		"CONFIG", fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, ocispec.MediaTypeImageConfig, config.Digest, config.Size),
		"LAYER", layer.Digest.String(),
	).Replace(text)
	return c.Manifest(ctx, repository, reference, ocispec.MediaTypeImageManifest, []byte(text))
}

// index returns a function that pushes an image index. The digests of two images
// replace A and B in the text.
func index(text string) func(context.Context, *push.Client, string) error {
	return func(ctx context.Context, c *push.Client, repository string) error {
		a, err := c.Image(ctx, repository, "", push.ImageSpec{Env: []string{"A=1"}})
		if err != nil {
			return err
		}
		b, err := c.Image(ctx, repository, "", push.ImageSpec{Env: []string{"B=1"}})
		if err != nil {
			return err
		}
		text := strings.NewReplacer("DIGEST_A", a.Digest.String(), "DIGEST_B", b.Digest.String()).Replace(text)
		_, err = c.Manifest(ctx, repository, "bad", ocispec.MediaTypeImageIndex, []byte(text))
		return err
	}
}

func labels(want map[string]string) func(*testing.T, *harness, string, indexer.Manifest) {
	return func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
		if diff := cmp.Diff(want, m.Labels); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
	}
}

func platform(want string) func(*testing.T, *harness, string, indexer.Manifest) {
	return func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
		if got := m.Platform.String(); got != want || m.Kind != indexer.KindImage {
			t.Errorf("got %s of platform %q, want an image of %q", m.Kind, got, want)
		}
	}
}

func entries(want ...string) func(*testing.T, *harness, string, indexer.Manifest) {
	return func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
		var got []string
		for _, e := range m.Entries {
			got = append(got, fmt.Sprintf("%s present=%v", e.Platform, e.Present))
		}
		if diff := cmp.Diff(want, got); diff != "" || m.Kind != indexer.KindIndex {
			t.Errorf("entries of %s (-want +got):\n%s", m.Kind, diff)
		}
	}
}

// manyEntries returns n entries of an index, each with a different digest, platform and
// media type.
func manyEntries(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"mediaType":"text/x%d","digest":%q,"size":1,"platform":{"os":"os%d","architecture":"x"}}`, i, digest.FromString(fmt.Sprint(i)), i))
	}
	return strings.Join(all, ",")
}

// largeEntries returns n entries, each with an annotation of size bytes.
func largeEntries(n, size int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"mediaType":"text/x","digest":%q,"size":1,"annotations":{"a":%q}}`, digest.FromString(fmt.Sprint(i)), strings.Repeat("x", size)))
	}
	return strings.Join(all, ",")
}

// padded returns a text with spaces at its end, n bytes in all.
func padded(text string, n int) string {
	sample := ocispec.Descriptor{Digest: digest.FromString(""), Size: 72}
	length := len(strings.NewReplacer(
		"CONFIG", fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, ocispec.MediaTypeImageConfig, sample.Digest, sample.Size),
		"LAYER", sample.Digest.String(),
	).Replace(text))
	return text + strings.Repeat(" ", n-length)
}

const plainLayer = `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"LAYER","size":5}`

var hostileCases = []hostileCase{
	{name: "labels that are not strings", problem: `the label "n" is not a string`,
		push:  config(`{"os":"linux","architecture":"amd64","config":{"Labels":{"n":7,"o":{"a":[1]},"nil":null,"t":true,"ok":"yes"}}}`),
		check: labels(map[string]string{"n": "7", "o": `{"a":[1]}`, "t": "true", "ok": "yes"})},
	{name: "labels are a list", problem: "the labels are not an object",
		push: config(`{"os":"linux","architecture":"amd64","config":{"Labels":["a"]}}`), check: platform("linux/amd64")},
	{name: "NUL in labels",
		push:  config(`{"os":"li\u0000nux","author":"\u0000","config":{"Labels":{"k\u0000":"v\u0000","back\\u0000":"slash"}}}`),
		check: labels(map[string]string{"k\uFFFD": "v\uFFFD", `back\u0000`: "slash"})},
	{name: "invalid UTF-8",
		push:  config("{\"os\":\"linux\",\"config\":{\"Labels\":{\"k\":\"a\xff\xfeb\"}}}"),
		check: labels(map[string]string{"k": "a\uFFFDb"})},
	{name: "lone surrogate",
		push:  config(`{"os":"linux","author":"\ud800","config":{"Labels":{"k":"\udc00x"}}}`),
		check: labels(map[string]string{"k": "\uFFFDx"})},
	{name: "label of 300 kB", problem: "metadata too large",
		push:  config(`{"os":"linux","architecture":"arm64","config":{"Labels":{"k":"` + strings.Repeat("x", 300<<10) + `"}}}`),
		check: platform("linux/arm64")},
	{name: "terminal escapes",
		push:  config(`{"os":"linux","config":{"Labels":{"org.opencontainers.image.description":"\u001b[31mred\u0007"}}}`),
		check: labels(map[string]string{"org.opencontainers.image.description": "\x1b[31mred\a"})},
	{name: "a label twice",
		push:  config(`{"os":"linux","config":{"Labels":{"k":"1","k":"2"}}}`),
		check: labels(map[string]string{"k": "2"})},
	{name: "config without anything", push: config(`{}`), check: platform("")},
	{name: "config is not JSON", problem: "the config cannot be parsed", push: config("\x7fELF"), check: platform("")},
	{name: "config is empty", problem: "the config cannot be parsed", push: config(" "), check: platform("")},
	{name: "config is a list", problem: "the config cannot be parsed", push: config(`[{"os":"linux"}]`), check: platform("")},
	{name: "os is a number", problem: "the config cannot be parsed",
		push: config(`{"os":7,"architecture":"arm64"}`), check: platform("/arm64")},
	{name: "config nests deep", problem: "the config is not stored",
		push:  config(`{"os":"linux","config":{"Labels":{"k":"v"}},"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`),
		check: labels(map[string]string{"k": "v"})},
	{name: "numbers out of bounds",
		push:  config(`{"os":"linux","config":{"Labels":{"k":"v"}},"x":[1e999999,-1e-99999,` + strings.Repeat("9", 200_000) + `]}`),
		check: labels(map[string]string{"k": "v"})},
	{name: "created in the year 99999", push: config(`{"os":"linux","created":"99999-01-01T00:00:00Z"}`), check: created(time.Time{})},
	{name: "created is garbage", push: config(`{"os":"linux","created":{"when":"now"}}`), check: created(time.Time{})},
	{name: "created in the year 10000 of UTC", push: config(`{"os":"linux","created":"9999-12-31T23:59:59.9-23:59"}`), check: created(time.Time{})},
	{name: "created in the year 9999", push: config(`{"os":"linux","created":"9999-12-31T23:59:59.999Z"}`),
		check: created(time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC))},
	{name: "platform of 10 kB",
		push:  config(`{"os":"` + strings.Repeat("ö", 5000) + `","architecture":"` + strings.Repeat("a", 10_000) + `"}`),
		check: platform(strings.Repeat("ö", 127) + "/" + strings.Repeat("a", 255))},

	{name: "annotations null", push: manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[` + plainLayer + `],"annotations":null}`),
		check: labels(map[string]string{"kept": "yes"})},
	{name: "annotation null", problem: `the annotation "a" is not a string`,
		push: manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[],"annotations":{"a":null,"b":"\u0000"}}`),
		check: func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
			if diff := cmp.Diff(map[string]string{"b": "\uFFFD"}, m.Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
		}},
	{name: "subject is a number", problem: "the manifest cannot be parsed",
		push:  manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[],"subject":5}`),
		check: labels(map[string]string{"kept": "yes"})},
	{name: "artifact type is a list", problem: "the manifest cannot be parsed",
		push:  manifest(`{"schemaVersion":2,"artifactType":["x"],"config":CONFIG,"layers":[]}`),
		check: labels(map[string]string{"kept": "yes"})},
	{name: "subject without a digest", problem: "the subject has no valid digest",
		push:  manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[],"subject":{"digest":"sha256:\u001b[31m"}}`),
		check: labels(map[string]string{"kept": "yes"})},
	{name: "unknown fields",
		push:  manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[],"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`),
		check: labels(map[string]string{"kept": "yes"})},
	{name: "layers twice", push: manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[` + plainLayer + `],"layers":[]}`), check: layers(0)},
	{name: "negative size", push: manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[` + strings.Replace(plainLayer, `"size":5`, `"size":-5000`, 1) + `]}`),
		check: func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
			if m.ContentSize != m.Config.Size || m.Layers[0].Size != 0 {
				t.Errorf("got content of %d bytes, config of %d, layer of %d, want no negative size", m.ContentSize, m.Config.Size, m.Layers[0].Size)
			}
		}},
	{name: "10,000 layers", problem: "more than 1000 layers", push: manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[` + strings.Repeat(plainLayer+",", 9_999) + plainLayer + `]}`),
		check: layers(1000)},
	{name: "4 MiB", push: manifest(padded(`{"schemaVersion":2,"config":CONFIG,"layers":[`+plainLayer+`]}`, 4<<20)),
		check: func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
			if m.Size != 4<<20 || len(m.Body) != 4<<20 || m.Labels["kept"] != "yes" {
				t.Errorf("size %d, body of %d bytes, labels %v", m.Size, len(m.Body), m.Labels)
			}
		}},
	{name: "invalid media types",
		push: manifest(`{"schemaVersion":2,"config":CONFIG,"layers":[{"mediaType":"` + strings.Repeat(`\u001b[31m`, 1000) + `","digest":"LAYER","size":5}]}`), check: layers(1)},
	{name: "config of an unknown type",
		push: func(ctx context.Context, c *push.Client, repository string) error {
			_, err := c.Artifact(ctx, repository, "bad", push.ArtifactSpec{
				Config: &push.Blob{MediaType: "text/\u0000" + strings.Repeat("ü", 500), Data: []byte("x")}})
			return err
		},
		check: func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
			if m.Kind != indexer.KindArtifact || m.ArtifactType != "text/\uFFFD"+strings.Repeat("ü", 123) {
				t.Errorf("%s of type %q", m.Kind, m.ArtifactType)
			}
		}},

	{name: "platforms missing and unknown", push: index(`{"schemaVersion":2,"manifests":[
			{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"DIGEST_A","size":1},
			{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"DIGEST_B","size":1,"platform":{"os":"unknown","architecture":"unknown"}}]}`),
		check: entries(" present=true", "unknown/unknown present=true")},
	{name: "invalid entries", problem: "the entry 1 has no valid digest", push: index(`{"schemaVersion":2,"manifests":[
			{"mediaType":"x","digest":"bogus","size":1}, {"digest":"sha256:12","size":2}, {"digest":"","size":2},
			{"digest":"DIGEST_A","size":-7,"platform":{"os":"` + strings.Repeat("o", 10_000) + `","architecture":"\u0000"}}]}`),
		check: entries(strings.Repeat("o", 255) + "/\uFFFD present=true")},
	{name: "the same entry twice", problem: "1 entries repeat the digest of an earlier entry", push: index(`{"schemaVersion":2,"manifests":[
			{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"DIGEST_A","size":1,"platform":{"os":"linux","architecture":"amd64"}},
			{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"DIGEST_A","size":1,"platform":{"os":"linux","architecture":"arm64"}}]}`),
		check: entries("linux/amd64 present=true")},
	{name: "one child 30,000 times", problem: "more than 1000 manifests",
		push:  index(`{"schemaVersion":2,"manifests":[` + strings.Repeat(`{"digest":"DIGEST_A","size":1},`, 29_999) + `{"digest":"DIGEST_B","size":1}]}`),
		check: entries(" present=true")},
	{name: "300 platforms and media types", problem: "more than 100 platforms or 20 media types", push: index(`{"schemaVersion":2,"manifests":[` + manyEntries(300) + `]}`),
		check: func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
			platforms, mediaTypes := map[indexer.Platform]bool{}, map[string]bool{}
			for _, e := range m.Entries {
				platforms[e.Platform], mediaTypes[e.MediaType] = true, true
			}
			if len(m.Entries) != 300 || len(platforms) != 101 || len(mediaTypes) != 21 || !mediaTypes["application/octet-stream"] {
				t.Errorf("got %d entries of %d platforms and %d media types, want 300 of 101 (with the empty one) and 21 (with octet-stream)", len(m.Entries), len(platforms), len(mediaTypes))
			}
		}},
	{name: "entries of large annotations", problem: "the annotations of 38 entries are left out", push: index(`{"schemaVersion":2,"manifests":[` + largeEntries(64, 10_000) + `]}`),
		check: func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
			kept := 0
			for _, e := range m.Entries {
				kept += len(e.Annotations)
			}
			if len(m.Entries) != 64 || kept != 26 {
				t.Errorf("got %d entries, %d with annotations, want 64 and 26: 262,144 bytes", len(m.Entries), kept)
			}
		}},
	{name: "missing child", push: index(`{"schemaVersion":2,"manifests":[
			{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest.FromString("nowhere").String() + `","size":1,"platform":{"os":"linux","architecture":"arm64"}},
			{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"DIGEST_B","size":1}]}`),
		check: entries("linux/arm64 present=false", " present=true")},
	{name: "child deleted afterwards",
		push: func(ctx context.Context, c *push.Client, repository string) error {
			child, err := c.Image(ctx, repository, "", push.ImageSpec{})
			if err != nil {
				return err
			}
			if _, err := c.Index(ctx, repository, "bad", []ocispec.Descriptor{child}, nil); err != nil {
				return err
			}
			return c.Delete(ctx, repository, child.Digest.String())
		},
		check: entries("linux/amd64 present=false")},
	{name: "index in index",
		push: func(ctx context.Context, c *push.Client, repository string) error {
			child, err := c.Image(ctx, repository, "", push.ImageSpec{Architecture: "arm64"})
			if err != nil {
				return err
			}
			inner, err := c.Index(ctx, repository, "", []ocispec.Descriptor{child}, nil)
			if err != nil {
				return err
			}
			_, err = c.Index(ctx, repository, "bad", []ocispec.Descriptor{inner}, nil)
			return err
		},
		check: func(t *testing.T, h *harness, repository string, m indexer.Manifest) {
			inner := h.manifest(repository + "@" + m.Entries[0].Digest.String())
			entries("linux/arm64 present=true")(t, h, repository, inner)
			image := h.manifest(repository + "@" + inner.Entries[0].Digest.String())
			platform("linux/arm64")(t, h, repository, image)
		}},
	{name: "sizes that overflow", problem: "more than 1000 manifests",
		push: func(ctx context.Context, c *push.Client, repository string) error {
			huge := strings.Replace(plainLayer, `"size":5`, `"size":9223372036854775807`, 1)
			var children []ocispec.Descriptor
			for _, more := range []string{"", ","} {
				layers := strings.Repeat(huge+",", 2000) + huge
				d, err := put(ctx, c, repository, "", `{"schemaVersion":2,"config":CONFIG`+strings.ReplaceAll(more, ",", " ")+`,"layers":[`+layers+`]}`)
				if err != nil {
					return err
				}
				for range 1100 { // 2,200 times 2^53 is more than a bigint
					children = append(children, d)
				}
			}
			_, err := c.Index(ctx, repository, "bad", children, nil)
			return err
		},
		check: func(t *testing.T, h *harness, repository string, m indexer.Manifest) {
			const most = 1<<53 - 1
			if image := h.manifest(repository + "@" + m.Entries[0].Digest.String()); image.ContentSize != most {
				t.Errorf("got content of %d bytes, want %d", image.ContentSize, most)
			}
			if tag := h.tag(repository, "bad"); tag.Size != most {
				t.Errorf("got a tag of %d bytes, want %d", tag.Size, most)
			}
		}},
	{name: "artifact with a subject",
		push: func(ctx context.Context, c *push.Client, repository string) error {
			subject, err := c.Image(ctx, repository, "subject", push.ImageSpec{})
			if err != nil {
				return err
			}
			_, err = c.Artifact(ctx, repository, "bad", push.ArtifactSpec{ArtifactType: "text/x", Subject: &subject, Annotations: map[string]string{"a": "\x1b"}})
			if err != nil {
				return err
			}
			signature, err := c.Image(ctx, repository, "sha256-"+subject.Digest.Encoded()+".sig", push.ImageSpec{Author: "cosign"})
			if err != nil {
				return err
			}
			_, err = c.Index(ctx, repository, "sha256-"+subject.Digest.Encoded(), []ocispec.Descriptor{signature}, nil)
			return err
		},
		check: func(t *testing.T, h *harness, repository string, m indexer.Manifest) {
			subject := h.manifest(repository + ":subject").Digest
			sig := "sha256-" + subject.Encoded() + ".sig"
			var page indexer.ReferrerPage
			h.view(func(v *postgres.View) (err error) {
				page, err = v.Referrers(t.Context(), indexer.ReferrerQuery{Repository: repository, Subject: subject, Limit: 10})
				return err
			})
			var got []string
			for _, r := range page.Items {
				got = append(got, r.ArtifactType+" "+r.Tag)
			}
			slices.Sort(got)
			listed := "sha256-" + subject.Encoded() // the index with this tag lists the signature
			if diff := cmp.Diff([]string{" " + listed, " " + sig, "text/x "}, got); diff != "" {
				t.Errorf("referrers (-want +got):\n%s", diff)
			}
			if m.Subject != subject {
				t.Errorf("got subject %q, want %q", m.Subject, subject)
			}
		}},
}

func created(want time.Time) func(*testing.T, *harness, string, indexer.Manifest) {
	return func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
		if !m.CreatedAt.Equal(want) {
			t.Errorf("got creation time %v, want %v", m.CreatedAt, want)
		}
	}
}

func layers(want int) func(*testing.T, *harness, string, indexer.Manifest) {
	return func(t *testing.T, _ *harness, _ string, m indexer.Manifest) {
		if len(m.Layers) != want || m.Labels["kept"] != "yes" {
			t.Errorf("got %d layers, labels %v, want %d layers", len(m.Layers), m.Labels, want)
		}
	}
}

// tag returns a tag of the book, as in the list of tags.
func (h *harness) tag(repository, name string) (tag indexer.Tag) {
	h.t.Helper()
	h.view(func(v *postgres.View) error {
		tags, err := v.Tags(h.t.Context(), repository, "", 100)
		for _, t := range tags {
			if t.Name == name {
				tag = t
			}
		}
		return err
	})
	if tag.Name == "" {
		h.t.Fatalf("%s:%s is not in the book", repository, name)
	}
	return tag
}

// lax lets clients push an image index with missing manifests.
func lax(c *configuration.Configuration) {
	c.Validation.Manifests.Indexes.Platforms = "none"
}

// load pushes all hostile cases, each with a good image in the same repository.
func (h *harness) load() {
	h.t.Helper()
	for i, c := range hostileCases {
		repository := fmt.Sprintf("hostile/%02d", i)
		if err := c.push(h.t.Context(), h.push, repository); err != nil {
			h.t.Fatalf("%s: %v", c.name, err)
		}
		good := push.ImageSpec{Labels: map[string]string{"org.opencontainers.image.title": fmt.Sprintf("goodness%02d", i)}}
		if _, err := h.push.Image(h.t.Context(), repository, "latest", good); err != nil {
			h.t.Fatal(err)
		}
		if _, err := h.push.Image(h.t.Context(), repository, "loop", good); err != nil { // a tag that made another indexer fail
			h.t.Fatal(err)
		}
	}
}

// inspect fails the test unless the book has everything valid of each case.
func (h *harness) inspect() {
	h.t.Helper()
	for i, c := range hostileCases {
		repository := fmt.Sprintf("hostile/%02d", i)
		tag := h.tag(repository, "bad")
		if c.problem == "" && tag.Problem != "" || !strings.Contains(tag.Problem, c.problem) {
			h.t.Errorf("%s: got problem %q, want %q", c.name, tag.Problem, c.problem)
		}
		h.t.Run(c.name, func(t *testing.T) { c.check(t, h, repository, h.manifest(repository+":bad")) })
		if got := h.search(fmt.Sprintf("goodness%02d", i)); !cmp.Equal(got, []string{repository}) {
			h.t.Errorf("%s: got the good image beside it in %v", c.name, got)
		}
		if h.tag(repository, "loop").Digest != h.tag(repository, "latest").Digest {
			h.t.Errorf("%s: the tag loop is wrong", c.name)
		}
	}
	if got := h.column("SELECT repository || ':' || reference || ': ' || COALESCE(error, '') FROM task"); len(got) > 0 {
		h.t.Errorf("got tasks left: %v", got)
	}
	h.equal()
}

// The valid parts of any image must be stored, with a problem for each other part, and
// no image may hide another. Here the content is read because of events.
func TestHostileByEvents(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Configure: lax})
	h.work()
	h.load()
	// The registry sends one event after the other, so that of the last push is last.
	last := fmt.Sprintf("SELECT t.name FROM tag t JOIN repository r ON r.id = t.repository_id WHERE r.name = 'hostile/%02d' AND t.name = 'loop'", len(hostileCases)-1)
	eventually(t, "the last push is stored, and no task is left", func() bool { return len(h.column(last)) == 1 && len(h.tasks()) == 0 })
	h.inspect()
}

// TestHostileByScan is like TestHostileByEvents, but the content is read by a scan.
func TestHostileByScan(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Configure: lax, Notify: nobody})
	h.load()
	h.scan()
	h.inspect()
}

// nobody is an address without a server: events sent to it are lost.
const nobody = "http://127.0.0.1:1/nobody"

// A description of more words than a search row may hold must not keep an image
// out of the book.
func TestHugeDescription(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	h.configure(func(c *ingest.WorkersConfig) { c.MaxMeta = 4 << 20 })
	var text strings.Builder
	for i := range 900 {
		fmt.Fprintf(&text, "%04d%s ", i, strings.Repeat("x", 2000))
	}
	if _, err := h.push.Image(t.Context(), "demo/app", "v1", push.ImageSpec{
		Labels: map[string]string{"org.opencontainers.image.description": text.String()}}); err != nil {
		t.Fatal(err)
	}
	h.scan()
	if got := h.search("app"); !cmp.Equal(got, []string{"demo/app"}) {
		t.Errorf("search: got %v", got)
	}
	if problem := h.tag("demo/app", "v1").Problem; problem != "" {
		t.Errorf("problem %q", problem)
	}
}

// breakTag breaks a tag in the registry's storage: the registry lists it, but answers
// 500 to requests for it.
func (h *harness) breakTag(repository, tag string) (repair func()) {
	h.t.Helper()
	link := filepath.Join(h.registry.Root, "docker/registry/v2/repositories", repository, "_manifests/tags", tag, "current/link")
	was, err := os.ReadFile(link)
	if err != nil {
		h.t.Fatal(err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(link, b, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	write(nil)
	return func() { write(was) }
}

// A tag that the registry cannot show must be listed with the reason, and must not hide
// other tags. When the registry can show it again, the next scan must find it.
func TestBrokenTag(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Root: t.TempDir(), Notify: nobody})
	for _, tag := range []string{"known", "broken", "good"} {
		if _, err := h.push.Image(t.Context(), "demo/app", tag, push.ImageSpec{Env: []string{tag}}); err != nil {
			t.Fatal(err)
		}
	}
	mendBroken := h.breakTag("demo/app", "broken")
	h.scanUntilGivenUp()
	if tag := h.tag("demo/app", "broken"); tag.Digest != "" || !strings.Contains(tag.Problem, "500") {
		t.Errorf("broken tag: got %q with problem %q", tag.Digest, tag.Problem)
	}
	if got := h.search("app"); len(got) != 1 || h.tag("demo/app", "good").Problem != "" {
		t.Errorf("search: got %v, good tag %v", got, h.tag("demo/app", "good"))
	}
	mendKnown := h.breakTag("demo/app", "known")
	h.scanUntilGivenUp()
	if tag := h.tag("demo/app", "known"); tag.Digest == "" || !strings.Contains(tag.Problem, "500") {
		t.Errorf("tag known before: got %q with problem %q", tag.Digest, tag.Problem)
	}
	mendBroken()
	mendKnown()
	h.scan()
	for _, name := range []string{"known", "broken", "good"} {
		if tag := h.tag("demo/app", name); tag.Digest == "" || tag.Problem != "" {
			t.Errorf("%s after the repair: got %q with problem %q", name, tag.Digest, tag.Problem)
		}
	}
	h.equal()
}

// scanUntilGivenUp scans, and reads until no task is left to retry.
func (h *harness) scanUntilGivenUp() {
	h.t.Helper()
	h.scan()
	eventually(h.t, "every task is done or given up", func() bool {
		h.drain()
		return len(h.column("SELECT reference FROM task WHERE given_up_at IS NULL")) == 0
	})
}

// If a manifest is deleted while its tag cannot be read, the book must delete the
// manifest and keep the tag with the reason. No task may remain for either.
func TestBrokenTagOfDeletedManifest(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Root: t.TempDir(), Notify: nobody})
	h.configure(func(c *ingest.WorkersConfig) { c.Retry = 100 * time.Millisecond }) // all retries take longer than a manifest waits for its tags
	image, err := h.push.Image(t.Context(), "demo/app", "v1", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.push.Image(t.Context(), "demo/app", "good", push.ImageSpec{Env: []string{"A=b"}}); err != nil {
		t.Fatal(err)
	}
	h.scan()
	h.breakTag("demo/app", "v1")
	_ = h.push.Delete(t.Context(), "demo/app", image.Digest.String()) // the registry deletes it, and then fails on the tag
	if _, _, err := h.push.Fetch(t.Context(), "demo/app", image.Digest.String()); err == nil {
		t.Skip("this registry did not delete the manifest of a broken tag")
	}
	if err := h.store.Ask(t.Context(), []indexer.Ask{{Repository: "demo/app", Reference: indexer.TagOrDigest(image.Digest)}}); err != nil {
		t.Fatal(err)
	}
	h.work()
	eventually(t, "the tag is given up, and the manifest gone", func() bool {
		return len(h.column("SELECT 'x' FROM task WHERE given_up_at IS NULL")) == 0
	})
	if tag := h.tag("demo/app", "v1"); tag.Digest != "" || tag.Problem == "" {
		t.Errorf("got tag %q with problem %q", tag.Digest, tag.Problem)
	}
	if got := h.column("SELECT encode(digest, 'hex') FROM manifest"); len(got) != 1 {
		t.Errorf("got manifests %v in the book, want one", got)
	}
}

// The bytes of a manifest must be shown unchanged.
func TestBodyAsPushed(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Notify: nobody})
	const text = "{\"schemaVersion\":2,\n\t\"config\":CONFIG,\"layers\":[],\"annotations\":{\"a\":\"\\u0000\xff\"}}"
	d, err := put(t.Context(), h.push, "demo/app", "v1", text)
	if err != nil {
		t.Fatal(err)
	}
	h.scan()
	m := h.manifest("demo/app:v1")
	if digest.FromBytes(m.Body) != d.Digest {
		t.Errorf("got a body with digest %s, want %s", digest.FromBytes(m.Body), d.Digest)
	}
	if !json.Valid(m.ConfigBody) {
		t.Errorf("config body is %q", m.ConfigBody)
	}
}

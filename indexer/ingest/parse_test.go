package ingest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/remote"
)

// The result of parsing must be storable for any bytes of a manifest.
func FuzzParseManifest(f *testing.F) {
	d := digest.FromString("x").String()
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `"x"`, `{`,
		`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + d + `","size":-1},"layers":[{"digest":"` + d + `","size":9223372036854775807}]}`,
		`{"manifests":[{"digest":"` + d + `","platform":{"os":"\u0000","architecture":7},"annotations":{"a":null}}]}`,
		`{"subject":5,"artifactType":["x"],"annotations":{"\u0000":"\ud800","n":1e999}}`,
		"{\"annotations\":{\"a\xff\":[\"\xfe\"]},\"subject\":{\"digest\":\"sha256:\x00\"}}",
	} {
		for kind := range manifestTypes {
			f.Add([]byte(seed), uint8(kind))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, kind uint8) {
		m := parseManifest("demo/app", body, ocispec.Descriptor{
			MediaType: manifestTypes[int(kind)%len(manifestTypes)], Digest: digest.FromBytes(body), Size: int64(len(body))})
		limit(&m, 1000)
		mustBeStorable(t, m)
	})
}

var manifestTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, remote.MediaTypeDockerManifest, remote.MediaTypeDockerList, "\x00\xff", "",
}

// Other registries may store manifests that the stock registry refuses. Values that are
// not lists, and entries of a wrong type, must not affect the other fields.
func TestParseOddLists(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	for _, c := range []struct {
		body, problem string
		entries       []digest.Digest
	}{
		{`{"manifests":{"a":1},"annotations":{"k":"v"}}`, "manifests: not a list", nil},
		{fmt.Sprintf(`{"manifests":[7,{"digest":%q,"size":"x"},{"digest":%q}],"annotations":{"k":"v"}}`, a, b), "manifests: json: cannot unmarshal", []digest.Digest{a, b}},
		{fmt.Sprintf(`{"manifests":[{"digest":%q}],"manifests":[{"digest":%q}],"annotations":{"k":"v"}}`, a, b), "", []digest.Digest{b}},
		{`{"manifests":null,"annotations":{"k":"v"}}`, "", nil},
	} {
		m := parseManifest("demo/app", []byte(c.body), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(c.body)})
		var got []digest.Digest
		for _, e := range m.Entries {
			got = append(got, e.Digest)
		}
		if !slices.Equal(got, c.entries) || !strings.Contains(strings.Join(m.Problems, "\n"), c.problem) || c.problem == "" && len(m.Problems) > 0 || m.Annotations["k"] != "v" {
			t.Errorf("%s: got entries %v, problems %q, annotations %v", c.body, got, m.Problems, m.Annotations)
		}
	}
}

// The result of parsing must be storable for any bytes of an image config.
func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `7`, `{"os":7}`,
		`{"created":"0001-01-01T00:00:00Z","os":"linux","architecture":"arm64","variant":"v8","config":{"Labels":{"a":"b","n":1,"o":{}}}}`,
		`{"created":{},"os":"\u0000\ud800","config":{"Labels":{"\u0000":null,"\\u0000":"x"}},"x":[1e999999,-0.0,1E+2]}`,
		"{\"config\":{\"labels\":{\"a\xff\":\"\xfe\"}}}",
		strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m := indexer.Manifest{Kind: indexer.KindImage}
		parseConfig(&m, body)
		limit(&m, 1000)
		mustBeStorable(t, m)
		if m.ConfigBody == nil {
			return
		}
		if !json.Valid(m.ConfigBody) {
			t.Fatalf("got a stored config that is not JSON: %q", m.ConfigBody)
		}
		again, err := plainJSON(m.ConfigBody)
		if err != nil || string(again) != string(m.ConfigBody) {
			t.Errorf("got stored config %q, which plainJSON changes to %q, %v", m.ConfigBody, again, err)
		}
	})
}

// mustBeStorable fails the test if the database would refuse m.
func mustBeStorable(t *testing.T, m indexer.Manifest) {
	t.Helper()
	words := []string{m.MediaType, m.ArtifactType, m.Platform.OS, m.Platform.Architecture, m.Platform.Variant}
	sets := []map[string]string{m.Labels, m.Annotations}
	sizes := []int64{m.ContentSize}
	digests := []digest.Digest{}
	if m.Subject != "" {
		digests = append(digests, m.Subject)
	}
	for _, e := range m.Entries {
		words = append(words, e.MediaType, e.Platform.OS, e.Platform.Architecture, e.Platform.Variant)
		sets, sizes, digests = append(sets, e.Annotations), append(sizes, e.Size), append(digests, e.Digest)
	}
	descriptors := m.Layers
	if m.Config != nil {
		descriptors = append(descriptors, *m.Config)
	}
	for _, d := range descriptors {
		words, sizes, digests = append(words, d.MediaType), append(sizes, d.Size), append(digests, d.Digest)
	}
	for _, w := range words {
		if len(w) > maxText || !isStorable(w) {
			t.Errorf("word %q of %d bytes", w, len(w))
		}
	}
	for _, set := range sets {
		for k, v := range set {
			if !isStorable(k) || !isStorable(v) {
				t.Errorf("metadata %q: %q", k, v)
			}
		}
	}
	for _, size := range sizes {
		if size < 0 || size > indexer.MaxSize {
			t.Errorf("size %d", size)
		}
	}
	for _, d := range digests {
		if d.Validate() != nil {
			t.Errorf("digest %q", d)
		}
	}
	if !isStorable(string(m.ConfigBody)) || strings.Contains(strings.ReplaceAll(string(m.ConfigBody), `\\`, ""), `\u0000`) {
		t.Errorf("config %q", m.ConfigBody)
	}
	if len(m.Problems) > 5*maxProblems {
		t.Errorf("%d problems", len(m.Problems))
	}
}

func isStorable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// Without an artifactType, the type of a referrer is the media type of its config, even
// of an image config (distribution-spec 1.1, "Listing Referrers").
func TestParseTypeOfReferrer(t *testing.T) {
	const config, image = `"config":{"mediaType":"` + ocispec.MediaTypeImageConfig + `","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}`, ocispec.MediaTypeImageManifest
	subject := fmt.Sprintf(`,"subject":{"digest":%q}`, digest.FromString("subject"))
	for body, want := range map[string]string{
		`{` + config + `}`:                                "",
		`{` + config + subject + `}`:                      ocispec.MediaTypeImageConfig,
		`{` + config + subject + `,"artifactType":"a/b"}`: "a/b",
		`{"config":{"mediaType":"c/d"}` + subject + `}`:   "c/d",
	} {
		m := parseManifest("demo/app", []byte(body), ocispec.Descriptor{MediaType: image, Digest: digest.FromString(body)})
		if m.ArtifactType != want || (m.Kind == indexer.KindImage) != (want == "" || want == ocispec.MediaTypeImageConfig) {
			t.Errorf("%s: got type %q and kind %s, want %q", body, m.ArtifactType, m.Kind, want)
		}
	}
}

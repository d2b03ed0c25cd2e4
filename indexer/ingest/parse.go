package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/remote"
)

// mediaTypeDockerConfig is the config of a Docker schema 2 image, which image-spec
// does not name.
const mediaTypeDockerConfig = "application/vnd.docker.container.image.v1+json"

// maxText is the most bytes of one word that goes into a dictionary or an index:
// media types and platforms. RFC 6838, 4.2 allows 127 for each half of a media
// type; 255 holds both.
const maxText = 255

// parseManifest reads a manifest as far as it can be understood. It never fails:
// what is wrong becomes a problem, for people to see, and the rest is kept.
func parseManifest(repository string, body []byte, desc ocispec.Descriptor) indexer.Manifest {
	m := indexer.Manifest{
		Repository: repository, Digest: desc.Digest, MediaType: cut(desc.MediaType), Size: desc.Size,
		Kind: indexer.KindUnknown, Body: body,
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		m.Problems = append(m.Problems, fmt.Sprintf("the manifest is not understood: %v", err))
		var typeError *json.UnmarshalTypeError
		if !errors.As(err, &typeError) {
			return m
		}
		// One field is of another type than it should be: the rest was read.
	}
	m.Annotations = stringsOf(&m, "annotation", doc.Annotations)
	if doc.Subject != nil {
		m.Subject = checked(&m, "subject", doc.Subject.Digest)
	}
	switch desc.MediaType {
	case ocispec.MediaTypeImageIndex, remote.MediaTypeDockerList:
		m.Kind = indexer.KindIndex
		m.ArtifactType = cut(doc.ArtifactType)
		m.Entries = entriesOf(&m, doc.Manifests)
	case ocispec.MediaTypeImageManifest, remote.MediaTypeDockerManifest:
		contentOf(&m, doc)
	default:
		m.Problems = append(m.Problems, fmt.Sprintf("the media type %q is not one we know", desc.MediaType))
	}
	m.CreatedAt = timeOf(m.Annotations[ocispec.AnnotationCreated])
	return m
}

// A document is an image manifest or an image index, with everything in it that
// strangers get wrong left to be looked at later.
type document struct {
	ArtifactType string          `json:"artifactType"`
	Config       *descriptor     `json:"config"`
	Layers       []descriptor    `json:"layers"`
	Manifests    []descriptor    `json:"manifests"`
	Subject      *descriptor     `json:"subject"`
	Annotations  json.RawMessage `json:"annotations"`
}

type descriptor struct {
	MediaType   string          `json:"mediaType"`
	Digest      string          `json:"digest"`
	Size        int64           `json:"size"`
	Annotations json.RawMessage `json:"annotations"`
	Platform    *platform       `json:"platform"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

func (p platform) of() indexer.Platform {
	return indexer.Platform{OS: cut(p.OS), Architecture: cut(p.Architecture), Variant: cut(p.Variant)}
}

// contentOf reads config and layers of an image manifest. It is an image if its
// config is one, else an artifact of the type that image-spec 1.1 says.
func contentOf(m *indexer.Manifest, doc document) {
	m.Kind = indexer.KindArtifact
	if doc.Config != nil {
		if c := blobOf(m, "config", *doc.Config); c != nil {
			m.Config = c
			m.ContentSize = addSize(m.ContentSize, c.Size)
		}
		m.ArtifactType = cut(doc.Config.MediaType)
		if isImageConfig(doc.Config.MediaType) {
			m.Kind, m.ArtifactType = indexer.KindImage, ""
		}
	}
	if doc.ArtifactType != "" {
		m.ArtifactType = cut(doc.ArtifactType)
		m.Kind = indexer.KindArtifact
	}
	for i, l := range doc.Layers {
		if b := blobOf(m, fmt.Sprintf("layer %d", i+1), l); b != nil {
			m.Layers = append(m.Layers, *b)
			m.ContentSize = addSize(m.ContentSize, b.Size)
		}
	}
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == mediaTypeDockerConfig
}

// blobOf gives a descriptor that can be stored, or nil.
func blobOf(m *indexer.Manifest, what string, d descriptor) *ocispec.Descriptor {
	dgst := checked(m, what, d.Digest)
	if dgst == "" {
		return nil
	}
	return &ocispec.Descriptor{MediaType: cut(d.MediaType), Digest: dgst, Size: sizeOf(d)}
}

// maxSize is the largest size that we believe: 2^53-1 bytes, the largest integer
// that every reader of JSON takes as it is (RFC 8259, 6), and 8,000 TB.
const maxSize = 1<<53 - 1

// sizeOf gives the size of a descriptor, which the registry does not check. A
// negative or absurd one would make sums wrong for everybody else.
func sizeOf(d descriptor) int64 { return min(max(d.Size, 0), maxSize) }

func addSize(a, b int64) int64 { return min(a+b, maxSize) }

// checked gives a digest that we can check, or "" and a problem.
func checked(m *indexer.Manifest, what, s string) digest.Digest {
	d, err := digest.Parse(s)
	if err != nil {
		m.Problems = append(m.Problems, fmt.Sprintf("the %s has no digest that we understand: %.80q", what, s))
		return ""
	}
	return d
}

func entriesOf(m *indexer.Manifest, manifests []descriptor) []indexer.Entry {
	var entries []indexer.Entry
	for i, d := range manifests {
		what := fmt.Sprintf("entry %d", i+1)
		e := indexer.Entry{Digest: checked(m, what, d.Digest), MediaType: cut(d.MediaType), Size: sizeOf(d)}
		if e.Digest == "" {
			continue
		}
		if e.MediaType == "" {
			e.MediaType = ocispec.MediaTypeImageManifest // what clients take it for
		}
		e.Annotations = stringsOf(m, "annotation of "+what, d.Annotations)
		if d.Platform != nil {
			e.Platform = d.Platform.of()
		}
		entries = append(entries, e)
	}
	return entries
}

// A config is what we use of an image config; the whole is stored beside it.
type config struct {
	Created json.RawMessage `json:"created"`
	platform
	Config struct {
		Labels json.RawMessage
	} `json:"config"`
}

// parseConfig adds what an image config says.
func parseConfig(m *indexer.Manifest, body []byte) {
	body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
	var c config
	if err := json.Unmarshal(body, &c); err != nil {
		m.Problems = append(m.Problems, fmt.Sprintf("the config is not understood: %v", err))
	}
	if kept, err := plainJSON(body); err == nil {
		m.ConfigBody = kept
	} else if json.Valid(body) {
		m.Problems = append(m.Problems, fmt.Sprintf("the config is not kept: %v", err))
	}
	m.Platform = c.platform.of()
	m.Labels = stringsOf(m, "label", c.Config.Labels)
	var created string
	if json.Unmarshal(c.Created, &created) == nil && !timeOf(created).IsZero() {
		m.CreatedAt = timeOf(created)
	}
}

// maxProblems is how many values that are no strings are named; more than that
// help nobody.
const maxProblems = 5

// stringsOf reads an object of strings. Values that are no strings are kept as
// their JSON, with a problem that names them; null, and what is no object, is
// left out.
func stringsOf(m *indexer.Manifest, what string, raw json.RawMessage) map[string]string {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		m.Problems = append(m.Problems, fmt.Sprintf("the %ss are no object", what))
		return nil
	}
	read := make(map[string]string, len(values))
	var odd []string
	for k, v := range values {
		var s string
		if err := json.Unmarshal(v, &s); err == nil && !bytes.Equal(v, []byte("null")) {
			read[indexer.CleanText(k)] = indexer.CleanText(s)
			continue
		}
		odd = append(odd, k)
		if !bytes.Equal(v, []byte("null")) {
			read[indexer.CleanText(k)] = indexer.CleanText(string(v))
		}
	}
	sort.Strings(odd)
	for i, k := range odd {
		if i == maxProblems {
			m.Problems = append(m.Problems, fmt.Sprintf("%d more %ss are no strings", len(odd)-i, what))
			break
		}
		m.Problems = append(m.Problems, fmt.Sprintf("the %s %.80q is no string", what, k))
	}
	return read
}

// limitMetadata leaves out labels and annotations that are larger than limit
// bytes as compact JSON, all together, and says so.
func limitMetadata(m *indexer.Manifest, limit int) {
	size := 0
	for _, set := range []map[string]string{m.Labels, m.Annotations} {
		if len(set) > 0 {
			b, _ := json.Marshal(set) // strings always marshal
			size += len(b)
		}
	}
	if size <= limit {
		return
	}
	m.Labels, m.Annotations = nil, nil
	m.Problems = append(m.Problems, fmt.Sprintf("metadata too large: labels and annotations are %d bytes, and database.maxMetaSize allows %d", size, limit))
}

// limitProblems keeps as many problems as somebody may read.
func limitProblems(m *indexer.Manifest) {
	const most = 4 * maxProblems
	if more := len(m.Problems) - most; more > 0 {
		m.Problems = append(m.Problems[:most:most], fmt.Sprintf("%d more problems", more))
	}
}

// timeOf reads a time of RFC 3339, the zero one if it is none or is that of an
// image without a date (0001-01-01).
func timeOf(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

// cut bounds a word from outside and makes it fit for the database.
func cut(s string) string {
	s = indexer.CleanText(s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}

package ingest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/remote"
)

// mediaTypeDockerConfig is the media type of the config of a Docker schema 2 image.
// image-spec has no constant for it.
const mediaTypeDockerConfig = "application/vnd.docker.container.image.v1+json"

// mediaTypeUnknown is the type that recipients may assume for a body without a type
// (RFC 9110, 8.3).
const mediaTypeUnknown = "application/octet-stream"

const (
	// maxPlatforms and maxMediaTypes are the maximum numbers of distinct platforms
	// and media types of one index's entries: 100 and 20. Go builds for 50 platforms,
	// and the specifications name four media types. Each becomes a row of a
	// dictionary that all repositories share and that never shrinks.
	maxPlatforms  = 100
	maxMediaTypes = 20
)

// parseManifest parses a manifest. It never fails: each mistake is added to Problems,
// for people to read, and the rest is kept. Its texts are as in the manifest: see limit.
func parseManifest(repository string, body []byte, desc ocispec.Descriptor) indexer.Manifest {
	m := indexer.Manifest{
		Repository: repository, Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size,
		Kind: indexer.KindUnknown, Body: body,
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		addProblem(&m, "the manifest cannot be parsed: %v", err)
		var typeError *json.UnmarshalTypeError
		if !errors.As(err, &typeError) {
			return m
		}
		// One field has the wrong type; the others were read.
	}
	m.Annotations = stringsOf(&m, "annotation", "", doc.Annotations)
	if doc.Subject != nil {
		m.Subject = checked(&m, "subject", doc.Subject.Digest)
	}
	switch desc.MediaType {
	case ocispec.MediaTypeImageIndex, remote.MediaTypeDockerList:
		m.Kind = indexer.KindIndex
		m.ArtifactType = doc.ArtifactType
		m.Entries = entriesOf(&m, doc.Manifests.read(&m, "manifests"))
	case ocispec.MediaTypeImageManifest, remote.MediaTypeDockerManifest:
		contentOf(&m, doc)
	default:
		addProblem(&m, "the media type %q is unknown", desc.MediaType)
	}
	m.CreatedAt = timeOf(m.Annotations[ocispec.AnnotationCreated])
	return m
}

// addProblem adds a problem to a manifest, for people to read.
func addProblem(m *indexer.Manifest, format string, a ...any) {
	m.Problems = append(m.Problems, fmt.Sprintf(format, a...))
}

// A document is an image manifest or an image index. Fields that are often malformed
// are kept as they are and parsed later.
type document struct {
	ArtifactType string          `json:"artifactType"`
	Config       *descriptor     `json:"config"`
	Layers       descriptors     `json:"layers"`
	Manifests    descriptors     `json:"manifests"`
	Subject      *descriptor     `json:"subject"`
	Annotations  json.RawMessage `json:"annotations"`
}

// descriptors holds the first MaxEntries descriptors of a list. Without the limit, 4
// MiB of "{}," would take 100 MB of memory.
type descriptors struct {
	list []descriptor
	more bool  // the list is longer
	err  error // the first mistake in the list; nil if there is none
}

// UnmarshalJSON never fails, since an error would end the parsing of the document.
func (d *descriptors) UnmarshalJSON(body []byte) error {
	*d = descriptors{}
	if bytes.Equal(body, []byte("null")) {
		return nil
	}
	list := json.NewDecoder(bytes.NewReader(body))
	if start, err := list.Token(); err != nil || start != json.Delim('[') {
		d.err = errors.New("not a list")
		return nil
	}
	for list.More() {
		if d.more = len(d.list) == indexer.MaxEntries; d.more {
			return nil
		}
		var one descriptor
		if err := list.Decode(&one); err != nil {
			d.err = cmp.Or(d.err, err)
			var typeError *json.UnmarshalTypeError
			if !errors.As(err, &typeError) {
				return nil
			}
			// One field has the wrong type; the others were read.
		}
		d.list = append(d.list, one)
	}
	return nil
}

// read returns the list, and adds its mistakes to the problems of the manifest.
func (d *descriptors) read(m *indexer.Manifest, what string) []descriptor {
	if d.err != nil {
		addProblem(m, "the manifest cannot be parsed: %s: %v", what, d.err)
	}
	if d.more {
		addProblem(m, "more than %d %s: only the first %d are read", indexer.MaxEntries, what, indexer.MaxEntries)
	}
	return d.list
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
	return indexer.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// contentOf reads the config and the layers of an image manifest. The manifest is an
// image if its config is an image config, and otherwise an artifact with the type that
// image-spec 1.1 defines. An image with a subject has the media type of its config as
// its type, as in the referrers API (distribution-spec 1.1, "Listing Referrers").
func contentOf(m *indexer.Manifest, doc document) {
	m.Kind = indexer.KindArtifact
	if doc.Config != nil {
		if c := blobOf(m, "config", *doc.Config); c != nil {
			m.Config = c
			m.ContentSize = addSize(m.ContentSize, c.Size)
		}
		m.ArtifactType = doc.Config.MediaType
		if isImageConfig(doc.Config.MediaType) {
			m.Kind = indexer.KindImage
			if m.Subject == "" {
				m.ArtifactType = ""
			}
		}
	}
	if doc.ArtifactType != "" {
		m.ArtifactType = doc.ArtifactType
		m.Kind = indexer.KindArtifact
	}
	for i, l := range doc.Layers.read(m, "layers") {
		if b := blobOf(m, fmt.Sprintf("layer %d", i+1), l); b != nil {
			m.Layers = append(m.Layers, *b)
			m.ContentSize = addSize(m.ContentSize, b.Size)
		}
	}
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == mediaTypeDockerConfig
}

// blobOf returns a descriptor that can be stored, or nil if its digest is invalid.
func blobOf(m *indexer.Manifest, what string, d descriptor) *ocispec.Descriptor {
	dgst := checked(m, what, d.Digest)
	if dgst == "" {
		return nil
	}
	return &ocispec.Descriptor{MediaType: d.MediaType, Digest: dgst, Size: sizeOf(d)}
}

// sizeOf returns the size of a descriptor, limited to the range from 0 to MaxSize. The
// registry does not check it, and a wrong one would make the sums wrong.
func sizeOf(d descriptor) int64 { return min(max(d.Size, 0), indexer.MaxSize) }

func addSize(a, b int64) int64 { return min(a+b, indexer.MaxSize) }

// checked parses a digest. If it is invalid or of an unknown algorithm, it adds a
// problem and returns "".
func checked(m *indexer.Manifest, what, s string) digest.Digest {
	d, err := digest.Parse(s)
	if err != nil {
		addProblem(m, "the %s has no valid digest: %.80q", what, s)
		return ""
	}
	return d
}

// entriesOf returns the entries of an index. If several entries have the same digest,
// it returns only the first: clients use the first one that matches their platform,
// and all of them lead to the same image.
func entriesOf(m *indexer.Manifest, manifests []descriptor) []indexer.Entry {
	var entries []indexer.Entry
	listed := map[digest.Digest]bool{}
	repeated := 0
	for i, d := range manifests {
		what := fmt.Sprintf("entry %d", i+1)
		e := indexer.Entry{Digest: checked(m, what, d.Digest), MediaType: d.MediaType, Size: sizeOf(d)}
		if e.Digest == "" {
			continue
		}
		if listed[e.Digest] {
			repeated++
			continue
		}
		listed[e.Digest] = true
		if e.MediaType == "" {
			e.MediaType = ocispec.MediaTypeImageManifest // as clients assume
		}
		e.Annotations = stringsOf(m, "annotation", " of "+what, d.Annotations)
		if d.Platform != nil {
			e.Platform = d.Platform.of()
		}
		entries = append(entries, e)
	}
	if repeated > 0 {
		addProblem(m, "%d entries repeat the digest of an earlier entry and are ignored", repeated)
	}
	return entries
}

// limitWords applies maxPlatforms and maxMediaTypes to the entries of an index. Entries
// beyond the limits get no platform, or the media type application/octet-stream.
func limitWords(m *indexer.Manifest) {
	platforms, mediaTypes := map[indexer.Platform]bool{}, map[string]bool{}
	left := 0
	for i := range m.Entries {
		e := &m.Entries[i]
		manyPlatforms := !platforms[e.Platform] && len(platforms) >= maxPlatforms && e.Platform != indexer.Platform{}
		manyTypes := !mediaTypes[e.MediaType] && len(mediaTypes) >= maxMediaTypes
		if manyPlatforms {
			e.Platform = indexer.Platform{}
		}
		if manyTypes {
			e.MediaType = mediaTypeUnknown
		}
		if manyPlatforms || manyTypes {
			left++
		}
		platforms[e.Platform], mediaTypes[e.MediaType] = true, true
	}
	if left > 0 {
		addProblem(m, "more than %d platforms or %d media types: those of %d entries are left out",
			maxPlatforms, maxMediaTypes, left)
	}
}

// A config has the fields of an image config that we use. The whole config is stored
// too.
type config struct {
	Created json.RawMessage `json:"created"`
	platform
	Config struct {
		Labels json.RawMessage
	} `json:"config"`
}

// parseConfig sets the fields of m that come from the image config.
func parseConfig(m *indexer.Manifest, body []byte) {
	body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
	var c config
	if err := json.Unmarshal(body, &c); err != nil {
		addProblem(m, "the config cannot be parsed: %v", err)
	}
	if kept, err := plainJSON(body); err == nil {
		m.ConfigBody = kept
	} else if json.Valid(body) {
		addProblem(m, "the config is not stored: %v", err)
	}
	m.Platform = c.platform.of()
	m.Labels = stringsOf(m, "label", "", c.Config.Labels)
	var created string
	if json.Unmarshal(c.Created, &created) == nil && !timeOf(created).IsZero() {
		m.CreatedAt = timeOf(created)
	}
}

// maxProblems is the maximum number of values of a wrong type that are reported one by
// one; the rest are only counted.
const maxProblems = 5

// stringsOf parses an object of strings. It keeps a value that is not a string as its
// JSON, omits null, and adds a problem for both. It returns nil if raw is empty or
// null. If raw is anything else than an object, it adds a problem and returns nil. The
// problems name the strings: what is "annotation" or "label", and of is "" or such as
// " of entry 3".
func stringsOf(m *indexer.Manifest, what, of string, raw json.RawMessage) map[string]string {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		addProblem(m, "the %ss%s are not an object", what, of)
		return nil
	}
	read := make(map[string]string, len(values))
	var odd []string
	for k, v := range values {
		var s string
		if err := json.Unmarshal(v, &s); err == nil && !bytes.Equal(v, []byte("null")) {
			read[k] = s
			continue
		}
		odd = append(odd, k)
		if !bytes.Equal(v, []byte("null")) {
			read[k] = string(v)
		}
	}
	sort.Strings(odd)
	for i, k := range odd {
		if i == maxProblems {
			addProblem(m, "%d more %ss%s are not strings", len(odd)-i, what, of)
			break
		}
		addProblem(m, "the %s%s %.80q is not a string", what, of, k)
	}
	return read
}

// limit cleans a manifest that was read, and applies all limits: at most maxMeta bytes of
// labels and annotations.
func limit(m *indexer.Manifest, maxMeta int) {
	clean(m)
	limitWords(m)
	limitMetadata(m, maxMeta)
	limitProblems(m)
}

// limitMetadata drops all labels and annotations if they are together larger than limit
// bytes as compact JSON, and adds a problem. The annotations of all entries have a
// limit of the same size of their own: an entry that would exceed it loses them.
func limitMetadata(m *indexer.Manifest, limit int) {
	limitEntries(m, limit)
	size := sizeOfStrings(m.Labels) + sizeOfStrings(m.Annotations)
	if size <= limit {
		return
	}
	m.Labels, m.Annotations = nil, nil
	addProblem(m, "metadata too large: labels and annotations have %d bytes, but database.maxMetaSize allows %d",
		size, limit)
}

func limitEntries(m *indexer.Manifest, limit int) {
	size, left := 0, 0
	for i := range m.Entries {
		n := sizeOfStrings(m.Entries[i].Annotations)
		if size+n > limit {
			m.Entries[i].Annotations = nil
			left++
			continue
		}
		size += n
	}
	if left > 0 {
		addProblem(m, "metadata too large: the annotations of %d entries are left out,"+
			" since database.maxMetaSize allows %d bytes for all entries", left, limit)
	}
}

// sizeOfStrings returns the size of set as compact JSON in bytes, or 0 if it is empty.
func sizeOfStrings(set map[string]string) int {
	if len(set) == 0 {
		return 0
	}
	b, _ := json.Marshal(set) // strings always marshal
	return len(b)
}

// limitProblems keeps the first 20 problems and counts the others.
func limitProblems(m *indexer.Manifest) {
	const most = 4 * maxProblems
	if more := len(m.Problems) - most; more > 0 {
		m.Problems = append(m.Problems[:most:most], fmt.Sprintf("%d more problems", more))
	}
}

// timeOf parses a time of RFC 3339. It returns the zero time if s is no such time, or
// is the date of an image without a date (0001-01-01).
func timeOf(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

package indexer

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Kind says what a manifest is for.
type Kind string

const (
	KindImage    Kind = "image"    // a manifest whose config is an image config
	KindIndex    Kind = "index"    // an OCI image index or a Docker manifest list
	KindArtifact Kind = "artifact" // a manifest of anything else: SBOM, signature, chart
	KindUnknown  Kind = "unknown"  // could not be read, or has an unknown media type
)

// A Platform is what an image runs on. A field is empty if the image does not name it,
// which is common for artifacts and for images appended to an empty base.
type Platform struct {
	OS, Architecture, Variant string
}

// String returns os/architecture[/variant], or "" for the zero Platform.
func (p Platform) String() string {
	if p == (Platform{}) {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// IsUnknown reports whether p is empty or unknown/unknown, as BuildKit marks
// attestations.
func (p Platform) IsUnknown() bool {
	return p.OS == "" && p.Architecture == "" || p.OS == "unknown" && p.Architecture == "unknown"
}

// A Manifest is an image manifest, an image index or an artifact, read from the
// registry and checked against its digest.
type Manifest struct {
	Repository   string
	Digest       digest.Digest
	MediaType    string
	ArtifactType string // artifactType of image-spec 1.1, else the config's media type if that is no image config or there is a subject
	Kind         Kind
	Platform     Platform  // of an image, from its config
	Size         int64     // bytes of the manifest itself
	ContentSize  int64     // bytes of config and layers as stored (compressed); 0 for an index
	CreatedAt    time.Time // from its config or annotation; zero if neither has a date
	SeenAt       time.Time // when it was first read from the registry
	Labels       map[string]string
	Annotations  map[string]string
	Subject      digest.Digest        // the manifest that it refers to; "" for most
	Config       *ocispec.Descriptor  // nil if it has none
	Layers       []ocispec.Descriptor // in order; empty for an index
	Entries      []Entry              // of an index, in order
	Problems     []string             // what could not be read or kept, for people to read
	Has          []ReferrerKind       // what is attached to it, sorted; of an index also what each image in it has
	Body         []byte               // the manifest's bytes
	ConfigBody   []byte               // JSON of an image config, without NUL in strings; nil if there is none or it is no JSON
}

// MaxEntries is the maximum number of entries of an image index, and of layers of a
// manifest, that are read: 1,000. The largest index seen in public registries has about
// 60 entries, and an image of more than 127 layers cannot be run; 1,000 leaves room for
// artifacts of many files. An entry costs a row, a request for its manifest, and a line
// in every answer that shows the index; the stock registry accepts 40,000 of them in
// one manifest.
const MaxEntries = 1000

// An Entry is one descriptor in an image index.
type Entry struct {
	Digest      digest.Digest
	MediaType   string
	Size        int64
	Platform    Platform // from the index
	Annotations map[string]string
	Present     bool // whether the book has the manifest
}

// A Tag is a name in a repository that points at a manifest, as last seen.
type Tag struct {
	Name      string
	Digest    digest.Digest // "" if the registry lists the tag but cannot show it
	MediaType string
	Kind      Kind
	Platforms []Platform     // of the image, or of the entries of the index
	Size      int64          // bytes: ContentSize of an image, or the sum over the entries of an index
	CreatedAt time.Time      // of the manifest; zero if unknown
	MovedAt   time.Time      // when we first saw the tag point at Digest
	Has       []ReferrerKind // Manifest.Has of its manifest; nil for a tag of the past
	Problem   string         // why the manifest cannot be shown; "" for most
}

// A Repository is a repository with a summary of its content.
type Repository struct {
	Name        string
	Title       string // from labels or annotations; often ""
	Description string // from labels or annotations; often ""
	Tags        int
	Manifests   int
	UpdatedAt   time.Time // when anything in it last changed in the book
	Leading     string    // the tag that represents it: latest, else the highest version, else the one that moved last, never a referrer's; "" if there is none
	TagsWith    TagsWith
}

// TagsWith counts the tags of a repository by what is attached to their manifests. An
// image index counts if it has such a referrer, or if every image in it has one.
type TagsWith struct {
	Of          int // all tags, except those that older tools use for referrers
	Signature   int // signatures are not verified
	SBOM        int
	Attestation int
}

// Kind returns the number of tags whose manifest has a kind of referrer attached. Only
// Signature, SBOM and Attestation are counted.
func (t TagsWith) Kind(kind ReferrerKind) int {
	return map[ReferrerKind]int{Signature: t.Signature, SBOM: t.SBOM, Attestation: t.Attestation}[kind]
}

// Namespace returns the part of the name before the first slash, or "" if there is no
// slash.
func (r Repository) Namespace() string {
	ns, _, found := strings.Cut(r.Name, "/")
	if !found {
		return ""
	}
	return ns
}

// MaxSize is the maximum of a size or a sum of sizes in bytes: 2^53-1, about 9,000 TB.
// It is the largest integer that every JSON parser reads exactly (RFC 8259, section 6).
const MaxSize = 1<<53 - 1
